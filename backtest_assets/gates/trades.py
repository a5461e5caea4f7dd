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
from backtest_assets.gates.allowed import allowed, asked_exposure, entry_facts, holds
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.executed import (
    FIX_CODE,
    FIX_INPUTS,
    SUMS,
    TOLERANCE,
    acts,
    bars_of,
    budgets,
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
        *(pl.col(name).sum().alias(f"ledger_{name}") for name in SUMS),
    )
    both = evidence.frame.join(sums, on="trade_id", how="full", coalesce=True)
    same = pl.all_horizontal(near(pl.col(name), pl.col(f"ledger_{name}")) for name in SUMS)
    spans = (pl.col("entered_at") == pl.col("first")) & (pl.col("exited_at") == pl.col("last"))
    return broken(both, same & spans).select("trade_id", *SUMS, *(f"ledger_{name}" for name in SUMS))


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


def _levels(evidence: Evidence) -> pl.DataFrame:
    """Return the trades with the distances their blueprints ask for, counted again: `stop_at`, `target_at`, `trail_at`."""
    rows = entry_facts(_filled(evidence), evidence)
    units = {"percent": pl.lit(1.0), "range_pct": pl.col("range_96_frac"), "atr": pl.col("atr") / pl.col("entry_price")}

    def distance(name: str) -> pl.Expr:
        unit = pl.coalesce(pl.when(pl.col(f"{name}_type") == kind).then(value) for kind, value in units.items())
        return pl.col("entry_price") * unit * pl.col(f"{name}_value")

    return rows.with_columns(
        stop_at=pl.col("entry_price") - pl.col("side") * distance("stop"),
        target_at=pl.col("entry_price") + pl.col("side") * distance("target"),
        trail_by=distance("trailing_stop"),
    )


def _stops(evidence: Evidence) -> pl.DataFrame:
    """Return every held bar with the stop in force in it: from the best price of the real bars before it."""
    side, entry = pl.col("side"), pl.col("entry_price")
    told = _levels(evidence).select(
        "trade_id", "side", "entry_price", "stop_at", "target_at", "trail_by", "break_even_r", "exit_reason", "exited_at",
        "entered_at", "time_stop", "exit_price",
    )  # fmt: skip
    held = (
        evidence.inputs["simulation_ledger"]
        .select("trade_id", "symbol", "open_at")
        .join(bars_of(evidence), on=["symbol", "open_at"], how="left")
        .join(told, on="trade_id")
        .filter(~pl.col("is_gap"))
        .sort("trade_id", "open_at")
        .with_columns(along=pl.when(side > 0).then(pl.col("high") - entry).otherwise(entry - pl.col("low")))
    )
    ahead = pl.col("along").cum_max().shift(1).over("trade_id").fill_null(0.0).clip(lower_bound=0.0)
    risk = (entry - pl.col("stop_at")) * side
    even = (pl.col("break_even_r") > 0) & (ahead >= pl.col("break_even_r") * risk)
    gains = {
        "stop": -risk,
        "break_even_stop": pl.when(even).then(0.0),
        "trailing_stop": pl.when(pl.col("open_at") > pl.col("entered_at")).then(ahead - pl.col("trail_by")),
    }
    return held.with_columns(gain=pl.max_horizontal(*gains.values())).with_columns(
        stop_now=entry + side * pl.col("gain"),
        kind=pl.coalesce(pl.when(gain == pl.col("gain")).then(pl.lit(name)) for name, gain in gains.items()),
    )


def _against_the_rule(evidence: Evidence) -> pl.DataFrame:
    side, entry, leave, reason = (pl.col(name) for name in ("side", "entry_price", "exit_price", "exit_reason"))
    last = _stops(evidence).filter(pl.col("open_at") == pl.col("exited_at")).select("trade_id", "stop_now", "kind")
    rows = _levels(evidence).join(last, on="trade_id", how="left")
    levels = near(pl.col("stop_price"), pl.col("stop_at")) & near(pl.col("target_price"), pl.col("target_at"))
    ends = near(pl.col("last_stop_price"), pl.col("stop_now")) | (reason == "end_of_data")
    due = pl.col("entered_at") + pl.col("time_stop")
    obeys = (
        pl.when(reason.is_in(["stop", "break_even_stop", "trailing_stop"]))
        .then(
            (reason == pl.col("kind"))
            & (side * (leave - pl.col("stop_now")) <= TOLERANCE * entry)
            & (pl.col("exited_at") < due)
        )
        .when(reason == "target")
        .then((side * (leave - pl.col("target_at")) >= -TOLERANCE * entry) & (pl.col("exited_at") < due))
        .when(reason == "time")
        .then((leave == pl.col("open")) & (pl.col("exited_at") >= due))
        .when(reason == "invalidation")
        .then((leave == pl.col("open")) & (pl.col("exited_at") < due) & (pl.col("n_bars_held") > 0))
        .when(reason == "end_of_data")
        .then(pl.col("exited_at") == evidence.settings.window[1] - BAR)
    )
    return broken(rows, levels & ends & obeys)


def _missed_exits(evidence: Evidence) -> pl.DataFrame:
    side = pl.col("side")
    worst = pl.when(side > 0).then("low").otherwise("high")
    best = pl.when(side > 0).then("high").otherwise("low")
    held = _stops(evidence).filter((pl.col("open_at") < pl.col("exited_at")) | (pl.col("exit_reason") == "end_of_data"))
    missed = (
        (side * (worst - pl.col("stop_now")) <= 0)
        | (side * (best - pl.col("target_at")) >= 0)
        | (pl.col("open_at") >= pl.col("entered_at") + pl.col("time_stop"))
    )
    passed = held.group_by("trade_id").agg(n_missed=missed.fill_null(value=True).sum())
    rows = evidence.frame.join(passed, on="trade_id", how="left")
    return broken(rows, (pl.col("n_bars_held") == 0) | (pl.col("n_missed") == 0))


def _unowned(evidence: Evidence) -> pl.DataFrame:
    """Return the trades of which nobody can say what they should have done: no executed blueprint has their name."""
    names = [spec.blueprint_id for spec in executed_specs(evidence)]
    return broken(evidence.frame, pl.col("blueprint_id").is_in(names))


def _against_invalidation(evidence: Evidence) -> pl.DataFrame:
    """Return the trades that were entered or held where their metric ended them, or ended where it did not."""
    found = [_unowned(evidence)]
    opens = bars_of(evidence).filter(~pl.col("is_gap")).select("symbol", "open_at")
    for spec in executed_specs(evidence):
        own, ends = evidence.frame.filter(blueprint_id=spec.blueprint_id), spec.exit.invalidation
        if ends is None:
            found.append(own.filter(pl.col("exit_reason") == "invalidation"))
            continue
        metric = evidence.inputs["features"].select("symbol", open_at="known_at", metric=ends.metric)
        rows = (
            evidence.inputs["simulation_ledger"]
            .select("trade_id", "open_at")
            .join(own, on="trade_id")
            .join(opens, on=["symbol", "open_at"], how="inner")
            .join(metric, on=["symbol", "open_at"], how="left")
            .with_columns(is_over=holds(ends.operator, pl.col("metric"), ends.value))
        )
        first = (pl.col("open_at") == pl.col("entered_at")) & (pl.col("is_over").is_null() | pl.col("is_over"))
        last = pl.col("open_at") == pl.col("exited_at")
        inside = (pl.col("open_at") > pl.col("entered_at")) & ~last & pl.col("is_over").fill_null(value=False)
        said = pl.col("exit_reason") == "invalidation"
        at_open = last & (pl.col("open_at") > pl.col("entered_at"))
        ended = at_open & (said != pl.col("is_over").fill_null(value=False)) & (pl.col("exit_reason") != "time")
        found.append(own.filter(pl.col("trade_id").is_in(rows.filter(first | inside | ended)["trade_id"].implode())))
    return pl.concat(found)


def _not_allowed(evidence: Evidence) -> pl.DataFrame:
    """Return the trades whose guards or confirmations did not hold when they were asked; what is unknown does not."""
    rows = entry_facts(evidence.frame, evidence)
    found = [
        broken(rows.filter(blueprint_id=spec.blueprint_id), allowed(spec)).select(evidence.frame.columns)
        for spec in executed_specs(evidence)
    ]
    return pl.concat([_unowned(evidence), *found])


def _missized(evidence: Evidence) -> pl.DataFrame:
    """Return the trades larger than their sizing asks for."""
    rows = _levels(evidence).with_columns(
        stop_frac=(pl.col("entry_price") - pl.col("stop_at")).abs() / pl.col("entry_price")
    )
    found = [
        broken(rows.filter(blueprint_id=spec.blueprint_id), pl.col("exposure") <= asked_exposure(spec) + TOLERANCE)
        for spec in executed_specs(evidence)
    ]
    return pl.concat([_unowned(evidence), *(one.select(evidence.frame.columns) for one in found)])


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
        & (pl.col("entered_at") == pl.col("triggered_at") + pl.col("wait")),
    )


def _overlapping(evidence: Evidence) -> pl.DataFrame:
    rows = evidence.frame.join(acts(evidence), on=["blueprint_id", "symbol"], how="left").sort("entered_at")
    free = (pl.col("exited_at") + pl.col("rest")).shift(1).over("blueprint_id", "symbol")
    n_before = pl.int_range(pl.len()).over("blueprint_id", "symbol")
    return broken(
        rows, pl.when(n_before == 0).then(pl.col("rest").is_not_null()).otherwise(pl.col("entered_at") > free)
    )


def _over_caps_at_entry(evidence: Evidence) -> pl.DataFrame:
    most, (symbol_risk, gross_risk) = caps(evidence), budgets(evidence)
    risk = (pl.col("entry_price") - pl.col("stop_price")).abs() / pl.col("entry_price") * pl.col("exposure")
    rows = _filled(evidence).with_columns(risk=risk)
    at_open = (pl.col("exit_price") == pl.col("open")) & (pl.col("n_bars_held") > 0)
    freed = pl.when(at_open).then("exited_at").otherwise(pl.col("exited_at") + BAR)
    names, size = ("trade_id", "symbol", "blueprint_id", "side"), pl.col("exposure")
    moves = pl.concat([
        rows.select(*names, at="entered_at", order=1, change=size, risk="risk", new=size),
        rows.select(*names, at=freed, order=0, change=-size, risk=-pl.col("risk"), new=0.0),
    ]).sort("at", "order")  # fmt: skip  # what is freed at an open may be taken at that open
    change, risk = pl.col("change").cum_sum(), pl.col("risk").cum_sum()
    sums = moves.with_columns(
        gross=change,
        of_symbol=change.over("symbol"),
        of_strategy=change.over("blueprint_id"),
        of_side=change.over("side"),
        entered=pl.col("new").sum().over("at"),
        gross_risk=risk,
        own_risk=risk.over("symbol"),
    )
    limits = {
        "gross": most.gross,
        "of_symbol": most.symbol,
        "of_strategy": most.strategy,
        "of_side": most.side,
        "entered": most.new,
        "gross_risk": gross_risk,
        "own_risk": symbol_risk,
    }
    return broken(sums, pl.all_horizontal(pl.col(name) <= limit + TOLERANCE for name, limit in limits.items()))


def _mislabelled(evidence: Evidence) -> pl.DataFrame:
    label = pl.lit("purged")
    for window in evidence.settings.splits.windows:
        is_inside = pl.col("triggered_at").is_between(window.start, window.last_entry, closed="left")
        label = (
            pl.when(is_inside & (pl.col("exited_at") < window.end)).then(pl.lit(window.split.value)).otherwise(label)
        )
    is_known = pl.all_horizontal(pl.col("triggered_at", "exited_at").is_not_null())
    return broken(evidence.frame, is_known & (pl.col("split") == label))


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
    rows_gate("invalidation_obeyed", "A position ends where its metric says so, and no other says it did.", _against_invalidation, fix=FIX_CODE),
    rows_gate("guards_held", "Every guard and confirmation held when it was asked; what is unknown blocks.", _not_allowed, fix=FIX_CODE),
    rows_gate("size_as_asked", "No position is larger than its blueprint's sizing and throttles ask for.", _missized, fix=FIX_CODE),
    rows_gate("triggered_by_an_event", "Every trade has its event, side and delay.", _without_trigger, fix=FIX_INPUTS),
    rows_gate("one_position_at_a_time", "A blueprint holds one position per symbol and keeps its cooldown.", _overlapping, fix=FIX_CODE),
    rows_gate("caps_hold_at_entries", "Exposure and risk keep every cap and budget at every fill: symbol, strategy, side, portfolio, entered at once.", _over_caps_at_entry, fix=FIX_CODE),
    rows_gate("splits_labelled", "A trade's split is that of its trigger by the run's one plan, and its exit lies in it.", _mislabelled, fix=FIX_INPUTS),
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
"""Inputs: simulation_ledger, bars_um, event_registry, market_context, features, blueprints."""
