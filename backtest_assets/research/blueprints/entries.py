"""Which entries a blueprint wants: triggers latched when known, everything asked of what is known then; filling stays out.

The one evaluator of the compiler's dry run and of the simulation. What cannot be seen blocks, it never passes.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, Confirmation, Overlay
from backtest_assets.domain.clock import BAR, BAR_US, BARS_PER_DAY
from backtest_assets.domain.event import Variant
from backtest_assets.domain.leave import Invalidation
from backtest_assets.errors import SettingsError, TableError
from backtest_assets.research.blueprints.grid import PriceGrid
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.rolling import rolling_mean, rolling_quantile, rolling_std
from backtest_assets.stats.simulate import NEVER, Orders, Rules
from backtest_assets.tables.contract import INSTANT
from backtest_assets.tables.features import FEATURES

METRICS: Final = tuple(column.name for column in FEATURES.columns if column.dtype == pl.Float64())
"""Columns of table features that an invalidation may hold against a number."""

BARS_PER_YEAR: Final = 365 * BARS_PER_DAY

CONFIRM_WINDOW: Final = 96
"""Trailing bars of the two confirmations that compare a bar with its past [bars]."""

CONFIRM_MIN: Final = 64
"""Real bars they need, as the features do [bars]."""

BREAKOUT_QUANTILE: Final = 0.75
"""A breakout is confirmed by a move at least as large as this quantile of its past."""

MAX_REGIME_Z: Final = 1.0
"""A regime is stable while the range is within this of its own mean [sigma]."""

_COMPARED: Final = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}

_NOTHING: Final = pl.DataFrame(
    schema={
        "rule": pl.Int64(),
        "blueprint_id": pl.String(),
        "event_id": pl.String(),
        "symbol": pl.String(),
        "side": pl.Int8(),
        "triggered_at": INSTANT,
        "entered_at": INSTANT,
        "bar": pl.Int64(),
    }
)
_WANTED: Final = ("stop_frac", "target_frac", "trail_frac", "exposure")


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries that some blueprints want.

    Attributes:
        specs: the blueprints, best rank first.
        rows: one per entry, ascending in `bar`: `rule` (position in `specs`), `blueprint_id`, `event_id`, `symbol`,
            `side`, `triggered_at`, `entered_at`, `bar`, `stop_frac`, `target_frac`, `trail_frac`, `exposure`.
        rules: what the rules do, for the kernel.
    """

    specs: tuple[Blueprint, ...]
    rows: pl.DataFrame
    rules: Rules

    @classmethod
    def read(
        cls,
        specs: Sequence[Blueprint],
        events: pl.DataFrame,
        context: pl.DataFrame,
        *,
        features: pl.DataFrame,
        bars: pl.DataFrame,
        grid: PriceGrid,
    ) -> "Entries":
        """Ask every blueprint which events it acts on, and how.

        Args:
            specs: blueprints in the order in which they are served.
            events: table event_registry; centre events trigger.
            context: table market_context.
            features: table features; read only for what the blueprints name.
            bars: table bars_um; of it the traded value of the bar before the entry.
            grid: the bars of the window.

        Raises:
            SettingsError: if a blueprint names a condition or a column that does not exist.
            TableError: if a trigger is off the bar grid, or has no side where the blueprint's side rule needs one.
        """
        centre = attach_conditions(events.filter(pl.col("variant") == Variant.CENTRE.value), context)
        return cls.among(specs, centre, context, features=features, bars=bars, grid=grid)

    @classmethod
    def among(
        cls,
        specs: Sequence[Blueprint],
        centre: pl.DataFrame,
        context: pl.DataFrame,
        *,
        features: pl.DataFrame,
        bars: pl.DataFrame,
        grid: PriceGrid,
    ) -> "Entries":
        """Do as `read`, of centre events that have what their conditions are asked of (`attach_conditions`)."""
        for spec in specs:
            cls.check(spec)
        wanted = pl.concat([_NOTHING, *(_triggered(rule, spec, centre, grid) for rule, spec in enumerate(specs))])
        seen = _Seen(context, features, bars, grid)
        rows = _decided(wanted, specs, seen).sort("bar", "rule", "symbol", "event_id")
        return cls(tuple(specs), rows, _rules(specs, features, grid))

    @staticmethod
    def check(spec: Blueprint) -> None:
        """Refuse a blueprint that names what nobody can answer (X7).

        Raises:
            SettingsError: naming the blueprint and the condition or column.
        """
        asked = (*spec.entry.conditions, *(text for node in spec.entry.condition_nodes for text in node.texts))
        try:
            for name in asked:
                Condition(name)
        except SettingsError as error:
            message = f"blueprint {spec.blueprint_id}: {error}"
            raise SettingsError(message) from error
        ends = spec.exit.invalidation
        if ends is not None and ends.metric not in METRICS:
            message = (
                f"blueprint {spec.blueprint_id}: exit.invalidation: no metric is called {ends.metric!r}; there are "
                f"{', '.join(METRICS)}"
            )
            raise SettingsError(message)

    def orders(self, grid: PriceGrid) -> Orders:
        """Return the rows as arrays; a series is a row of the grid."""
        bar, rule, side = (self.rows[name].cast(pl.Int64).to_numpy() for name in ("bar", "rule", "side"))
        fractions = (self.rows[name].to_numpy() for name in _WANTED)
        return Orders(bar, grid.series(self.rows["symbol"]), rule, side, *fractions)


def _holds(spec: Blueprint) -> pl.Expr:
    named = [Condition(name).holds for name in spec.entry.conditions]
    nodes = [pl.all_horizontal([Condition(text).holds for text in node.texts]) for node in spec.entry.condition_nodes]
    join = pl.all_horizontal if spec.entry.condition_logic == "all" else pl.any_horizontal
    return join([*named, *nodes])


def _triggered(rule: int, spec: Blueprint, centre: pl.DataFrame, grid: PriceGrid) -> pl.DataFrame:
    """Return the events a blueprint's conditions choose, with the bar of the entry."""
    (trigger,) = spec.entry.triggers
    scope = [symbol for symbol in spec.symbol_scope.symbols if symbol in grid.symbols]
    acted = centre.filter(pl.col("event_type") == trigger, pl.col("symbol").is_in(scope), _holds(spec))
    try:
        sides = {side: spec.entry.side_rule.side(side) for side in acted["side"].unique()}
    except ValueError as error:
        message = f"table event_registry, family {trigger}: blueprint {spec.blueprint_id}: {error}"
        raise TableError(message) from error
    known_us = acted["known_at"].dt.epoch("us")
    if (off_grid := acted.filter(known_us % BAR_US != 0)).height:
        message = (
            f"table event_registry, event {off_grid['event_id'][0]}: known_at is off the 15-minute grid; rebuild it"
        )
        raise TableError(message)
    return acted.select(
        pl.lit(rule, pl.Int64).alias("rule"),
        pl.lit(spec.blueprint_id).alias("blueprint_id"),
        "event_id",
        "symbol",
        pl.col("side").replace_strict(sides, return_dtype=pl.Int8),
        pl.col("known_at").alias("triggered_at"),
        (pl.col("known_at") + spec.entry.wait_bars * BAR).alias("entered_at"),
        ((known_us - grid.first_us) // BAR_US + spec.entry.wait_bars).alias("bar"),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known at an instant: the rows that close then."""

    context: pl.DataFrame
    features: pl.DataFrame
    bars: pl.DataFrame
    grid: PriceGrid

    def attach(self, rows: pl.DataFrame, names: Iterable[str], at: str, suffix: str) -> pl.DataFrame:
        """Add columns as known at the instant of each row; null where nothing is known."""
        wanted = sorted(set(names))
        for source in (self._features(wanted), self.context, self.bars):
            own = [name for name in wanted if name in source.columns and f"{name}{suffix}" not in rows.columns]
            if not own:
                continue
            known = source.select("symbol", "known_at", *(pl.col(name).alias(f"{name}{suffix}") for name in own))
            rows = rows.join(
                known, left_on=["symbol", at], right_on=["symbol", "known_at"], how="left", validate="m:1",
                maintain_order="left",
            )  # fmt: skip
        return rows

    def _features(self, names: Sequence[str]) -> pl.DataFrame:
        derived = [name for name in names if name in _DERIVED]
        if not derived:
            return self.features
        ordered = self.features.sort("symbol", "open_at")
        parts = ordered.partition_by("symbol", maintain_order=True)
        return pl.concat(
            part.with_columns(**{n: pl.Series(_DERIVED[n](part)).fill_nan(None) for n in derived}) for part in parts
        )


def _floats(part: pl.DataFrame, name: str) -> FloatArray:
    return part[name].fill_null(math.nan).to_numpy()


def _usual_move(part: pl.DataFrame) -> FloatArray:
    return rolling_quantile(np.abs(_floats(part, "logret_1")), CONFIRM_WINDOW, CONFIRM_MIN, BREAKOUT_QUANTILE)


def _range_z(part: pl.DataFrame) -> FloatArray:
    ratio = _floats(part, "compression_ratio")
    spread = rolling_std(ratio, CONFIRM_WINDOW, CONFIRM_MIN)
    return (ratio - rolling_mean(ratio, CONFIRM_WINDOW, CONFIRM_MIN)) / np.where(spread > 0, spread, np.nan)


_DERIVED: Final = {"usual_move_96": _usual_move, "range_z_96": _range_z}


def _guard(overlay: Overlay, suffix: str = "") -> tuple[pl.Expr, tuple[str, ...]]:
    """Return whether a guard lets an entry pass, and the columns it looks at."""

    def seen(name: str) -> pl.Expr:
        return pl.col(f"{name}{suffix}")

    match overlay.name:
        case "liquidity_guard":
            return seen("volume_quote") >= overlay.number("min_notional"), ("volume_quote",)
        case "spread_guard":
            return seen("spread_est_96_bps") <= overlay.number("max_spread_bps"), ("spread_est_96_bps",)
        case "funding_guard":
            limit = overlay.number("max_abs_funding_bps")
            return seen("funding_rate_8h").abs() * 1e4 <= limit, ("funding_rate_8h",)
        case "cross_venue_guard":
            return seen("basis_bps").abs() <= overlay.number("max_desync_bps"), ("basis_bps",)
        case "session_guard" if overlay.session != "all":
            return seen("session") == overlay.session, ("session",)
        case _:
            return pl.lit(value=True), ()


def _confirmed(one: Confirmation, overlays: Mapping[str, Overlay], suffix: str) -> tuple[pl.Expr, tuple[str, ...]]:
    """Return whether a confirmation holds, and the columns it looks at."""
    match one.name:
        case "refill_persistence_pass" | "vacuum_refill_confirmation":
            return pl.col(f"volume_quote_ratio_2880{suffix}") >= 1, ("volume_quote_ratio_2880",)
        case "breakout_confirmation":
            move, usual = pl.col(f"logret_1{suffix}").abs(), pl.col(f"usual_move_96{suffix}")
            return move >= usual, ("logret_1", "usual_move_96")
        case "regime_stability_pass":
            return pl.col(f"range_z_96{suffix}").abs() <= MAX_REGIME_Z, ("range_z_96",)
        case "spread_guard_pass":
            return _guard(overlays["spread_guard"], suffix)
        case "cross_venue_consensus_pass":
            return _guard(overlays["cross_venue_guard"], suffix)
        case _:
            return _guard(overlays["funding_guard"], suffix)


_AT_TRIGGER: Final = "_at_trigger"


@dataclass(frozen=True, slots=True)
class _Question:
    """What one blueprint asks of its entries, over columns of `_Seen`."""

    may_enter: pl.Expr
    at_entry: tuple[str, ...]
    at_trigger: tuple[str, ...]

    @classmethod
    def of(cls, spec: Blueprint) -> "_Question":
        overlays = {one.name: one for one in spec.overlays}
        at_entry: list[str] = []
        at_trigger: list[str] = []
        asked = [pl.lit(spec.size_scale > 0)]
        for one in spec.overlays:
            holds, names = _guard(one)
            asked.append(holds)
            at_entry += names
        for one in spec.entry.confirmations:
            suffix, columns = ("", at_entry) if one.at == "entry" else (_AT_TRIGGER, at_trigger)
            holds, names = _confirmed(one, overlays, suffix)
            asked.append(holds)
            columns += names
        ends = spec.exit.invalidation
        if ends is not None:
            asked.append(~_COMPARED[ends.operator](pl.col(ends.metric), ends.value))
            at_entry.append(ends.metric)
        leave, size = spec.exit, spec.sizing
        if "range_pct" in {leave.stop_type, leave.target_type, leave.trailing_stop_type}:
            at_entry.append("range_96_frac")
        if size.mode == "vol_target":
            at_entry.append("rv_96")
        known = [expression.fill_null(value=False) for expression in asked]
        return cls(pl.all_horizontal(known), tuple(at_entry), tuple(at_trigger))


def _decided(wanted: pl.DataFrame, specs: Sequence[Blueprint], seen: _Seen) -> pl.DataFrame:
    """Add distances and sizes to the wanted entries, and leave out those that something blocks."""
    questions = [_Question.of(spec) for spec in specs]
    rows = seen.attach(wanted, [n for q in questions for n in q.at_entry], "entered_at", "")
    rows = seen.attach(rows, [n for q in questions for n in q.at_trigger], "triggered_at", _AT_TRIGGER)
    rows = rows.with_columns(pl.lit(1.0).alias("_percent"))
    if any("atr" in {s.exit.stop_type, s.exit.target_type, s.exit.trailing_stop_type} for s in specs):
        series, bar = seen.grid.series(rows["symbol"]), rows["bar"].to_numpy()
        atr = seen.grid.true_range(series, bar) / seen.grid.opens(series, bar)
        rows = rows.with_columns(pl.Series("_atr", atr).fill_nan(None))
    parts = [
        rows.filter(pl.col("rule") == rule)
        .filter(question.may_enter)
        .with_columns(**_distances(spec))
        .with_columns(exposure=_exposure(spec))
        .filter(_is_whole())
        .select(*_NOTHING.columns, *_WANTED)
        for rule, (spec, question) in enumerate(zip(specs, questions, strict=True))
    ]
    blank = _NOTHING.with_columns(pl.lit(None, pl.Float64).alias(name) for name in _WANTED)
    return pl.concat([blank, *parts])


_UNIT_COLUMN: Final = {"percent": "_percent", "range_pct": "range_96_frac", "atr": "_atr"}


def _distances(spec: Blueprint) -> dict[str, pl.Expr]:
    leave = spec.exit
    trail = (
        pl.lit(NEVER)
        if leave.trailing_stop_type == "none"
        else leave.trailing_stop_value * pl.col(_UNIT_COLUMN[leave.trailing_stop_type])
    )
    return {
        "stop_frac": leave.stop_value * pl.col(_UNIT_COLUMN[leave.stop_type]),
        "target_frac": leave.target_value * pl.col(_UNIT_COLUMN[leave.target_type]),
        "trail_frac": trail,
    }


def _exposure(spec: Blueprint) -> pl.Expr:
    size = spec.sizing
    if size.position_scale is not None:
        wanted = pl.lit(size.position_scale)
    elif size.risk_per_trade is not None:
        wanted = size.risk_per_trade / pl.col("stop_frac")
    else:
        wanted = pl.lit(size.target_vol) / (pl.col("rv_96") * math.sqrt(BARS_PER_YEAR))
    return wanted.clip(upper_bound=size.max_position_scale) * spec.size_scale  # null stays null


def _is_whole() -> pl.Expr:
    """Return whether every distance and the size are known and possible; a stop beyond a price of nothing is not."""
    stop, target, trail, size = (pl.col(name) for name in _WANTED)
    possible = (stop > 0) & (stop < 1) & (target > 0) & target.is_finite() & (trail > 0) & (size > 0) & size.is_finite()
    return possible.fill_null(value=False) & stop.is_not_nan() & trail.is_not_nan()


def _rules(specs: Sequence[Blueprint], features: pl.DataFrame, grid: PriceGrid) -> Rules:
    ending = {rule: ends for rule, spec in enumerate(specs) if (ends := spec.exit.invalidation) is not None}
    invalid_row = np.full(len(specs), -1, np.int64)
    invalid_row[list(ending)] = np.arange(len(ending))
    invalid: list[BoolArray] = [_invalid(ends, features, grid) for ends in ending.values()]
    shape = (0, len(grid.symbols), grid.n_bars)
    return Rules(
        np.array([spec.exit.time_stop_bars for spec in specs], np.int64),
        np.array([spec.entry.rest_bars for spec in specs], np.int64),
        np.array([spec.exit.break_even_r for spec in specs], np.float64),
        invalid_row,
        np.stack(invalid) if invalid else np.zeros(shape, np.bool_),
    )


def _invalid(ends: Invalidation, features: pl.DataFrame, grid: PriceGrid) -> BoolArray:
    """Return whether the metric known at each bar's open ends a position; a metric that is not known ends nothing."""
    own = features.filter(pl.col("symbol").is_in(grid.symbols)).filter(
        _COMPARED[ends.operator](pl.col(ends.metric), ends.value).fill_null(value=False)
    )
    bar: IntArray = (own["known_at"].dt.epoch("us").to_numpy() - grid.first_us) // BAR_US
    inside = (bar >= 0) & (bar < grid.n_bars)
    found = np.zeros((len(grid.symbols), grid.n_bars), np.bool_)
    found[grid.series(own["symbol"])[inside], bar[inside]] = True
    return found
