"""The scenarios on which other engines trade beside ours, each declared once: bars, wanted entries, exits, costs.

Random ones are seeded; prices have three decimals and distances three, so that a level is a price that every engine can
hold. How anyone trades them stays out (`ours`, `engine_*`, `walk`).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from backtest_assets.stats.arrays import FloatArray

N_DAYS: Final = 160
BARS_PER_DAY: Final = 96
NEVER: Final = N_DAYS * BARS_PER_DAY
"""A time stop that no bar reaches."""
NAMES: Final = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Scenario:
    """One market, one rule.

    Attributes:
        name: one word or more, joined by `_`.
        text: what it is there for.
        ohlc: (4, n_bars) open, high, low, close; NaN on a gap.
        orders: wanted entries (bar, side), ascending; one position at a time, again one bar after the exit bar at the earliest.
        hold: bars until the time exit.
        stop: distance [fraction of the entry price].
        target: distance [fraction of the entry price].
        fees_bps: of each fill.
        slippage_bps: of each fill.
    """

    name: str
    text: str
    ohlc: FloatArray
    orders: tuple[tuple[int, int], ...]
    hold: int
    stop: float
    target: float
    fees_bps: float = 0.0
    slippage_bps: float = 0.0

    @property
    def n_days(self) -> int:
        return self.ohlc.shape[1] // BARS_PER_DAY

    @property
    def question(self) -> dict[str, Any]:
        """What the other engines are asked; they see the bars that exist, numbered."""
        real = np.flatnonzero(~np.isnan(self.ohlc[0]))
        bars = {name: values[real].tolist() for name, values in zip(NAMES, self.ohlc, strict=True)}
        return {
            "name": self.name, "bars": {"number": real.tolist(), **bars}, "orders": [list(one) for one in self.orders],
            "hold": self.hold, "stop": self.stop, "target": self.target, "fee": self.fees_bps / 1e4,
            "slippage": self.slippage_bps / 1e4,
        }  # fmt: skip

    @property
    def digest(self) -> str:
        """SHA-256 of the question: a recorded answer is to this question only."""
        return hashlib.sha256(json.dumps(self.question, sort_keys=True).encode()).hexdigest()


def random_ohlc(
    rng: np.random.Generator, *, move: float = 0.003, jump: float = 0.0005, wick: float = 0.002, gap_share: float = 0.0
) -> FloatArray:
    """A market whose bars open away from the last close; every scale is a fraction per bar."""
    n = N_DAYS * BARS_PER_DAY
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, move, n)))
    opens = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0.0, jump, n))
    wicks = np.exp(np.abs(rng.normal(0.0, wick, (2, n))))
    ohlc = np.stack([opens, np.maximum(opens, close) * wicks[0], np.minimum(opens, close) / wicks[1], close]).round(3)
    ohlc[:, rng.random(n) < gap_share] = np.nan
    return ohlc


def spaced(rng: np.random.Generator, *, apart: int, sides: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Entries at random distances of at least `apart` bars."""
    bars = np.cumsum(apart + rng.integers(0, 4, NEVER // apart))
    bars = bars[bars < NEVER - 2 * apart]
    return tuple(zip(bars.tolist(), rng.choice(sides, bars.size).tolist(), strict=True))


FLAT: Final = (100.0, 100.0, 100.0, 100.0)
APART: Final = 12
"""Bars from one case by hand to the next."""

CASES: Final = (
    ("the time exit fills at the open of the due bar", 1, {3: (101.0, 104.0, 96.0, 102.0)}),
    ("... also where that bar then falls through the stop", 1, {3: (99.0, 99.0, 80.0, 90.0)}),
    ("... also where it opens beyond the stop", 1, {3: (90.0, 91.0, 89.0, 90.0)}),
    ("... also where it opens beyond the target", 1, {3: (110.0, 111.0, 109.0, 110.0)}),
    ("a time exit that is due on a gap waits for the next real open", 1, {3: None, 4: None, 5: (99.0, 99.0, 50.0, 98.0)}),
    ("a stop inside a bar fills at its level", 1, {1: (99.0, 99.0, 94.0, 96.0)}),
    ("... of a short", -1, {1: (101.0, 106.0, 101.0, 104.0)}),
    ("a bar that opens beyond the stop fills at its open", 1, {1: (90.0, 97.0, 89.0, 96.0)}),
    ("... of a short", -1, {1: (112.0, 113.0, 101.0, 104.0)}),
    ("a target inside a bar fills at its level", 1, {1: (100.0, 107.0, 99.0, 104.0)}),
    ("... of a short", -1, {1: (100.0, 101.0, 93.0, 96.0)}),
    ("a bar that opens beyond the target fills at its open", 1, {1: (108.0, 109.0, 99.0, 104.0)}),
    ("... of a short", -1, {1: (92.0, 100.0, 91.0, 95.0)}),
    ("a bar that touches both levels is a stop", 1, {1: (100.0, 120.0, 80.0, 104.0)}),
    ("... of a short", -1, {1: (100.0, 120.0, 80.0, 104.0)}),
    ("... also where it opens beyond the target", 1, {1: (110.0, 120.0, 80.0, 104.0)}),
    ("... of a short, opening beyond the target", -1, {1: (90.0, 120.0, 80.0, 104.0)}),
    ("a level is reached by a price that equals it", 1, {1: (100.0, 100.0, 95.0, 96.0)}),
    ("... the target too", 1, {1: (100.0, 105.0, 99.0, 102.0)}),
    ("the entry bar itself can stop", 1, {0: (100.0, 101.0, 90.0, 99.0)}),
    ("... and reach the target", -1, {0: (100.0, 101.0, 94.0, 99.0)}),
    ("an entry on a gap is no trade", 1, {0: None}),
    ("a stop after a gap inside the hold fills at the open beyond it", 1, {1: None, 2: (90.0, 91.0, 89.0, 90.0)}),
)  # fmt: skip
"""What it shows, side, bars after the entry bar; all with a stop and a target of 5 % and a hold of 3 bars."""


def by_hand() -> Scenario:
    """Every case on a market that otherwise stands still, and one that is held to the end."""
    n_bars = 20 * BARS_PER_DAY
    ohlc = np.full((4, n_bars), 100.0)
    orders: list[tuple[int, int]] = []
    for first, (_, side, bars) in zip(range(APART, n_bars, APART), CASES, strict=False):
        orders.append((first, side))
        for after, bar in bars.items():
            ohlc[:, first + after] = np.nan if bar is None else bar
    ohlc[:, -1] = (100.0, 103.0, 99.0, 102.0)
    return Scenario("by_hand", "every rule once", ohlc, (*orders, (n_bars - 2, 1)), 3, 0.05, 0.05)


def scenarios() -> tuple[Scenario, ...]:
    """All of them, in the order of the page."""
    both = (-1, 1)

    def made(name: str, text: str, *, sides: tuple[int, ...] = both, seed: int, **settings: Any) -> Scenario:  # noqa: ANN401  # any
        rng = np.random.default_rng(seed)
        market = {key: settings.pop(key) for key in ("move", "jump", "wick", "gap_share") if key in settings}
        given = {"hold": 16, "stop": 0.01, "target": 0.015, **settings}
        apart = given.pop("apart", given["hold"] + 4)
        return Scenario(name, text, random_ohlc(rng, **market), spaced(rng, apart=apart, sides=sides), **given)

    return (
        by_hand(),
        made("long", "longs with stop, target and time stop", sides=(1,), seed=1),
        made("short", "shorts with stop, target and time stop", sides=(-1,), seed=2),
        made("time_stop", "both sides, levels that few bars reach", stop=0.08, target=0.08, hold=24, seed=3),
        made("tight", "both sides, levels within one bar's range", stop=0.004, target=0.004, hold=8, seed=4),
        made("jumps", "bars that open beyond levels", move=0.004, jump=0.008, seed=5),
        made("gaps", "one bar in twenty is missing", gap_share=0.05, jump=0.002, apart=30, seed=6),
        made(
            "crowded", "an entry wanted every other bar, one held at a time, no time stop", hold=NEVER, apart=2, seed=7
        ),
        made("fees", "4 bps of each fill", fees_bps=4.0, seed=8),
        made("costs", "4 bps fees and 2 bps slippage of each fill", fees_bps=4.0, slippage_bps=2.0, seed=9),
    )
