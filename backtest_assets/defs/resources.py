"""What every asset is handed: the lake, the settings and an observer of progress; and the project's one clock."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings

Outcome: TypeAlias = Literal["published", "refused", "fresh"]


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
    """

    lake: Lake
    settings: Settings
    observer: Observer = field(default_factory=Silent)


def now() -> datetime:
    """Return the current instant; every other function takes it as an argument."""
    return datetime.now(UTC)  # noqa: TID251  # the one clock
