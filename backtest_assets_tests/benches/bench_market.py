"""What the market layer costs, from a local archive of 15-minute klines and funding to bars and coverage: `make bench-market`.

    python -m backtest_assets_tests.benches.bench_market [N_SYMBOLS N_MONTHS] [--law | --klines]

CPU seconds of the whole process, all threads. Functions on the way are wrapped; each is booked without those it calls, on the
table that is being made. *Work* is make (for raw tables fetch, parse, merge; for others reading inputs too), guard (may inputs be
read: its queries of the event log too), gates, store (stage, publish), and stale (what is out of date). *Dagster* is log (writes of its
event log, whoever caused them) and rest: all else of a run, and opening the instance. The wrappers cost about 1 us a call.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from backtest_assets.definitions import build_defs
from backtest_assets.defs import driver, guard, publish
from backtest_assets.defs.assets import bars, raw
from backtest_assets.defs.event_storage import PooledSqliteEventLogStorage
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.resources import LakeResource, Silent
from backtest_assets.domain.clock import month_end, month_of, month_start
from backtest_assets.domain.market import Partition
from backtest_assets.lake.parquet import parquet_bytes
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings
from backtest_assets.sources.archive.parse import parse_member
from backtest_assets.sources.archive.unzip import read_member
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.archive_files import kline_zip, made_rows, monthly_file, there, write_archive

FIRST_MONTH = "2020-01"
BAR_CPU_S, GOAL_CPU_S, BAR_MB = 40.0, 15.0, 600.0
BAR_PARTITIONS, BAR_ASSETS = 144, 5
BAR_KLINES = 2.0
LAW_SYMBOLS, LAW_MONTHS, FAR_SYMBOLS = (1, 2, 5, 10), 72, 50
WORK = ("make", "guard", "gates", "store", "stale")
DAGSTER = ("log", "rest")


class Books:
    """CPU seconds by table and kind, each function without those it calls."""

    def __init__(self) -> None:
        self.cpu_s: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._open = ["rest"]
        self._table, self._since = "", time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        self.cpu_s[self._table][self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def kept(self, kind: str, table: str | None = None) -> Generator[None]:
        self._turn()
        before, self._table = self._table, self._table if table is None else table
        self._open.append(kind)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()
            self._table = before

    def wrapped(self, function: Callable[..., Any], kind: str, table_at: int | None) -> Callable[..., Any]:
        def booked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever the function takes and gives
            table = None if table_at is None else str(getattr(args[table_at], "value", args[table_at]))
            with self.kept(kind, table):
                return function(*args, **kwargs)

        return booked

    @contextmanager
    def watching(self) -> Generator[None]:
        """Wrap what is on the way; the position is that of the argument that names the table."""
        watched: list[tuple[Any, str, str, int | None]] = [
            (driver, "_ingest", "stale", 2),
            (driver, "stale_derived", "stale", 2),
            (driver, "_materialize_months", "rest", 1),
            (raw, "_fetch", "make", None),
            (bars, "_make_month", "make", None),
            (guard.Guard, "inspect", "guard", None),
            (publish, "_settle", "store", None),
            (publish, "ask_all", "gates", None),
            (PooledSqliteEventLogStorage, "store_event", "log", None),
            (PooledSqliteEventLogStorage, "flush", "log", None),
        ]
        with ExitStack() as undo:
            for owner, name, kind, table_at in watched:
                function = getattr(owner, name)
                undo.callback(setattr, owner, name, function)
                setattr(owner, name, self.wrapped(function, kind, table_at))
            self._since = time.process_time()
            yield
            self._turn()


def months_from(first: str, n: int) -> list[str]:
    months = [first]
    while len(months) < n:
        months.append(month_of(month_end(months[-1]) + timedelta(days=1)))
    return months


def symbols_of(n: int) -> list[str]:
    return [f"S{number:03d}USDT" for number in range(n)]


def drive(archive: Path, symbols: Sequence[str], months: Sequence[str], root: Path) -> dict[str, Any]:
    """Bring the market up to date from wherever it stands; return what it cost."""
    settings, books = Settings(root, root / "dagster", None), Books()
    parts = [Partition.of_month(symbol, month) for symbol in symbols for month in months]
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    with books.watching(), open_instance(settings) as instance:
        session = driver.Session(build_defs(settings), instance, LakeResource(Lake(root), settings, Silent()))
        work = driver.drive_market(session, driver.MarketOrder(source=f"archive_dir:{archive}", required=parts))
    assert not work.refusals, work.refusals[0]
    return {
        "n_partitions": len(parts),
        "n_made": work.n_made,
        "n_fresh": work.n_fresh,
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "by_table": {table: dict(kinds) for table, kinds in books.cpu_s.items()},
    }


def dagster_s(cost: dict[str, Any]) -> float:
    return sum(kinds.get(kind, 0.0) for kinds in cost["by_table"].values() for kind in DAGSTER)


def show(name: str, cost: dict[str, Any]) -> None:
    print(
        f"\n{name}: {cost['cpu_s']:.1f} CPU s, {cost['wall_s']:.1f} s wall, peak {cost['peak_mb']:.0f} MB, "
        f"{cost['n_made']} made, {cost['n_fresh']} fresh"
    )
    print(f"  {'CPU s':<18}" + "".join(f"{kind:>8}" for kind in (*WORK, *DAGSTER, "all")) + "   ms/partition")
    for table, kinds in cost["by_table"].items():
        cells = [kinds.get(kind, 0.0) for kind in (*WORK, *DAGSTER)]
        text = "".join(f"{cell:8.2f}" for cell in (*cells, sum(cells)))
        print(f"  {table or '(opening)':<18}{text}{1e3 * sum(cells) / cost['n_partitions']:15.1f}")
    share = dagster_s(cost)
    print(f"  Dagster {share:.1f} s ({share / cost['cpu_s']:.0%}), work {cost['cpu_s'] - share:.1f} s")


def held_against_bars(cost: dict[str, Any]) -> None:
    n_assets = cost["n_made"] // cost["n_partitions"]
    scale = cost["n_partitions"] / BAR_PARTITIONS
    print(
        f"\n{n_assets} assets against the bar for {BAR_ASSETS} at {cost['n_partitions']} partitions: "
        f"CPU {cost['cpu_s'] / (BAR_CPU_S * scale):.2f} of {BAR_CPU_S * scale:.1f} s, "
        f"{cost['cpu_s'] / (GOAL_CPU_S * scale):.2f} of the goal of {GOAL_CPU_S * scale:.1f} s; "
        f"memory {cost['peak_mb'] / BAR_MB:.2f} of {BAR_MB:.0f} MB"
    )


def law(n: Sequence[float], cost: Sequence[float]) -> tuple[float, float, float]:
    """Fit cost = a + b n, and the exponent of n from the marginal costs between sizes, which know no a.

    >>> [round(number, 6) for number in law([1, 2, 4, 8], [5, 7, 11, 19])]
    [3.0, 2.0, 1.0]
    """
    sizes, costs = np.asarray(n, dtype=float), np.asarray(cost, dtype=float)
    b, a = np.polyfit(sizes, costs, 1)
    marginal, middle = np.diff(costs) / np.diff(sizes), np.sqrt(sizes[1:] * sizes[:-1])
    slope = np.polyfit(np.log(middle), np.log(marginal), 1)[0] if np.all(marginal > 0) else math.nan
    return float(a), float(b), 1.0 + float(slope)


def measure_law() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_archive(folder_path := Path(folder), symbols_of(LAW_SYMBOLS[-1]), months_from(FIRST_MONTH, LAW_MONTHS))
        costs = [in_fresh_process(n, LAW_MONTHS, folder_path) for n in LAW_SYMBOLS]
    n = [cost["n_partitions"] for cost in costs]
    far = FAR_SYMBOLS * LAW_MONTHS
    print(
        f"{'partitions':<22}" + "".join(f"{size:>9}" for size in n) + "   a + b n            exponent  at " + str(far)
    )
    series = {
        "CPU s": [cost["cpu_s"] for cost in costs],
        "Dagster CPU s": [dagster_s(cost) for cost in costs],
        "wall s": [cost["wall_s"] for cost in costs],
        "peak MB": [cost["peak_mb"] for cost in costs],
    }
    for kind in (*WORK, *DAGSTER):
        series[f"  {kind}"] = [sum(t.get(kind, 0.0) for t in cost["by_table"].values()) for cost in costs]
    for name, values in series.items():
        a, b, exponent = law(n, values)
        cells = "".join(f"{value:9.2f}" for value in values)
        print(f"{name:<22}{cells}   {a:7.2f} + {1e3 * b:7.2f}e-3 n{exponent:7.2f}{a + b * far:12.0f}")
    shares = "".join(f"{dagster_s(cost) / cost['cpu_s']:9.1%}" for cost in costs)
    print(f"{'Dagster share':<22}{shares}")


def in_fresh_process(n_symbols: int, n_months: int, archive: Path) -> dict[str, Any]:
    sizes = [str(n_symbols), str(n_months), "--json", str(archive)]
    done = subprocess.run([sys.executable, "-m", __spec__.name, *sizes], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measure_klines(n_months: int) -> None:
    """Print million klines per CPU-second: parse and write, with and without inflating the zips."""
    dataset, symbol = Dataset.UM_OHLCV, symbols_of(1)[0]
    files = [there(monthly_file(dataset, symbol, month, "1m")) for month in months_from(FIRST_MONTH, n_months)]
    zips = [kline_zip(file, made_rows(dataset, symbol, month_of(file.start), "1m")) for file in files]
    texts = [read_member(content, name=file.name) for file, content in zip(files, zips, strict=True)]
    cpu_s = dict.fromkeys(("inflate", "parse", "write"), 0.0)
    n_klines = 0
    with tempfile.TemporaryDirectory() as folder:
        parse_member(files[0], texts[0], source="bench")  # what is done once per process is not a month's
        for file, content, text in zip(files, zips, texts, strict=True):
            at = [time.process_time()]
            read_member(content, name=file.name)
            at.append(time.process_time())
            rows = parse_member(file, text, source="bench")
            at.append(time.process_time())
            (Path(folder) / file.stem).write_bytes(parquet_bytes(dataset.table, rows))
            at.append(time.process_time())
            for kind, spent in zip(cpu_s, np.diff(at), strict=True):
                cpu_s[kind] += spent
            n_klines += rows.height
            assert rows.height == (month_end(month_of(file.start)) - month_start(month_of(file.start))).days * 1440
    bare = cpu_s["parse"] + cpu_s["write"]
    split = ", ".join(f"{kind} {spent:.2f} s" for kind, spent in cpu_s.items())
    print(f"{n_klines / 1e6:.2f} million 1m klines of {n_months} months: {split}")
    print(f"parse + write: {n_klines / 1e6 / bare:.2f} million klines per CPU-second; the bar is {BAR_KLINES}")
    print(f"inflate + parse + write: {n_klines / 1e6 / (bare + cpu_s['inflate']):.2f} million klines per CPU-second")


def main(args: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench_market", description=__doc__)
    parser.add_argument("n_symbols", nargs="?", type=int, default=2)
    parser.add_argument("n_months", nargs="?", type=int, default=72)
    parser.add_argument("--law", action="store_true", help="growth over 72 to 720 partitions, each in a fresh process")
    parser.add_argument("--klines", action="store_true", help="parse and write of 1-minute months")
    parser.add_argument(
        "--json", type=Path, metavar="ARCHIVE", help="drive once from this archive, print the cost as JSON"
    )
    asked = parser.parse_args(args)
    warnings.simplefilter("ignore")
    if asked.law:
        measure_law()
        return
    if asked.klines:
        measure_klines(min(asked.n_months, 12))
        return
    symbols, months = symbols_of(asked.n_symbols), months_from(FIRST_MONTH, asked.n_months)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        if asked.json is not None:
            print(json.dumps(drive(asked.json, symbols, months, root)))
            return
        archive = Path(folder) / "archive"
        write_archive(archive, symbols, months)
        first = drive(archive, symbols, months, root)
        show("first run", first)
        show("second run", drive(archive, symbols, months, root))
        held_against_bars(first)


if __name__ == "__main__":
    main(sys.argv[1:])
