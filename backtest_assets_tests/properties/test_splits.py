from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.domain.split import Split
from backtest_assets.errors import SettingsError
from backtest_assets.research.walkforward.splits import plan_table
from backtest_assets_tests.research.simulation.market import ResearchRun


def run_of(start, end, **settings: Any):  # noqa: ANN401  # any setting
    return ResearchRun(run_id="t", symbols="BTCUSDT", start=start, end=end, source="synthetic", **settings)


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


CALENDARS = {
    # 1461 days, the longest delay 30 and hold 96: purge of 127 bars = 1 day 7:45 h
    ("2021-01-01", "2024-12-31", 0): (
        ("2021-01-01", "2023-05-25T16:15", "2023-05-27"),
        ("2023-05-27", "2024-03-12T16:15", "2024-03-14"),
        ("2024-03-14", "2024-12-30T16:15", "2025-01-01"),
    ),
    # 366 days of a leap year with an embargo of a week
    ("2024-01-01", "2024-12-31", 7): (
        ("2024-01-01", "2024-08-05T16:15", "2024-08-07"),
        ("2024-08-14", "2024-10-24T16:15", "2024-10-26"),
        ("2024-11-02", "2024-12-30T16:15", "2025-01-01"),
    ),
    # 59 days over a February without a leap day
    ("2023-01-01", "2023-02-28", 0): (
        ("2023-01-01", "2023-02-03T16:15", "2023-02-05"),
        ("2023-02-05", "2023-02-14T16:15", "2023-02-16"),
        ("2023-02-16", "2023-02-27T16:15", "2023-03-01"),
    ),
}


@pytest.mark.parametrize("calendar", CALENDARS)
def test_r39_to_r42_the_dates_of_the_plan_are_these(calendar):
    start, end, embargo = calendar
    plan = plan_table(run=run_of(start, end, walkforward_embargo_days=embargo))
    expected = [tuple(day(text) for text in row) for row in CALENDARS[calendar]]
    assert expected == plan.select("start_at", "last_entry_at", "end_at").rows()
    assert plan["split"].to_list() == ["train", "validation", "test"]
    assert plan["purge_bars"].to_list() == [127] * 3


@given(
    n_days=st.integers(10, 2000),
    train=st.floats(0.05, 0.9),
    validation=st.floats(0.05, 0.9),
    embargo=st.integers(0, 30),
)
def test_windows_are_disjoint_embargoed_and_purged_for_the_longest_trade(n_days, train, validation, embargo):
    last = day("2020-01-01") + timedelta(days=n_days - 1)
    try:
        run = run_of(
            "2020-01-01",
            f"{last:%Y-%m-%d}",
            walkforward_train_frac=train,
            walkforward_validation_frac=validation,
            walkforward_embargo_days=embargo,
        )
    except SettingsError:
        return
    plan = plan_table(run=run)
    assert (run.window[0], run.window[1]) == (plan["start_at"][0], plan["end_at"][-1])
    between = plan["start_at"].to_list()[1:], plan["end_at"].to_list()[:-1]
    assert [timedelta(days=embargo)] * 2 == [after - before for after, before in zip(*between, strict=True)]
    longest = (max(run.delays) + max(HOLD_GRID_BARS)) * BAR
    for window in run.splits.windows:
        last_trigger = window.last_entry - BAR
        assert window.split is run.splits.split_of(last_trigger)
        assert run.splits.split_of(window.last_entry) is None
        assert last_trigger + longest + BAR <= window.end
    assert plan["n_days"].sum() + 2 * embargo == n_days
    assert bool(plan.select((pl.col("start_at") < pl.col("last_entry_at")).all()).item())


def test_an_instant_between_the_windows_belongs_to_no_split():
    plan = run_of("2024-01-01", "2024-12-31", walkforward_embargo_days=7).splits
    assert [plan.split_of(day(t)) for t in ("2024-08-06", "2024-08-10", "2024-08-14")] == [None, None, Split.VALIDATION]
