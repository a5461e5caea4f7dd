"""What must be true of the expectancy of the examined hypotheses and of their traps; measuring stays in research."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.booked import TRAIN, Booked, Trades, sign_of
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.tested import is_near, nothing_tested, tested_of
from backtest_assets.gates.trapped import Trapped
from backtest_assets.research.hypotheses.expectancy import N_BEST, PARTICIPATION, QUANTILES, STATED, TOP_SHARES
from backtest_assets.research.hypotheses.traps import LIMITS, Trap
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

_AGAIN: Final = "make it again from this run's own tables"
_SHOWN: Final = ("hypothesis_id", "event_type", "condition", "side_rule", "delay_bars", "hold_bars")


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


def _mismeasured(evidence: Evidence) -> pl.DataFrame:
    """Measure the trades of every examined hypothesis again and return those of which a number is another."""
    rows = evidence.frame.to_dicts()
    keys = {(row["event_type"], row["delay_bars"], row["hold_bars"]) for row in rows}
    booked, volumes = Booked.of(evidence, only=keys), _volumes(evidence)
    told = [", ".join(_differing(row, booked, volumes)) for row in rows]
    wrong = evidence.frame.select(_SHOWN).with_columns(differs=pl.Series(told, dtype=pl.String))
    return wrong.filter(pl.col("differs") != "")


def _differing(row: Mapping[str, Any], booked: Booked, volumes: Sequence[tuple[IntArray, FloatArray]]) -> Iterator[str]:
    found, run = booked.chosen(row), booked.run
    if found is None:
        yield "no trades"
        return
    trades, own = found
    net = sign_of(row) * trades.pnl - 2.0 * (run.fees_bps + run.slippage_bps)
    train = own & (trades.split == TRAIN)
    best, n = np.sort(net[train])[::-1], int(train.sum())
    total = math.fsum(best)
    truth = {
        "median_train_bps": float(np.median(best)),
        "sd_train_bps": float(best.std(ddof=1)),
        "win_rate_train": float((best > 0).mean()),
        **{name: float(np.quantile(best, q)) for name, q in QUANTILES.items()},
        **{
            name: math.fsum(best[: math.ceil(share * n)]) / total if total > 0 else math.nan
            for name, share in TOP_SHARES.items()
        },
        "capacity_quote": _capacity(trades, own, volumes),
    }
    yield from (name for name, value in truth.items() if not is_near(row[name], value))
    scores = json.loads(row["symbol_scores_json"])
    for place, symbol in enumerate(sorted(run.symbol_list)):
        mine = net[train & (trades.symbol == place)]
        told = scores.pop(symbol, {"n": -1, "net_mean_train_bps": None})
        average = float(mine.mean()) if mine.size else math.nan
        if told["n"] != mine.size or not is_near(told["net_mean_train_bps"], average):
            yield f"score of {symbol}"
    if scores:
        yield f"scores of {', '.join(scores)}, which are not in the run"


def _volumes(evidence: Evidence) -> list[tuple[IntArray, FloatArray]]:
    """Return opens and traded value of every symbol's bars, in order of the alphabet."""
    bars = evidence.inputs["bars_um"].select("symbol", "open_at", "volume_quote").sort("symbol", "open_at")
    own = [bars.filter(pl.col("symbol") == symbol) for symbol in sorted(evidence.settings.symbol_list)]
    return [(rows["open_at"].to_physical().to_numpy(), rows["volume_quote"].to_numpy()) for rows in own]


def _capacity(trades: Trades, own: BoolArray, volumes: Sequence[tuple[IntArray, FloatArray]]) -> float:
    entered: list[float] = []
    for place, (opens, volume) in enumerate(volumes):
        at = trades.entered_us[own & (trades.symbol == place)]
        found = np.searchsorted(opens, at)
        met = found < opens.size
        known = volume[found[met]][opens[found[met]] == at[met]]
        entered += known[np.isfinite(known)].tolist()
    return PARTICIPATION * float(np.median(entered)) if entered else math.nan


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


def _wrong_traps(evidence: Evidence) -> pl.DataFrame:
    """Measure every trap of every examined hypothesis again and return those whose number is another."""
    asked = set(evidence.frame["hypothesis_id"].to_list())
    rows = [row for row in tested_of(evidence).to_dicts() if row["hypothesis_id"] in asked]
    trapped = Trapped.of(evidence, rows)
    again = {(row["hypothesis_id"], trap): v for row in rows for trap, v in trapped.measure(row).items()}
    shown = evidence.frame.select("hypothesis_id", "trap", "observed")
    values = [again.get((name, trap)) for name, trap, _ in shown.iter_rows()]
    right = [
        value is not None and is_near(found, value) for value, found in zip(values, shown["observed"], strict=True)
    ]
    is_wrong = ~pl.Series(right, dtype=pl.Boolean)
    return shown.with_columns(again=pl.Series(values, dtype=pl.Float64)).filter(is_wrong)


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
    rows_gate(
        "trades_measured_again",
        "What is said of the trades of every examined hypothesis, by symbol too, is what its outcomes say.",
        _mismeasured,
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
    rows_gate(
        "traps_measured_again",
        "All seven traps of every examined hypothesis are measured as stored, by another road.",
        _wrong_traps,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate("traps_passed", Severity.WARN, "Something passes every trap; limit: 1 hypothesis.", _ask_traps),
)
