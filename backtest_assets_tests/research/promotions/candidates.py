"""A promoted run by hand: edge candidates, two compiled blueprints, one of them promoted, and all that is told of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, Overlay
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.promotions.strategies import StrategySources
from backtest_assets.tables.blueprints import BLUEPRINT_REJECTIONS
from backtest_assets.tables.candidates import EDGE_CANDIDATES, EXPECTANCY
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets.tables.promotions import PROMOTIONS
from backtest_assets.tables.walkforward import WALKFORWARD_SUMMARY
from backtest_assets_tests.research.simulation.market import SHOCK, START, a_run, blueprint, blueprints_of

VACUUM = "liquidity_vacuum"


def edge(name: str, **columns: object) -> dict[str, object]:
    """A PROMOTED edge candidate of its own hold."""
    usual = {
        "candidate_id": name,
        "event": SHOCK.value,
        "condition": "all",
        "side_rule": "long",
        "delay_bars": 0,
        "hold_bars": 4 + int(name.strip("h")),
        "status": "PROMOTED",
        "fail_reasons": "",
        "candidate_symbol": "ALL",
        "profit_density_score": 1.0,
    }
    return EDGE_CANDIDATES.sample(1, 1).row(0, named=True) | usual | columns


@dataclass(frozen=True)
class Scene:
    """What a run knows; blueprints by the hypothesis they execute, promoted ones by name with their validation nets."""

    run: ResearchRun = field(default_factory=a_run)
    edges: tuple[Mapping[str, object], ...] = ()
    specs: Mapping[str, Blueprint] = field(default_factory=dict[str, Blueprint])
    promoted: Mapping[str, tuple[float | None, float | None]] = field(
        default_factory=dict[str, tuple[float | None, float | None]]
    )
    decision: str = "PROMOTE"
    without_detail: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict[str, str])

    def having(self, **settings: int) -> "Scene":
        return replace(self, run=replace(self.run, **settings))

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        ids = sorted(str(one["candidate_id"]) for one in self.edges)
        known = [name for name in ids if name not in self.without_detail]
        table = blueprints_of(*self.specs.values()).with_columns(
            hypothesis_id=pl.Series(list(self.specs), dtype=pl.String)
        )
        is_promoted = self.decision == "PROMOTE"
        frames = {
            "hypotheses": _named(HYPOTHESES.sample(1, len(ids)), ids),
            "expectancy": _named(EXPECTANCY.sample(2, len(known)), known),
            "edge_candidates": EDGE_CANDIDATES.conform(pl.DataFrame(self.edges, schema=EDGE_CANDIDATES.schema)),
            "blueprints": table,
            "blueprint_rejections": _rejections(self.refused),
            "research_checklist": RESEARCH_CHECKLIST.sample(1, 1).with_columns(
                gate=pl.lit("multiplicity_survivors"),
                detail=pl.lit("none survives"),
                decision=pl.lit(self.decision),
                is_passed=pl.lit(is_promoted),
            ),
        }
        return frames | (self._executed() if is_promoted else {})

    @property
    def sources(self) -> StrategySources:
        return StrategySources.of(self.frames)

    def _executed(self) -> dict[str, pl.DataFrame]:
        judged = [
            {
                "blueprint_id": spec.blueprint_id, "gate": gate, "observed": 1.0, "limit": 0.0, "comparator": ">",
                "unit": "1", "margin": 1.0, "is_passed": spec.blueprint_id in self.promoted or gate == "evidence",
                "detail": "", "evidence": "", "is_promoted": spec.blueprint_id in self.promoted,
            }
            for spec in self.specs.values()
            for gate in ("evidence", "stressed_net")
        ]  # fmt: skip
        nets = [
            (split, name, metric, value if split == "validation" else 9.0, "fraction of equity", 5, START, START)
            for name, pair in self.promoted.items()
            for metric, value in zip(("stressed_net", "net"), pair, strict=True)
            for split in ("train", "validation")
        ]
        return {
            "promotions": PROMOTIONS.conform(pl.DataFrame(judged, schema=PROMOTIONS.schema)),
            "walkforward_summary": WALKFORWARD_SUMMARY.conform(
                pl.DataFrame(nets, schema=WALKFORWARD_SUMMARY.schema, orient="row")
            ),
        }


def _named(frame: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    return frame.with_columns(hypothesis_id=pl.Series(ids, dtype=pl.String))


def _rejections(refused: Mapping[str, str]) -> pl.DataFrame:
    rows = BLUEPRINT_REJECTIONS.sample(1, len(refused))
    return rows.with_columns(
        hypothesis_id=pl.Series(list(refused), dtype=pl.String), reason=pl.Series(refused.values(), dtype=pl.String)
    )


HALVED = (Overlay("risk_throttle", (("size_scale", 0.5),)),)
PROMOTED = Scene(
    edges=(
        edge("h0", profit_density_score=0.5, condition="vol_regime_low", delay_bars=2),
        edge("h1", profit_density_score=9.0, condition="bull_bear_bull"),
        edge("h2", profit_density_score=7.0),
        edge("h3", profit_density_score=8.0, event=VACUUM),
        edge("h4", profit_density_score=6.0),
        edge("h5", profit_density_score=99.0, status="DRAFT", fail_reasons="trap:tails"),
    ),
    specs={
        "h0": blueprint("bp_won", conditions=["vol_regime_low"], delay=2, overlays=HALVED),
        "h1": blueprint("bp_lost", conditions=["bull_bear_bull"], entry={"arm_bars": 3}),
    },
    promoted={"bp_won": (0.01, 0.02)},
    refused={"h2": "near_copy", "h3": "max_per_event", "h4": "near_copy"},
)
KEPT = replace(PROMOTED, decision="KEEP_RESEARCH", specs={}, promoted={})
