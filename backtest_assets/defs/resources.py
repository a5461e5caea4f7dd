"""What every asset is handed: the lake, the settings and an observer of progress; and the project's one clock."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings
from backtest_assets.sources.base import Source
from backtest_assets.sources.open import Network, open_source

Outcome: TypeAlias = Literal["published", "refused", "fresh"]


def now() -> datetime:
    """Return the current instant; every other function takes it as an argument."""
    return datetime.now(UTC)  # noqa: TID251  # the one clock


class Observer(Protocol):
    """Is told how work proceeds."""

    def expect(self, table: str, n_partitions: int) -> None:
        """Work on so many partitions of a table lies ahead."""
        ...

    def settle(self, table: str, partition: str, outcome: Outcome) -> None:
        """One partition is done."""
        ...


class Silent:
    """Observes nothing: runs started from the UI show their progress there."""

    def expect(self, table: str, n_partitions: int) -> None:
        """Ignore it."""

    def settle(self, table: str, partition: str, outcome: Outcome) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class LakeResource:
    """The lake as a Dagster resource.

    Attributes:
        lake: the store.
        settings: the settings it was opened with.
        observer: told of every settled partition.
        clock: tells what a step or a drive takes as its `as_of`.
    """

    lake: Lake
    settings: Settings
    observer: Observer = field(default_factory=Silent)
    clock: Callable[[], datetime] = now

    def open_source(self, spec: str, *, as_of: datetime, is_forced: bool = False) -> Source:
        """Open a source; the one named by BACKTEST_SOURCE if the spec is empty.

        Args:
            spec: what the user gave.
            as_of: when it is asked.
            is_forced: ask the network for everything again (R36).

        Raises:
            SourceError: if it cannot be opened.
        """
        named = self.settings
        network = Network(
            named.binance_archive_url,
            named.binance_spot_api_url,
            named.binance_um_api_url,
            named.data_root,
            as_of,
            is_forced,
        )
        return open_source(spec or named.source or "", network)
