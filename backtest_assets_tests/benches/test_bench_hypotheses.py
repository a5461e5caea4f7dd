import re

import polars as pl
import pytest

from backtest_assets.gates.registry import GATES
from backtest_assets_tests.benches import bench_hypotheses
from backtest_assets_tests.benches.bench_hypotheses import EDGES, MAKERS, Known, Spent, discover, main, planted


def test_it_prints_every_table_with_its_gates_and_holds_the_sum_against_its_bar(capsys, monkeypatch):
    monkeypatch.setattr(bench_hypotheses, "EDGES", EDGES[:1])
    monkeypatch.setattr(bench_hypotheses, "BAR_CPU_S", 1e3)  # a shared machine may be slow
    monkeypatch.setattr(bench_hypotheses, "warm", discover)
    assert 0 == main(["--synthetic", "--years", "1"])
    told = capsys.readouterr().out
    assert "red:" not in told
    spent = {name: re.findall(rf"  {name} +([\d.]+) +([\d.]+) +[\d,]+", told)[0] for name in MAKERS}
    (total,) = re.findall(r"hypotheses to blueprints: ([\d.]+) CPU s", told)
    assert float(total) == pytest.approx(sum(float(s) for both in spent.values() for s in both), abs=0.15)
    assert "of the bar of 250 s" in told


def test_a_run_over_its_bar_or_with_a_red_gate_ends_with_1(capsys, monkeypatch):
    some = {name: pl.DataFrame({"is_eligible": [True]}) for name in MAKERS}

    monkeypatch.setattr(bench_hypotheses, "planted", lambda _: None)
    monkeypatch.setattr(bench_hypotheses.Known, "of", lambda _: None)
    for seconds, red, code in ((0.1, [], 0), (9.0, [], 1), (0.1, ["hypotheses.contract: broken"], 1)):
        making, others = dict.fromkeys(MAKERS, seconds), dict.fromkeys(MAKERS, 0.0)
        spent = Spent(making, others, dict.fromkeys(MAKERS, 1), red, some)
        monkeypatch.setattr(bench_hypotheses, "warm", lambda _, spent=spent: spent)
        assert code == main(["--synthetic"])
    assert "red: hypotheses.contract: broken" in capsys.readouterr().out


def test_every_table_of_the_stage_has_gates_that_are_asked(monkeypatch):
    monkeypatch.setattr(bench_hypotheses, "EDGES", EDGES[:1])
    monkeypatch.setattr(bench_hypotheses, "GATES", {**GATES, "naive_entry": GATES["blueprints"]})
    known = Known.of(planted(1))
    assert {0, 4} == set(known.run.entry_delays)
    assert [] != [red for red in discover(known).red if red.startswith("naive_entry.")]
