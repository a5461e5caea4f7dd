"""What must be true of events: known in time, reproducible, well spaced, the past unchanged; controls stay out."""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import broken, differing, limit_gate, rows_gate
from backtest_assets.gates.controls import GATES_EVENT_CONTROLS
from backtest_assets.gates.detected import changed_families, unlike_detected
from backtest_assets.gates.exceeded import N_SAMPLED, unlike_thresholds
from backtest_assets.gates.foresight import N_CUTS, foresight_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.spacing import too_soon
from backtest_assets.gates.standing import untrue_standings
from backtest_assets.gates.triggers import untrue_triggers
from backtest_assets.research.events.definition import (
    IS_ACCEPTED,
    LEAST_KNOWN,
    LEAST_QUALITY,
    THRESHOLD_BARS,
    THRESHOLD_LEAST,
    Status,
)
from backtest_assets.research.events.registry import FAMILIES

FEW_EVENTS: Final = 50
"""Accepted events below which a family is not tested on its own (the recipe's least number on train) [events]."""
_KEY: Final = ("variant", "event_type", "symbol", "event_id")
_CENTRE: Final = pl.col("variant") == Variant.CENTRE.value


def _outside_data(evidence: Evidence) -> pl.DataFrame:
    start, end = evidence.settings.window
    span = (
        evidence.inputs["bars_um"].group_by("symbol").agg(first=pl.col("open_at").min(), last=pl.col("known_at").max())
    )
    in_window = pl.col("known_at").is_between(start, end, closed="left") == (
        pl.col("status") != Status.OUTSIDE_WINDOW.value
    )
    in_data = (pl.col("onset_at") >= pl.col("first")) & (pl.col("known_at") <= pl.col("last"))
    ended = pl.col("exit_at").is_null() | pl.col("exit_at").is_between("known_at", "last")
    return broken(evidence.frame.join(span, on="symbol", how="left"), in_window & in_data & ended)


def _wrong_ids(evidence: Evidence) -> pl.DataFrame:
    columns = ("variant", "event_type", "symbol", "onset_at", "event_id", "definition_version", "parameter_digest")
    rows = evidence.frame.select(*columns, onset_us=pl.col("onset_at").dt.epoch("us"), row=pl.int_range(pl.len()))
    good = np.zeros(rows.height, dtype=np.bool_)
    for (family, variant), mine in rows.partition_by("event_type", "variant", as_dict=True).items():
        if family is not None and variant is not None:
            params = FAMILIES[EventType(family)].definition.at(Variant(variant))
            ids = pl.Series(params.event_ids(mine.select("symbol", "onset_us").iter_rows()), dtype=pl.String)
            is_good = (
                mine["symbol"].is_not_null()
                & mine["onset_us"].is_not_null()
                & mine["event_id"].eq_missing(ids)
                & mine["definition_version"].eq_missing(pl.Series([params.version]))
                & mine["parameter_digest"].eq_missing(pl.Series([params.digest]))
            )
            good[mine["row"].to_numpy()] = is_good.to_numpy()
    unique = rows.select(pl.struct("variant", "event_id").is_unique()).to_series()
    return rows.select(columns).filter(~(pl.Series(good) & unique))


def _strange(evidence: Evidence) -> pl.DataFrame:
    finite = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(name) > 0) for name in ("threshold", "severity"))
    words = (
        pl.col("status").is_in(list(Status))
        & pl.col("variant").is_in(list(Variant))
        & pl.col("event_type").is_in(list(evidence.settings.event_types))
        & pl.col("symbol").is_in(list(evidence.settings.symbol_list))
    )
    good = (pl.col("quality") >= LEAST_QUALITY) | ~IS_ACCEPTED
    return broken(evidence.frame, finite & words & good)


def _undeclared(evidence: Evidence) -> pl.DataFrame:
    declared = [(f.value, word.value) for f in EventType for word in FAMILIES[f].definition.measures]
    pairs = pl.DataFrame(declared, schema=("event_type", "measure"), orient="row")
    return evidence.frame.select(*_KEY, "measure").join(pairs, on=["event_type", "measure"], how="anti")


def _miscounted(evidence: Evidence) -> pl.DataFrame:
    # volatility shocks counted anew with Polars' own rolling quantile; the frame must hold exactly these onsets
    definition = FAMILIES[EventType.VOL_SHOCK_RELAXATION].definition
    ratio = pl.col("rv_ratio_288")
    threshold = ratio.rolling_quantile(
        1.0 - definition.rate, "linear", window_size=THRESHOLD_BARS, min_samples=THRESHOLD_LEAST
    ).shift(1)
    onset = (ratio >= threshold) & (ratio.shift(1) < threshold.shift(1)) & ~pl.col("is_gap")
    again = (
        evidence.inputs["features"]
        .sort("symbol", "open_at")
        .filter(onset.over("symbol"))
        .select("symbol", onset_at="open_at")
    )
    of_family = pl.col("event_type") == EventType.VOL_SHOCK_RELAXATION.value
    mine = evidence.frame.filter(_CENTRE & of_family).select("symbol", "onset_at")
    unlabelled = evidence.frame.filter(_CENTRE.is_null() | of_family.is_null()).select("symbol", "onset_at")
    return pl.concat([differing(mine, again, ("symbol", "onset_at")), unlabelled], how="diagonal")


def _crowded(evidence: Evidence) -> pl.DataFrame:
    return too_soon(evidence.frame.filter(IS_ACCEPTED.fill_null(value=True)))


def _outside_universe(evidence: Evidence) -> pl.DataFrame:
    # accepted only where the symbol was known to be eligible, dropped only where it was not
    universe = evidence.inputs["universe"].filter(pl.col("is_eligible").fill_null(value=False))
    since = {(symbol, month): at for symbol, month, at in universe.select("symbol", "month", "known_at").iter_rows()}
    rows = evidence.frame.with_columns(month=pl.col("known_at").dt.strftime("%Y-%m")).filter(
        pl.col("status").is_in([Status.ACCEPTED.value, Status.NOT_IN_UNIVERSE.value]).fill_null(value=True)
    )
    good = [
        status is not None
        and (status == Status.ACCEPTED.value) == ((symbol, month) in since and known_at >= since[symbol, month])
        for status, symbol, month, known_at in rows.select("status", "symbol", "month", "known_at").iter_rows()
    ]
    return rows.filter(~pl.Series(good, dtype=pl.Boolean)).select(*_KEY, "month")


def _few(evidence: Evidence) -> tuple[float, str]:
    counts = evidence.frame.filter(IS_ACCEPTED & _CENTRE).group_by("event_type").len()
    of_family = {
        family: int(counts.filter(pl.col("event_type") == family.value)["len"].sum())
        for family in evidence.settings.event_types
    }
    few = {family.value: n for family, n in of_family.items() if n < FEW_EVENTS}
    listed = ", ".join(f"{family} has {n}" for family, n in few.items()) or "none has fewer"
    return len(few), f"{listed} (limit {FEW_EVENTS} accepted); families below it"


GATES_EVENT_CANDIDATES: Final[tuple[Gate, ...]] = (
    rows_gate(
        "known_in_data",
        "Onset, known_at and exit lie within the symbol's bars; outside_window are those outside the run's, and only those.",
        _outside_data,
        fix="rebuild event_candidates from the current bars",
    ),
    rows_gate(
        "ids_reproducible",
        "Ids are unique within a variant and follow from family, definition, parameters, symbol and onset.",
        _wrong_ids,
        fix="a definition changed: rebuild event_candidates",
    ),
    rows_gate(
        "values_sane",
        "Thresholds and severities are finite and positive, labels are of the run, accepted events of sufficient quality.",
        _strange,
        fix="look at the features at the onset",
    ),
    rows_gate(
        "measure_declared",
        "Every candidate was decided by a measure that its family declares.",
        _undeclared,
        fix="a family records another measure than it declares: mend it and rebuild event_candidates",
    ),
    rows_gate(
        "triggers_true",
        "Every candidate's trigger, read again from features, bars and funding by its own measure, is beyond its threshold.",
        untrue_triggers,
        fix="inputs changed after detection: rebuild event_candidates",
    ),
    rows_gate(
        "shocks_recounted",
        "Volatility shocks found again by an independent rolling quantile are the stored candidates.",
        _miscounted,
        fix="features changed after detection: rebuild event_candidates",
    ),
    rows_gate(
        "thresholds_recounted",
        f"Of every family but shocks and aftershocks {N_SAMPLED} candidates have the threshold that their window gives when "
        f"it is sorted anew; of the four with the plainest triggers, {N_SAMPLED} likely bars that are no candidates do not fire.",
        unlike_thresholds,
        fix="features changed after detection: rebuild event_candidates",
    ),
    rows_gate(
        "spaced",
        "An accepted event of a family and symbol comes after the end of the one before, and its rest.",
        _crowded,
        fix="rebuild event_candidates; overlapping events would count one move twice",
    ),
    rows_gate(
        "in_universe",
        "An accepted event is of a symbol known to be tradable in its month; not_in_universe are only those of others.",
        _outside_universe,
        fix="the universe changed after detection: rebuild event_candidates",
    ),
    rows_gate(
        "detected_again",
        "Each family detected once more over the whole window, its centre and one of the other rates, gives the stored "
        "candidates, no fewer and no others.",
        unlike_detected,
        fix="rows were lost, or inputs changed after detection: rebuild event_candidates",
    ),
    foresight_gate(
        "prefix_invariant",
        f"At {N_CUTS} instants per family, its own events' if it has so many, no event changes when the future is removed "
        "or replaced.",
        "family",
        changed_families,
        fix="a family sees the future, or inputs changed since: rebuild; if red again, do not trade on it",
    ),
    limit_gate(
        "few_events",
        "Every family has enough accepted events to be tested.",
        _few,
        limit=0,
        unit="families",
        fix="widen the run's window or add symbols; the other families are not affected",
        severity=Severity.WARN,
    ),
)


def _unjudged(evidence: Evidence) -> pl.DataFrame:
    run = evidence.settings
    asked = pl.DataFrame({"event_type": [family.value for family in run.event_types]}).join(
        pl.DataFrame({"symbol": run.symbol_list}), how="cross"
    )
    key, rows = ("event_type", "symbol"), evidence.frame.select("event_type", "symbol")
    twice = rows.filter(pl.struct(key).is_duplicated())
    return pl.concat([asked.join(rows, on=key, how="anti"), rows.join(asked, on=key, how="anti"), twice])


def _fates_lost(evidence: Evidence) -> pl.DataFrame:
    # counted again row by row, and every candidate must have exactly one fate
    fates = ("accepted", "cooldown", "low_quality", "outside_window", "not_in_universe")
    again: dict[tuple[str, str, str], int] = {}
    for family, symbol, status in (
        evidence.inputs["event_candidates"].filter(_CENTRE).select("event_type", "symbol", "status").iter_rows()
    ):
        again[family, symbol, status] = again.get((family, symbol, status), 0) + 1
    wrong = [
        row["n_candidates"] != sum(row[f"n_{fate}"] for fate in fates)
        or any(row[f"n_{fate}"] != again.get((row["event_type"], row["symbol"], fate), 0) for fate in fates)
        for row in evidence.frame.iter_rows(named=True)
    ]
    return evidence.frame.filter(pl.Series(wrong, dtype=pl.Boolean)).select("event_type", "symbol", "n_candidates")


def _not_run(evidence: Evidence) -> tuple[float, str]:
    out = evidence.frame.filter((pl.col("status") != "RUN").fill_null(value=True))
    listed = "; ".join(
        f"{family} on {symbol}: {reason}"
        for family, symbol, reason in out.select("event_type", "symbol", "reason").iter_rows()
    )
    return out.height, f"not run: {listed or 'none'}; families and symbols"


GATES_EVENT_FAMILIES: Final[tuple[Gate, ...]] = (
    rows_gate(
        "every_family_told",
        "Every family and symbol of the run has exactly one row.",
        _unjudged,
        fix="rebuild event_families",
    ),
    rows_gate(
        "fates_add_up",
        "Candidates counted again by fate are the stored counts, and each has one fate.",
        _fates_lost,
        fix="event_candidates changed since: rebuild event_families",
    ),
    rows_gate(
        "known_recounted",
        "Bars of train that know what a family needs, counted again by DuckDB, give the stored share, measure and status; "
        f"RUN is from a share of {LEAST_KNOWN:g} on.",
        untrue_standings,
        fix="features changed since: rebuild event_families",
    ),
    limit_gate(
        "every_family_run",
        f"The data support every family: what it needs is known on at least {LEAST_KNOWN:.0%} of train's bars.",
        _not_run,
        limit=0,
        unit="families",
        fix="ingest what is lacking (spot, volumes, open interest) to use them; the other families are not affected",
        severity=Severity.WARN,
    ),
)

__all__ = ["GATES_EVENT_CANDIDATES", "GATES_EVENT_CONTROLS", "GATES_EVENT_FAMILIES"]
