"""The invented exchange as a source: months of one long path from a fixed origin; inventing it is market.py's work."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Listing
from backtest_assets.domain.source import DEMO_SPEC
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset, Delivery, Origin, Slice
from backtest_assets.sources.synthetic.market import SyntheticSymbol, generate_market
from backtest_assets.sources.synthetic.plant import PLANTABLE, Plant

GENERATOR: Final = "2"
"""Version of the generator's formulas and constants; raise it whenever a seed gives other rows (a test pins them)."""

ORIGIN: Final = datetime(2019, 1, 1, tzinfo=UTC)
"""First instant of every path: months never depend on which months are asked for."""

END: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""End of every path, excluded."""

DEFAULT_SEED: Final = 7
PLANT_HOLD_BARS: Final = 16
"""Bars over which an edge of the spec accrues [bars]."""

_SYMBOLS_KEPT: Final = 4  # paths kept in memory, about 40 MB each


class SyntheticSource:
    """A seeded exchange; every symbol that starts with SYN trades from 2019-01-01 to 2025-12-31.

    Attributes:
        identity: canonical spec, for example `synthetic:7:vol_shock_relaxation=60`.
    """

    def __init__(self, seed: int = DEFAULT_SEED, planted: tuple[Plant, ...] = ()) -> None:
        self.seed = seed
        self.planted = tuple(sorted(planted, key=lambda plant: plant.event_type.value))
        edges = ",".join(f"{plant.event_type.value}={plant.bps:g}" for plant in self.planted)
        self.identity = ":".join(part for part in ("synthetic", str(seed), edges) if part)

    def span(self, dataset: Dataset, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the first and last instant of a dataset.

        Raises:
            SourceError: if the symbol does not start with SYN.
        """
        rows = self._rows(dataset, symbol)
        return None if rows is None else (rows[dataset.instant][0], rows[dataset.instant][-1])

    def listing(self, dataset: Dataset, symbol: str) -> Listing | None:
        """Return the exchange's life: every symbol trades from its first day to its last."""
        del dataset, symbol
        return Listing(ORIGIN, END)

    def prepare(self, slices: Sequence[Slice], *, as_of: datetime) -> None:
        """Do nothing: paths are invented when first asked for."""

    def fetch(self, wanted: Slice, *, as_of: datetime) -> Delivery:
        """Return the rows of a slice; none outside 2019-2025, and none of what this exchange does not have.

        Raises:
            SourceError: if the symbol does not start with SYN.
        """
        rows = self._rows(wanted.dataset, wanted.symbol)
        if rows is None:
            return Delivery(wanted.dataset.table.empty(), (Origin("no dataset", None, wanted.start, wanted.end),))
        instants = rows[wanted.dataset.instant]
        first, after = (instants.search_sorted(at) for at in (wanted.start, wanted.end))
        origin = Origin(self.identity, self.fingerprint(wanted, as_of=as_of), wanted.start, wanted.end)
        return Delivery(rows.slice(first, after - first), (origin,))

    def fingerprint(self, wanted: Slice, *, as_of: datetime) -> str:
        """Return a digest of everything a slice's rows follow from: generator, random streams, seed, edges, days."""
        del as_of
        recipe = f"{GENERATOR}|{np.__version__}|{self.identity}|{wanted}"
        return hashlib.sha256(recipe.encode()).hexdigest()

    def _rows(self, dataset: Dataset, symbol: str) -> pl.DataFrame | None:
        market = _path(self.seed, symbol, self.planted)
        match dataset:
            case Dataset.UM_OHLCV:
                return market.klines
            case Dataset.UM_FUNDING:
                return market.funding
            case Dataset.SPOT_OHLCV:
                return market.spot
            case _:
                return None


@lru_cache(maxsize=_SYMBOLS_KEPT)
def _path(seed: int, symbol: str, planted: tuple[Plant, ...]) -> SyntheticSymbol:
    return generate_market(seed, (symbol,), ORIGIN, END, planted=planted)[symbol]


def parse_synthetic(parts: Sequence[str]) -> SyntheticSource:
    """Read `[SEED[:EDGE=BPS[,EDGE=BPS]]]`, already split at the colons.

    Raises:
        SourceError: if the seed is no integer >= 0, or an edge is unknown, doubled or not of the form EDGE=BPS.
    """
    seed_text, edges = (*parts, "", "")[:2]
    if len(parts) > 2 or (seed_text and not seed_text.isdecimal()):  # noqa: PLR2004  # seed and edges
        message = f"source synthetic:{':'.join(parts)}: write synthetic[:SEED[:EDGE=BPS[,..]]] with a whole SEED >= 0, for example {DEMO_SPEC}"
        raise SourceError(message)
    planted = tuple(_plant(edge) for edge in edges.split(",")) if edges else ()
    if len({plant.event_type for plant in planted}) < len(planted):
        message = f"source synthetic: an edge is named twice in {edges!r}; give each once"
        raise SourceError(message)
    return SyntheticSource(int(seed_text) if seed_text else DEFAULT_SEED, planted)


def _plant(edge: str) -> Plant:
    name, _, size = edge.partition("=")
    try:
        return Plant(EventType(name.strip()), PLANT_HOLD_BARS, float(size))
    except ValueError as error:
        known = ", ".join(PLANTABLE)
        message = f"source synthetic: edge {edge!r} is not EDGE=BPS; EDGE is one of {known}, BPS a number like 60"
        raise SourceError(message) from error
