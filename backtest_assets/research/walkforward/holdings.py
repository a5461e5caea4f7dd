"""Where a slice's exposure was and where its P&L came from, by side and by symbol.

Exposure is what is held out of a bar, at its close, as the caps are; averages are over every bar of the window. A trade that is
entered and left within one bar is never held at a close.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from backtest_assets.research.walkforward.metric import EQUITY, Metric


def holding_metrics(
    ledger: pl.DataFrame, trades: pl.DataFrame, bars: pl.DataFrame, *, symbols: Sequence[str], n_bars: int
) -> list[Metric]:
    """Decompose exposure and net P&L.

    Args:
        ledger: rows of table simulation_ledger.
        trades: rows of table trades, the same trades.
        bars: the ledger by bar: `gross_exposure`.
        symbols: all symbols of the run; one that was never traded has zeros.
        n_bars: bars of the window.

    Returns:
        The metrics [fraction of equity]. Long and short, and the symbols, each sum to gross exposure and to net P&L; long
        less short is net exposure.

    Knows:
        the rows given.
    """
    held = ledger["exposure_after"].to_numpy()
    long, short = np.maximum(held, 0.0).sum() / n_bars, np.maximum(-held, 0.0).sum() / n_bars
    net, side = trades["net_pnl"].to_numpy(), trades["side"].to_numpy()
    exposure = pl.col("exposure_after")
    # in order, so that sums of floats are the same whatever the number of threads
    by_symbol = {
        symbol: (gross / n_bars, signed / n_bars)
        for symbol, gross, signed in ledger.group_by("symbol", maintain_order=True)
        .agg(exposure.abs().sum().alias("gross"), exposure.sum().alias("signed"))
        .iter_rows()
    }
    earned = dict(trades.group_by("symbol", maintain_order=True).agg(pl.col("net_pnl").sum()).iter_rows())
    largest = bars["gross_exposure"].max()
    n, n_rows = trades.height, ledger.height
    return [
        Metric("gross_exposure_mean", float(long + short), EQUITY, n_rows),
        Metric("net_exposure_mean", float(long - short), EQUITY, n_rows),
        Metric("gross_exposure_max", float(largest) if isinstance(largest, float) else 0.0, EQUITY, bars.height),
        Metric("long_exposure_mean", float(long), EQUITY, n_rows),
        Metric("short_exposure_mean", float(short), EQUITY, n_rows),
        Metric("net_long", float(net[side > 0].sum()), EQUITY, n),
        Metric("net_short", float(net[side < 0].sum()), EQUITY, n),
        *(Metric(f"net_of_{symbol}", earned.get(symbol, 0.0), EQUITY, n) for symbol in symbols),
        *(
            Metric(f"{kind}_exposure_mean_of_{symbol}", by_symbol.get(symbol, (0.0, 0.0))[place], EQUITY, n_rows)
            for place, kind in enumerate(("gross", "net"))
            for symbol in symbols
        ),
    ]
