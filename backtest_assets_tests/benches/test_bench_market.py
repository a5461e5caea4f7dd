import json
import re

import pytest

from backtest_assets_tests.archive_files import write_archive
from backtest_assets_tests.benches.bench_market import DAGSTER, WORK, law, main, months_from, symbols_of

MADE = {
    "raw_um_ohlcv",
    "raw_um_funding",
    "raw_spot_ohlcv",
    "bars_um",
    "settlements_um",
    "bars_spot",
    "coverage",
}


def test_months_follow_each_other_over_the_year():
    assert ["2020-11", "2020-12", "2021-01"] == months_from("2020-11", 3)


def test_every_cpu_second_of_a_drive_is_booked_once(tmp_path, capsys):
    write_archive(tmp_path, symbols_of(1), months_from("2020-01", 2))
    main(["1", "2", "--json", str(tmp_path)])
    cost = json.loads(capsys.readouterr().out)
    assert (2, 14, 0) == (cost["n_partitions"], cost["n_made"], cost["n_fresh"])
    booked = {table: sum(kinds.values()) for table, kinds in cost["by_table"].items()}
    assert sum(booked.values()) == pytest.approx(cost["cpu_s"], rel=0.05)
    assert {"", "positioning_um"} == set(booked) - MADE
    for table in MADE:
        kinds = cost["by_table"][table]
        assert set(kinds) <= {*WORK, *DAGSTER}
        assert min(kinds[kind] for kind in ("make", "gates", "store", "log", "rest")) > 0


def test_the_bench_prints_both_runs_and_holds_them_against_the_bars(capsys):
    main(["1", "1"])
    told = capsys.readouterr().out
    assert re.search(r"first run: .* 7 made, 0 fresh", told)
    assert re.search(r"second run: .* 0 made, 7 fresh", told)
    assert "7 assets against the bar for 5 at 1 partitions" in told


def test_klines_are_counted_with_and_without_inflating(capsys):
    main(["1", "1", "--klines"])
    told = capsys.readouterr().out
    assert "0.04 million 1m klines of 1 months" in told
    without, with_inflating = map(float, re.findall(r"write: ([\d.]+) million", told))
    assert 0 < with_inflating < without


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
def test_the_law_finds_exponents_whatever_a_start_costs(exponent):
    n = [72, 144, 360, 720]
    *_, found = law(n, [20 + size**exponent for size in n])
    assert found == pytest.approx(exponent, abs=0.05)
