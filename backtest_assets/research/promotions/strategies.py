"""The strategy candidates: promoted blueprints, then edge candidates, each with score, deployment and risk controls.

What is promoted was decided before (`decide`); nothing is chosen by symbol here, and no score is made up.
"""

import hashlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

import polars as pl

from backtest_assets.domain.blueprint import ALL_SYMBOLS, Blueprint, blueprint_from_json
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun, settings_fields
from backtest_assets.domain.split import Split
from backtest_assets.errors import SettingsError, TableError
from backtest_assets.research.events.conditions import Condition
from backtest_assets.tables.promotions import PROMOTIONS, STRATEGY_CANDIDATES
from backtest_assets.tables.walkforward import WALKFORWARD_SUMMARY

UNMAPPED: Final = "unmapped"
"""Execution family of an event that execution does not know (X8)."""

EQUITY: Final = "fraction of equity"
DENSITY: Final = "bps per calendar day"
MAX_NAMED: Final = 10
"""Candidates without detail that are named [candidates] (R70)."""

_PROMOTE: Final = "PROMOTE"
_PROMOTED: Final = "PROMOTED"
_RUN_ID_LENGTH: Final = 64
_DERIVED: Final = "cost_bps"
_COPIED: Final = (
    "condition",
    "side_rule",
    "hold_bars",
    "n_events",
    "edge_score",
    "expectancy_per_trade",
    "profit_density_score",
    "event_frequency",
    "stability_proxy",
    "robustness_score",
    "capacity_proxy",
    "symbol_scores_json",
    "is_rollout_eligible",
    "candidate_symbol",
    "event",
    "fail_reasons",
)


class Source(StrEnum):
    """Where a strategy candidate comes from, in the order of precedence (R73)."""

    BLUEPRINT = "promoted_blueprint"
    EDGE = "edge_candidate"


@dataclass(frozen=True, slots=True)
class StrategySources:
    """What strategy candidates are merged from; each field is named after its table."""

    promotions: pl.DataFrame
    walkforward_summary: pl.DataFrame
    blueprints: pl.DataFrame
    blueprint_rejections: pl.DataFrame
    edge_candidates: pl.DataFrame
    hypotheses: pl.DataFrame
    expectancy: pl.DataFrame
    research_checklist: pl.DataFrame

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame]) -> "StrategySources":
        """Gather them from frames by table name; without PROMOTE there were no promotions, and none are missing.

        Raises:
            TableError: naming the tables that are missing.
        """
        checklist = frames.get("research_checklist")
        executed = {"promotions": PROMOTIONS.empty(), "walkforward_summary": WALKFORWARD_SUMMARY.empty()}
        known = dict(frames) if checklist is not None and says_promote(checklist) else {**frames, **executed}
        names = [item.name for item in fields(cls)]
        if missing := [name for name in names if name not in known]:
            message = f"strategy_candidates: tables {', '.join(missing)} are missing; materialise them first"
            raise TableError(message)
        return cls(**{name: known[name] for name in names})


def says_promote(checklist: pl.DataFrame) -> bool:
    """Say whether a checklist says PROMOTE on every row, each of them passed; an empty one does not.

    Args:
        checklist: table research_checklist.

    Knows:
        the decision of the run.
    """
    return checklist.select("decision", "is_passed").unique().rows() == [(_PROMOTE, True)]


def list_strategies(sources: StrategySources, *, run: ResearchRun) -> pl.DataFrame:
    """Merge promoted blueprints and edge candidates: by source, score and id, each hypothesis and behaviour once.

    Of the edge candidates the best of each family up to `strategy_builder_top_k_per_event`, of all the first
    `strategy_builder_max_candidates`; a place that a duplicate loses the next takes.

    Args:
        sources: the run's tables.
        run: gives limits, overrides, symbols and the settings of the commands.

    Returns:
        Table strategy_candidates; empty unless the checklist says PROMOTE or is overridden (R68). What lacks its
        hypothesis or its expectancy is left out; the gate `details_present` refuses unless that is overridden (R70).

    Raises:
        SettingsError: if a blueprint's JSON cannot be obeyed.

    Knows:
        train and validation, and what was promoted on them; never test.
    """
    chosen = _Merge.of(sources, run).chosen
    rows = [candidate.row(run) | {"rank": rank} for rank, candidate in enumerate(chosen, start=1)]
    return STRATEGY_CANDIDATES.conform(pl.DataFrame(rows, schema=STRATEGY_CANDIDATES.schema))


def describe_strategies(strategies: pl.DataFrame, sources: StrategySources, *, run: ResearchRun) -> Mapping[str, str]:
    """Count what was seen and what was selected, by source, and why the others were not (R50).

    Args:
        strategies: table strategy_candidates.
        sources: what it was merged from.
        run: gives the overrides.

    Returns:
        `promoted_blueprints_seen`, `edge_rows_seen`, `source_counts` of the selected, `left_out` by reason and
        `missing_detail`, for the operator.

    Raises:
        SettingsError: if a blueprint's JSON cannot be obeyed.

    Knows:
        what `list_strategies` knows.
    """
    merge = _Merge.of(sources, run)
    selected = Counter(strategies["source"].to_list())
    named = ", ".join(merge.missing[:MAX_NAMED]) or "none"
    return {
        "promoted_blueprints_seen": str(_promoted(sources).height),
        "edge_rows_seen": str(sources.edge_candidates.height),
        "source_counts": ", ".join(f"{source.value} {selected[source.value]}" for source in Source),
        "left_out": ", ".join(f"{reason} {n}" for reason, n in sorted(merge.lost.items())) or "none",
        "missing_detail": f"{len(merge.missing)}: {named}",
    }


def backtest_command(event: str, *, run: ResearchRun) -> str:
    """Return the command that backtests one family of a run under a run_id of its own (R24).

    Args:
        event: the family.
        run: the settings; those that are not at their default are spelled out.

    Returns:
        One line for a shell.

    Knows:
        the settings.
    """
    suffix = f"-{event}"
    name = run.run_id[: _RUN_ID_LENGTH - len(suffix)] + suffix
    values = run.to_dict() | {"run_id": name, "blueprints_filter_event_type": event}
    asked = [
        (item.name, str(values[item.name]))
        for item in settings_fields()
        if item.name != _DERIVED and (item.default is MISSING or values[item.name] != item.default)
    ]
    return shlex.join(["backtest-assets", "run", *(part for key, value in asked for part in (f"--{key}", value))])


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One row before it is ranked: its edge candidate with details, and the blueprint of its hypothesis if there is one."""

    source: Source
    edge: Mapping[str, Any]
    spec: Blueprint | None
    score: float | None
    score_kind: str
    n_gates: int | None
    refusal: str

    @property
    def name(self) -> str:
        if self.source is Source.BLUEPRINT and self.spec is not None:
            return f"blueprint/{self.spec.blueprint_id}"
        return f"edge/{self.edge['candidate_id']}"

    @property
    def order(self) -> tuple[int, float, str]:
        unknown = self.score is None
        return list(Source).index(self.source), math.inf if unknown else -(self.score or 0.0), self.name

    def symbols(self, run: ResearchRun) -> tuple[str, ...]:
        """What it was tested on; nothing if that is not in the run (W13)."""
        if self.spec is not None:
            return self.spec.symbol_scope.symbols
        asked = str(self.edge["candidate_symbol"])
        return run.symbol_list if asked == ALL_SYMBOLS else tuple({asked} & set(run.symbol_list))

    @property
    def wait_bars(self) -> int:
        return int(self.edge["delay_bars"]) if self.spec is None else self.spec.entry.wait_bars

    def behaviour(self, run: ResearchRun) -> str:
        """Digest of what is entered and when it is left; a condition on the symbol is said by the symbols."""
        symbols = sorted(self.symbols(run))
        own = [f"symbol_{symbol}" for symbol in symbols]
        condition = "all" if [self.edge["condition"]] == own else self.edge["condition"]
        acts = [self.edge["event"], condition, self.edge["side_rule"], self.wait_bars, self.edge["hold_bars"], symbols]
        return hashlib.sha256(json.dumps(acts).encode()).hexdigest()

    def _faults(self, run: ResearchRun) -> Iterator[str]:
        """Yield why it cannot be backtested, the first thing first."""
        if self.edge["event"] not in set(EventType):
            yield f"{UNMAPPED}_family"
        if not self.symbols(run):
            yield "unknown_symbol"
        if self.edge["side_rule"] not in set(SideRule):
            yield "non_executable_side_rule"
        try:
            Condition(self.edge["condition"])
        except SettingsError:
            yield "non_executable_condition"
        if self.refusal:
            yield self.refusal
        if self.spec is not None and not self.spec.size_scale > 0:
            yield "blocked"

    def row(self, run: ResearchRun) -> dict[str, Any]:
        """Return its row of table strategy_candidates, without the rank."""
        symbols, scale = self.symbols(run), None if self.spec is None else self.spec.size_scale
        why = next(self._faults(run), "")
        event = str(self.edge["event"])
        return {
            **{name: self.edge[name] for name in _COPIED},
            "strategy_candidate_id": self.name,
            "source": self.source.value,
            "hypothesis_id": self.edge["candidate_id"],
            "blueprint_id": None if self.spec is None else self.spec.blueprint_id,
            "known_at": run.splits[Split.VALIDATION].end,
            "execution_family": event if event in set(EventType) else UNMAPPED,
            "edge_status": self.edge["status"],
            "score": self.score,
            "score_kind": self.score_kind,
            "score_unit": EQUITY if self.source is Source.BLUEPRINT else DENSITY,
            "n_promotion_gates": self.n_gates,
            "p_rw": self.edge["p_rw"],
            "expectancy_after_multiplicity_bps": self.edge["floor_bps"],
            "deployment_type": ("none", "single_symbol")[len(symbols)] if len(symbols) <= 1 else "multi_symbol",
            "deployment_symbols": ",".join(symbols),
            "entry_delay_bars": self.wait_bars,
            "size_scale": scale,
            "is_blocked": scale is None or not scale > 0,
            "is_backtest_ready": not why,
            "not_ready_reason": why,
            "manual_backtest_command": "" if why else backtest_command(event, run=run),
            "behaviour_key": self.behaviour(run),
        }


@dataclass(slots=True)
class _Merge:
    """What was chosen, how many were left out for which reason, and what lacks its details."""

    run: ResearchRun
    chosen: list[_Candidate] = field(default_factory=list[_Candidate])
    lost: Counter[str] = field(default_factory=Counter[str])
    missing: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, sources: StrategySources, run: ResearchRun) -> "_Merge":
        made = cls(run)
        if not says_promote(sources.research_checklist) and run.strategy_builder_ignore_checklist != 1:
            made.lost["checklist"] = sources.edge_candidates.height
            return made
        for candidate in sorted(made.seen(sources), key=lambda one: one.order):
            made.ask(candidate)
        return made

    def seen(self, sources: StrategySources) -> Iterator[_Candidate]:
        """Yield every candidate that has its details and may be selected; note the others."""
        edges = _detailed(sources)
        specs = {row["hypothesis_id"]: blueprint_from_json(row["spec_json"]) for row in sources.blueprints.to_dicts()}
        of_blueprint = {spec.blueprint_id: name for name, spec in specs.items()}
        for name, n_gates in _promoted(sources).sort("blueprint_id").iter_rows():
            edge = edges.get(of_blueprint.get(name, ""))
            if edge is None:
                self.missing.append(f"blueprint/{name}")
                continue
            score, kind = _blueprint_score(name, sources)
            yield _Candidate(Source.BLUEPRINT, edge, specs[of_blueprint[name]], score, kind, n_gates, "")
        is_open = says_promote(sources.research_checklist)
        refused = dict(sources.blueprint_rejections.select("hypothesis_id", "reason").iter_rows())
        for row in sources.edge_candidates.sort("candidate_id").to_dicts():
            name = row["candidate_id"]
            if row["status"] != _PROMOTED and self.run.strategy_builder_allow_non_promoted != 1:
                self.lost["not_promoted"] += 1
            elif name not in edges:
                self.missing.append(f"edge/{name}")
            else:
                spec = specs.get(name)
                why = "" if spec else f"not_compiled: {refused.get(name, 'unknown')}"
                refusal = why if is_open else "execution_closed"
                score = _known(row["profit_density_score"])
                yield _Candidate(Source.EDGE, edges[name], spec, score, "profit_density", None, refusal)

    def ask(self, candidate: _Candidate) -> None:
        """Keep a candidate, or count why not; the better ones were asked before."""
        why = next(self._against(candidate), None)
        if why is None:
            self.chosen.append(candidate)
        else:
            self.lost[why] += 1

    def _against(self, candidate: _Candidate) -> Iterator[str]:
        run = self.run
        if any(one.edge["candidate_id"] == candidate.edge["candidate_id"] for one in self.chosen):
            yield "same_hypothesis"
        if any(one.behaviour(run) == candidate.behaviour(run) for one in self.chosen):
            yield "same_behaviour"
        own = [one for one in self.chosen if one.source is Source.EDGE and one.edge["event"] == candidate.edge["event"]]
        if candidate.source is Source.EDGE and len(own) >= run.strategy_builder_top_k_per_event:
            yield "strategy_builder_top_k_per_event"
        if len(self.chosen) >= run.strategy_builder_max_candidates:
            yield "strategy_builder_max_candidates"


def _promoted(sources: StrategySources) -> pl.DataFrame:
    """Return the promoted blueprints with the number of gates that they kept."""
    return sources.promotions.filter("is_promoted").group_by("blueprint_id").agg(n_gates=pl.col("is_passed").sum())


def _detailed(sources: StrategySources) -> dict[str, dict[str, Any]]:
    """Return the edge candidates that have a hypothesis and an expectancy, with both, by id."""
    told = sources.edge_candidates.join(
        sources.hypotheses.select("hypothesis_id", "p_rw"), left_on="candidate_id", right_on="hypothesis_id"
    ).join(
        sources.expectancy.select("hypothesis_id", floor_bps="expectancy_after_multiplicity_bps"),
        left_on="candidate_id",
        right_on="hypothesis_id",
    )
    return {row["candidate_id"]: row for row in told.to_dicts()}


def _blueprint_score(name: str, sources: StrategySources) -> tuple[float | None, str]:
    """Return the validation net at twice the costs, else the plain one, else nothing, and which it is (R71)."""
    own = sources.walkforward_summary.filter(blueprint_id=name, split=Split.VALIDATION.value)
    values: dict[str, float | None] = dict(own.select("metric", "value").iter_rows())
    stressed, net = _known(values.get("stressed_net")), _known(values.get("net"))
    return (net, "net_validation") if stressed is None else (stressed, "stressed_net_validation")


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
