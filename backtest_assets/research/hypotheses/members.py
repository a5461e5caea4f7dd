"""The trades of each hypothesis, one by one. Keep means, tests and limits out."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from backtest_assets.domain.event import SideRule, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.trades import asked_events, priced_trades, run_conditions

RULE: Final = ("event_type", "condition", "side_rule", "delay_bars", "hold_bars")
"""What says which trades a hypothesis makes."""


@dataclass(frozen=True, slots=True)
class Members:
    """Who trades what.

    Attributes:
        trades: frame of `priced_trades`, the centre's only, with `trade`, its row number.
        of: one row per hypothesis and trade, by both: `hypothesis_id`, `sign` (-1 for a mirrored rule), `trade`.
        cost_bps: cost of a round trip [bps of notional].
    """

    trades: pl.DataFrame
    of: pl.DataFrame
    cost_bps: float

    def joined(self, *columns: str) -> pl.DataFrame:
        """Return every hypothesis' trades in the order in which they became known.

        Args:
            columns: columns of `trades` to carry along.

        Returns:
            `hypothesis_id`, `sign`, `trade`, `known_at`, `symbol`, `split`; `net` (after costs and funding) and `excess`
            (minus drift too) of the hypothesis' own side [bps of notional]; and `columns`.

        Knows:
            outcomes of train and validation.
        """
        carried = self.trades.select("trade", "known_at", "symbol", "split", "pnl", "drift", *columns)
        net = pl.col("sign") * pl.col("pnl") - self.cost_bps
        return (
            self.of.join(carried, on="trade", how="inner")
            .with_columns(net=net, excess=net - pl.col("sign") * pl.col("drift"))
            .drop("pnl", "drift")
            .sort("hypothesis_id", "known_at", "symbol", "trade")
        )


def members_of(
    hypotheses: pl.DataFrame,
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    drift: pl.DataFrame | None = None,
    *,
    run: ResearchRun,
) -> Members:
    """Find the trades of hypotheses, at their own delay and hold.

    Args:
        hypotheses: rows of table hypotheses.
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        drift: frame of `train_drift`; None where nothing is judged against it: then it counts as 0.
        run: gives families, symbols and costs.

    Returns:
        The trades on train and validation, and who makes them.

    Raises:
        TableError: if outcomes and events do not belong together (see `trades`).

    Knows:
        outcomes of train and validation.
    """
    names = run_conditions(run)
    asked = asked_events(events, context, run=run).filter(pl.col("variant") == Variant.CENTRE)
    wanted = hypotheses.select("delay_bars", "hold_bars").unique()
    single = outcomes.filter(pl.col("variant") == Variant.CENTRE, pl.col("control_no") == 0)
    still = pl.DataFrame({"symbol": run.symbol_list, "drift_bps": [0.0] * len(run.symbol_list)})
    trades = priced_trades(
        single.join(wanted, on=["delay_bars", "hold_bars"], how="semi"),
        asked,
        still if drift is None else drift,
        run=run,
    ).with_row_index("trade")
    holds = (
        asked.unpivot(on=names, index=["event_id", "event_type"], variable_name="condition")
        .filter(pl.col("value"))
        .drop("value")
    )
    mirrored = pl.col("side_rule").is_in([SideRule.SHORT, SideRule.AGAINST_EVENT])
    rules = hypotheses.select("hypothesis_id", *RULE, sign=pl.when(mirrored).then(-1).otherwise(1))
    of = (
        holds.join(rules, on=["event_type", "condition"], how="inner")
        .join(
            trades.select("trade", "event_id", "delay_bars", "hold_bars"),
            on=["event_id", "delay_bars", "hold_bars"],
            how="inner",
        )
        .select("hypothesis_id", "sign", "trade")
        .sort("hypothesis_id", "trade")
    )
    return Members(trades.drop(names), of, run.cost.round_trip_bps)
