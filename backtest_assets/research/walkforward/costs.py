"""What the costs of a slice do to it: booked parts, and the same trades at other costs (D12, D15).

The whole cost model is multiplied, fees and slippage of every fill as the ledger booked them; funding is no cost and stays.
"""

from collections.abc import Mapping
from typing import Final

from backtest_assets.domain.cost import BPS
from backtest_assets.research.walkforward.metric import EQUITY, Metric

COST_MULTIPLES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Multiples of the run's costs at which net P&L is shown [1]; 1 is the headline."""

BOOKED: Final = {
    "gross": "gross_pnl",
    "fees": "fee",
    "slippage": "slippage",
    "funding": "funding_pnl",
    "net": "net_pnl",
}
"""Metric that sums a column of the ledger."""


def cost_metrics(sums: Mapping[str, float], *, turnover: float, n_rows: int, n_trades: int) -> list[Metric]:
    """Measure the booked sums, net P&L at multiples of the costs, and the cost at which nothing is left.

    Args:
        sums: by metric of `BOOKED`, the sum of its column [fraction of equity].
        turnover: notional traded, entries and exits [times equity].
        n_rows: ledger rows summed.
        n_trades: trades.

    Returns:
        The metrics. `break_even_bps` is the cost of a fill, fees and slippage together, at which the same trades end at 0; null
        where gross P&L and funding earn nothing before any cost, for then no cost does.

    Knows:
        the sums given.
    """
    cost, earned = sums["fees"] + sums["slippage"], sums["gross"] + sums["funding"]
    return [
        *(Metric(name, sums[name], EQUITY, n_rows) for name in BOOKED),
        *(Metric(f"net_at_{m:g}x_costs", earned - m * cost, EQUITY, n_rows) for m in COST_MULTIPLES),
        Metric("break_even_bps", earned / turnover / BPS if earned > 0 else None, "bps per fill", n_trades),
        Metric("turnover", turnover, "times equity", n_trades),
    ]
