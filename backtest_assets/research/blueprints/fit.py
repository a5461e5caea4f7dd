"""Exits and guards of a blueprint, from the train trades of its own hypothesis, condition included.

The hypothesis was tested with a time exit: what is added here must not cost it. Funding stays out: it is the same until
an exit, and a mean of price moves shows what the exits do.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, Exit, Overlay
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.blueprints.criteria import (
    BEYOND,
    BREAK_EVEN_R,
    EXIT_QUANTILES,
    LEAST_TRADES,
    MAX_EDGE_LOSS,
    MAX_STOP_FRAC,
    MIN_EXIT_FRAC,
    MIN_GUARDED_SHARE,
    MOST_TRADES,
    TAIL,
    TRAIL_OF_STOP,
)
from backtest_assets.research.blueprints.entries import Entries
from backtest_assets.research.blueprints.grid import PriceGrid
from backtest_assets.research.events.conditions import attach_conditions
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.simulate import Caps, run_alone, run_orders

_FAR_STOP, _FAR_TARGET = 1.0 - 1e-9, 1e9
_LIQUIDITY: Final = Overlay("liquidity_guard", (("min_notional", 100_000.0),))
_SPREAD: Final = Overlay("spread_guard", (("max_spread_bps", 8.0),))
_FUNDING: Final = Overlay("funding_guard", (("max_abs_funding_bps", 12.0),))
_VENUES: Final = Overlay("cross_venue_guard", (("max_desync_bps", 12.0),))

GUARDS: Final = {
    EventType.LIQUIDITY_ABSENCE_WINDOW: (_LIQUIDITY, _SPREAD),
    EventType.VOL_AFTERSHOCK_WINDOW: (),
    EventType.CROSS_VENUE_DESYNC: (_VENUES,),
    EventType.FUNDING_EXTREME_REVERSAL_WINDOW: (_FUNDING, _LIQUIDITY),
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: (),
}
"""Guards that a family's blueprints may have (reference_2 section 6.4); every other family may have the liquidity guard."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A blueprint with the exits and guards that its train trades allow.

    Attributes:
        blueprint: the blueprint.
        quantile: quantile of the train excursions at which stop and target lie.
        n_entries: positions it opens alone on train.
        time_exit_bps: mean train move with the time exit alone, before costs and funding [bps of notional].
        with_exits_bps: the same with exits and guards; a trade that a guard stops counts as nothing.
        keeps_edge: whether the difference is within `MAX_EDGE_LOSS` of the hypothesis' net mean.
    """

    blueprint: Blueprint
    quantile: float
    n_entries: int
    time_exit_bps: float
    with_exits_bps: float
    keeps_edge: bool


@dataclass(frozen=True, slots=True)
class _Trades:
    """A blueprint's trades as fractions of the entry price: how each ended, how far it went against and for the position."""

    blueprint: Blueprint
    entries: Entries
    moves: FloatArray
    adverse: FloatArray
    favourable: FloatArray

    @property
    def n(self) -> int:
        return self.moves.size

    def mean(self, n: int) -> float:
        """Average over n trades; those that are not here count as nothing. NaN without any."""
        return float(self.moves.sum()) / n if n else math.nan

    @property
    def worst(self) -> float:
        """Average of the worst trades."""
        return float(np.sort(self.moves)[: math.ceil(TAIL * self.n)].mean()) if self.n else math.nan


@dataclass(frozen=True, slots=True)
class TrainMarket:
    """What may be looked at to fit: the train window, nothing of what is known after it.

    Attributes:
        centre: the centre events of train with what their conditions are asked of.
        context: table market_context, as known by the end of train, like the next two.
        features: table features.
        bars: table bars_um.
        grid: the bars of train.
        run: gives the splits.
    """

    centre: pl.DataFrame
    context: pl.DataFrame
    features: pl.DataFrame
    bars: pl.DataFrame
    grid: PriceGrid
    run: ResearchRun

    @classmethod
    def of(
        cls,
        events: pl.DataFrame,
        context: pl.DataFrame,
        features: pl.DataFrame,
        bars: pl.DataFrame,
        *,
        run: ResearchRun,
    ) -> "TrainMarket":
        """Cut the frames at the end of train; a severity is judged against earlier events, so those stay."""
        train = run.splits[Split.TRAIN]
        then = pl.col("known_at") <= train.end
        symbols = tuple(sorted(run.symbol_list))
        grid = PriceGrid.read(bars.filter(then), symbols=symbols, start=train.start, end=train.end)
        known = context.filter(then)
        centre = attach_conditions(events.filter(then, pl.col("variant") == Variant.CENTRE.value), known)
        own = [run.splits.split_of(at) is Split.TRAIN for at in centre["known_at"]]
        centre = centre.filter(pl.Series(own, dtype=pl.Boolean))
        return cls(centre, known, features.filter(then), bars.filter(then), grid, run)

    def fit(self, draft: Blueprint, hypothesis: dict[str, Any]) -> Fitted:
        """Fit the exits and guards of a draft whose scope, entry and size are final.

        Args:
            draft: the blueprint with any exits.
            hypothesis: its row of table hypotheses.
        """
        plain = self._alone(_leaving(draft, _FAR_STOP, _FAR_TARGET))
        base, loss = plain.mean(plain.n), MAX_EDGE_LOSS * hypothesis["net_mean_train_bps"] * BPS
        held, quantile = plain, EXIT_QUANTILES[-1]
        for tried in _distances(plain, hypothesis):
            quantile, stop, target = tried
            held = self._alone(_leaving(draft, stop, target))
            if held.mean(plain.n) >= base - loss:
                break
        held = self._tightened(held, plain.n)
        guarded = self._guarded(held, plain.n)
        if guarded.mean(plain.n) >= base - loss:
            held = guarded
        fitted, kept, n_entries = held.blueprint, held.mean(plain.n), self._dry_run(held)
        needed = int(np.clip(n_entries // 2, LEAST_TRADES, MOST_TRADES))
        return Fitted(
            replace(fitted, evaluation=replace(fitted.evaluation, min_trades=needed)),
            quantile,
            n_entries,
            base / BPS,
            kept / BPS,
            bool(kept >= base - loss),
        )

    def _alone(self, blueprint: Blueprint) -> "_Trades":
        """Trade every train event of the blueprint by itself, as research did."""
        entries = Entries.among(
            [blueprint], self.centre, self.context, features=self.features, bars=self.bars, grid=self.grid
        )
        wanted = entries.orders(self.grid)
        held = run_alone(wanted, entries.rules, self.grid.prices)
        moves = wanted.side[held.order] * (held.exit_price / held.entry_price - 1.0)
        return _Trades(blueprint, entries, moves, held.adverse_frac, held.favourable_frac)

    def _dry_run(self, held: "_Trades") -> int:
        """Count the positions that the blueprint would open on train if it were alone."""
        entries, size = held.entries, held.blueprint.sizing
        caps = Caps(
            size.max_symbol_exposure, size.max_gross_leverage, size.symbol_risk_budget, size.portfolio_risk_budget
        )
        return run_orders(entries.orders(self.grid), entries.rules, self.grid.prices, caps).order.size

    def _tightened(self, held: "_Trades", n: int) -> "_Trades":
        """Add the break-even and the trailing stop that cost nothing on train and raise the mean of its worst trades."""
        stop = held.blueprint.exit.stop_value
        for extra in (
            {"break_even_r": BREAK_EVEN_R},
            {"trailing_stop_type": "percent", "trailing_stop_value": round(TRAIL_OF_STOP * stop, 12)},
        ):
            tighter = self._alone(replace(held.blueprint, exit=replace(held.blueprint.exit, **extra)))
            if tighter.mean(n) >= held.mean(n) and tighter.worst > held.worst:
                held = tighter
        return held

    def _guarded(self, held: "_Trades", n: int) -> "_Trades":
        """Add the family's guards that let train entries pass; one that is blind there would block for that alone."""
        for guard in GUARDS.get(held.blueprint.event_type, (_LIQUIDITY,)):
            guarded = self._alone(replace(held.blueprint, overlays=(*held.blueprint.overlays, guard)))
            if guarded.n >= MIN_GUARDED_SHARE * n:
                held = guarded
        return held


def _leaving(draft: Blueprint, stop: float, target: float) -> Blueprint:
    return replace(draft, exit=Exit(draft.exit.time_stop_bars, "percent", stop, "percent", target))


def _distances(plain: "_Trades", hypothesis: dict[str, Any]) -> Iterator[tuple[float, float, float]]:
    """Yield quantile, stop and target, nearest first; the first are the hypothesis' own numbers."""
    first = (hypothesis["adverse_q95_train_bps"] * BPS, hypothesis["favourable_q95_train_bps"] * BPS)
    for quantile in EXIT_QUANTILES:
        wide = BEYOND if quantile == EXIT_QUANTILES[-1] else 1.0
        sides = (plain.adverse, plain.favourable)
        stop, target = (
            first
            if quantile == EXIT_QUANTILES[0]
            else (wide * float(np.quantile(moves, quantile)) if moves.size else 0.0 for moves in sides)
        )
        yield quantile, min(max(stop, MIN_EXIT_FRAC), MAX_STOP_FRAC), max(target, MIN_EXIT_FRAC)
