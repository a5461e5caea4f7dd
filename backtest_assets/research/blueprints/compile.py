"""The compiler: selected hypotheses in, blueprints out, the same bytes every time. Keep tests and simulation out."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Literal

import polars as pl

from backtest_assets.domain.blueprint import (
    COMPILER_VERSION,
    Blueprint,
    Entry,
    Evaluation,
    Exit,
    Lineage,
    Sizing,
    SymbolScope,
)
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.events.conditions import Condition
from backtest_assets.tables.blueprints import BLUEPRINTS

MIN_EXIT_FRAC: Final = 0.0005
"""Nearest stop and target [fraction of entry]: five basis points, less than the costs of the exit."""

MAX_STOP_FRAC: Final = 0.5
"""Farthest stop [fraction of entry]: a position that lost half is not waiting for its time exit."""

MAX_EXPOSURE: Final = 1.0
"""Largest exposure to one symbol and in all [fraction of equity]: nothing is borrowed."""


def compile_blueprints(hypotheses: pl.DataFrame, checklist: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Compile the selected hypotheses of a promoted run.

    The best t of each family and side is compiled, up to the run's maximum per family. Stop and target lie at the 95th percentile of the moves against and for the
    position on train: the hypothesis was tested with a time exit, so they guard it and are not its edge.

    Args:
        hypotheses: table hypotheses, any order.
        checklist: table research_checklist; anything but PROMOTE on every row compiles nothing.
        run: gives costs, symbols, limits and the train window.

    Returns:
        Table blueprints, rank 1 for the largest t; `is_executed` for the first `blueprints_top_k` of the family filter.

    Raises:
        TableError: if a selected hypothesis lacks a number that its blueprint needs.

    Knows:
        train statistics of the hypotheses, and which of them validation confirmed.
    """
    decisions = checklist.select("decision", "is_passed").unique().rows()
    if decisions != [("PROMOTE", True)]:
        return BLUEPRINTS.empty()
    rows = [
        {
            "rank": rank,
            "blueprint_id": blueprint.blueprint_id,
            "hypothesis_id": hypothesis["hypothesis_id"],
            "event_type": blueprint.event_type.value,
            "condition": hypothesis["condition"],
            "direction": blueprint.direction,
            "side_rule": blueprint.entry.side_rule.value,
            "symbols": ",".join(blueprint.symbol_scope.symbols),
            "delay_bars": blueprint.entry.delay_bars,
            "time_stop_bars": blueprint.exit.time_stop_bars,
            "stop_frac": blueprint.exit.stop_value,
            "target_frac": blueprint.exit.target_value,
            "t_train": hypothesis["t_train"],
            "behaviour_digest": blueprint.behaviour_digest,
            "spec_json": blueprint.to_json(),
        }
        for rank, (hypothesis, blueprint) in enumerate(_chosen(hypotheses, run), start=1)
    ]
    table = pl.DataFrame(
        rows, schema={name: dtype for name, dtype in BLUEPRINTS.schema.items() if name != "is_executed"}
    )
    wanted = run.blueprints_filter_event_type
    is_wanted = (pl.col("event_type") == wanted) | pl.lit(wanted == "all")
    is_executed = is_wanted & (is_wanted.cast(pl.Int32).cum_sum() <= run.blueprints_top_k)
    return BLUEPRINTS.conform(table.with_columns(is_executed=is_executed))


def _chosen(hypotheses: pl.DataFrame, run: ResearchRun) -> Iterator[tuple[dict[str, Any], Blueprint]]:
    """Yield the hypotheses that become blueprints, largest t first.

    The best of a family and side stands for its near-copies: nested conditions trade the same events, and executing two
    of them would double the position, not the evidence (stat_recipe step 9).
    """
    selected = _selected(hypotheses, run).sort("t_train", "hypothesis_id", descending=[True, False])
    leaders = selected.filter(pl.struct("event_type", "side_rule").is_first_distinct())
    per_family: Counter[str] = Counter()
    for hypothesis in leaders.to_dicts():
        per_family[hypothesis["event_type"]] += 1
        if per_family[hypothesis["event_type"]] <= run.strategy_blueprint_max_per_event:
            yield hypothesis, _blueprint(hypothesis, run)


def _selected(hypotheses: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    selected = hypotheses.filter(pl.col("status") == "selected")
    needed = ("t_train", "adverse_q95_train_bps", "favourable_q95_train_bps")
    lacking = selected.filter(
        pl.any_horizontal(pl.col(name).is_finite().not_().fill_null(value=True) for name in needed)
    )
    if not lacking.is_empty():
        message = (
            f"table hypotheses, run {run.run_id}: selected hypothesis {lacking['hypothesis_id'].min()} lacks one of "
            f"{', '.join(needed)}; test the hypotheses again"
        )
        raise TableError(message)
    return selected


def _blueprint(hypothesis: dict[str, Any], run: ResearchRun) -> Blueprint:
    family, side_rule = EventType(hypothesis["event_type"]), SideRule(hypothesis["side_rule"])
    condition, hold, train = Condition(hypothesis["condition"]), hypothesis["hold_bars"], run.splits[Split.TRAIN]
    wait = f"_d{hypothesis['delay_bars']}" if hypothesis["delay_bars"] else ""
    name = f"bp_{family.value}_{condition.slug}_{side_rule.value}{wait}_h{hold}"
    single = condition.symbol
    return Blueprint(
        blueprint_id=re.sub(r"[^a-z0-9_]", "_", name.lower()),
        run_id=run.run_id,
        event_type=family,
        direction=_direction(side_rule),
        symbol_scope=SymbolScope("single_symbol", (single,))
        if single
        else SymbolScope("multi_symbol", run.symbol_list),
        entry=Entry((family.value,), (condition.name,), side_rule, hypothesis["delay_bars"], cooldown_bars=0),
        exit=Exit(
            time_stop_bars=hold,
            stop_type="percent",
            stop_value=min(max(hypothesis["adverse_q95_train_bps"] * BPS, MIN_EXIT_FRAC), MAX_STOP_FRAC),
            target_type="percent",
            target_value=max(hypothesis["favourable_q95_train_bps"] * BPS, MIN_EXIT_FRAC),
        ),
        sizing=Sizing("fixed_fraction", MAX_EXPOSURE / len(run.symbol_list), MAX_EXPOSURE, MAX_EXPOSURE),
        evaluation=Evaluation(run.fees_bps, run.slippage_bps, funding_included=True),
        lineage=Lineage(hypothesis["hypothesis_id"], COMPILER_VERSION, train.start.isoformat(), train.end.isoformat()),
    )


def _direction(side_rule: SideRule) -> Literal["long", "short", "conditional"]:
    if side_rule is SideRule.LONG:
        return "long"
    return "short" if side_rule is SideRule.SHORT else "conditional"
