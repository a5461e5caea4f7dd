"""The priced trades of a run: outcomes beside the conditions and the drift they are judged against.

Every trade is signed for the rule `long` or `with_event`; the mirrored rule earns the negative. Keep means and tests out.
"""

from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, BAR_US
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.outcomes.direction import direction_of_event

_ORDER: Final = ("event_type", "variant", "delay_bars", "hold_bars", "split", "known_at", "symbol", "event_id")


def run_conditions(run: ResearchRun) -> tuple[str, ...]:
    """Return the names of all conditions of the run's families, each once, in fixed order.

    Args:
        run: gives families and symbols.

    Returns:
        Condition names; `trades` and `cells` carry one boolean column for each.

    Knows:
        settings only.
    """
    declared = (c.name for family in run.event_types for c in Condition.declared(family, run.symbol_list))
    return tuple(dict.fromkeys(declared))


def shifted_conditions(run: ResearchRun) -> tuple[str, ...]:
    """Return the names of the neighbours of all the run's conditions that are thresholds, each once, in fixed order (R13).

    Args:
        run: gives families and symbols.

    Returns:
        Condition names; `trades` carry one boolean column for each.

    Knows:
        settings only.
    """
    near = (one.name for name in run_conditions(run) for one in Condition(name).neighbours)
    return tuple(dict.fromkeys(name for name in near if name not in run_conditions(run)))


def asked_events(events: pl.DataFrame, context: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Answer every condition of the run for its events.

    Args:
        events: table event_registry.
        context: table market_context.
        run: gives families, symbols and window.

    Returns:
        The events of the run's families inside its window with one boolean column per condition and per neighbour of one,
        never null; false too where the condition is not declared for the event's family.

    Knows:
        for each event what was known at its `known_at`.
    """
    start, end = run.window
    families: dict[str, list[str]] = {}
    for family in run.event_types:
        for condition in Condition.declared(family, run.symbol_list):
            for name in dict.fromkeys((condition.name, *(near.name for near in condition.neighbours))):
                families.setdefault(name, []).append(family.value)
    return (
        attach_conditions(events, context)
        .filter(
            pl.col("event_type").is_in(list(run.event_types)),
            pl.col("known_at").is_between(start, end, closed="left"),
        )
        .with_columns(
            (pl.col("event_type").is_in(own) & Condition(name).holds).alias(name) for name, own in families.items()
        )
    )


def train_drift(bars: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Measure what simply holding a symbol earned on train.

    Args:
        bars: table bars_um of the run's symbols.
        run: gives the train window.

    Returns:
        One row per symbol: `drift_bps` [bps per bar], the mean simple return from open to next open; a return over a
        gap counts with the bars it spans.

    Raises:
        TableError: if a symbol of the run has no two real bars on train.

    Knows:
        opens of the train window.
    """
    train = run.splits[Split.TRAIN]
    real = bars.filter(~pl.col("is_gap"), pl.col("open_at").is_between(train.start, train.end, closed="left"))
    drift = (
        real.sort("symbol", "open_at")
        .with_columns(
            move=(pl.col("open") / pl.col("open").shift(1) - 1).over("symbol"),
            bars=(pl.col("open_at").diff().over("symbol").dt.total_microseconds() // BAR_US),
        )
        .group_by("symbol", maintain_order=True)
        .agg(drift_bps=1e4 * pl.col("move").sum() / pl.col("bars").sum(), n_moves=pl.col("move").count())
        .filter(pl.col("n_moves") > 0)
        .drop("n_moves")
    )
    missing = sorted(set(run.symbol_list) - set(drift["symbol"].to_list()))
    if missing:
        message = (
            f"table bars_um, run {run.run_id}: no bars of {', '.join(missing)} on train "
            f"{train.start:%Y-%m-%d}..{train.end:%Y-%m-%d}; ingest them or leave the symbols out"
        )
        raise TableError(message)
    return drift


def priced_trades(
    outcomes: pl.DataFrame, asked: pl.DataFrame, drift: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Put outcomes, conditions and drift of every event's trades side by side.

    Args:
        outcomes: table event_outcomes; controls are left out.
        asked: frame of `asked_events`.
        drift: frame of `train_drift`.
        run: gives the families.

    Returns:
        One row per variant, event, delay and hold in a fixed order: `direction` (+1, -1), `gross` and `pnl` (net of
        funding), `drift` over the hold, `adverse` and `favourable` moves, all [bps of notional] in that direction; the
        accrual lists (long, unsigned) and one boolean per condition and neighbour.

    Raises:
        TableError: if an outcome has no event, or an event of a family with sides has none.

    Knows:
        outcomes of train and validation.
    """
    families = list(run.event_types)
    trades = (
        outcomes.filter(pl.col("control_no") == 0, pl.col("event_type").is_in(families))
        .join(
            asked.select("variant", "event_id", *run_conditions(run), *shifted_conditions(run)),
            on=["variant", "event_id"],
            how="left",
        )
        .join(drift, on="symbol", how="left")
        .with_columns(direction=direction_of_event())
    )
    _refuse(trades.filter(pl.col("all").is_null()), "have no event in event_registry", run)
    _refuse(trades.filter(pl.col("direction") == 0), "have side 0 though their family has sides", run)
    _refuse(trades.filter(pl.col("drift_bps").is_null()), "are of symbols that are not in the run", run)
    is_up = pl.col("direction") > 0
    return trades.with_columns(
        gross=pl.col("direction") * pl.col("gross_bps"),
        pnl=pl.col("direction") * (pl.col("gross_bps") - pl.col("funding_bps")),
        drift=pl.col("direction") * ((pl.col("exited_at") - pl.col("entered_at")) / BAR) * pl.col("drift_bps"),
        adverse=pl.when(is_up).then(-pl.col("lowest_bps")).otherwise(pl.col("highest_bps")),
        favourable=pl.when(is_up).then(pl.col("highest_bps")).otherwise(-pl.col("lowest_bps")),
    ).sort(_ORDER)


def control_means(outcomes: pl.DataFrame, *, run: ResearchRun) -> dict[tuple[str, int, int], float]:
    """Average the matched controls on train, traded as `long` or `with_event`, whatever the condition.

    Args:
        outcomes: table event_outcomes.
        run: gives the families.

    Returns:
        (event_type, delay_bars, hold_bars) to the mean net of funding, before costs [bps of notional].

    Knows:
        outcomes of train.
    """
    controls = outcomes.filter(
        pl.col("control_no") > 0,
        pl.col("split") == Split.TRAIN,
        pl.col("delay_bars").is_in(run.entry_delays),
        pl.col("variant") == Variant.CENTRE,
        pl.col("event_type").is_in(list(run.event_types)),
    ).sort(*_ORDER, "control_no")
    signed = direction_of_event() * (pl.col("gross_bps") - pl.col("funding_bps"))
    means = controls.group_by("event_type", "delay_bars", "hold_bars", maintain_order=True).agg(mean=signed.mean())
    return {(family, delay, hold): mean for family, delay, hold, mean in means.iter_rows()}


def _refuse(rows: pl.DataFrame, what: str, run: ResearchRun) -> None:
    if rows.is_empty():
        return
    first = rows.sort("variant", "event_id").row(0, named=True)
    message = (
        f"table event_outcomes, run {run.run_id}: {rows.height} rows {what}, first {first['variant']} "
        f"{first['event_type']} {first['event_id']}; make events and outcomes again from the same data"
    )
    raise TableError(message)
