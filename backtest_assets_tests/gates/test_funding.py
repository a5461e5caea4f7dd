import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.funding import GATES_RAW_UM_FUNDING
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests.gates.evidence import (
    change,
    red,
    without,
)
from backtest_assets_tests.gates.raw_evidence import FUNDING, red_of, verdict_of
from backtest_assets_tests.scenario import SYMBOL, raw_funding


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"funding_rate": 0.0051}, {"rate_usual"}),
        ({"funding_rate": -0.031}, {"rate_usual", "rate_bounded"}),
        ({"funding_rate": math.nan}, {"rate_usual", "rate_bounded"}),
        ({"funding_rate": math.inf}, {"rate_usual", "rate_bounded"}),
        ({"funding_interval_h": 3.0}, {"interval_known", "settlements_complete"}),
        ({"funding_interval_h": 4.0}, {"settlements_complete"}),
        ({"settled_at": datetime(2024, 1, 4, 0, 0, 6, tzinfo=UTC)}, {"on_grid", "settlements_complete"}),
        ({"settled_at": datetime(2024, 1, 4, 4, tzinfo=UTC)}, {"on_grid", "settlements_complete"}),
        ({"settled_at": datetime(2024, 1, 3, 16, tzinfo=UTC)}, {"no_duplicates", "settlements_complete"}),
        ({"symbol": "BTCUSDT"}, {"rows_inside_partition"}),
    ],
)
def test_one_corrupt_settlement_is_named_by_its_gate(values, expected):
    assert FUNDING["settled_at"][9] == datetime(2024, 1, 4, tzinfo=UTC)
    spoilt = change(FUNDING, 9, **values)
    assert expected == red_of("raw_um_funding", spoilt)
    for gate in expected - {"rate_bounded", "rate_usual", "settlements_complete"}:
        assert verdict_of("raw_um_funding", gate, spoilt).examples


def test_the_largest_rate_is_the_number_and_the_example():
    seen = verdict_of("raw_um_funding", "rate_bounded", change(FUNDING, 9, funding_rate=-0.031))
    assert (0.031, 0.03, -0.031) == (seen.observed, seen.limit, seen.examples[0]["funding_rate"])


def test_a_month_of_funding_in_parts_is_a_remark():
    assert {"settlements_complete"} == red_of("raw_um_funding", raw_funding().head(40))


def test_rates_in_percent_are_seen_by_their_median_though_each_alone_is_possible():
    percent = FUNDING.with_columns(pl.col("funding_rate") * 100)
    assert {"median_rate_bounded", "rate_usual"} == red_of("raw_um_funding", percent)
    seen = verdict_of("raw_um_funding", "median_rate_bounded", percent)
    assert (pytest.approx(0.01), 0.002) == (seen.observed, seen.limit)
    assert "setting funding_rate_median_max" in seen.detail
    # A storm of ten days is no percentage, and fewer days do not tell.
    storm = FUNDING.with_columns(
        funding_rate=pl.when(pl.int_range(pl.len()) < 46).then(-0.02).otherwise("funding_rate")
    )
    assert {"rate_usual"} == red_of("raw_um_funding", storm)
    assert verdict_of("raw_um_funding", "median_rate_bounded", storm.head(29)).passed
    assert not verdict_of("raw_um_funding", "median_rate_bounded", storm.head(30)).passed
    assert (
        "9.66667 days of settlements are too few"
        in verdict_of("raw_um_funding", "median_rate_bounded", storm.head(29)).detail
    )


REAL = Path(__file__).parents[3] / "shared/data/archive/data/futures/um/monthly/fundingRate"
SOL = REAL / "SOLUSDT/SOLUSDT-fundingRate-2022-11.csv"


def real_month(path=SOL):
    at = pl.from_epoch("calc_time", time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    real = pl.read_csv(path).select(
        symbol=pl.lit(SYMBOL),
        settled_at=at.dt.round("1m"),
        received_at=at,
        funding_rate="last_funding_rate",
        funding_interval_h="funding_interval_hours",
        source=pl.lit("archive"),
    )
    return RAW_UM_FUNDING.conform(real)


@pytest.mark.skipif(not SOL.exists(), reason="the real archive is not on this machine (../shared/data)")
def test_a_real_month_with_three_intervals_is_complete():
    real = real_month()

    def red_without(row=-1) -> set[str]:
        frame = without(real, [row])
        month = Partition.of_month(SYMBOL, "2022-11")
        return red(GATES_RAW_UM_FUNDING, Evidence(RAW_UM_FUNDING, month, frame, datetime(2024, 3, 1, tzinfo=UTC)))

    assert {2.0, 4.0, 8.0} == set(real["funding_interval_h"])
    # 2022-11-10 04:00 bears 2 h after 4 h: so the exchange changed it, and so would a lost one at 02:00 look.
    assert {"rate_usual", "changes_confirmed"} == red_without()
    assert [row for row in range(real.height) if "settlements_complete" not in red_without(row)] == []


@pytest.mark.skipif(not REAL.exists(), reason="the real archive is not on this machine (../shared/data)")
def test_no_real_month_is_refused_and_each_in_percent_is():
    paths = sorted(REAL.rglob("*.csv"))
    assert 226 == len(paths)
    for path in paths:
        month = Partition.of_month(SYMBOL, path.stem[-7:])
        evidence = Evidence(RAW_UM_FUNDING, month, real_month(path), datetime(2026, 11, 22, tzinfo=UTC))
        assert not any(answer.blocks for answer in ask_all(GATES_RAW_UM_FUNDING, evidence)), path.stem
        percent = evidence.frame.with_columns(pl.col("funding_rate") * 100)
        assert "median_rate_bounded" in red(GATES_RAW_UM_FUNDING, replace(evidence, frame=percent)), path.stem
