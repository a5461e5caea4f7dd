"""What a hypothesis is held against beside itself, counted again: later entries, other rates, holds and thresholds.

Which identities its numbers keep is asked of every row; the neighbours of survivors are averaged again from the outcomes.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.gates.booked import sign_of
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.tested import is_near
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.hypotheses.criteria import STRESS_FACTOR
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

_RATIO_WEIGHT: Final = 0.7
_LEAST_SCALE: Final = 1e-9
_SHOWN: Final = ("hypothesis_id", "event_type", "condition", "side_rule", "delay_bars", "hold_bars")


def wrong_rows(evidence: Evidence, differing: Sequence[str]) -> pl.DataFrame:
    """Return the rows of the evidence beside what differs in them, those in which nothing does left out."""
    return evidence.frame.select(_SHOWN).with_columns(differs=pl.Series(differing, dtype=pl.String)).filter(
        pl.col("differs") != ""
    )  # fmt: skip


def broken_identities(evidence: Evidence) -> pl.DataFrame:
    """Return the tested hypotheses whose numbers contradict one another."""
    run = evidence.settings
    return wrong_rows(evidence, [_contradictions(row, run) for row in evidence.frame.to_dicts()])


def _contradictions(row: Mapping[str, Any], run: ResearchRun) -> str:
    if row["is_eligible"] is False:
        return ""
    number = {name: math.nan if value is None else value for name, value in row.items()}
    delays, curvature = json.loads(row["delay_means_json"] or "{}"), json.loads(row["curvature_means_json"] or "{}")
    cost, gross, net = (
        2.0 * (run.fees_bps + run.slippage_bps),
        number["gross_mean_train_bps"],
        number["net_mean_train_bps"],
    )
    truth = {
        "expectancy_after_multiplicity_bps": net - number["multiplicity_penalty_bps"],
        "stressed_mean_train_bps": net - (STRESS_FACTOR - 1.0) * cost,
        "cost_ratio_train": cost / gross if gross > 0 else math.nan,
        "ess_run": number["n_run"] * number["ess_train"] / number["n_train"] if number["n_train"] else math.nan,
        **_late(delays),
        **_curved(list(curvature.values())),
    }
    red = [name for name, value in truth.items() if not is_near(row[name], value)]
    own = (delays.get(str(row["delay_bars"]), {}).get("mean_bps"), curvature.get(Variant.CENTRE.value))
    red += ["own mean among its neighbours"] * (not all(is_near(mean, net) for mean in own))
    asked = {delay: {"is_applicable": counts} for delay, counts in _delays(row, run).items()}
    told = {delay: {"is_applicable": one["is_applicable"]} for delay, one in delays.items()}
    red += ["delays that are asked"] * (asked != told)
    red += ["neighbours that are asked"] * (set(curvature) != set(_neighbours(row)))
    red += ["ess_train above n_train"] * (not number["ess_train"] <= number["n_train"])
    return ", ".join(red)


def _late(delays: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    means = [
        math.nan if one["mean_bps"] is None else one["mean_bps"] for one in delays.values() if one["is_applicable"]
    ]
    if not means:
        return {"delay_positive_ratio": 0.0, "delay_robustness_score": math.nan}
    ratio = sum(mean > 0 for mean in means) / len(means)
    average = sum(means) / len(means)
    scatter = math.sqrt(sum((mean - average) ** 2 for mean in means) / len(means))
    steady = 1.0 - scatter / max(abs(average), _LEAST_SCALE)
    score = math.nan if math.isnan(steady) else _RATIO_WEIGHT * ratio + (1.0 - _RATIO_WEIGHT) * max(0.0, steady)
    return {"delay_positive_ratio": ratio, "delay_robustness_score": score}


def _curved(shown: list[float | None]) -> dict[str, float]:
    means = [math.nan if mean is None else mean for mean in shown]
    is_known = len(means) > 1 and not any(math.isnan(mean) for mean in means)
    penalty = max(0.0, means[0] - min(means[1:])) / max(abs(means[0]), _LEAST_SCALE) if is_known else math.nan
    return {
        "curvature_penalty": penalty,
        "n_positive_neighbours": float(sum(mean > 0 for mean in means)),
        "n_curvature_means": float(len(means)),
    }


def _delays(row: Mapping[str, Any], run: ResearchRun) -> dict[str, bool]:
    extras = sorted({0, 1, *run.delays})
    return {str(row["delay_bars"] + extra): extra <= max(1, row["hold_bars"] // 2) for extra in extras}


def _neighbours(row: Mapping[str, Any]) -> dict[str, tuple[str, str, int]]:
    """Return variant, condition and hold of every neighbour by its name, itself first."""
    own, hold = row["condition"], row["hold_bars"]
    shorter, longer = min(round(0.9 * hold), hold - 1), max(round(1.1 * hold), hold + 1)
    centre = Variant.CENTRE.value
    return {
        centre: (centre, own, hold),
        Variant.RATE_MINUS.value: (Variant.RATE_MINUS.value, own, hold),
        Variant.RATE_PLUS.value: (Variant.RATE_PLUS.value, own, hold),
        f"hold_{shorter}": (centre, own, shorter),
        f"hold_{longer}": (centre, own, longer),
        **{near.name: (centre, near.name, hold) for near in Condition(own).neighbours},
    }


def untrue_neighbours(evidence: Evidence) -> pl.DataFrame:
    """Return the survivors of multiplicity of which a delay's or a neighbour's mean is not that of its outcomes."""
    survivors = evidence.frame.filter(pl.col("gate_multiplicity").fill_null(value=True))
    market = _Train.of(evidence, survivors["event_type"].unique().to_list())
    ids = set(survivors["hypothesis_id"].to_list())
    told = [
        ", ".join(_untrue(row, market, evidence.settings)) if row["hypothesis_id"] in ids else ""
        for row in evidence.frame.to_dicts()
    ]
    return wrong_rows(evidence, told)


def _untrue(row: Mapping[str, Any], market: "_Train", run: ResearchRun) -> Iterator[str]:
    cost, own = 2.0 * (run.fees_bps + run.slippage_bps), Variant.CENTRE.value
    sign = sign_of(row)

    def net(variant: str, condition: str, delay: int, hold: int) -> float:
        return sign * market.mean(row["event_type"], variant, condition, delay, hold) - cost

    for delay, shown in json.loads(row["delay_means_json"]).items():
        if not is_near(shown["mean_bps"], net(own, row["condition"], int(delay), row["hold_bars"])):
            yield f"delay {delay}"
    shown_by_name = json.loads(row["curvature_means_json"])
    for name, (variant, condition, hold) in _neighbours(row).items():
        if not is_near(shown_by_name.get(name), net(variant, condition, row["delay_bars"], hold)):
            yield name


@dataclass(frozen=True, slots=True)
class _Train:
    """The train outcomes of some families by variant, delay and hold, of `long` or `with_event`, net of funding [bps]."""

    events: pl.DataFrame
    cells: Mapping[tuple[object, ...], tuple[IntArray, FloatArray]]
    answers: dict[str, BoolArray]

    @classmethod
    def of(cls, evidence: Evidence, families: Sequence[str]) -> "_Train":
        start, end = evidence.settings.window
        known = evidence.inputs["event_registry"].filter(
            pl.col("event_type").is_in(families), pl.col("known_at").is_between(start, end, closed="left")
        )
        # A severity is judged against all earlier events of its family, those before the window too.
        every = evidence.inputs["event_registry"].filter(pl.col("event_type").is_in(families))
        attached = attach_conditions(every, evidence.inputs["market_context"]).join(
            known.select("variant", "event_id"), on=["variant", "event_id"], how="semi", maintain_order="left"
        )
        events = attached.with_row_index("event")
        sided = [family.value for family in EventType if family.is_sided]
        direction = pl.when(pl.col("event_type").is_in(sided)).then(pl.col("side")).otherwise(1)
        rows = (
            evidence.inputs["event_outcomes"]
            .filter(
                pl.col("control_no") == 0, pl.col("split") == Split.TRAIN.value, pl.col("event_type").is_in(families)
            )
            .join(events.select("variant", "event_id", "event"), on=["variant", "event_id"], how="left")
            .select(
                "event_type",
                "variant",
                "delay_bars",
                "hold_bars",
                "event",
                pnl=direction * (pl.col("gross_bps") - pl.col("funding_bps")),
            )
        )
        cells = {
            key: (part["event"].cast(pl.Int64).to_numpy(), part["pnl"].to_numpy())
            for key, part in rows.partition_by(
                "event_type", "variant", "delay_bars", "hold_bars", as_dict=True, include_key=False
            ).items()
        }
        return cls(events, cells, {})

    def mean(self, family: str, variant: str, condition: str, delay: int, hold: int) -> float:
        """Return the mean of a cell under a condition; NaN without trades."""
        event, pnl = self.cells.get((family, variant, delay, hold), (np.zeros(0, np.int64), np.zeros(0)))
        if condition not in self.answers:
            self.answers[condition] = self.events.select(Condition(condition).holds).to_series().to_numpy()
        own = self.answers[condition][event]
        return float(pnl[own].mean()) if own.any() else math.nan
