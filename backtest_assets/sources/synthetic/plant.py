"""Planted edges: a small causal detector per event family, and the drift that follows its events.

The definitions are those of research/events, written again on purpose: a source may not import research. All windows are
trailing, all thresholds lag one bar. The invented market has no gaps, so none are handled here.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest_assets.domain.clock import BAR_US, BARS_PER_DAY
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.event import EventType
from backtest_assets.errors import SourceError
from backtest_assets.sources.synthetic.paths import Array

Bars: TypeAlias = npt.NDArray[np.int64]

_LOOKBACK: Final = 90 * BARS_PER_DAY  # window of a threshold [bars]
_LOOKBACK_MIN: Final = 30 * BARS_PER_DAY  # values a threshold needs [bars]
_SHOCK_RATE, _SHOCK_RELAXED, _SHOCK_CALM_BARS, _SHOCK_COOLDOWN = 0.99, 1.25, 3, 12
_COMPRESSED_RATE, _RANGE_BARS, _COOLDOWN = 0.20, 96, 96
_FUNDING_RATE, _SETTLEMENTS, _SETTLEMENTS_MIN, _REVERSAL_BARS = 0.98, 270, 90, 96


PLANTABLE: Final = (
    EventType.VOL_SHOCK_RELAXATION,
    EventType.FUNDING_EXTREME_REVERSAL_WINDOW,
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW,
)
"""Families that have a detector here."""


@dataclass(frozen=True, slots=True)
class Plant:
    """An edge to plant.

    Attributes:
        event_type: the family that it follows.
        hold_bars: bars over which it accrues, from the entry at the next open [bars].
        bps: its size per event, in the event's direction (long where the family has none) [bps of notional].

    Raises:
        SourceError: on construction, if there would be nothing to plant.
    """

    event_type: EventType
    hold_bars: int
    bps: float

    def __post_init__(self) -> None:
        if self.event_type not in PLANTABLE:
            message = f"plant {self.event_type.value}: cannot be planted; choose one of {', '.join(PLANTABLE)}"
            raise SourceError(message)
        if self.hold_bars < 1 or self.bps == 0 or not math.isfinite(self.bps):
            message = f"plant {self.event_type.value}: needs hold_bars >= 1 and a finite size other than 0, got {self.hold_bars} bars, {self.bps} bps"
            raise SourceError(message)


@dataclass(frozen=True, slots=True)
class Tape:
    """What a detector may read: one symbol's bars without gaps, and its settlements.

    Attributes:
        open_at: open time per bar.
        high: highest price per bar (n_bars,).
        low: lowest price per bar (n_bars,).
        close: last price per bar (n_bars,).
        funding: `settled_at`, `funding_rate` [fraction per 8 h].
    """

    open_at: pl.Series
    high: Array
    low: Array
    close: Array
    funding: pl.DataFrame


def planted_drift(plants: tuple[Plant, ...], tape: Tape) -> Array:
    """Return the extra simple return per bar [fraction] (n_bars,) that the planted edges add.

    An event known at the close of bar e touches bars e+1 .. e+hold only: from the entry's open to the exit's open.

    Knows:
        bars up to the event's close.
    """
    n_bars = len(tape.close)
    steps = np.zeros(n_bars + 1)
    for plant in plants:
        bars, sides = detect(plant.event_type, tape)
        size = plant.bps * BPS / plant.hold_bars
        np.add.at(steps, np.minimum(bars + 1, n_bars), size * sides)
        np.add.at(steps, np.minimum(bars + 1 + plant.hold_bars, n_bars), -size * sides)
    return np.cumsum(steps)[:-1]


def detect(event_type: EventType, tape: Tape) -> tuple[Bars, Array]:
    """Return the bars at whose close an event is known, ascending, and each one's side (+1 long, -1 short).

    Knows:
        bars up to the event's close; families without a side count as long.
    """
    match event_type:
        case EventType.VOL_SHOCK_RELAXATION:
            bars = _shocks(tape.close)
            return bars, np.ones(len(bars))
        case EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW:
            return _breakouts(tape.high, tape.low, tape.close)
        case EventType.FUNDING_EXTREME_REVERSAL_WINDOW:
            return _reversals(tape)
        case _:
            message = f"{event_type.value} has no detector here"
            raise SourceError(message)


def _shocks(close: Array) -> Bars:
    squares = pl.Series(close).log().diff() ** 2
    rv = squares.rolling_mean(12).sqrt()
    ratio = rv / rv.rolling_median(288)
    threshold = _trailing(ratio, _SHOCK_RATE)
    onset = np.flatnonzero(((ratio >= threshold) & (ratio.shift(1) < threshold.shift(1))).fill_null(value=False))
    calm = (ratio <= _SHOCK_RELAXED).fill_null(value=False).cast(pl.Int8).rolling_sum(
        _SHOCK_CALM_BARS
    ) == _SHOCK_CALM_BARS
    ends = np.flatnonzero(calm.fill_null(value=False))
    kept: list[int] = []
    free = 0
    for bar in onset.tolist():
        if bar >= free:
            kept.append(bar)
            after = int(np.searchsorted(ends, bar + _SHOCK_CALM_BARS))
            free = int(ends[after]) + _SHOCK_COOLDOWN if after < len(ends) else len(close)
    return np.asarray(kept, dtype=np.int64)


def _breakouts(high: Array, low: Array, close: Array) -> tuple[Bars, Array]:
    top, bottom, last = (
        pl.Series(high).rolling_max(_RANGE_BARS),
        pl.Series(low).rolling_min(_RANGE_BARS),
        pl.Series(close),
    )
    spread = (top - bottom) / last
    ratio = spread / spread.rolling_median(30 * BARS_PER_DAY)
    ready = (ratio <= _trailing(ratio, _COMPRESSED_RATE)).shift(1).fill_null(value=False)
    side = (last > top.shift(1)).cast(pl.Int8) - (last < bottom.shift(1)).cast(pl.Int8)
    sides = side.fill_null(0).to_numpy()
    bars = _spaced(np.flatnonzero(ready.to_numpy() & (sides != 0)), _COOLDOWN)
    return bars, sides[bars].astype(np.float64)


def _reversals(tape: Tape) -> tuple[Bars, Array]:
    close, rate = tape.close, tape.funding["funding_rate"]
    size = rate.abs()
    threshold = size.rolling_quantile(
        _FUNDING_RATE, interpolation="linear", window_size=_SETTLEMENTS, min_samples=_SETTLEMENTS_MIN
    ).shift(1)
    onset = np.flatnonzero(((size >= threshold) & (size.shift(1) < threshold.shift(1))).fill_null(value=False))
    sd = pl.Series(close).log().diff().rolling_std(96).to_numpy()
    first = int(tape.open_at.dt.epoch("us")[0])
    # The last close known at the settlement belongs to the bar that opened one bar earlier.
    at = ((tape.funding["settled_at"].dt.epoch("us").to_numpy() - first) // BAR_US - 1)[onset]
    found: list[tuple[int, float]] = []
    for bar, crowd in zip(at.tolist(), np.sign(rate.to_numpy()[onset]).tolist(), strict=True):
        if bar < 0:
            continue
        path = np.log(close[bar + 1 : bar + 1 + _REVERSAL_BARS] / close[bar])
        back = np.flatnonzero(-crowd * path > sd[bar + 1 : bar + 1 + _REVERSAL_BARS])
        if len(back):
            found.append((bar + 1 + int(back[0]), -crowd))
    found.sort()
    bars = _spaced(np.asarray([bar for bar, _ in found], dtype=np.int64), _COOLDOWN)
    sides = dict(reversed(found))
    return bars, np.asarray([sides[bar] for bar in bars.tolist()], dtype=np.float64)


def _trailing(values: pl.Series, rate: float) -> pl.Series:
    return values.rolling_quantile(
        rate, interpolation="linear", window_size=_LOOKBACK, min_samples=_LOOKBACK_MIN
    ).shift(1)


def _spaced(bars: npt.NDArray[np.intp], cooldown: int) -> Bars:
    kept: list[int] = []
    for bar in bars.tolist():
        if not kept or bar >= kept[-1] + cooldown:
            kept.append(bar)
    return np.asarray(kept, dtype=np.int64)
