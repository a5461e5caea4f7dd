"""The one split plan: calendar windows with purge and embargo, the same for every stage (R39-R42, R56)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from backtest_assets.domain.clock import BAR
from backtest_assets.errors import SettingsError


class Split(StrEnum):
    """The three windows of a run, in calendar order."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Window:
    """One split of the plan.

    Attributes:
        split: which window.
        start: first instant.
        last_entry: an event known at or after this instant is purged: its longest trade could reach the next split.
        end: first instant after the window.
    """

    split: Split
    start: datetime
    last_entry: datetime
    end: datetime

    @property
    def n_days(self) -> int:
        """Whole days in the window."""
        return (self.end - self.start).days


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Train, validation and test in calendar order; what lies between them belongs to none.

    Attributes:
        windows: the three windows; each keeps `purge_bars` free of entries at its end.
        purge_bars: longest entry delay + longest extra delay + longest hold + 1 [bars].
        embargo_days: days skipped after train and after validation.
    """

    windows: tuple[Window, Window, Window]
    purge_bars: int
    embargo_days: int

    def __getitem__(self, split: Split) -> Window:
        return next(window for window in self.windows if window.split is split)

    def split_of_trade(self, known_at: datetime, exited_at: datetime) -> Split | None:
        """Return the split that a trade's event belongs to; None if it has none, or if the exit bar opens after its end.

        The purge keeps every planned exit inside; only a gap carries one over.
        """
        split = self.split_of(known_at)
        return None if split is None or exited_at >= self[split].end else split

    def split_of(self, known_at: datetime) -> Split | None:
        """Return the split an event known at this instant belongs to; None if purged, embargoed or outside."""
        for window in self.windows:
            if window.start <= known_at < window.last_entry:
                return window.split
        return None


def plan_splits(
    start: datetime, end: datetime, *, train_frac: float, validation_frac: float, embargo_days: int, purge_bars: int
) -> SplitPlan:
    """Cut [start, end) into train, validation and test by whole days.

    Train takes floor(D * train_frac) days, validation floor(D * validation_frac) days after an embargo, test the rest
    after another embargo.

    Raises:
        SettingsError: if a fraction is outside (0, 1), the sum leaves no test, or a window is not longer than its purge.
    """
    if not (0 < train_frac < 1 and 0 < validation_frac < 1 and train_frac + validation_frac < 1):
        message = (
            f"train_frac {train_frac} and validation_frac {validation_frac} must each lie in (0, 1) and sum to less than 1, "
            "so that a test window remains (R56)"
        )
        raise SettingsError(message)
    if embargo_days < 0:
        message = f"embargo_days is {embargo_days}; give 0 or more days"
        raise SettingsError(message)
    n_days = (end - start).days
    embargo = timedelta(days=embargo_days)
    train_end = start + timedelta(days=int(n_days * train_frac + 1e-9))
    validation_start = train_end + embargo
    validation_end = validation_start + timedelta(days=int(n_days * validation_frac + 1e-9))
    bounds = (
        (Split.TRAIN, start, train_end),
        (Split.VALIDATION, validation_start, validation_end),
        (Split.TEST, validation_end + embargo, end),
    )
    windows: list[Window] = []
    for split, first, last in bounds:
        last_entry = last - purge_bars * BAR
        if last_entry <= first:
            message = (
                f"the {split} window {first:%Y-%m-%d}..{last:%Y-%m-%d} is not longer than its purge of {purge_bars} bars; "
                "choose a longer run window, another fraction or a smaller embargo"
            )
            raise SettingsError(message)
        windows.append(Window(split, first, last_entry, last))
    return SplitPlan((windows[0], windows[1], windows[2]), purge_bars, embargo_days)
