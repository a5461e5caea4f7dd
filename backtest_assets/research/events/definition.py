"""The form of an event family: frozen parameters with a digest, and candidates with their fate; detection stays out."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import ClassVar, Final, Self

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure, Variant
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.scan import NEVER, accept_spaced
from backtest_assets.tables.contract import INSTANT

THRESHOLD_BARS: Final = 8_640
"""Bars behind a trailing threshold: 90 days, as long as the run's warm-up."""
THRESHOLD_LEAST: Final = 2_880
"""Values that a trailing threshold needs: a third of its bars, 30 days."""
LEAST_QUALITY: Final = 0.8
"""Least share of real bars in the 30 days before an event: five lost days bias range and volatility too far."""
LEAST_KNOWN: Final = 0.5
"""Least share of train's bars that must know what a family needs: below it most of train was never asked."""

_RATE_FACTOR: Final = {Variant.CENTRE: 1.0, Variant.RATE_MINUS: 0.9, Variant.RATE_PLUS: 1.1}
_ID_LENGTH: Final = 16


class Status(StrEnum):
    """The fate of a candidate."""

    ACCEPTED = "accepted"
    COOLDOWN = "cooldown"
    OUTSIDE_WINDOW = "outside_window"
    LOW_QUALITY = "low_quality"
    NOT_IN_UNIVERSE = "not_in_universe"


IS_ACCEPTED: Final = pl.col("status") == Status.ACCEPTED.value
"""What makes a candidate an event."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """When an event of a family is over, and when the next of its symbol may be known: cooldown and de-overlap at once.

    The first candidate is accepted, and then each that becomes known at or after the exit of the one accepted before it, and
    its rest. Candidates of low quality space nobody.

    Attributes:
        until: what ends an event, in words.
        window_bars: its length from known_at; None where the market ends it [bars].
        rest_bars: from the exit to the earliest known_at of the next [bars].
    """

    until: str
    window_bars: int | None = None
    rest_bars: int = 0

    @classmethod
    def window(cls, n_bars: int) -> Self:
        """Return the spacing of a family whose events last a fixed time and rest none.

        Args:
            n_bars: length of an event from known_at [bars].
        """
        return cls(f"{n_bars} bars after it is known", window_bars=n_bars)

    def free_row(self, exit_row: IntArray) -> IntArray:
        """Return the first row that may make the next event known, `NEVER` where the one before has not ended.

        Args:
            exit_row: row whose close ends each event.
        """
        return np.minimum(exit_row, NEVER - self.rest_bars) + self.rest_bars


@dataclass(frozen=True, slots=True)
class Definition(ABC):
    """Parameters of a family; a subclass adds its own and its defaults.

    Attributes:
        rate: share of bars (or settlements) on which the trigger is beyond its trailing threshold.
    """

    event_type: ClassVar[EventType]
    version: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Columns of `features` without which the family cannot run; null throughout means that the data lack them."""
    measures: ClassVar[tuple[Measure, ...]] = ()
    """What may decide an event, best first: the next one stands in where the data lack the one before."""

    rate: float

    @property
    @abstractmethod
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""

    def at(self, variant: Variant) -> Self:
        """Return the definition with the exceedance rate of a variant (R13)."""
        return replace(self, rate=self.rate * _RATE_FACTOR[variant])

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the parameters."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode()).hexdigest()

    def event_id(self, symbol: str, onset_us: int) -> str:
        """Return the content id of an event: it names the same event in every run and window."""
        (only,) = self.event_ids([(symbol, onset_us)])
        return only

    def event_ids(self, onsets: Iterable[tuple[str, int]]) -> list[str]:
        """Return the content ids of events.

        Args:
            onsets: symbol and onset [us] of each.
        """
        prefix = f"{self.event_type}|{self.version}|{self.digest}"
        texts = (f"{prefix}|{symbol}|{onset_us}" for symbol, onset_us in onsets)
        return [hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH] for text in texts]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of one symbol, ordered by `known_row`; all arrays are (n_candidates,).

    Attributes:
        onset_us: when each set in [us].
        known_row: row whose close makes it known.
        exit_row: row whose close ends it, `NEVER` if it has not ended.
        side: +1, -1 or 0.
        severity: how far beyond the trigger.
        threshold: trailing threshold in force.
        measure: what decided them: one word for all, or (n_candidates,) words.
    """

    onset_us: IntArray
    known_row: IntArray
    exit_row: IntArray
    side: IntArray
    severity: FloatArray
    threshold: FloatArray
    measure: Measure | pl.Series

    def frame(self, grid: SymbolGrid, spacing: Spacing) -> pl.DataFrame:
        """Return the candidates with quality and status; those of low quality block nobody.

        Args:
            grid: the symbol's features.
            spacing: the family's rule.

        Raises:
            ValueError: if the candidates are not ordered by `known_row`.
        """
        quality = grid.values("coverage_2880")[self.known_row]
        good = np.flatnonzero(quality >= LEAST_QUALITY)
        status = np.full(quality.size, Status.LOW_QUALITY.value, dtype=object)
        accepted = accept_spaced(self.known_row[good], spacing.free_row(self.exit_row)[good])
        status[good] = np.where(accepted, Status.ACCEPTED.value, Status.COOLDOWN.value)
        known_us = grid.known_us
        ended = self.exit_row < grid.height
        exit_us = known_us[np.where(ended, self.exit_row, 0)]
        return pl.DataFrame(
            {
                "symbol": pl.repeat(grid.symbol, quality.size, dtype=pl.String, eager=True),
                "onset_at": _instants(self.onset_us),
                "known_at": _instants(known_us[self.known_row]),
                "exit_at": _instants(exit_us).set(pl.Series(~ended), None),
                "side": pl.Series(self.side).cast(pl.Int8),
                "severity": self.severity,
                "threshold": self.threshold,
                "measure": self._measures(),
                "quality": quality,
                "status": pl.Series(status.tolist(), dtype=pl.String),
            }
        )

    def _measures(self) -> pl.Series:
        if isinstance(self.measure, Measure):
            return pl.repeat(self.measure.value, self.known_row.size, dtype=pl.String, eager=True)
        return self.measure.cast(pl.String)


def _instants(microseconds: IntArray) -> pl.Series:
    return pl.Series(microseconds, dtype=pl.Int64).cast(INSTANT)
