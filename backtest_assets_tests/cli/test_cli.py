"""The command line as a new user meets it, over a real data root."""

import json
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest

from backtest_assets.cli import run as cli
from backtest_assets.domain.source import DEMO_SPEC, KNOWN
from backtest_assets.sources.open import source_identity
from backtest_assets_tests.cli.terminal import call, call_program
from backtest_assets_tests.world import break_month, funding, klines, put, write_klines, write_market


def run_flags(source: Path, /, **changes: str) -> list[str]:
    flags = {
        "run_id": "R1",
        "symbols": "AAAUSDT,BBBUSDT",
        "start": "2024-01-01",
        "end": "2024-03-31",
        "source": f"files:{source}",
    } | changes
    return [part for name, value in flags.items() for part in (f"--{name}", value)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_market(tmp_path / "market")


def test_help_lists_every_command(root: Path):
    text = call_program(root, "--help")
    for command in ("run", "discover", "demo", "backfill", "gates", "report", "sql", "ui", "doctor"):
        assert f"\n  {command}" in text


@pytest.mark.parametrize("command", ["run", "discover", "backfill"])
def test_help_and_refusals_name_every_source_in_the_same_words(root: Path, source: Path, command: str):
    known = f"binance[:1m|5m|15m], archive_dir:DIR[:1m|5m|15m], files:DIR and synthetic[:SEED[:EDGE=BPS]], for example {DEMO_SPEC}"
    assert known == KNOWN
    for kind in ("binance", "archive_dir:/nowhere", "files:/nowhere", "synthetic", DEMO_SPEC):
        assert source_identity(kind).startswith(kind.split(":")[0])
    assert "".join(known.split()) in "".join(call(root, command, "--help").split())  # help breaks its lines anywhere
    flags = run_flags(source, source="ftp:x")
    assert f"unknown kind 'ftp'; known are {known}" in call(
        root, command, *flags[2 * (command == "backfill") :], code=2
    )


def test_an_empty_source_is_refused_with_what_is_known(root: Path, source: Path):
    assert f"source is empty; known are {KNOWN}" in call(root, "run", *run_flags(source, source=""), code=2)


def test_every_setting_is_a_flag_with_its_rule(root: Path):
    text = call(root, "run", "--help")
    assert "--phase2_min_ess" in text
    assert "(R10)" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"run_id": "a/b"}, "run_id 'a/b' cannot name a run"),
        ({"start": "2024-03-31", "end": "2024-01-01"}, "lies after end"),
        ({"end": "2199-01-01"}, "lies in the future"),
        ({"start": "2023-01-01"}, "choose a window inside"),
        ({"symbols": "AAAUSDT,NOPEUSDT"}, "NOPEUSDT"),
        ({"source": "files:/nowhere/at/all"}, "/nowhere/at/all"),
        ({"source": "ftp:x"}, "unknown kind"),
        ({"fees_bps": "-1"}, "fees_bps"),
        ({"cost_bps": "99"}, "fees_bps + slippage_bps"),
        ({"fees_bps": "four"}, "four"),
    ],
)
def test_wrong_usage_is_refused_by_name_with_code_2_and_nothing_is_written(
    root: Path, source: Path, changes: dict[str, str], says: str
):
    text = call(root, "run", *run_flags(source, **changes), code=2)
    assert says in text
    assert not (root / "lake").exists()


def test_flags_may_be_spelled_with_hyphens(root: Path, source: Path):
    text = call(root, "run", *run_flags(source, run_id="a/b")[2:], "--run-id", "a/b", "--fees-bps", "3", code=2)
    assert "run_id 'a/b'" in text


@pytest.mark.parametrize("broken", ["absent", "file", "unwritable"])
def test_a_data_root_that_cannot_be_used_is_refused(tmp_path: Path, source: Path, broken: str):
    root = tmp_path / "root"
    if broken == "file":
        root.write_text("not a folder")
    if broken == "unwritable":
        root = Path("/proc/self")
    text = call(root, "run", *run_flags(source), code=2)
    assert str(root) in text
    assert "BACKTEST_DATA_ROOT" in text


def bad_frames() -> dict[str, tuple[pl.DataFrame, int, str]]:
    good = klines(0)
    at_noon = pl.col("open_time").dt.strftime("%Y-%m-%d %H:%M") == "2024-02-10 12:00"

    def with_close(value: float) -> pl.DataFrame:
        return good.with_columns(pl.when(at_noon).then(value).otherwise(pl.col("close")).alias("close"))

    return {
        "wrong columns": (good.rename({"close": "last"}), 1, "close"),
        "not UTC": (good.with_columns(pl.col("open_time").dt.convert_time_zone("Europe/Berlin")), 1, "UTC"),
        "naive": (good.with_columns(pl.col("open_time").dt.replace_time_zone(None)), 1, "UTC"),
        "mixed units": (
            good.with_columns(
                pl.when(pl.int_range(pl.len()) < 100)
                .then(pl.col("open_time").dt.epoch("ms"))
                .otherwise(pl.col("open_time").dt.epoch("us"))
                .alias("open_time")
            ),
            1,
            "unit",
        ),
        "NaN price": (with_close(float("nan")), 1, "2024-02|AAAUSDT"),
        "negative price": (with_close(-5.0), 1, "2024-02|AAAUSDT"),
        "contradicting bars": (
            pl.concat([good, good.filter(at_noon).with_columns(pl.col("volume") + 1)]),
            1,
            "2024-02|AAAUSDT",
        ),
    }


ONE_OF_EACH = ("wrong columns", "not UTC", "NaN price", "contradicting bars")
"""By shape, clock, value and contradiction; the others are told like one of these and are asked of the source's own tests too."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ONE_OF_EACH else pytest.mark.slow) for kind in bad_frames()]
)
def test_bad_klines_are_refused_with_partition_and_fix(root: Path, source: Path, kind: str):
    frame, code, says = bad_frames()[kind]
    write_klines(source, "AAAUSDT", frame)
    text = call(root, "backfill", *run_flags(source)[2:], code=code)
    assert says in text
    assert not (root / "lake" / "raw_um_ohlcv" / "symbol=AAAUSDT" / "month=2024-02" / "current.json").exists()


def test_a_repeated_day_counts_once(root: Path, source: Path):
    good = klines(0)
    write_klines(source, "AAAUSDT", pl.concat([good, good.slice(500, 96)]))
    call(root, "backfill", *run_flags(source)[2:])
    (row,) = json.loads(call(root, "sql", "select count(*) as n from raw_um_ohlcv where symbol = 'AAAUSDT'", "--json"))
    assert good.height == row["n"]


def test_a_hole_of_two_days_is_kept_raw_and_refused_as_bars(root: Path, source: Path):
    days = pl.col("open_time").dt.strftime("%Y-%m-%d")
    write_klines(source, "AAAUSDT", klines(0).filter(~days.is_in(["2024-02-10", "2024-02-11"])))
    text = call(root, "backfill", *run_flags(source)[2:], code=1)
    assert "bars_um[2024-02|AAAUSDT]: missing_days" in text
    assert "also red: gap_share" in text
    assert (root / "lake" / "raw_um_ohlcv" / "symbol=AAAUSDT" / "month=2024-02" / "current.json").exists()
    assert not (root / "lake" / "bars_um" / "symbol=AAAUSDT" / "month=2024-02" / "current.json").exists()
    holes = "select sum(n_instants)::bigint as n from coverage where dataset = 'raw_um_ohlcv' and state = 'outage'"
    assert [{"n": 192}] == json.loads(call(root, "sql", holes, "--json"))


def test_gates_of_the_market_show_what_is_red_and_count_only_what_runs_need(root: Path, source: Path):
    whole = ("--symbols", "AAAUSDT,BBBUSDT", "--start", "2024-01-01", "--end", "2024-03-31")
    write_klines(source, "AAAUSDT", break_month(klines(0), "2024-02"))
    call(root, "backfill", *run_flags(source)[2:], code=1)
    rows = json.loads(call(root, "gates", *whole, "--json", code=1))
    red = {
        (row["table"], row["partition"], row["gate"])
        for row in rows
        if not row["passed"] and row["severity"] == "ERROR"
    }
    assert ("raw_um_ohlcv", "2024-02|AAAUSDT", "ohlc_sane") in red
    assert {"2024-02|AAAUSDT"} == {partition for _, partition, _ in red}
    spot = source / "spot" / "klines" / "15m" / "AAAUSDT.parquet"
    write_klines(source, "AAAUSDT", klines(0))
    put(spot, break_month(klines(0), "2024-02"))
    call(root, "backfill", *run_flags(source)[2:], code=1)
    assert "raw_spot_ohlcv" in call(root, "gates", *whole)
    assert "name a run" in call(root, "gates", code=2)


def test_gates_are_red_where_nothing_was_judged_and_where_a_reader_would_be_refused(
    root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = ("gates", "--symbols", "AAAUSDT", "--start", "2024-01-01", "--end", "2024-01-31")
    text = call(root, *asked, code=1)
    for table in ("raw_um_ohlcv", "raw_um_funding", "bars_um", "settlements_um"):
        assert f"FAIL {table}[2024-01|AAAUSDT] may_be_read: never materialised" in text
    call(root, "backfill", *run_flags(source)[2:])
    assert "FAIL" not in call(root, *asked)
    monkeypatch.setenv("BACKTEST_MARKET_LIMITS", "um_gap_share_max=0.5")
    assert "FAIL bars_um[2024-01|AAAUSDT] may_be_read: judged under the default limits" in call(root, *asked, code=1)
    monkeypatch.delenv("BACKTEST_MARKET_LIMITS")
    (held,) = (root / "lake/bars_um/symbol=AAAUSDT/month=2024-01/data").glob("*.parquet")
    pl.read_parquet(held).with_columns(pl.col("close") * 2).write_parquet(held)
    assert "FAIL bars_um[2024-01|AAAUSDT] may_be_read: " in call(root, *asked, code=1)
    text = call(root, "sql", "select count(distinct month) as n_months from bars_um where symbol = 'AAAUSDT'")
    assert "left out: bars_um[2024-01|AAAUSDT]: " in text
    assert "n_months" in text
    counted = "select count(*) as n from bars_um where symbol = 'AAAUSDT' and month = '2024-01'"
    assert '[{"n":0}]' in call(root, "sql", counted, "--json")


@pytest.mark.parametrize(
    ("window", "says"),
    [
        (("2024-03-01", "2024-02-01"), "usage: start 2024-03-01 lies after end 2024-02-01; give start <= end"),
        (("2024-03-01", "2024-02-30"), "usage: end '2024-02-30' is not a day of the form YYYY-MM-DD"),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_gates_of_no_month_are_wrong_usage_and_never_green(
    root: Path, window: tuple[str, str], says: str, form: tuple[str, ...]
):
    asked = ("gates", "--symbols", "AAAUSDT", "--start", window[0], "--end", window[1], *form)
    assert says in call(root, *asked, code=2)


def test_gates_of_a_run_that_broke_off_are_red_for_what_its_decision_lacks(root: Path, source: Path):
    write_klines(source, "AAAUSDT", break_month(klines(0), "2024-02"))
    call(root, "run", *run_flags(source), code=1)
    text = call(root, "gates", "R1", code=1)
    assert "FAIL raw_um_ohlcv[2024-02|AAAUSDT] ohlc_sane" in text
    assert "FAIL research_checklist[R1] may_be_read: never materialised; materialise it first" in text


def test_a_backfill_that_names_no_source_takes_the_environments(
    root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
):
    month = ("backfill", "--symbols", "AAAUSDT", "--start", "2024-01-01", "--end", "2024-01-31")
    assert "usage: no source: give --source, or set BACKTEST_SOURCE" in call(root, *month, code=2)
    monkeypatch.setenv("BACKTEST_SOURCE", f"files:{source}")
    assert "partitions published" in call(root, *month)


def test_missing_settlements_are_refused(root: Path, source: Path):
    holes = funding(0).filter(pl.col("funding_time").dt.strftime("%Y-%m-%d") != "2024-02-10")
    put(source / "um" / "funding" / "AAAUSDT.parquet", holes)
    text = call(root, "backfill", *run_flags(source)[2:], code=1)
    assert "settlements_um[2024-02|AAAUSDT]" in text


def test_missing_funding_altogether_is_refused_before_anything_is_made(root: Path, source: Path):
    (source / "um" / "funding" / "AAAUSDT.parquet").unlink()
    assert "raw_um_funding" in call(root, "run", *run_flags(source), code=2)
    assert not (root / "lake").exists()


def test_backfill_then_sql_then_backfill_again(root: Path, source: Path):
    assert "42 partitions published" in call(root, "backfill", *run_flags(source)[2:])
    counted = json.loads(
        call(root, "sql", "select symbol, month, count(*) as n from bars_um group by all order by all", "--json")
    )
    assert {"symbol": "AAAUSDT", "month": "2024-01", "n": 31 * 96} == counted[0]
    assert len(counted) == 6
    assert "Nothing to do" in call(root, "backfill", *run_flags(source)[2:])


def test_sql_is_read_only(root: Path):
    stolen = root.parent / "stolen.csv"
    for statement, says in (
        ("drop view bars_um", "only one SELECT statement can be answered, this is: DROP"),
        (f"copy (select 1) to '{stolen}'", "only one SELECT statement can be answered, this is: COPY"),
        ("select * from read_csv('/etc/passwd')", 'Permission Error: Cannot access file "/etc/passwd"'),
    ):
        text = call(root, "sql", statement, code=2)
        assert text.startswith(f"usage: sql: {says}")
        assert "root:" not in text
    assert [root] == list(root.parent.iterdir())
    assert [] == list(root.iterdir())


def test_an_unknown_run_is_refused_with_code_1(root: Path):
    for look in ("gates", "report"):
        said = call(root, look, "NOPE", code=1)
        assert "run NOPE does not exist here; list runs with: backtest-assets runs" in said
    assert "usage: " in call(root, "report", "a/b", code=2)


def test_r52_other_settings_are_refused_before_anything_is_asked_or_made(
    root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
):
    write_klines(source, "AAAUSDT", break_month(klines(0), "2024-02"))
    call(root, "run", *run_flags(source), code=1)
    assert "report[R1]: never materialised" in call(root, "report", "R1", code=1)

    def make(*_: object, **__: object) -> NoReturn:
        pytest.fail("nothing is asked of the source and no market is made for a run that cannot be")

    monkeypatch.setattr(cli, "check_source", make)
    monkeypatch.setattr(cli, "drive_market", make)
    said = call(root, "run", *run_flags(source, fees_bps="5"), code=1)
    assert "refused: run_id R1 is frozen with other settings; use a new run_id (R52)" in said
    assert "fees_bps: 4.0 -> 5.0" in said
    said = call(root, "discover", *run_flags(source, source="files:/nowhere"), code=1)
    assert "-> 'files:/nowhere'" in said


def test_sql_says_how_to_show_an_interval(root: Path):
    said = call(root, "sql", "select interval 1 day as wait, [interval 1 day] as waits, 1 as n", code=2)
    assert "usage: sql: wait, waits: an INTERVAL cannot be shown; cast it to VARCHAR, for example wait::VARCHAR" in said
    assert '[{"wait":"1 day"}]' in call(root, "sql", "select (interval 1 day)::varchar as wait", "--json")


def test_doctor_is_content_with_a_fresh_root(root: Path):
    assert "instance" in call_program(root, "doctor")


def test_doctor_finds_an_altered_file(root: Path, source: Path):
    call(root, "backfill", *run_flags(source)[2:])
    victim = next((root / "lake" / "bars_um").rglob("*.parquet"))
    victim.chmod(0o644)
    victim.write_bytes(b"x")
    assert "altered" in call(root, "doctor", code=1)
