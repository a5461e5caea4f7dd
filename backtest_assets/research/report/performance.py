"""What the executed blueprints earned, split by split: sums of trades and the published metrics, laid side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from scipy.special import stdtrit

from backtest_assets.domain.clock import BAR_US
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError
from backtest_assets.research.report.inputs import Execution
from backtest_assets.research.report.row import Grid, Line, Row
from backtest_assets.research.report.verdict import Judgement
from backtest_assets.research.report.words import number_text
from backtest_assets.stats.clustered import accrual_t, day_matrix
from backtest_assets.tables.simulation import SIMULATION_LEDGER

PORTFOLIO: Final = "portfolio"
MIN_DAYS_FOR_INTERVAL: Final = 10
"""Days held below which no confidence interval is given; a t with fewer clusters is not to be believed."""

PARTS: Final = (
    ("gross_pnl", "Gross P&L"),
    ("fee", "Fees"),
    ("slippage", "Slippage"),
    ("funding_pnl", "Funding"),
    ("net_pnl", "Net P&L"),
)


def expectancy_grid(execution: Execution, judgement: Judgement, *, floors_bps: Mapping[str, float | None]) -> Grid:
    """Lay mean net result per trade of train, validation and test side by side.

    Args:
        execution: the frames of the execution.
        judgement: names the promoted and the executed blueprints.
        floors_bps: by executed blueprint, as `penalised_floors` gives them.

    Returns:
        One line per scope: the promoted together (if any), the portfolio of all executed, every executed blueprint.
        Expectancy [bps of notional per trade]; the floor is of single blueprints only; the test's 95 % interval has the
        days on which the trades were held as clusters, and is unknown below `MIN_DAYS_FOR_INTERVAL` of them or without
        scatter.

    Raises:
        RefusedError: if a test trade has no bar in the ledger.

    Knows:
        all trades, test included.
    """
    scopes = [
        *([("promoted", "Promoted together", judgement.promoted)] if judgement.promoted else []),
        (PORTFOLIO, "All executed together", judgement.executed),
        *((name, name, (name,)) for name in judgement.executed),
    ]
    booked = _book_test(execution)
    lines = tuple(
        Line(
            label,
            _expectancy_cells(scope, execution.trades, booked, ids, floors_bps),
            scope == "promoted" or scope in judgement.promoted,
        )
        for scope, label, ids in scopes
    )
    return Grid(
        ("", "Train", "Validation", "Test", "Test, 95 % from", "to", "Test trades", "Test net P&L", "Floor on train"),
        lines,
    )


def penalised_floors(blueprints: pl.DataFrame, hypotheses: pl.DataFrame) -> dict[str, float | None]:
    """Return by blueprint what is left of its hypothesis' train mean after the penalty for so many tries [bps].

    Args:
        blueprints: table `blueprints`.
        hypotheses: table `hypotheses`.

    Knows:
        train alone.
    """
    told = blueprints.select("blueprint_id", "hypothesis_id").join(
        hypotheses.select("hypothesis_id", "expectancy_after_multiplicity_bps"), on="hypothesis_id", how="left"
    )
    return dict(told.select("blueprint_id", "expectancy_after_multiplicity_bps").iter_rows())


def read_test(expectancy: Grid) -> Row | None:
    """Say whether the test window agrees with the promotion; None where nothing was promoted.

    Args:
        expectancy: what `expectancy_grid` gave.

    Returns:
        Passed only if the whole 95 % interval of the promoted's test expectancy lies above zero.

    Knows:
        all trades, test included.
    """
    found = {
        row.item.removeprefix("promoted/test/"): row
        for row in expectancy.rows()
        if row.item.startswith("promoted/test/")
    }
    if not found:
        return None
    mean, low, high = (found[name].observed for name in ("expectancy", "expectancy_low", "expectancy_high"))
    n = number_text(found["n_trades"].observed, "trades")
    if mean is None:
        return Row(
            "verdict", "test_reading", "The promoted blueprints made no trade in the test window: it says nothing."
        )
    earned = f"In the test window the promoted made {number_text(mean, 'bps')} per trade over {n} trades"
    if low is None or high is None:
        words = f"{earned}, on too few days, or with too little scatter, to tell an edge from luck."
    else:
        meaning = (
            "the test agrees"
            if low > 0
            else "the test contradicts the promotion"
            if high < 0
            else "the test alone cannot tell an edge from luck"
        )
        words = f"{earned} (95 % interval {number_text(low, 'bps')} to {number_text(high, 'bps')}): {meaning}."
    return Row(
        "verdict", "test_reading", words, mean, "bps per trade", ">", 0.0, low, is_passed=low is not None and low > 0
    )


def _expectancy_cells(
    scope: str, trades: pl.DataFrame, booked: pl.DataFrame, ids: Sequence[str], floors_bps: Mapping[str, float | None]
) -> tuple[Row | str, ...]:
    chosen = trades.filter(pl.col("blueprint_id").is_in(ids))
    means = {split: _mean_bps(chosen.filter(pl.col("split") == split)) for split in Split}
    test = chosen.filter(pl.col("split") == Split.TEST)
    low, high = _interval_bps(booked.filter(pl.col("blueprint_id").is_in(ids)))

    def row(item: str, value: float | None, unit: str) -> Row:
        return Row("expectancy", f"{scope}/{item}", observed=value, unit=unit)

    return (
        *(row(f"{split}/expectancy", means[split], "bps per trade") for split in Split),
        row("test/expectancy_low", low, "bps per trade"),
        row("test/expectancy_high", high, "bps per trade"),
        row("test/n_trades", test.height, "trades"),
        row("test/net_pnl", math.fsum(test["net_pnl"]), "fraction of equity"),
        row("train/floor", floors_bps[scope], "bps per trade") if scope in floors_bps else "",
    )


def _mean_bps(trades: pl.DataFrame) -> float | None:
    results = (trades["net_pnl"] / trades["exposure"] / BPS).to_list()
    return math.fsum(results) / len(results) if results else None


def _book_test(execution: Execution) -> pl.DataFrame:
    """Book the test's trades to the UTC days on which they were held: one row per bar.

    The bar of the exit is not held: what it books (a fill, a settlement) belongs to the bar before, as in the outcomes.
    """
    test = execution.trades.filter(pl.col("split") == Split.TEST)
    lost = test.join(execution.simulation_ledger, on="trade_id", how="anti")["trade_id"].sort()
    if not lost.is_empty():
        message = f"report: {lost.len()} test trades, {lost[0]} first, have no bar in simulation_ledger; rebuild trades"
        raise RefusedError(message)
    last_held = pl.max_horizontal("entered_at", pl.col("exited_at") - pl.duration(microseconds=BAR_US))
    is_held = pl.col("open_at") <= last_held
    return (
        execution.simulation_ledger.select(*SIMULATION_LEDGER.key, "trade_id", "net_pnl")
        .join(test.select("trade_id", "entered_at", "exited_at", "exposure"), on="trade_id", how="inner")
        .sort(SIMULATION_LEDGER.key)
        .select(
            "blueprint_id",
            day=pl.min_horizontal("open_at", last_held).dt.date().rank("dense").cast(pl.Int64) - 1,
            bps=pl.col("net_pnl") / pl.col("exposure") / BPS,
            share=is_held / is_held.sum().over("trade_id"),
        )
    )


def _interval_bps(booked: pl.DataFrame) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the mean net result per trade."""
    if booked.is_empty():
        return None, None
    days = booked["day"].to_numpy()
    one, n_days = np.zeros_like(days), int(days.max()) + 1
    sums, shares = (
        day_matrix(one, days, booked[name].to_numpy(), n_hypotheses=1, n_days=n_days) for name in ("bps", "share")
    )
    told = accrual_t(sums, shares)
    mean, error, n_held = float(told.mean[0]), float(told.standard_error[0]), int(told.n_days[0])
    if n_held < MIN_DAYS_FOR_INTERVAL or math.isnan(error):
        return None, None
    half = float(stdtrit(n_held - 1, 0.975)) * error
    return mean - half, mean + half


def costs_grid(execution: Execution) -> Grid:
    """Split the net P&L of all executed blueprints into what it is made of.

    Returns:
        One line per part, one column per split and their total [fraction of equity, sums of the trades].

    Knows:
        all trades, test included.
    """
    splits = ("train", "validation", "test", "purged", "total")
    sums = {split: part_sums(execution, split) for split in splits}
    lines = tuple(
        Line(
            label,
            tuple(
                Row("costs", f"{split}/{name}", observed=sums[split][name], unit="fraction of equity")
                for split in splits
            ),
            is_marked=name == "net_pnl",
        )
        for name, label in PARTS
    )
    return Grid(("", *(split.capitalize() for split in splits)), lines)


def part_sums(execution: Execution, split: str) -> Mapping[str, float]:
    """Sum what net P&L is made of over one split or in `total`; costs count negative.

    Returns:
        The parts by column name [fraction of equity], exactly rounded, so that neither order nor threads change them.

    Knows:
        all trades, test included.
    """
    own = execution.trades.filter((pl.col("split") == split) | (split == "total"))
    return {name: (-1.0 if name in {"fee", "slippage"} else 1.0) * math.fsum(own[name]) + 0.0 for name, _ in PARTS}


def equity_frame(execution: Execution) -> pl.DataFrame:
    """Return equity and drawdown of all executed blueprints together, compounded bar by bar; ruin is for good.

    Returns:
        One row per bar with exposure: `open_at`, `net_pnl` [fraction of equity], `equity` [1 at the start],
        `drawdown` [fraction, <= 0].

    Knows:
        the whole ledger, test included.
    """
    ledger = execution.simulation_ledger.sort(SIMULATION_LEDGER.key)
    bars = ledger.group_by("open_at", maintain_order=True).agg(pl.col("net_pnl").sum())
    growth = pl.max_horizontal(1.0 + pl.col("net_pnl"), 0.0)
    equity = bars.with_columns(growth.cum_prod().alias("equity"))
    peak = pl.max_horizontal(pl.col("equity").cum_max(), pl.lit(1.0))
    return equity.with_columns((pl.col("equity") / peak - 1.0).alias("drawdown"))


def equity_rows(equity: pl.DataFrame) -> tuple[Row, ...]:
    """Return where equity ended and how far it fell, over the whole run.

    Knows:
        the whole ledger, test included.
    """
    last, lowest = equity.select(pl.col("equity").last(), pl.col("drawdown").min()).row(0)
    return (
        Row("performance", "equity/ending_equity", "1 is the start.", last, "times the start"),
        Row("performance", "equity/max_drawdown", "From the highest equity before.", lowest, "fraction"),
    )
