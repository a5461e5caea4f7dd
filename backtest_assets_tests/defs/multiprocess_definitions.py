"""The same graph under the multiprocess executor, for test_processes."""

import dagster as dg

from backtest_assets.definitions import build_defs
from backtest_assets.settings import settings_from_environment


def in_processes(built: dg.Definitions) -> dg.Definitions:
    executor = dg.multiprocess_executor.configured({"max_concurrent": 2})
    return dg.Definitions(assets=built.assets, jobs=built.jobs, resources=built.resources, executor=executor)


defs = in_processes(build_defs(settings_from_environment()))
