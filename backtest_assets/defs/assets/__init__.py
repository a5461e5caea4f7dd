"""The assets, one module per stage: the decorator is the lineage, the body is one call; numbers stay in research/."""

from typing import Final

import dagster as dg

from backtest_assets.defs.assets import (
    bars,
    blueprints,
    context,
    events,
    features,
    hypotheses,
    outcomes,
    phase1,
    promotions,
    raw,
    report,
    run,
    simulation,
    walkforward,
)

_MODULES = (
    raw,
    bars,
    run,
    features,
    context,
    events,
    outcomes,
    phase1,
    hypotheses,
    blueprints,
    simulation,
    walkforward,
    promotions,
    report,
)
ALL: Final = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, dg.AssetsDefinition)
)
