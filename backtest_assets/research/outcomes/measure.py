"""The event_outcomes table: price, funding and excursions of every hold that a hypothesis may ask for; tests stay out.

Test is sealed: an event is measured only if it belongs to train or validation, and only if its exit lies in its window.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from backtest_assets.domain.clock import HOUR_US
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.research.outcomes.accrual import accruals
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.funding import FundingPath, funding_path
from backtest_assets.stats.scan import NEVER, extremes_between, last_present, mean_square_between, next_present
from backtest_assets.tables.outcomes import EVENT_OUTCOMES

MEASURED_SPLITS: Final = (Split.TRAIN, Split.VALIDATION)
LEAST_REAL_SHARE: Final = 0.8
"""Least share of real bars for a hold's volatility [fraction]: as for an event's own quality."""
_BPS: Final = 1e4


def holds_asked(*, run: ResearchRun) -> pl.DataFrame:
    """List the (delay, hold) pairs that are measured for each kind of row.

    Args:
        run: settings; the delay grids.

    Returns:
        `kind` (centre, rate, control), `delay_bars`, `hold_bars`. Everything is measured without delay and at the run's entry
        delays; centre events also at every delay of the run and 1 beyond each of these, and without such a delay over holds
        10 % shorter and longer, at least one bar apart (R13, R14).

    Knows:
        settings only.
    """
    entries = sorted({0, *run.entry_delays})
    delays = {entry + extra for entry in entries for extra in {0, 1, *run.delays}}
    neighbours = {(entry, h) for entry in entries for base in HOLD_GRID_BARS for h in _neighbours(base)}
    centre = {*((delay, h) for delay in delays for h in HOLD_GRID_BARS), *neighbours}
    asked = [("centre", *pair) for pair in sorted(centre)]
    asked += [(kind, entry, h) for kind in ("rate", "control") for entry in entries for h in HOLD_GRID_BARS]
    return pl.DataFrame(asked, schema={"kind": pl.String, "delay_bars": pl.Int32, "hold_bars": pl.Int32}, orient="row")


def instants_to_measure(events: pl.DataFrame, controls: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """List the accepted events and controls of train and validation, before any price is looked at.

    Args:
        events: rows of `event_registry`.
        controls: rows of `event_controls`.
        run: settings; splits.

    Returns:
        Identity, `kind` (centre, rate, control), `known_at`, `split` (the event's) and `window_end` (of the split in which
        the row itself is known).

    Knows:
        events and controls; no prices.
    """
    centre = pl.col("variant") == Variant.CENTRE.value
    placed = _placed(events, run)
    of_events = placed.select(
        "variant", *_IDENTITY, "known_at", "split", "window_end",
        control_no=pl.lit(0, dtype=pl.Int16), kind=pl.when(centre).then(pl.lit("centre")).otherwise(pl.lit("rate")),
    )  # fmt: skip
    splits = placed.filter(centre).select("event_id", event_split="split")
    of_controls = (
        _placed(controls, run)
        .join(splits, on="event_id")
        .select(
            *_IDENTITY, "known_at", "window_end", "control_no",
            variant=pl.lit(Variant.CENTRE.value), split="event_split", kind=pl.lit("control"),
        )
    )  # fmt: skip
    return pl.concat([of_events, of_controls], how="diagonal")


def requests(events: pl.DataFrame, controls: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """List every outcome that is wanted, one row each, before any price is looked at.

    Args:
        events: rows of `event_registry`.
        controls: rows of `event_controls`.
        run: settings; splits and delays.

    Returns:
        `instants_to_measure` times their `delay_bars` and `hold_bars`.

    Knows:
        events and controls; no prices.
    """
    return instants_to_measure(events, controls, run=run).join(holds_asked(run=run), on="kind").drop("kind")


def measure_outcomes(
    bars: pl.DataFrame, funding: pl.DataFrame, events: pl.DataFrame, controls: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Measure what a long position of one unit would have made after every event and control.

    Entry is the open of the bar at known_at + delay; exit the open of the first real bar at or after entry + hold. A row
    is left out where the entry bar is a gap, the exit lies at or beyond the end of its split window, or a settlement
    in the hold is missing.

    Args:
        bars: rows of `bars_um`.
        funding: rows of `settlements_um`.
        events: rows of `event_registry`.
        controls: rows of `event_controls`.
        run: settings; splits and delays.

    Returns:
        Rows of `event_outcomes`.

    Raises:
        TableError: if a symbol's bars leave out an instant of the grid.

    Knows:
        the future of every event, up to exited_at, never a price of the test window.
    """
    frames = [
        priced.with_columns(*accruals(grid.first_us, grid.values("open"), path, entry, exit_))
        for grid, path, (priced, entry, exit_) in _by_symbol(bars, funding, requests(events, controls, run=run))
    ]
    return EVENT_OUTCOMES.conform(pl.concat(frames) if frames else EVENT_OUTCOMES.empty())


def price_holds(bars: pl.DataFrame, funding: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Measure some holds as `measure_outcomes` does, but without their accruals.

    Args:
        bars: rows of `bars_um`.
        funding: rows of `settlements_um`.
        wanted: rows of `requests`.

    Returns:
        The columns of `event_outcomes` up to `realized_vol_bps`, for the rows that can be measured.

    Raises:
        TableError: if a symbol's bars leave out an instant of the grid.

    Knows:
        the future of every row, up to exited_at.
    """
    names = [name for name in EVENT_OUTCOMES.schema if not name.startswith("accrual_")]
    frames = [priced.select(names) for _, _, (priced, *_) in _by_symbol(bars, funding, wanted)]
    return pl.concat(frames) if frames else EVENT_OUTCOMES.empty().select(names)


_IDENTITY: Final = ("event_id", "event_type", "symbol", "side")


def _neighbours(hold: int) -> tuple[int, int]:
    return min(round(0.9 * hold), hold - 1), max(round(1.1 * hold), hold + 1)


def _placed(rows: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    split, end = pl.lit(None, dtype=pl.String), pl.lit(None, dtype=rows.schema["known_at"])
    for window in (run.splits[name] for name in MEASURED_SPLITS):
        inside = pl.col("known_at").is_between(window.start, window.last_entry, closed="left")
        split = pl.when(inside).then(pl.lit(window.split.value)).otherwise(split)
        end = pl.when(inside).then(pl.lit(window.end)).otherwise(end)
    return rows.with_columns(split=split, window_end=end).filter(pl.col("split").is_not_null())


def settlements(grid: SymbolGrid, funding: pl.DataFrame) -> FundingPath:
    """Return the funding path of a symbol, each settlement priced at the last close known then."""
    own = funding.filter(pl.col("symbol") == grid.symbol).sort("settled_at")
    settled_us = own["settled_at"].dt.epoch("us").to_numpy()
    row = grid.row_known_at(settled_us)
    close = last_present(grid.values("close"))
    price = np.where((row >= 0) & (row < grid.height), close[np.clip(row, 0, grid.height - 1)], np.nan)
    interval_us = (own["funding_interval_h"].to_numpy() * HOUR_US).astype(np.int64)
    return funding_path(settled_us, interval_us, own["funding_rate"].to_numpy(), price)


_Priced: TypeAlias = tuple[pl.DataFrame, IntArray, IntArray]


def _by_symbol(
    bars: pl.DataFrame, funding: pl.DataFrame, wanted: pl.DataFrame
) -> Iterator[tuple[SymbolGrid, FundingPath, _Priced]]:
    for grid in SymbolGrid.each(bars, "bars_um"):
        rows = wanted.filter(pl.col("symbol") == grid.symbol)
        if not rows.is_empty():
            path = settlements(grid, funding)
            yield grid, path, _priced(grid, path, rows)


def _priced(grid: SymbolGrid, path: FundingPath, wanted: pl.DataFrame) -> _Priced:
    price = grid.values("open")
    entry, exit_, keep = _span(grid, price, wanted)
    rows, entry, exit_ = wanted.filter(keep), entry[keep], exit_[keep]
    entered_us, exited_us = grid.open_us[entry], grid.open_us[exit_]
    paid = path.between(entered_us, exited_us) / price[entry] * _BPS
    known = ~np.isnan(paid)
    rows, entry, exit_, paid = rows.filter(known), entry[known], exit_[known], paid[known]
    bottom, top = extremes_between(grid.values("low"), grid.values("high"), entry, exit_)
    priced = rows.drop("window_end").with_columns(
        _instants("entered_at", grid.open_us[entry]),
        _instants("exited_at", grid.open_us[exit_]),
        pl.Series("entry_price", price[entry]),
        pl.Series("exit_price", price[exit_]),
        pl.Series("gross_bps", _bps(price[exit_], price[entry])),
        pl.Series("funding_bps", paid),
        pl.Series("lowest_bps", _bps(bottom, price[entry])),
        pl.Series("highest_bps", _bps(top, price[entry])),
        pl.Series("realized_vol_bps", _realized_vol(grid, entry, exit_), nan_to_null=True),
    )
    return priced, entry, exit_


def _realized_vol(grid: SymbolGrid, entry: IntArray, exit_: IntArray) -> FloatArray:
    mean_square, n_real = mean_square_between(np.log(grid.values("close") / grid.values("open")), entry, exit_)
    is_known = n_real >= LEAST_REAL_SHARE * (exit_ - entry)
    return np.where(is_known, np.sqrt(mean_square) * _BPS, np.nan)


def _span(grid: SymbolGrid, price: FloatArray, wanted: pl.DataFrame) -> tuple[IntArray, IntArray, np.ndarray]:
    real = np.append(next_present(price), NEVER)
    entry = grid.row_opening_at(wanted["known_at"].dt.epoch("us").to_numpy()) + wanted["delay_bars"].to_numpy()
    planned = entry + wanted["hold_bars"].to_numpy()
    exit_ = real[np.clip(planned, 0, grid.height)]
    end = grid.row_opening_at(wanted["window_end"].dt.epoch("us").to_numpy())
    has_entry = (entry >= 0) & (real[np.clip(entry, 0, grid.height)] == entry)
    return entry, exit_, has_entry & (exit_ < end)


def _bps(price: FloatArray, entry_price: FloatArray) -> FloatArray:
    return (price / entry_price - 1.0) * _BPS


def _instants(name: str, microseconds: IntArray) -> pl.Series:
    return pl.Series(name, microseconds).cast(EVENT_OUTCOMES.schema[name])
