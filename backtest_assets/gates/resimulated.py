"""Executed blueprints and their neighbours traded once more, in plain numpy, alone; what a gate makes of it stays out.

Nothing of `research/blueprints/entries`, of the simulator or its kernel is used: entries are asked as `allowed` asks them,
the exit of every trade is found at once in a table of the bars it could see, then who is held decides who may enter.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.clock import BAR, BAR_US, epoch_us
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.split import Split
from backtest_assets.gates.allowed import allowed, asked_exposure, entry_facts, holds
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.events.thresholds import Threshold
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

Result: TypeAlias = tuple[str, str, str, int, float]
"""blueprint_id, neighbour, split, trades, net P&L."""

_TENTH: Final = {"minus": 0.9, "plus": 1.1}
_LEAST_ROOM: Final = 1e-9
_FARTHEST: Final = 0.999999


def trade_again(evidence: Evidence) -> Iterator[Result]:
    """Yield what every executed blueprint and each neighbour comes to on train and on validation.

    Args:
        evidence: gives bars, settlements, events, context, features, blueprints and settings.
    """
    texts = evidence.inputs["blueprints"].filter("is_executed").sort("rank")["spec_json"].to_list()
    specs = [blueprint_from_json(text) for text in texts]
    end = evidence.settings.splits[Split.VALIDATION].end
    rows = _asked(evidence, specs, end)
    tapes = {symbol: _Tape.of(evidence, symbol, end) for symbol in evidence.settings.symbol_list}
    for text, spec in zip(texts, specs, strict=True):
        own = rows.filter(blueprint_id=spec.blueprint_id)
        for name, near in neighbours_again(text):
            sums = {split.value: [0, 0.0] for split in (Split.TRAIN, Split.VALIDATION)}
            for triggered, exited, net in _traded(near, own, tapes, evidence):
                split = evidence.settings.splits.split_of_trade(triggered, exited)
                if split is not None and split.value in sums:
                    sums[split.value][0] += 1
                    sums[split.value][1] += net
            for split, (n, net) in sums.items():
                yield spec.blueprint_id, name, split, int(n), net


def neighbours_again(text: str) -> Iterator[tuple[str, Blueprint]]:
    """Yield a blueprint under the name centre, and everything a tenth beside it, made of its JSON.

    Args:
        text: canonical JSON of the blueprint.
    """
    raw = json.loads(text)
    leave, entry = raw["exit"], raw["entry"]

    def moved(part: str, **values: Any) -> Blueprint:  # noqa: ANN401  # any field of a part
        return blueprint_from_json(json.dumps(raw | {part: raw[part] | values}))

    yield "centre", blueprint_from_json(text)
    for side, factor in _TENTH.items():
        stop, hold = round(leave["stop_value"] * factor, 12), leave["time_stop_bars"]
        stop = min(stop, _FARTHEST) if leave["stop_type"] == "percent" else stop
        yield f"stop_{side}", moved("exit", stop_value=stop)
        yield f"target_{side}", moved("exit", target_value=round(leave["target_value"] * factor, 12))
        if leave["trailing_stop_type"] != "none":
            yield f"trail_{side}", moved("exit", trailing_stop_value=round(leave["trailing_stop_value"] * factor, 12))
        shifted = min(round(hold * factor), hold - 1) if factor < 1 else max(round(hold * factor), hold + 1)
        if shifted >= 1:
            yield f"hold_{side}", moved("exit", time_stop_bars=shifted)
    for i, name in enumerate(entry["conditions"]):
        for way, near in zip(("stricter", "looser"), Condition(name).neighbours, strict=False):
            named = [near.name if j == i else other for j, other in enumerate(entry["conditions"])]
            yield f"condition_{i + 1}_{way}", moved("entry", conditions=named)
    for i, node in enumerate(entry["condition_nodes"]):
        asked = Threshold.of(node["feature"], node["operator"], node["value"], node["value_high"])
        for way, near in zip(("stricter", "looser"), asked.neighbours, strict=False):
            there = node | {"value": near.value, "value_high": near.high}
            nodes = [there if j == i else other for j, other in enumerate(entry["condition_nodes"])]
            yield f"node_{i + 1}_{way}", moved("entry", condition_nodes=nodes)


def _asked(evidence: Evidence, specs: list[Blueprint], end: datetime) -> pl.DataFrame:
    """Return every event that each blueprint could act on, with all that may be asked of it."""
    families = {spec.event_type.value for spec in specs}
    events = evidence.inputs["event_registry"].filter(
        pl.col("variant") == "centre", pl.col("event_type").is_in(families), pl.col("known_at") <= end
    )
    attached = attach_conditions(events, evidence.inputs["market_context"]).rename({"known_at": "triggered_at"})
    parts = [
        attached.filter(
            pl.col("event_type") == spec.event_type.value, pl.col("symbol").is_in(spec.symbol_scope.symbols)
        ).with_columns(
            blueprint_id=pl.lit(spec.blueprint_id),
            entered_at=pl.col("triggered_at") + max(spec.entry.delay_bars, spec.entry.arm_bars) * BAR,
        )
        for spec in specs
    ]
    ended = {spec.exit.invalidation.metric for spec in specs if spec.exit.invalidation is not None}
    metrics = evidence.inputs["features"].select(
        "symbol", entered_at="known_at", **{f"{name}_ends": pl.col(name) for name in sorted(ended)}
    )
    own = pl.concat(parts).filter(pl.col("symbol").is_in(evidence.settings.symbol_list))
    asked = own.drop("session").join(metrics, on=["symbol", "entered_at"], how="left")
    # The context at the trigger is what conditions ask; `entry_facts` brings that of the entry under the same name.
    session = own.select("blueprint_id", "event_id", "symbol", session_known=pl.col("session"))
    return entry_facts(asked, evidence).join(session, on=["blueprint_id", "event_id", "symbol"], how="left")


@dataclass(frozen=True, slots=True)
class _Tape:
    """One symbol's bars up to the end of validation, NaN on gaps, and what a long pays at its settlements.

    Attributes:
        first_us: open of the first bar [us].
        open, high, low: (n_bars,).
        next_real: (n_bars + 1,) next bar at or after each that is real; n_bars where there is none.
        settled_us: (n_settlements,).
        paid: (n_settlements + 1,) running sum of rate times last close.
        over: by metric, (n_bars,) its value when the bar opens.
    """

    first_us: int
    open: FloatArray
    high: FloatArray
    low: FloatArray
    next_real: IntArray
    settled_us: IntArray
    paid: FloatArray
    over: Mapping[str, FloatArray]

    @classmethod
    def of(cls, evidence: Evidence, symbol: str, end: datetime) -> "_Tape":
        start = evidence.settings.window[0]
        n, first_us = (end - start) // BAR, epoch_us(start)
        every = evidence.inputs["bars_um"].filter(pl.col("symbol") == symbol, pl.col("open_at") < end).sort("open_at")
        bars = every.filter(pl.col("open_at") >= start)
        at = (bars["open_at"].to_physical().to_numpy() - first_us) // BAR_US
        prices = np.full((3, n), np.nan)
        for row, name in enumerate(("open", "high", "low")):
            prices[row, at] = bars[name].to_numpy()
        real = np.where(np.isnan(prices[0]), n, np.arange(n))
        next_real = np.append(np.minimum.accumulate(real[::-1])[::-1], n)
        closes = every.filter(pl.col("close").is_not_null()).select("known_at", "close").sort("known_at")
        paid = (
            evidence.inputs["settlements_um"]
            .filter(pl.col("symbol") == symbol, pl.col("settled_at") <= end)
            .sort("settled_at")
            .join_asof(closes, left_on="settled_at", right_on="known_at")
            .select("settled_at", cash=pl.col("funding_rate") * pl.col("close"))
        )
        return cls(
            first_us,
            prices[0],
            prices[1],
            prices[2],
            next_real.astype(np.int64),
            paid["settled_at"].to_physical().to_numpy(),
            np.append(0.0, np.cumsum(paid["cash"].fill_null(0.0).to_numpy())),
            _metrics(evidence, symbol, first_us, n),
        )

    def funding(self, entered_us: int, exited_us: int) -> float:
        """Return what a long of one unit pays after the entry, up to the exit bar's open."""
        first, last = np.searchsorted(self.settled_us, [entered_us, exited_us], side="right")
        return float(self.paid[last] - self.paid[first])


def _metrics(evidence: Evidence, symbol: str, first_us: int, n: int) -> Mapping[str, FloatArray]:
    blueprints = evidence.inputs["blueprints"].filter("is_executed")["spec_json"]
    ends = [blueprint_from_json(text).exit.invalidation for text in blueprints]
    found: dict[str, FloatArray] = {}
    for metric in {one.metric for one in ends if one is not None}:
        known = evidence.inputs["features"].filter(pl.col("symbol") == symbol).select("known_at", metric)
        bar = (known["known_at"].to_physical().to_numpy() - first_us) // BAR_US
        inside = (bar >= 0) & (bar < n)
        found[metric] = np.full(n, np.nan)
        found[metric][bar[inside]] = known[metric].fill_null(np.nan).to_numpy()[inside]
    return found


@dataclass(frozen=True, slots=True)
class _Leaving:
    """How the entries of one symbol would leave: exit bar, whether at its open, exit price; bar n_bars where none is seen."""

    bar: IntArray
    at_open: BoolArray
    price: FloatArray


def _traded(
    spec: Blueprint, rows: pl.DataFrame, tapes: Mapping[str, _Tape], evidence: Evidence
) -> Iterator[tuple[datetime, datetime, float]]:
    """Yield trigger, exit bar and net P&L of the trades that a blueprint alone makes and closes before validation ends."""
    run, size, asked = evidence.settings, spec.sizing, _wanted(spec, rows, tapes)
    cost = 2.0 * (run.fees_bps + run.slippage_bps) * BPS
    rest = max(spec.entry.cooldown_bars, spec.entry.reentry_lockout_bars)
    free: dict[str, int] = {}
    held: dict[str, tuple[int, float, float]] = {}
    for row in asked:
        symbol, bar, stop = row["symbol"], row["bar"], row["stop_frac"]
        others = [one for other, one in held.items() if other != symbol and one[0] > bar]
        room = min(
            row["exposure"],
            size.max_symbol_exposure,
            size.max_gross_leverage - sum(one[1] for one in others),
            size.symbol_risk_budget / stop,
            (size.portfolio_risk_budget - sum(one[2] for one in others)) / stop,
        )
        if bar < free.get(symbol, 0) or room < _LEAST_ROOM:
            continue
        tape, last = tapes[symbol], row["exit_bar"]
        free[symbol] = last + 1 + rest
        held[symbol] = (last if row["at_open"] else last + 1, room, room * stop)
        if last >= tape.open.size:
            continue
        entry_us, exit_us = (tape.first_us + one * BAR_US for one in (bar, last))
        gross = row["acts"] * (row["exit_price"] / row["entry_price"] - 1.0)
        funding = row["acts"] * tape.funding(entry_us, exit_us) / row["entry_price"]
        yield row["triggered_at"], run.window[0] + last * BAR, room * (gross - cost - funding)


def _wanted(spec: Blueprint, rows: pl.DataFrame, tapes: Mapping[str, _Tape]) -> Iterator[dict[str, Any]]:
    """Yield the entries a blueprint wants, each with the exit it would have, in the order in which they are served."""
    leave, entry = spec.exit, spec.entry
    conditions = [Condition(name).holds for name in entry.conditions]
    nodes = [pl.all_horizontal([Condition(text).holds for text in node.texts]) for node in entry.condition_nodes]
    chosen = (pl.all_horizontal if entry.condition_logic == "all" else pl.any_horizontal)([*conditions, *nodes])
    side = pl.when(pl.col("side") < 0).then(entry.side_rule.side(-1)).otherwise(entry.side_rule.side(1))
    acted = rows.filter(_by_trigger(rows, chosen)).filter(allowed(spec)).with_columns(acts=side)
    first = (acted["entered_at"].to_physical() - min(tape.first_us for tape in tapes.values())) // BAR_US
    acted = acted.with_columns(bar=first)
    units = {"percent": pl.lit(1.0), "range_pct": pl.col("range_96_frac"), "atr": pl.col("atr") / pl.col("entry_price")}
    parts: list[pl.DataFrame] = []
    for symbol, tape in tapes.items():
        inside = acted.filter(pl.col("symbol") == symbol, pl.col("bar").is_between(0, tape.open.size - 1))
        own = inside.with_columns(entry_price=pl.Series(tape.open[inside["bar"].to_numpy()]).fill_nan(None))
        trail = leave.trailing_stop_value * units.get(leave.trailing_stop_type, pl.lit(np.inf))
        own = own.with_columns(
            stop_frac=leave.stop_value * units[leave.stop_type],
            target_frac=leave.target_value * units[leave.target_type],
            trail_frac=trail if leave.trailing_stop_type != "none" else pl.lit(np.inf),
        ).with_columns(exposure=asked_exposure(spec))
        own = own.filter(
            pl.col("entry_price").is_not_null(), pl.col("stop_frac").is_between(0, 1, closed="none"),
            pl.col("target_frac") > 0, pl.col("trail_frac") > 0, pl.col("exposure") > 0, _goes_on(spec),
        )  # fmt: skip
        left = _leaving(spec, own, tape)
        parts.append(
            own.select("symbol", "event_id", "triggered_at", "bar", "acts", "entry_price", "stop_frac", "exposure")
            .with_columns(exit_bar=pl.Series(left.bar), at_open=pl.Series(left.at_open), exit_price=pl.Series(left.price))
        )  # fmt: skip
    yield from pl.concat(parts).sort("bar", "symbol", "event_id").iter_rows(named=True)


def _by_trigger(rows: pl.DataFrame, chosen: pl.Expr) -> pl.Series:
    """Ask conditions of the context at the trigger."""
    return rows.drop("session").rename({"session_known": "session"}).select(chosen.alias("chosen")).to_series()


def _goes_on(spec: Blueprint) -> pl.Expr:
    """Return whether nothing ends the position where it would begin; what is unknown does."""
    ends = spec.exit.invalidation
    if ends is None:
        return pl.lit(value=True)
    return ~holds(ends.operator, pl.col(f"{ends.metric}_ends"), ends.value).fill_null(value=True)


def _leaving(spec: Blueprint, own: pl.DataFrame, tape: _Tape) -> _Leaving:
    """Find the exit of every entry in a table of the bars before its time stop."""
    n, hold, leave = tape.open.size, spec.exit.time_stop_bars, spec.exit
    first, side = own["bar"].to_numpy(), own["acts"].cast(pl.Float64).to_numpy()[:, None]
    entry = own["entry_price"].to_numpy()[:, None]
    stop, target, trail = (entry * own[name].to_numpy()[:, None] for name in ("stop_frac", "target_frac", "trail_frac"))
    bars = first[:, None] + np.arange(hold)
    shown = np.where(bars < n, bars, n)
    opens, highs, lows = (np.append(prices, np.nan)[shown] for prices in (tape.open, tape.high, tape.low))
    gain = side * (opens - entry)
    best = np.where(side > 0, highs - entry, entry - lows)
    worst = np.where(side > 0, lows - entry, entry - highs)
    peak = np.maximum.accumulate(np.nan_to_num(best, nan=0.0).clip(min=0.0), axis=1)
    ahead = np.concatenate([np.zeros((first.size, 1)), peak[:, :-1]], axis=1)
    level = np.broadcast_to(-stop, ahead.shape)
    if leave.break_even_r > 0:
        level = np.where(ahead >= leave.break_even_r * stop, np.maximum(level, 0.0), level)
    is_later = np.arange(hold) > 0
    level = np.where(is_later, np.maximum(level, ahead - trail), level)
    ended = _ended(spec, tape, shown) & is_later & ~np.isnan(opens)
    stopped, reached = worst <= level, best >= target
    hit = ended | stopped | reached
    at = hit.argmax(axis=1)
    pick = (np.arange(first.size), at)
    later = at > 0
    stop_open, target_open = later & (gain <= level)[pick], later & (gain >= target)[pick]
    moved = np.where(
        ended[pick],
        gain[pick],
        np.where(
            stopped[pick],
            np.where(stop_open, gain[pick], level[pick]),
            np.where(target_open, gain[pick], target[:, 0]),
        ),
    )
    is_hit = hit.any(axis=1)
    due = tape.next_real[np.minimum(first + hold, n)]
    fills_open = (stopped[pick] & stop_open) | (~stopped[pick] & target_open)
    timed = np.append(tape.open, np.nan)[due]
    return _Leaving(
        np.where(is_hit, first + at, due).astype(np.int64),
        fills_open | ended[pick] | ~is_hit,
        np.where(is_hit, entry[:, 0] + side[:, 0] * moved, timed),
    )


def _ended(spec: Blueprint, tape: _Tape, shown: IntArray) -> BoolArray:
    """Return whether the metric ends the position at the open of each bar."""
    ends = spec.exit.invalidation
    if ends is None:
        return np.zeros(shown.shape, np.bool_)
    value = np.append(tape.over[ends.metric], np.nan)[shown]
    return {">": value > ends.value, ">=": value >= ends.value, "<": value < ends.value, "<=": value <= ends.value}[
        ends.operator
    ]
