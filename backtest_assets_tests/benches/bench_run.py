"""CPU seconds and peak memory of a whole run, stage by stage: `make bench`, or with a source, symbols and a window.

Peak memory is the process's so far. CPU between two settled partitions is booked on the table of the second one; the rest is Dagster, imports and compiling.
"""

import resource
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

from backtest_assets.cli.run import DEMO
from backtest_assets.definitions import build_defs
from backtest_assets.defs.driver import MarketOrder, Session, drive_market, drive_run
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.resources import LakeResource, Outcome
from backtest_assets.defs.scope import warmup_partitions, window_partitions
from backtest_assets.domain.run import ResearchRun, run_from_dict
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings


class Meter:
    """Books CPU seconds by table."""

    def __init__(self) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self.n: Counter[str] = Counter()
        self.peak_mb: dict[str, float] = {}
        self._last = cpu_s()

    def expect(self, table: str, n_partitions: int) -> None:
        del table, n_partitions

    def settle(self, table: str, partition: str, outcome: Outcome) -> None:
        del partition
        now = cpu_s()
        self.cpu_s[table] += now - self._last
        self.peak_mb[table] = peak_mb()
        self.n[table] += outcome != "fresh"
        self._last = now


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(run: ResearchRun, root: Path) -> None:
    settings = Settings(root, root / "dagster", None)
    for attempt in ("first", "second"):
        meter, before = Meter(), cpu_s()
        with open_instance(settings) as instance:
            session = Session(build_defs(settings, observer=meter), instance, LakeResource(Lake(root), settings, meter))
            order = MarketOrder(source=run.source, required=window_partitions(run), optional=warmup_partitions(run))
            work = drive_market(session, order)
            work += drive_run(session, run, until_blueprints=False)
        print(
            f"\n{attempt} run: {cpu_s() - before:.1f} CPU s, peak {peak_mb():.0f} MB, {work.n_made} made, {work.n_fresh} fresh"
        )
        for table, seconds in meter.cpu_s.items():
            print(
                f"  {table:<24}{seconds:8.2f} s{meter.peak_mb[table]:8.0f} MB peak so far{meter.n[table]:6d} partitions"
            )


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"imports: {cpu_s():.1f} CPU s, {peak_mb():.0f} MB")
    names = ("source", "symbols", "start", "end")
    run = run_from_dict(DEMO | dict(zip(names, sys.argv[1:], strict=False)))
    with tempfile.TemporaryDirectory() as folder:
        measure(run, Path(folder))


if __name__ == "__main__":
    main()
