"""A blueprint traded on train once more, trade by trade, by the gates' own arithmetic; fitting its exits stays in research.

Nothing of `research/blueprints` or `stats/simulate` is used: which events it acts on, where each trade leaves and what it may
hold are walked again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.clock import BAR, BAR_US, epoch_us
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.event import Variant
from backtest_assets.domain.split import Split
from backtest_assets.gates.allowed import allowed, asked_exposure, entry_facts
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.stats.arrays import FloatArray

_ROOM: Final = 1e-9
"""Room below this is rounding of a sum of exposures [fraction of equity]."""


@dataclass(frozen=True, slots=True)
class Redone:
    """What a blueprint does on train.

    Attributes:
        time_exit_bps: mean move of its events with the time exit alone, before costs and funding [bps]; NaN without any.
        with_exits_bps: the same with its exits; a trade that a guard stops counts as nothing.
        n_entries: positions it opens if it is alone.
    """

    time_exit_bps: float
    with_exits_bps: float
    n_entries: int


@dataclass(frozen=True, slots=True)
class _Path:
    """A symbol's bars of train on one grid; NaN where there is none."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray


@dataclass(frozen=True, slots=True)
class _Leave:
    """Where a trade left: bar, price, and whether at that bar's open."""

    bar: int
    price: float
    at_open: bool


def redo(evidence: Evidence, specs: Sequence[Blueprint]) -> list[Redone]:
    """Trade blueprints again on train.

    Args:
        evidence: of table blueprints, with its inputs.
        specs: what to trade.

    Returns:
        One per blueprint, in order.

    Raises:
        ValueError: if a blueprint ends by a metric: the compiler makes none, and this cannot count one.
    """
    train = evidence.settings.splits[Split.TRAIN]
    first_us, n_bars = epoch_us(train.start), (train.end - train.start) // BAR
    bars = evidence.inputs["bars_um"].filter(
        pl.col("open_at") >= train.start, pl.col("known_at") <= train.end, ~pl.col("is_gap")
    )
    paths = {
        str(name[0]): _path(own, first_us, n_bars) for name, own in bars.partition_by("symbol", as_dict=True).items()
    }
    rows = _acted(evidence, specs)
    return [
        _redone(spec, rows.filter(pl.col("number") == number), paths, first_us) for number, spec in enumerate(specs)
    ]


def _path(bars: pl.DataFrame, first_us: int, n_bars: int) -> _Path:
    at = (bars["open_at"].to_physical().to_numpy() - first_us) // BAR_US
    columns: list[FloatArray] = []
    for name in ("open", "high", "low", "close"):
        values = np.full(n_bars, np.nan)
        values[at] = bars[name].to_numpy()
        columns.append(values)
    return _Path(*columns)


def _acted(evidence: Evidence, specs: Sequence[Blueprint]) -> pl.DataFrame:
    """Return the events that each blueprint's conditions choose on train, with what was known at the entry."""
    run = evidence.settings
    train = run.splits[Split.TRAIN]
    families = {spec.entry.triggers[0] for spec in specs}
    centre = evidence.inputs["event_registry"].filter(
        pl.col("variant") == Variant.CENTRE, pl.col("known_at") <= train.end, pl.col("event_type").is_in(families)
    )
    events = attach_conditions(centre, evidence.inputs["market_context"])
    own = [run.splits.split_of(at) is Split.TRAIN for at in events["known_at"]]
    events = events.filter(pl.Series(own, dtype=pl.Boolean))
    parts = [_chosen(events, number, spec) for number, spec in enumerate(specs)]
    opens = evidence.inputs["bars_um"].select("symbol", entered_at="open_at", entry_price="open")
    rows = pl.concat(parts).join(opens, on=["symbol", "entered_at"], how="left")
    return entry_facts(rows, _needed(evidence, specs, rows)).sort("entered_at", "symbol", "event_id")


def _needed(evidence: Evidence, specs: Sequence[Blueprint], rows: pl.DataFrame) -> Evidence:
    """Leave out what became known at no entry, unless a blueprint asks for an average over the bars before."""
    exits = [spec.exit for spec in specs]
    kinds = {kind for leave in exits for kind in (leave.stop_type, leave.target_type, leave.trailing_stop_type)}
    if "atr" in kinds or any(spec.entry.confirmations for spec in specs):
        return evidence
    at = rows.select("symbol", known_at="entered_at").unique()
    lean = {
        name: evidence.inputs[name].join(at, on=["symbol", "known_at"], how="semi")
        for name in ("features", "market_context", "bars_um")
    }
    return replace(evidence, inputs={**evidence.inputs, **lean})


def _chosen(events: pl.DataFrame, number: int, spec: Blueprint) -> pl.DataFrame:
    asked = [Condition(name).holds for name in spec.entry.conditions]
    asked += [pl.all_horizontal([Condition(text).holds for text in node.texts]) for node in spec.entry.condition_nodes]
    join = pl.all_horizontal if spec.entry.condition_logic == "all" else pl.any_horizontal
    waits = max(spec.entry.delay_bars, spec.entry.arm_bars)
    rows = events.filter(
        pl.col("event_type") == spec.entry.triggers[0], pl.col("symbol").is_in(spec.symbol_scope.symbols), join(asked)
    )
    sides = {side: spec.entry.side_rule.side(side) for side in rows["side"].unique()}
    return rows.select(
        "event_id",
        "symbol",
        number=pl.lit(number),
        side=pl.col("side").replace_strict(sides, return_dtype=pl.Int64),
        triggered_at="known_at",
        entered_at=pl.col("known_at") + waits * BAR,
    )


def _redone(spec: Blueprint, rows: pl.DataFrame, paths: Mapping[str, _Path], first_us: int) -> Redone:
    if spec.exit.invalidation is not None:
        message = f"blueprint {spec.blueprint_id} ends by a metric, which no gate counts again; compile it again"
        raise ValueError(message)
    told = rows.with_columns(
        may_enter=allowed(spec), stop_frac=_distance(spec, "stop"), target_frac=_distance(spec, "target")
    )
    trades = list(
        _walked(
            spec,
            told.with_columns(trail=_distance(spec, "trailing_stop"), exposure=asked_exposure(spec)),
            paths,
            first_us,
        )
    )
    held = [(row, leave) for row, _, leave in trades if leave is not None]
    plain = [_move(row, plain) for row, plain, _ in trades]
    moves = [_move(row, leave) for row, leave in held]
    n = len(trades)
    return Redone(
        math.fsum(plain) / n / BPS if n else math.nan,
        math.fsum(moves) / n / BPS if n else math.nan,
        _opened(spec, held),
    )


def _distance(spec: Blueprint, name: str) -> pl.Expr:
    """Return a distance of the blueprint's exit as a fraction of the entry; infinite for a trailing stop it has not."""
    kind, value = getattr(spec.exit, f"{name}_type"), getattr(spec.exit, f"{name}_value")
    if kind == "none":
        return pl.lit(math.inf)
    unit = {"percent": pl.lit(1.0), "range_pct": pl.col("range_96_frac"), "atr": pl.col("atr") / pl.col("entry_price")}
    return unit[kind] * value


def _walked(
    spec: Blueprint, rows: pl.DataFrame, paths: Mapping[str, _Path], first_us: int
) -> Iterator[tuple[dict[str, Any], _Leave, _Leave | None]]:
    """Yield every trade with its exit by time alone, and with all exits: None where something blocks it."""
    for row in rows.to_dicts():
        path, bar = paths[row["symbol"]], (epoch_us(row["entered_at"]) - first_us) // BAR_US
        if not 0 <= bar < path.open.size or math.isnan(path.open[bar]):
            continue
        row["bar"], row["entry"] = bar, float(path.open[bar])
        alone = _leave(row, path, spec, is_plain=True)
        known = [row[name] for name in ("stop_frac", "target_frac", "trail", "exposure")]
        may = row["may_enter"] and all(value is not None and value > 0 for value in known) and row["stop_frac"] < 1
        yield row, alone, _leave(row, path, spec, is_plain=False) if may else None


def _leave(row: Mapping[str, Any], path: _Path, spec: Blueprint, *, is_plain: bool) -> _Leave:
    """Walk one trade: the first bar whose extreme meets the stop in force, then the target, else the time exit."""
    bar, entry, side = row["bar"], row["entry"], row["side"]
    due = bar + spec.exit.time_stop_bars
    held = bar + np.flatnonzero(~np.isnan(path.open[bar:due]))
    later = due + np.flatnonzero(~np.isnan(path.open[due:]))[:1]
    last = _Leave(int(later[0]), float(path.open[later[0]]), at_open=True) if later.size else _end(path)
    if is_plain:
        return last
    stop, target, trail = (row[name] * entry for name in ("stop_frac", "target_frac", "trail"))
    high, low = side * (path.high[held] - entry), side * (path.low[held] - entry)
    best, worst = np.maximum(high, low), np.minimum(high, low)
    ahead = np.maximum.accumulate(np.concatenate([np.zeros(1), best[:-1]]))
    level = np.full(held.size, -stop)
    if spec.exit.break_even_r > 0:
        level = np.where(ahead >= spec.exit.break_even_r * stop, np.maximum(level, 0.0), level)
    level[1:] = np.maximum(level[1:], ahead[1:] - trail)
    is_stopped, is_reached = worst <= level, best >= target
    met = np.flatnonzero(is_stopped | is_reached)
    if not met.size:
        return last
    first = int(met[0])
    opened = side * (float(path.open[held[first]]) - entry)
    line = float(level[first]) if is_stopped[first] else float(target)
    at_open = first > 0 and (opened <= line if is_stopped[first] else opened >= line)
    return _Leave(int(held[first]), entry + side * (opened if at_open else line), at_open=at_open)


def _end(path: _Path) -> _Leave:
    known = np.flatnonzero(~np.isnan(path.close))
    return _Leave(path.close.size - 1, float(path.close[known[-1]]), at_open=False)


def _move(row: Mapping[str, Any], leave: _Leave) -> float:
    return row["side"] * (leave.price / row["entry"] - 1.0)


def _opened(spec: Blueprint, held: Sequence[tuple[Mapping[str, Any], _Leave]]) -> int:
    """Count the positions that the blueprint opens alone, under its own caps and its rest after an exit."""
    size, rest = spec.sizing, max(spec.entry.cooldown_bars, spec.entry.reentry_lockout_bars)
    until: dict[str, tuple[int, int, float, float]] = {}
    n = 0
    for row, leave in held:
        symbol, bar, stop = row["symbol"], row["bar"], row["stop_frac"]
        if symbol in until and bar < until[symbol][1]:
            continue
        open_now = {name: one for name, one in until.items() if one[0] > bar}
        own = open_now.get(symbol, (0, 0, 0.0, 0.0))
        room = min(
            row["exposure"],
            size.max_symbol_exposure - own[2],
            size.max_gross_leverage - math.fsum(one[2] for one in open_now.values()),
            (size.symbol_risk_budget - own[3]) / stop,
            (size.portfolio_risk_budget - math.fsum(one[3] for one in open_now.values())) / stop,
        )
        if room < _ROOM:
            continue
        n += 1
        frees = leave.bar if leave.at_open else leave.bar + 1
        until[symbol] = (frees, leave.bar + 1 + rest, room, room * stop)
    return n
