"""Invented markets into which what a family looks for is planted at known bars, and beside it what only resembles it.

The market is the noisy one (EGARCH, jumps, bursts, crowds), so the family also fires on its own: its rate is a quantile's.
Precision is therefore the share of all events that plants explain, and cannot be near 1 where plants are rare.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl
from scipy import stats

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.sources.synthetic.market import generate_market
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets_tests import scenario

N_DAYS: Final = 150
FIRST: Final = 45 * 96
"""No plant before this bar: thresholds know a month and a half."""
_PER_SETTLEMENT: Final = 32
_SLOTS: Final = 96 * 4
"""Bars between plants: four days."""
_RARE: Final = 96 * 20
"""Bars between plants of what is beyond a threshold of one or two in a hundred: twenty days."""


@dataclass
class Tape:
    """One invented symbol as arrays; log prices against the bar's open, so that a bar can be stretched."""

    to_high: np.ndarray
    to_low: np.ndarray
    to_close: np.ndarray
    volume: np.ndarray
    imbalance: np.ndarray
    basis: np.ndarray
    rates: np.ndarray
    rng: np.random.Generator

    @classmethod
    def of(cls, seed: int) -> "Tape":
        symbol = scenario.SYMBOL
        end = scenario.MONDAY + timedelta(days=N_DAYS)
        (one,) = generate_market(seed, (symbol,), scenario.MONDAY, end).values()
        bars, spot = one.klines, one.spot
        log = {name: np.log(bars[name].to_numpy()) for name in ("open", "high", "low", "close")}
        return cls(
            log["high"] - log["open"],
            log["low"] - log["open"],
            log["close"] - log["open"],
            bars["volume_base"].to_numpy().copy(),
            2 * bars["taker_buy_base"].to_numpy() / bars["volume_base"].to_numpy() - 1,
            log["close"] - np.log(spot["close"].to_numpy()),
            one.funding["funding_rate"].to_numpy().copy(),
            np.random.default_rng([seed, 99]),
        )

    @property
    def n_bars(self) -> int:
        return self.to_close.size

    @property
    def usual(self) -> float:
        """The usual size of a bar's return."""
        return float(np.std(self.to_close))

    def slots(self, every: int = _SLOTS, margin: int = 2 * 96) -> list[int]:
        """Bars to plant at, never the same hour."""
        return [int(at + self.rng.integers(0, 96)) for at in range(FIRST, self.n_bars - every - margin, every)]

    def stretch(self, at: slice, factor: float) -> None:
        """Make bars so many times as large."""
        for values in (self.to_high, self.to_low, self.to_close):
            values[at] *= factor

    def move(self, at: int, size: float) -> None:
        """Add to the log return of a bar."""
        self.to_close[at] += size
        self.to_high[at] = max(self.to_high[at], self.to_close[at], 0.0)
        self.to_low[at] = min(self.to_low[at], self.to_close[at], 0.0)

    def view(self) -> MarketView:
        opens = np.log(100.0) + np.concatenate([[0.0], np.cumsum(self.to_close)[:-1]])
        prices = {
            "open": opens,
            "high": opens + np.maximum(self.to_high, np.maximum(self.to_close, 0)),
            "low": opens + np.minimum(self.to_low, np.minimum(self.to_close, 0)),
            "close": opens + self.to_close,
        }
        close = np.exp(prices["close"])
        bought = self.volume * (1 + self.imbalance) / 2
        bars = scenario.bars(self.n_bars).with_columns(
            *(pl.Series(name, np.exp(values)) for name, values in prices.items()),
            volume_base=pl.Series(self.volume),
            volume_quote=pl.Series(self.volume * close),
            taker_buy_base=pl.Series(bought),
            taker_buy_quote=pl.Series(bought * close),
        )
        bars = BARS_UM.conform(bars)
        spot = BARS_SPOT.conform(
            bars.with_columns(pl.col("open", "high", "low", "close") / pl.Series(np.exp(self.basis)))
        )
        funding = scenario.settled(scenario.settlements(self.rates.tolist()))
        return MarketView(bars, build_features(bars, spot, funding, POSITIONING_UM.empty()), funding)


Planted = tuple[list[int], int]
"""Bars on which the events must be known, and how many bars later they may be."""


def shocks(tape: Tape) -> Planted:
    """Two hours of bars eight times as large as usual, rarer than the one bar in a hundred that the family asks for."""
    at = tape.slots(every=_RARE)
    for start in at:
        tape.to_close[start : start + 8] = tape.rng.choice([-1.0, 1.0], 8) * 8 * tape.usual
    return at, 4


def relaxations(tape: Tape) -> Planted:
    """The same shocks: known when three quiet bars have come, hours after the last wild one."""
    at, _ = shocks(tape)
    return [start + 8 for start in at], 24


def refill_lags(tape: Tape) -> Planted:
    """A move of eight usual bars, then ten wide ones; between them moves after which the market is itself again at once."""
    at = tape.slots()
    for start in at:
        tape.move(start, float(tape.rng.choice([-1, 1])) * 8 * tape.usual)
        tape.to_high[start + 1 : start + 11] += 3 * tape.usual
        tape.to_low[start + 1 : start + 11] -= 3 * tape.usual
        decoy = start + 2 * 96
        tape.move(decoy, float(tape.rng.choice([-1, 1])) * 8 * tape.usual)
        tape.stretch(slice(decoy + 1, decoy + 11), 0.4)
    return [start + 8 for start in at], 0


def absences(tape: Tape) -> Planted:
    """A funding hour with a twelfth of its volume, after one as usual."""
    at = [start // _PER_SETTLEMENT * _PER_SETTLEMENT for start in tape.slots()]
    for start in at:
        tape.volume[start] /= 12
        tape.volume[start - _PER_SETTLEMENT] *= 2
    return at, 0


def exhaustions(tape: Tape) -> Planted:
    """A burst of one-sided takers with a move and a wick, half given back at once; or a move that goes on, which is none."""
    at = tape.slots()
    found: list[int] = []
    for number, start in enumerate(at):
        sign = float(tape.rng.choice([-1, 1]))
        tape.imbalance[start] = 0.95 * sign
        tape.move(start, sign * 4 * tape.usual)
        tape.to_high[start] += tape.usual
        tape.to_low[start] -= tape.usual
        after = slice(start + 1, start + 34)
        tape.stretch(after, 0.2)
        tape.imbalance[after] = np.clip(tape.imbalance[after], -0.2, 0.2)
        goes_on = number % 3 == 2
        tape.move(start + 1, sign * (2 if goes_on else -2) * tape.usual)
        found += [] if goes_on else [start + 32]
    return found, 0


def desyncs(tape: Tape) -> Planted:
    """A basis that comes apart by eight of its sd and stays for half a day; or comes back within two hours, which is none."""
    at = tape.slots()
    size = 8 * float(np.std(tape.basis))
    found: list[int] = []
    for number, start in enumerate(at):
        sign = float(tape.rng.choice([-1, 1]))
        stays = number % 3 != 2
        n_bars = 60 if stays else 8
        tape.basis[start : start + n_bars] += sign * size
        tape.basis[start + n_bars : start + n_bars + 96] += sign * size * np.linspace(1, 0, 96) * stays
        found += [start + 32] if stays else []
    return found, 2


def vacuums(tape: Tape) -> Planted:
    """Two hours after a move, six bars thrice as wide on a quarter of the volume; single such bars between them are none."""
    at = tape.slots()
    month = float(np.median(tape.volume))
    for start in at:
        tape.move(start, float(tape.rng.choice([-1, 1])) * 8 * tape.usual)
        for bar in (*range(start + 8, start + 14), start + 40):
            tape.volume[bar] = 0.25 * month
            tape.to_high[bar] += 2 * tape.usual
            tape.to_low[bar] -= 2 * tape.usual
    return [start + 9 for start in at], 0


def reversals(tape: Tape) -> Planted:
    """An extreme settlement, then a move against who paid; extremes without the move are none."""
    at = [start // _PER_SETTLEMENT for start in tape.slots(every=_RARE // 2)]
    found: list[int] = []
    for number, settlement in enumerate(at):
        crowd = float(tape.rng.choice([-1, 1]))
        tape.rates[settlement] = crowd * 2.9e-3
        row = settlement * _PER_SETTLEMENT
        turns = number % 3 != 2
        tape.stretch(slice(row, row + 96), 0.3)
        if turns:
            tape.move(row + 12, -crowd * 12 * tape.usual)
            found.append(row + 12)
    return found, 0


def breakouts(tape: Tape) -> Planted:
    """Two calm days within a narrow range, then a move out of it."""
    at = tape.slots(every=6 * 96)
    wave = np.diff(np.sin(2 * np.pi * np.arange(193) / 24))
    for start in at:
        calm = slice(start - 192, start)
        tape.to_close[calm], tape.to_high[calm], tape.to_low[calm] = 2 * tape.usual * wave, 0.0, 0.0
        tape.move(start, float(tape.rng.choice([-1, 1])) * 8 * tape.usual)
    return at, 0


def _settlements(tape: Tape, every: int) -> range:
    """Settlements to plant at, so many apart; the rest is calm, so that crowds of the base do not mask them."""
    calm = tape.rates.size
    tape.rates[:] = 1e-4 + 1e-5 * tape.rng.standard_normal(calm)
    return range(FIRST // _PER_SETTLEMENT, calm - every, every)


def _known(settlement: int) -> int:
    return settlement * _PER_SETTLEMENT - 1


def crowds(tape: Tape) -> Planted:
    """A settlement of four to eight times the usual, of either sign, back at the next."""
    at = list(_settlements(tape, 30))
    for settlement in at:
        tape.rates[settlement] = float(tape.rng.choice([-1, 1])) * tape.rng.uniform(4e-4, 8e-4)
    return [_known(settlement) for settlement in at], 0


def accelerations(tape: Tape) -> Planted:
    """A jump of funding that stays for three settlements; a slow rise to the same height is none."""
    at = list(_settlements(tape, 24))
    for settlement in at:
        tape.rates[settlement : settlement + 3] += 4e-4
        tape.rates[settlement + 10 : settlement + 20] += np.linspace(0, 1e-5, 10)
    return [_known(settlement) for settlement in at], 0


def persistences(tape: Tape) -> Planted:
    """Four high settlements of one sign, known at the third; two high ones are none."""
    at = list(_settlements(tape, 48))
    for settlement in at:
        tape.rates[settlement : settlement + 4] += 4e-4 * np.arange(1, 5)
        tape.rates[settlement + 12 : settlement + 14] += 4e-4
    return [_known(settlement + 2) for settlement in at], 0


def normalizations(tape: Tape) -> Planted:
    """Two extreme settlements and a usual one; what comes back over two days is none."""
    at = list(_settlements(tape, 24))
    for settlement in at:
        tape.rates[settlement : settlement + 3] = 8e-4, 9e-4, 0.5e-4
        tape.rates[settlement + 10 : settlement + 16] = 8e-4, 5e-4, 4e-4, 3e-4, 2e-4, 0.5e-4
    return [_known(settlement + 2) for settlement in at], 0


PLANTS: Final[Mapping[EventType, Callable[[Tape], Planted]]] = MappingProxyType(
    {
        EventType.VOL_SHOCK_RELAXATION: shocks,
        EventType.LIQUIDITY_REFILL_LAG_WINDOW: refill_lags,
        EventType.LIQUIDITY_ABSENCE_WINDOW: absences,
        EventType.VOL_AFTERSHOCK_WINDOW: relaxations,
        EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: exhaustions,
        EventType.CROSS_VENUE_DESYNC: desyncs,
        EventType.LIQUIDITY_VACUUM: vacuums,
        EventType.FUNDING_EXTREME_REVERSAL_WINDOW: reversals,
        EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: breakouts,
        EventType.FUNDING_EXTREME_ONSET: crowds,
        EventType.FUNDING_ACCELERATION: accelerations,
        EventType.FUNDING_PERSISTENCE_WINDOW: persistences,
        EventType.FUNDING_NORMALIZATION: normalizations,
    }
)


@dataclass(frozen=True)
class Hits:
    """What a family made of one planted market; counts of plants, of plants found, of events and of events explained."""

    n_planted: int
    n_recalled: int
    n_events: int
    n_explained: int


def hits(family: EventType, seed: int) -> Hits:
    """Plant, detect and count; an event explains a plant if it is known at most the plant's patience later."""
    tape = Tape.of(seed)
    planted, within = PLANTS[family](tape)
    view = tape.view()
    accepted = FAMILIES[family].detect(view, params=FAMILIES[family].definition).filter(pl.col("status") == "accepted")
    known = np.array([(at - scenario.MONDAY) // BAR - 1 for at in accepted["known_at"]], dtype=np.int64)
    known = known[known >= planted[0] - 96]
    late = known[None, :] - np.array(planted)[:, None]
    matched = (late >= 0) & (late <= within)
    return Hits(len(planted), int(matched.any(axis=1).sum()), known.size, int(matched.any(axis=0).sum()))


def added(found: list[Hits]) -> Hits:
    """The counts of several markets together."""
    return Hits(*(sum(getattr(one, name) for one in found) for name in Hits.__dataclass_fields__))


FLOORS: Final[Mapping[EventType, tuple[float, float]]] = MappingProxyType(
    {
        EventType.VOL_SHOCK_RELAXATION: (0.90, 0.40),
        EventType.LIQUIDITY_REFILL_LAG_WINDOW: (0.90, 0.70),
        EventType.LIQUIDITY_ABSENCE_WINDOW: (0.80, 0.40),
        EventType.VOL_AFTERSHOCK_WINDOW: (0.75, 0.35),
        EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: (0.95, 0.85),
        EventType.CROSS_VENUE_DESYNC: (0.95, 0.80),
        EventType.LIQUIDITY_VACUUM: (0.95, 0.90),
        EventType.FUNDING_EXTREME_REVERSAL_WINDOW: (0.60, 0.85),
        EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: (0.85, 0.50),
        EventType.FUNDING_EXTREME_ONSET: (0.90, 0.50),
        EventType.FUNDING_ACCELERATION: (0.90, 0.65),
        EventType.FUNDING_PERSISTENCE_WINDOW: (0.85, 0.75),
        EventType.FUNDING_NORMALIZATION: (0.98, 0.85),
    }
)
"""Recall and precision that each family must not be shown to lack. What is below 0.9 has a reason: crowds of the base
market that are extreme already (reversal), shocks and breakouts of its own (precision), cooldowns of its own events."""
SURE: Final = 0.01
"""Chance to say wrongly that a family is below its floor."""


def judged(found: Mapping[EventType, list[Hits]]) -> pl.DataFrame:
    """Say of each family what it recalled and what of its events plants explain, and whether that is below its floors.

    Returns:
        One row per family; `is_found` is false where the upper confidence bound of recall or precision is below the floor,
        and where there was nothing to measure.
    """
    rows: list[dict[str, object]] = []
    for family, markets in found.items():
        total, (recall_min, precision_min) = added(markets), FLOORS[family]
        recall, precision = (total.n_recalled, total.n_planted), (total.n_explained, total.n_events)
        rows.append(
            {
                "family": family.value, "n_markets": len(markets), "n_planted": total.n_planted, "n_events": total.n_events,
                "recall": recall[0] / max(recall[1], 1), "recall_min": recall_min,
                "precision": precision[0] / max(precision[1], 1), "precision_min": precision_min,
                "is_found": _may_be(*recall, recall_min) and _may_be(*precision, precision_min),
            }
        )  # fmt: skip
    return pl.DataFrame(rows)


def _may_be(hit: int, n: int, floor: float) -> bool:
    """Whether as few hits of n are not too unlikely at the floor."""
    return n > 0 and float(stats.binom.cdf(hit, n, floor)) > SURE
