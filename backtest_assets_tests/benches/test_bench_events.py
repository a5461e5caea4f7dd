import re

import pytest

from backtest_assets.research.events import detect
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets_tests.benches import bench_events
from backtest_assets_tests.benches.bench_events import exponent, main, rates_times, show_law

TABLES = (
    "features", "universe", "market_context", "event_candidates", "event_families", "event_controls", "event_outcomes",
)  # fmt: skip


@pytest.mark.slow
def test_it_prints_every_table_and_holds_the_sum_against_its_bars(capsys, monkeypatch):
    monkeypatch.setattr(bench_events, "BAR_MB", 1e9)  # other tests of this process have grown it
    assert 0 == main(["--synthetic", "--years", "1", "--gates"])
    told = capsys.readouterr().out
    spent = {table: float(re.findall(rf"  {table} +([\d.]+) s", told)[0]) for table in TABLES}
    (total,) = re.findall(r"features to outcomes: ([\d.]+) CPU s", told)
    assert float(total) == pytest.approx(sum(spent.values()), abs=0.05)
    assert "of the goal of 1.25 s" in told
    assert re.search(r"foresight \d+% of making", told)


def test_a_run_over_its_bar_ends_with_1(capsys, monkeypatch):
    monkeypatch.setattr(bench_events, "BAR_CPU_S", 1e-6)
    monkeypatch.setattr(bench_events, "warm", lambda _: bench_events.Made({"features": 1.0}, {"features": 1}))
    assert 1 == main(["--synthetic", "--years", "1"])
    assert "features to outcomes: 1.00 CPU s" in capsys.readouterr().out


@pytest.mark.parametrize(("power", "kept"), [(0.5, True), (1.0, True), (1.3, False), (2.0, False)])
def test_superlinear_growth_of_one_table_is_refused(capsys, power, kept):
    sizes = (1.0, 2.0, 4.0)
    costs = [{"honest": size, "asked": size**power, "noise": 1e-3 * size**3} for size in sizes]
    assert kept == show_law("bars", sizes, costs)
    assert f"{power:.2f}" in capsys.readouterr().out
    assert power == pytest.approx(exponent(sizes, [cost["asked"] for cost in costs]))


def test_other_rates_are_put_back():
    before = detect.FAMILIES
    with rates_times(4.0):
        rates = {name: family.definition.rate for name, family in detect.FAMILIES.items()}
    assert before is detect.FAMILIES
    assert rates == {name: min(4 * family.definition.rate, 0.9) for name, family in FAMILIES.items()}
