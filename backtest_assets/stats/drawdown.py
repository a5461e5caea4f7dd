"""How losses hang together: drawdowns of an equity curve, runs of losing days.

Daily P&L is on unit capital [fraction of capital per day]. Keep limits and minimum counts out (`gates/`).
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, complete_series

_ROUNDING = 1e-9
"""Slack of a product of a count and a fraction, so that 10 % of 30 is 3, not 4."""


@dataclass(frozen=True, slots=True)
class LossClusters:
    """Runs of consecutive losing days.

    Attributes:
        n: number of runs.
        longest_days: length of the longest run; 0 without a loss [days].
        concentration: loss in the largest runs over the loss in all, in [0, 1]; 0 without a loss. With few runs it is high
            by construction: ask for a minimum `n` before judging it.
    """

    n: int
    longest_days: int
    concentration: float


def max_drawdown(equity: FloatArray) -> float:
    """Find the deepest fall from a running maximum.

    Args:
        equity: (n_observations,) above 0 at the start and never negative, starting capital included.

    Returns:
        The smallest equity / running maximum - 1, in [-1, 0]; NaN for an empty series.

    Raises:
        ValueError: if it is not 1-D, holds NaN or an infinity, starts at 0 or below, or turns negative.

    Source:
        Definition.
    """
    curve = complete_series(equity, "equity")
    if curve.size == 0:
        return math.nan
    if curve[0] <= 0 or bool((curve < 0).any()):
        message = "equity must start above 0 and never be negative; a ruined account stays at 0"
        raise ValueError(message)
    return float((curve / np.maximum.accumulate(curve) - 1.0).min())


def loss_clusters(daily_pnl: FloatArray, *, top_frac: float) -> LossClusters:
    """Count the runs of consecutive days with a loss; a day at 0 or above ends a run.

    Args:
        daily_pnl: (n_days,) in day order, every calendar day or every trading day: a day left out ends no run
            [fraction of capital].
        top_frac: share of the runs that count as the largest, in (0, 1]; at least one run does.

    Returns:
        Number, longest length and concentration; zeros without a loss.

    Raises:
        ValueError: if the series is not 1-D, holds NaN or an infinity, or `top_frac` is outside (0, 1].

    Source:
        reference_3 section 4.4, on days instead of bars (D34).
    """
    pnl = complete_series(daily_pnl, "daily_pnl")
    if not 0.0 < top_frac <= 1.0:
        message = f"top_frac is {top_frac}; give a share in (0, 1]"
        raise ValueError(message)
    is_loss = np.concatenate(([False], pnl < 0, [False]))
    edges = np.flatnonzero(is_loss[1:] != is_loss[:-1])
    starts, ends = edges[::2], edges[1::2]
    if starts.size == 0:
        return LossClusters(0, 0, 0.0)
    losses = np.sort(np.add.reduceat(np.where(pnl < 0, -pnl, 0.0), starts))[::-1]
    n_top = max(1, math.ceil(losses.size * top_frac - _ROUNDING))
    return LossClusters(losses.size, int((ends - starts).max()), float(losses[:n_top].sum() / losses.sum()))


def tail_conditional_drawdown(daily_pnl: FloatArray, *, q: float) -> float:
    """Average the drawdown over the worst days of the compounded equity of unit capital.

    Args:
        daily_pnl: (n_days,) in day order, every calendar day [fraction of capital].
        q: tail in (0, 1), the share of the days that are worst.

    Returns:
        The mean of the drawdowns at or below their q-quantile, in [-1, 0]; NaN without a day. The running maximum starts
        at the capital of 1, so a loss on the first day counts; a loss of all capital or more is -1 from then on.

    Raises:
        ValueError: if the series is not 1-D, holds NaN or an infinity, or `q` is outside (0, 1).

    Source:
        reference_3 section 4.4, on compounded daily P&L of unit capital (D34).
    """
    pnl = complete_series(daily_pnl, "daily_pnl")
    if not 0.0 < q < 1.0:
        message = f"q is {q}; give a share in (0, 1)"
        raise ValueError(message)
    if pnl.size == 0:
        return math.nan
    equity = np.cumprod(np.maximum(1.0 + pnl, 0.0))
    drawdowns = equity / np.maximum(np.maximum.accumulate(equity), 1.0) - 1.0
    return float(drawdowns[drawdowns <= np.quantile(drawdowns, q)].mean())
