"""The +-10 % neighbours of executed blueprints, each really simulated alone; what follows from them stays out.

What is moved: stop, target, hold, the trailing stop where there is one, and every threshold among the conditions. The
market ends with validation: nothing of the test window is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.entry import ConditionNode, spell
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.blueprints.entries import Entries
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.events.thresholds import SHIFT, Threshold
from backtest_assets.research.hypotheses.rules import hold_neighbours
from backtest_assets.research.simulation.ledger import Simulation
from backtest_assets.research.simulation.orders import OrderBook
from backtest_assets.research.simulation.prices import Market
from backtest_assets.tables.promotions import BLUEPRINT_NEIGHBOURS
from backtest_assets.tables.simulation import TRADES

CENTRE: Final = "centre"
"""Name of the blueprint itself among its neighbours."""

OPEN_SPLITS: Final = (Split.TRAIN, Split.VALIDATION)
"""What promotion may look at."""

_FARTHEST_STOP: Final = 1.0 - 1e-6
"""A stop beyond a price of nothing is none [fraction of the entry price]; a neighbour's goes up to here."""

_DIGITS: Final = 12
_TO: Final = (("minus", 1.0 - SHIFT), ("plus", 1.0 + SHIFT))
_SIDES: Final = ("stricter", "looser")
_CUT_SHORT: Final = "end_of_data"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A blueprint with one number moved by a tenth.

    Attributes:
        of: name of the blueprint it is a neighbour of.
        name: what is moved, and whereto; `CENTRE` for the blueprint itself.
        change: the part, from its value to the neighbour's; empty for the centre.
        spec: the blueprint that is simulated, under a name of its own.
    """

    of: str
    name: str
    change: str
    spec: Blueprint

    @classmethod
    def each(cls, blueprints: pl.DataFrame, *, run: ResearchRun) -> tuple["Neighbour", ...]:
        """Return every executed blueprint, best rank first, and after each its neighbours.

        Raises:
            RefusedError: if one was judged with other costs than the run's, or trades symbols that are not in it.
            SettingsError: if a blueprint's JSON cannot be obeyed.
        """
        return tuple(one for spec in OrderBook.specs(blueprints, run=run) for one in cls._around(spec))

    @classmethod
    def _around(cls, spec: Blueprint) -> Iterator["Neighbour"]:
        for name, change, moved in ((CENTRE, "", spec), *_moved_exits(spec), *_moved_conditions(spec)):
            own = replace(moved, blueprint_id=f"{spec.blueprint_id} {name}")
            yield cls(spec.blueprint_id, name, change, own)


def simulate_neighbours(
    bars: pl.DataFrame,
    funding: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    blueprints: pl.DataFrame,
    *,
    features: pl.DataFrame,
    run: ResearchRun,
) -> pl.DataFrame:
    """Trade every executed blueprint and each of its neighbours alone, up to the end of validation.

    Args:
        bars: table bars_um.
        funding: table settlements_um.
        events: table event_registry.
        context: table market_context.
        blueprints: table blueprints.
        features: table features.
        run: window, symbols, costs, splits.

    Returns:
        Table blueprint_neighbours, one row per blueprint, neighbour and split; net 0 where nothing was traded. A trade that
        lasts beyond its split is in none, as in table trades.

    Raises:
        RefusedError: if a settlement held over is missing, or a blueprint was judged with other costs or symbols.
        SettingsError: if a blueprint names a condition or a column that does not exist.
        TableError: if events are off the grid, or lack a side where it is needed.

    Knows:
        train and validation, nothing of test.
    """
    neighbours = Neighbour.each(blueprints, run=run)
    if not neighbours:
        return BLUEPRINT_NEIGHBOURS.empty()
    end = run.splits[Split.VALIDATION].end
    then = pl.col("known_at") <= end
    seen, known = bars.filter(then), context.filter(then)
    market = Market.read(seen, funding.filter(pl.col("settled_at") <= end), run=run, end=end)
    families = {one.spec.event_type.value for one in neighbours}
    asked = events.filter(then, pl.col("variant") == Variant.CENTRE.value, pl.col("event_type").is_in(families))
    entries = Entries.among(
        [one.spec for one in neighbours],
        attach_conditions(asked, known),
        known,
        features=features.filter(then),
        bars=seen,
        grid=market.grid,
    )
    traded = Simulation.apart(entries, market, run=run) if entries.rows.height else TRADES.empty()
    return _summed(traded, neighbours, run)


def _summed(traded: pl.DataFrame, neighbours: tuple[Neighbour, ...], run: ResearchRun) -> pl.DataFrame:
    # What is open where validation ends would have left in the test window: it is of no split.
    whole = traded.filter(pl.col("exit_reason") != _CUT_SHORT)
    sums = whole.group_by("split", traded="blueprint_id", maintain_order=True).agg(
        n_trades=pl.len(), net_pnl=pl.col("net_pnl").sum()
    )
    listed = pl.DataFrame(
        [
            (one.of, one.name, split.value, one.change, run.splits[split].n_days, one.spec.blueprint_id)
            for one in neighbours
            for split in OPEN_SPLITS
        ],
        schema=["blueprint_id", "neighbour", "split", "change", "n_days", "traded"],
        orient="row",
    )
    rows = listed.join(sums, on=["traded", "split"], how="left").with_columns(
        pl.col("n_trades").fill_null(0), pl.col("net_pnl").fill_null(0.0)
    )
    return BLUEPRINT_NEIGHBOURS.conform(
        rows.drop("traded").with_columns(net_per_day=pl.col("net_pnl") / pl.col("n_days"))
    )


_Moved = tuple[str, str, Blueprint]


def _moved_exits(spec: Blueprint) -> Iterator[_Moved]:
    leave = spec.exit
    for side, factor in _TO:
        stop = round(leave.stop_value * factor, _DIGITS)
        stop = min(stop, _FARTHEST_STOP) if leave.stop_type == "percent" else stop
        yield _exit(spec, f"stop_{side}", "stop_value", stop)
        yield _exit(spec, f"target_{side}", "target_value", round(leave.target_value * factor, _DIGITS))
        if leave.trailing_stop_type != "none":
            trail = round(leave.trailing_stop_value * factor, _DIGITS)
            yield _exit(spec, f"trail_{side}", "trailing_stop_value", trail)
    for (side, _), hold in zip(_TO, hold_neighbours(leave.time_stop_bars), strict=True):
        if hold >= 1:
            yield _exit(spec, f"hold_{side}", "time_stop_bars", hold)


def _exit(spec: Blueprint, name: str, field: str, value: float) -> _Moved:
    moved = replace(spec, exit=replace(spec.exit, **{field: value}))
    return name, f"exit.{field} {spell(getattr(spec.exit, field))} -> {spell(value)}", moved


def _moved_conditions(spec: Blueprint) -> Iterator[_Moved]:
    entry = spec.entry
    for place, name in enumerate(entry.conditions):
        for side, near in zip(_SIDES, Condition(name).neighbours, strict=False):
            conditions = (*entry.conditions[:place], near.name, *entry.conditions[place + 1 :])
            yield (
                f"condition_{place + 1}_{side}",
                f"entry.conditions {name} -> {near.name}",
                replace(spec, entry=replace(entry, conditions=conditions)),
            )
    for place, node in enumerate(entry.condition_nodes):
        threshold = Threshold.of(node.feature, node.operator, node.value, node.value_high)
        for side, near in zip(_SIDES, threshold.neighbours, strict=False):
            moved = ConditionNode(node.feature, node.operator, near.value, near.high)
            nodes = (*entry.condition_nodes[:place], moved, *entry.condition_nodes[place + 1 :])
            yield (
                f"node_{place + 1}_{side}",
                f"entry.condition_nodes {' and '.join(node.texts)} -> {' and '.join(moved.texts)}",
                replace(spec, entry=replace(entry, condition_nodes=nodes)),
            )
