import math
from datetime import UTC, datetime

import pytest

from backtest_assets_tests.gates.evidence import (
    RAW_MONTHS,
    change,
)
from backtest_assets_tests.gates.raw_evidence import red_of, verdict_of


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"snapshot_at": datetime(2024, 1, 9, 0, 1, tzinfo=UTC)}, "on_grid"),
        ({"snapshot_at": datetime(2024, 1, 9, tzinfo=UTC)}, "no_duplicates"),
        ({"open_interest_base": -1.0}, "counts_sane"),
        ({"open_interest_quote": math.nan}, "counts_sane"),
        ({"open_interest_quote": math.inf}, "counts_sane"),
        ({"taker_volume_ratio": math.nan}, "counts_sane"),
        ({"account_ratio": -0.5}, "counts_sane"),
    ],
)
def test_one_corrupt_snapshot_is_named_by_its_gate(values, gate):
    spoilt = change(RAW_MONTHS["raw_um_open_interest"], 50, **values)
    assert {gate} == red_of("raw_um_open_interest", spoilt)
    assert verdict_of("raw_um_open_interest", gate, spoilt).examples
