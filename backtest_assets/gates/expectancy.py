"""What must be true of the expectancy of the examined hypotheses and of their traps; measuring stays in research."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.tested import MAX_ERROR_BPS, N_RECOMPUTED, nothing_tested, tested_of
from backtest_assets.gates.traded import Row, Trade, Traded, mean, shuffled
from backtest_assets.research.hypotheses.expectancy import N_BEST, STATED, TOP_SHARES
from backtest_assets.research.hypotheses.traps import LIMITS, TRIMMED, Trap

_AGAIN: Final = "make it again from this run's own tables"
_Truth: TypeAlias = Callable[[Row, list[Trade]], Mapping[str, float | None]]


def _worst_error(rows: Iterable[Row], evidence: Evidence, truth: _Truth) -> tuple[float, str]:
    """Measure a sample of rows again, drawn by the run's digest, and return the largest difference."""
    traded = Traded.of(evidence)
    worst, culprit = 0.0, "trades measured again one by one"
    for row in shuffled(rows, evidence.settings)[:N_RECOMPUTED]:
        for name, value in truth(row, traded.trades(row)).items():
            error = _apart(row[name], value)
            if not error <= worst:
                worst, culprit = error, f"largest difference at {row['hypothesis_id']} {name}"
    return worst, culprit


def _apart(found: float | None, value: float | None) -> float:
    """Return how far two numbers are apart: 0 if both are unknown, infinite if one is."""
    if found is None or value is None:
        return 0.0 if found is value else math.inf
    return abs(value - found)


def _examined_ids(evidence: Evidence) -> set[str]:
    """Choose the survivors of multiplicity and the best by t again, in plain words."""
    tested = [row for row in tested_of(evidence).to_dicts() if row["t_train"] is not None]
    tested.sort(key=lambda row: (-row["t_train"], row["hypothesis_id"]))
    return {row["hypothesis_id"] for n, row in enumerate(tested) if n < N_BEST or row["gate_multiplicity"]}


def _not_examined(evidence: Evidence) -> pl.DataFrame:
    wanted, shown = _examined_ids(evidence), set(evidence.frame["hypothesis_id"].to_list())
    return pl.DataFrame({"hypothesis_id": sorted(map(str, wanted ^ shown))}, schema={"hypothesis_id": pl.String})


def _misstated(evidence: Evidence) -> pl.DataFrame:
    """Return rows that say something else of a hypothesis than its own row, or call evidence what is none."""
    named = ("event_type", "condition", "side_rule", "delay_bars", "hold_bars", *STATED)
    own = tested_of(evidence).select("hypothesis_id", "gate_multiplicity", *named)
    both = evidence.frame.join(own, on="hypothesis_id", how="left", suffix="_own")
    same = [pl.col(name).eq_missing(pl.col(f"{name}_own")) for name in named]
    evident = (
        pl.col("gate_multiplicity")
        & (pl.col("expectancy_after_multiplicity_bps") > 0)
        & (pl.col("net_mean_validation_bps") > 0)
    ).fill_null(value=False)
    right = pl.all_horizontal(
        *same, pl.col("is_survivor") == pl.col("gate_multiplicity"), pl.col("is_evidence") == evident
    )
    return broken(both, right).select("hypothesis_id", "is_survivor", "is_evidence", "net_mean_train_bps")


def _distribution_error(evidence: Evidence) -> tuple[float, str]:
    def truth(_: Row, trades: list[Trade]) -> dict[str, float | None]:
        nets = sorted((net for _, _, split, net in trades if split == "train"), reverse=True)
        total, n = math.fsum(nets), len(nets)
        best = {
            name: math.fsum(nets[: math.ceil(share * n)]) / total if total > 0 else None
            for name, share in TOP_SHARES.items()
        }
        middle = (nets[(n - 1) // 2] + nets[n // 2]) / 2
        return {"median_train_bps": middle, "win_rate_train": sum(net > 0 for net in nets) / n, **best}

    return _worst_error(evidence.frame.to_dicts(), evidence, truth)


def _unasked_traps(evidence: Evidence) -> pl.DataFrame:
    wanted = {(name, trap.value) for name in _examined_ids(evidence) for trap in Trap}
    found = evidence.frame.select("hypothesis_id", "trap").rows()
    wrong = sorted((str(name), str(trap)) for name, trap in wanted ^ set(found))
    return pl.DataFrame(wrong, schema={"hypothesis_id": pl.String, "trap": pl.String}, orient="row")


def _misjudged_traps(evidence: Evidence) -> pl.DataFrame:
    capacity = evidence.settings.expectancy_capacity_min_events_per_day
    is_wrong: list[bool] = []
    for row in evidence.frame.to_dicts():
        limit = LIMITS[Trap(row["trap"])] if row["trap"] in set(Trap) else None
        held = None if limit is None else capacity if limit.limit is None else limit.limit
        stated = limit is not None and (row["comparator"], row["limit"], row["unit"]) == (
            limit.comparator,
            held,
            limit.unit,
        )
        kept = stated and row["observed"] is not None and _is_kept(row["observed"], row["comparator"], row["limit"])
        is_wrong.append(not stated or row["is_passed"] is not kept)
    return evidence.frame.filter(pl.Series(is_wrong)).select("hypothesis_id", "trap", "observed", "limit", "is_passed")


def _is_kept(observed: float, comparator: str, limit: float) -> bool:
    if comparator == "above":
        return observed > limit
    return observed <= limit if comparator == "at most" else observed >= limit


def _trap_error(evidence: Evidence) -> tuple[float, str]:
    """Measure tails and capacity of a sample again."""
    start, end = evidence.settings.window
    days = (end - start).days
    wide = evidence.frame.pivot(on="trap", index="hypothesis_id", values="observed")
    rows = wide.join(tested_of(evidence), on="hypothesis_id", how="left").to_dicts()

    def truth(row: Row, trades: list[Trade]) -> dict[str, float | None]:
        nets = sorted(net for _, _, split, net in trades if split == "train")
        kept = nets[: len(nets) - math.ceil(TRIMMED * len(nets))]
        return {"tails": mean(kept), "capacity": row["n_run"] / days}

    return _worst_error(rows, evidence, truth)


def _ask_evidence(evidence: Evidence) -> Verdict:
    n = evidence.frame.filter(pl.col("is_evidence").fill_null(value=False)).height
    detail = f"{n} of {evidence.frame.height} examined hypotheses earn on train after the penalty, and on validation"
    return Verdict("evidence_found", n, 1, "hypotheses", passed=n >= 1, detail=detail)


def _ask_traps(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    clean = frame.group_by("hypothesis_id").agg(pl.col("is_passed").fill_null(value=False).all()).filter("is_passed")
    red = frame.filter(~pl.col("is_passed").fill_null(value=False))["trap"].value_counts(sort=True)
    why = ", ".join(f"{trap} {n}" for trap, n in red.iter_rows()) or "none"
    detail = f"{clean.height} of {frame['hypothesis_id'].n_unique()} examined hypotheses pass every trap; red: {why}"
    return Verdict("traps_passed", clean.height, 1, "hypotheses", passed=clean.height >= 1, detail=detail)


GATES_EXPECTANCY: Final = (
    rows_gate(
        "examined_once",
        "Examined are the survivors of multiplicity and the best by t.",
        _not_examined,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    rows_gate(
        "hypotheses_restated",
        "What is said of a hypothesis is what its own row says, and evidence follows from it.",
        _misstated,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    limit_gate(
        "trades_measured_again",
        "Median, share of winners and share of the best trades equal those of the trades, one by one.",
        _distribution_error,
        limit=MAX_ERROR_BPS,
        unit="bps",
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate("evidence_found", Severity.WARN, "Something earns on both splits; limit: 1 hypothesis.", _ask_evidence),
)
GATES_EXPECTANCY_TRAPS: Final = (
    rows_gate(
        "every_trap_asked",
        "Every trap is asked once of every examined hypothesis.",
        _unasked_traps,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    rows_gate(
        "verdicts_follow_numbers",
        "Limits are the declared ones, and answers follow from them; what is unknown is red.",
        _misjudged_traps,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    limit_gate(
        "trades_measured_again",
        "Tails and capacity equal those of the trades, one by one.",
        _trap_error,
        limit=MAX_ERROR_BPS,
        unit="bps",
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate("traps_passed", Severity.WARN, "Something passes every trap; limit: 1 hypothesis.", _ask_traps),
)
