"""What must be true of the trades: the ledger's sums, filled where the bars allow, by the blueprints' rules; booking stays out.

An empty table is never legal here: execution runs only for executed blueprints, and each of them entered on train.
"""

import math
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.executed import (
    FIX_CODE,
    FIX_INPUTS,
    SUMS,
    TOLERANCE,
    acts,
    bars_of,
    caps,
    executed_specs,
    near,
)
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.promotions.criteria import MIN_TRADES

LABELS: Final = (*(split.value for split in Split), "purged")


def _not_the_ledger(evidence: Evidence) -> pl.DataFrame:
    ledger = evidence.inputs["simulation_ledger"]
    sums = ledger.group_by("trade_id").agg(
        pl.col("open_at").min().alias("first"),
        pl.col("open_at").max().alias("last"),
        pl.col("split").unique().alias("labels"),
        *(pl.col(name).sum().alias(f"ledger_{name}") for name in SUMS),
    )
    both = evidence.frame.join(sums, on="trade_id", how="full", coalesce=True)
    same = pl.all_horizontal(near(pl.col(name), pl.col(f"ledger_{name}")) for name in SUMS)
    spans = (pl.col("entered_at") == pl.col("first")) & (pl.col("exited_at") == pl.col("last"))
    one_label = (pl.col("labels").list.len() == 1) & (pl.col("labels").list.first() == pl.col("split"))
    return broken(both, same & spans & one_label).select("trade_id", *SUMS, *(f"ledger_{name}" for name in SUMS))


def _split_difference(evidence: Evidence) -> tuple[float, str]:
    ledger, known = evidence.inputs["simulation_ledger"], evidence.frame.drop_nulls(("split", "net_pnl"))
    by_label = {label: math.fsum(known.filter(split=label)["net_pnl"]) for label in LABELS}
    parts = ", ".join(f"{label} {value:.6g}" for label, value in by_label.items())
    difference = abs(math.fsum(by_label.values()) - math.fsum(ledger["net_pnl"]))
    return (difference if known.height else math.nan), f"{parts}, against the whole ledger"


def _wrong_fills(evidence: Evidence) -> pl.DataFrame:
    run, exposure = evidence.settings, pl.col("exposure")
    gross = pl.col("side") * exposure * (pl.col("exit_price") / pl.col("entry_price") - 1.0)
    fee, slippage = (2.0 * exposure * bps * BPS for bps in (run.fees_bps, run.slippage_bps))
    return broken(
        evidence.frame,
        near(pl.col("gross_pnl"), gross)
        & near(pl.col("fee"), fee)
        & near(pl.col("slippage"), slippage)
        & (pl.col("known_at") == pl.col("exited_at") + BAR),
    )


def _filled(evidence: Evidence) -> pl.DataFrame:
    bars = bars_of(evidence)
    return (
        evidence.frame.join(
            bars.select("symbol", entered_at="open_at", entry_open="open"), on=["symbol", "entered_at"], how="left"
        )
        .join(bars.rename({"open_at": "exited_at"}), on=["symbol", "exited_at"], how="left")
        .join(acts(evidence), on=["blueprint_id", "symbol"], how="left")
    )


def _outside_bars(evidence: Evidence) -> pl.DataFrame:
    inside = pl.col("exit_price").is_between(pl.col("low"), pl.col("high"))
    ended = pl.col("is_gap") | (
        pl.col("exit_price") == pl.col("close")
    )  # a gap at the end leaves the last mark, as booked
    leaves = pl.when(pl.col("exit_reason") == "end_of_data").then(ended).otherwise(inside)
    return broken(_filled(evidence), (pl.col("entry_price") == pl.col("entry_open")) & leaves)


def _against_the_rule(evidence: Evidence) -> pl.DataFrame:
    side, entry, leave, reason = (pl.col(name) for name in ("side", "entry_price", "exit_price", "exit_reason"))
    stop, target = entry * (1 - side * pl.col("stop_frac")), entry * (1 + side * pl.col("target_frac"))
    levels = near(pl.col("stop_price"), stop) & near(pl.col("target_price"), target)
    due = pl.col("entered_at") + pl.col("time_stop")
    obeys = (
        pl.when(reason == "stop")
        .then((side * (leave - stop) <= TOLERANCE * entry) & (pl.col("exited_at") < due))
        .when(reason == "target")
        .then((side * (leave - target) >= -TOLERANCE * entry) & (pl.col("exited_at") < due))
        .when(reason == "time")
        .then((leave == pl.col("open")) & (pl.col("exited_at") >= due))
        .when(reason == "end_of_data")
        .then(pl.col("exited_at") == evidence.settings.window[1] - BAR)
    )
    return broken(_filled(evidence), levels & obeys)


def _missed_exits(evidence: Evidence) -> pl.DataFrame:
    held = (
        evidence.inputs["simulation_ledger"]
        .select("trade_id", "symbol", "open_at")
        .join(bars_of(evidence), on=["symbol", "open_at"], how="left")
        .join(
            _filled(evidence).select("trade_id", "exit_reason", "exited_at", "entered_at", "time_stop"), on="trade_id"
        )
        .filter((pl.col("open_at") < pl.col("exited_at")) | (pl.col("exit_reason") == "end_of_data"), ~pl.col("is_gap"))
    )
    extremes = held.group_by("trade_id").agg(
        lowest=pl.col("low").min(),
        highest=pl.col("high").max(),
        n_overdue=(pl.col("open_at") >= pl.col("entered_at") + pl.col("time_stop")).sum(),
    )
    rows = evidence.frame.join(extremes, on="trade_id", how="left")
    low, high = pl.min_horizontal("stop_price", "target_price"), pl.max_horizontal("stop_price", "target_price")
    untouched = (pl.col("lowest") > low) & (pl.col("highest") < high) & (pl.col("n_overdue") == 0)
    return broken(rows, (pl.col("n_bars_held") == 0) | untouched)


def _without_trigger(evidence: Evidence) -> pl.DataFrame:
    events = evidence.inputs["event_registry"].filter(variant="centre")
    asked = events.select("event_id", "symbol", "event_type", triggered_at="known_at", event_side="side")
    rows = evidence.frame.join(asked, on=["event_id", "symbol", "triggered_at"], how="left").join(
        acts(evidence), on=["blueprint_id", "symbol"], how="left"
    )
    side = pl.when(pl.col("event_side") < 0).then("side_if_down").otherwise("side_if_up")
    return broken(
        rows,
        (pl.col("event_type") == pl.col("trigger"))
        & (pl.col("side") == side)
        & (pl.col("entered_at") == pl.col("triggered_at") + pl.col("delay")),
    )


def _overlapping(evidence: Evidence) -> pl.DataFrame:
    rows = evidence.frame.join(acts(evidence), on=["blueprint_id", "symbol"], how="left").sort("entered_at")
    free = (pl.col("exited_at") + pl.col("cooldown")).shift(1).over("blueprint_id", "symbol")
    n_before = pl.int_range(pl.len()).over("blueprint_id", "symbol")
    return broken(
        rows, pl.when(n_before == 0).then(pl.col("cooldown").is_not_null()).otherwise(pl.col("entered_at") > free)
    )


def _over_caps_at_entry(evidence: Evidence) -> pl.DataFrame:
    per_symbol, gross = caps(evidence)
    rows = _filled(evidence)
    at_open = (pl.col("exit_price") == pl.col("open")) & (pl.col("n_bars_held") > 0)
    freed = pl.when(at_open).then("exited_at").otherwise(pl.col("exited_at") + BAR)
    moves = pl.concat([
        rows.select("trade_id", "symbol", at="entered_at", order=1, change="exposure"),
        rows.select("trade_id", "symbol", at=freed, order=0, change=-pl.col("exposure")),
    ]).sort("at", "order")  # fmt: skip  # what is freed at an open may be taken at that open
    sums = moves.with_columns(gross=pl.col("change").cum_sum(), own=pl.col("change").cum_sum().over("symbol"))
    return broken(sums, (pl.col("gross") <= gross + TOLERANCE) & (pl.col("own") <= per_symbol + TOLERANCE))


def _mislabelled(evidence: Evidence) -> pl.DataFrame:
    plan = evidence.settings.splits
    labels = [plan.split_of(at) or "purged" if at is not None else None for at in evidence.frame["triggered_at"]]
    return broken(evidence.frame, pl.col("split") == pl.Series(labels, dtype=pl.String))


def _hardly_traded(evidence: Evidence) -> tuple[float, str]:
    counts = evidence.frame.drop_nulls("split").group_by("blueprint_id", "split").len()
    n = {(name, split): n for name, split, n in counts.iter_rows()}
    few = [
        spec.blueprint_id
        for spec in executed_specs(evidence)
        if min(n.get((spec.blueprint_id, split.value), 0) for split in (Split.TRAIN, Split.VALIDATION)) < MIN_TRADES
    ]
    return len(few), f"fewer than {MIN_TRADES:g} trades on train or validation: {', '.join(few) or 'none'}"


GATES_TRADES: Final = (
    rows_gate("trades_equal_ledger", "Every trade is the sum of its ledger rows, and every ledger row is of a trade.", _not_the_ledger, fix=FIX_INPUTS),
    limit_gate(
        "splits_add_up",
        "Net P&L of train, validation, test and purged trades is the ledger's.",
        _split_difference,
        limit=TOLERANCE,
        unit="fraction of equity",
        fix=FIX_INPUTS,
    ),
    rows_gate("pnl_from_fills", "Gross, fees and slippage follow from exposure, fills and the run's costs.", _wrong_fills, fix=FIX_CODE),
    rows_gate("fills_inside_bars", "Entries fill at the bar's open, exits inside the bar's range.", _outside_bars, fix=FIX_CODE),
    rows_gate("exits_obey_the_rule", "Every exit is where the blueprint's stop, target or time stop puts it.", _against_the_rule, fix=FIX_CODE),
    rows_gate("no_exit_missed", "No bar before the exit touched stop or target, or was due.", _missed_exits, fix=FIX_CODE),
    rows_gate("triggered_by_an_event", "Every trade has its event, side and delay.", _without_trigger, fix=FIX_INPUTS),
    rows_gate("one_position_at_a_time", "A blueprint holds one position per symbol and keeps its cooldown.", _overlapping, fix=FIX_CODE),
    rows_gate("caps_hold_at_entries", "Exposure keeps the symbol and the gross cap at every fill.", _over_caps_at_entry, fix=FIX_CODE),
    rows_gate("splits_labelled", "A trade's split is that of its trigger by the run's one plan.", _mislabelled, fix=FIX_INPUTS),
    limit_gate(
        "few_trades",
        "Executed blueprints have enough trades to be judged.",
        _hardly_traded,
        limit=0,
        unit="blueprints",
        fix="they cannot be promoted; a longer window or fewer, better ranked blueprints give more room under the caps",
        severity=Severity.WARN,
    ),
)  # fmt: skip  # one gate, one line where it fits
"""Inputs: simulation_ledger, bars_um, event_registry, blueprints."""
