import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets_tests.truth import drift, measure, planted


def test_it_prints_every_family_and_ends_well(capsys):
    assert 0 == measure.main(["--markets", "2", "--days", "150", "--planted", "1", "--recipe", "1", "--processes", "1"])
    said = capsys.readouterr().out
    for family in EventType:
        assert said.count(f"| {family.value} ") == 3 * (1 + family.is_sided) + 1, family
    assert "every bound kept" in said


@pytest.mark.slow
@pytest.mark.parametrize(("module", "column"), [(drift, "is_martingale"), (planted, "is_found")])
def test_one_broken_bound_is_said_and_ends_with_1(capsys, monkeypatch, module, column):
    honest = module.judged
    is_one = pl.col("family") == "liquidity_vacuum"
    monkeypatch.setattr(module, "judged", lambda found: honest(found).with_columns(pl.col(column) & ~is_one))
    assert 1 == measure.main(["--markets", "1", "--days", "120", "--planted", "1", "--recipe", "1", "--processes", "1"])
    said = capsys.readouterr().out
    assert "A BOUND IS BROKEN" in said
