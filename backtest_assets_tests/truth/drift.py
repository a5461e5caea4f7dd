"""The martingale test: on markets without drift nothing that a family says foretells the price.

Prices are martingales in simple returns, so the mean return after any instant that only the past chose is zero, signed by
a side or not, over every hold. Returns are booked on the day they accrue and tested with days as clusters. A sample is as
many markets, in the order of their seeds, as give `LEAST_DAYS` days. Two bounds per family, kind and hold, both at
`LEVEL` over all of them together: how many samples may be beyond 5 %, and how far the mean over all may lie from zero.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl
from scipy import stats

from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.research.outcomes.accrual import accruals
from backtest_assets.stats.clustered import accrual_t
from backtest_assets.stats.funding import funding_path
from backtest_assets_tests.properties.random_market import random_market
from backtest_assets_tests.research.events.evidence import driftless_view

Detect = Callable[[MarketView], pl.DataFrame]
Cell = tuple[str, str, int]
"""Family, kind (signed, unsigned) and hold [bars]."""

NOMINAL: Final = 0.05
"""Two-sided level of the test of one sample."""
LEVEL: Final = 0.01
"""Chance that honest families break any bound, all cells together."""
LEAST_DAYS: Final = 60
"""Days that a sample needs: with fewer, heavy tails make Student's t lie [days]."""
_FOR_EVER_US: Final = 10**17

ARMS: Final[Mapping[str, Callable[[int, int], MarketView]]] = MappingProxyType(
    {
        "garch": driftless_view,
        "skewed jumps": lambda seed, n_days: driftless_view(seed, n_days, jump_skew=-1.0),
        "gaps and holes": lambda seed, n_days: random_market(seed, n_days).view,
    }
)
"""EGARCH with jumps, bursts and an intraday pattern; the same with jumps down only, compensated; bursts with gaps."""


@dataclass(frozen=True)
class Days:
    """What one market says of a cell: (n_days,) returns accrued [bps] and shares of holds, and the number of events."""

    sums: np.ndarray
    shares: np.ndarray
    n_events: int


def families() -> dict[str, Detect]:
    """Every family's declared definition."""

    def of(family: EventType) -> Detect:
        return lambda view: FAMILIES[family].detect(view, params=FAMILIES[family].definition)

    return {family.value: of(family) for family in EventType}


def days_of(view: MarketView, detects: Mapping[str, Detect]) -> Iterator[tuple[Cell, Days]]:
    """Book the returns after a market's accepted events on days, from the next open, without funding and costs."""
    grids = {grid.symbol: grid for grid in SymbolGrid.each(view.bars, "bars_um")}
    for name, detect in detects.items():
        found = detect(view).filter(pl.col("status") == "accepted").select("symbol", "known_at", "side")
        for hold in HOLD_GRID_BARS:
            booked = [_booked(grid, found.filter(pl.col("symbol") == s), hold) for s, grid in grids.items()]
            rows = pl.concat(booked)
            for kind in ("unsigned", "signed"):
                sign = pl.col("side") if kind == "signed" else pl.lit(1)
                held = rows.filter(pl.col("side") != 0) if kind == "signed" else rows
                by_day = held.group_by("day", maintain_order=True).agg(
                    sums=(pl.col("bps") * sign).sum(), shares=pl.col("share").sum()
                )
                days = Days(by_day["sums"].to_numpy(), by_day["shares"].to_numpy(), held["event"].n_unique())
                yield (name, kind, hold), days


def _booked(grid: SymbolGrid, events: pl.DataFrame, hold: int) -> pl.DataFrame:
    price = grid.values("open")
    entry = grid.row_opening_at(events["known_at"].dt.epoch("us").to_numpy())
    fits = entry + hold < grid.height
    fits[fits] = ~np.isnan(price[entry[fits]]) & ~np.isnan(price[entry[fits] + hold])
    entry = entry[fits]
    free = funding_path(np.array([grid.first_us]), np.array([_FOR_EVER_US]), np.zeros(1), np.ones(1))
    day, bps, share = accruals(grid.first_us, price, free, entry, entry + hold)
    held = pl.DataFrame({"side": events["side"].filter(pl.Series(fits)), "day": day, "bps": bps, "share": share})
    return held.with_columns(event=grid.symbol + pl.int_range(pl.len()).cast(pl.String)).explode("day", "bps", "share")


def samples(days: Iterable[Days]) -> list[tuple[float, float]]:
    """Two-sided p and mean [bps] of each sample; what is left over at the end is too little for one."""
    found: list[tuple[float, float]] = []
    waiting: list[Days] = []
    for one in days:
        waiting.append(one)
        if sum(part.shares.size for part in waiting) >= LEAST_DAYS:
            tested = pooled(waiting)
            p = float(tested.p[0])
            found.append((2 * min(p, 1 - p), float(tested.mean[0])))
            waiting = []
    return found


def pooled(days: Sequence[Days]):
    """Test the days of several markets together: they are independent."""
    sums, shares = (np.concatenate([getattr(one, name) for one in days])[np.newaxis] for name in ("sums", "shares"))
    return accrual_t(sums, shares)


def judged(days: Mapping[Cell, Sequence[Days]]) -> pl.DataFrame:
    """Hold every cell against both bounds.

    Args:
        days: of each cell, one entry per market.

    Returns:
        One row per cell; `is_martingale` is false too where nothing could be measured.
    """
    cells = {cell: found for cell, found in days.items() if sum(one.n_events for one in found)}
    missing = {cell for cell in days if cell not in cells and cell[1] == "unsigned"}
    level = LEVEL / 2 / max(len(cells), 1)
    far = float(stats.norm.isf(level / 2))
    rows: list[dict[str, object]] = []
    for (family, kind, hold), found in cells.items():
        tested = samples(found)
        n_beyond = sum(not p > NOMINAL for p, _ in tested)  # an unknown p is beyond
        bound = int(stats.binom.isf(level, len(tested), NOMINAL)) if tested else 0  # then only the mean tells
        whole = pooled(found)
        t = float(whole.t[0])
        rows.append(
            {
                "family": family, "kind": kind, "hold": hold, "n_markets": len(found), "n_events": sum(one.n_events for one in found),
                "n_days": int(whole.n_days[0]), "n_samples": len(tested), "n_beyond": n_beyond, "n_beyond_max": bound,
                "mean_bps": float(whole.mean[0]), "t": t, "t_max": far, "is_martingale": n_beyond <= bound and abs(t) <= far,
            }
        )  # fmt: skip
    rows += [
        {"family": family, "kind": kind, "hold": hold, "n_markets": len(days[family, kind, hold]), "n_events": 0, "is_martingale": False}
        for family, kind, hold in sorted(missing)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA: Final = {
    "family": pl.String, "kind": pl.String, "hold": pl.Int64, "n_markets": pl.Int64, "n_events": pl.Int64, "n_days": pl.Int64,
    "n_samples": pl.Int64, "n_beyond": pl.Int64, "n_beyond_max": pl.Int64, "mean_bps": pl.Float64, "t": pl.Float64,
    "t_max": pl.Float64, "is_martingale": pl.Boolean,
}  # fmt: skip


def measured(arm: str, seed: int, n_days: int, detects: Mapping[str, Detect] | None = None) -> dict[Cell, Days]:
    """Make one market and book every family on it."""
    return dict(days_of(ARMS[arm](seed, n_days), families() if detects is None else detects))


def gathered(found: Iterable[Mapping[Cell, Days]]) -> dict[Cell, list[Days]]:
    """Collect the cells of several markets."""
    days: dict[Cell, list[Days]] = {}
    for one in found:
        for cell, booked in one.items():
            days.setdefault(cell, []).append(booked)
    return days
