"""The same graph under the multiprocess executor, for test_processes."""

import dagster as dg

from backtest_assets.definitions import build_defs
from backtest_assets.settings import settings_from_environment


def in_processes(built: dg.Definitions) -> dg.Definitions:
    executor = dg.multiprocess_executor.configured({"max_concurrent": 2})
    jobs = [dg.define_asset_job(name, tables) for name, tables in JOBS.items()]
    return dg.Definitions(assets=built.assets, jobs=jobs, resources=built.resources, executor=executor)


JOBS = {"raw_and_bars": ["raw_um_ohlcv", "bars_um"], "bars": ["bars_um"]}
defs = in_processes(build_defs(settings_from_environment()))
