"""Limits of a blueprint, once, with unit and reason; applying them stays out."""

from typing import Final

from backtest_assets.research.hypotheses.criteria import MAX_COST_RATIO

MIN_ROBUSTNESS: Final = 0.60
"""Least delay robustness score (R65): below, the edge needs an entry on time."""

MIN_RUN_EVENTS: Final = 100
"""Least events over the run window (R65) [events]; a count, nothing else of test is seen."""

QUALITY_FLOOR: Final = {
    "delay_robustness_score": (">=", MIN_ROBUSTNESS),
    "n_run": (">=", float(MIN_RUN_EVENTS)),
    "net_mean_train_bps": (">", 0.0),
    "stressed_mean_train_bps": (">", 0.0),
    "cost_ratio_train": ("<", MAX_COST_RATIO),
}
"""Numbers of a hypothesis, all of which must be known and keep their limit (R65)."""

MIN_EXIT_FRAC: Final = 0.0005
"""Nearest stop and target [fraction of entry]: five basis points, less than the costs of the exit."""

MAX_STOP_FRAC: Final = 0.5
"""Farthest stop [fraction of entry]: a position that lost half is not waiting for its time exit."""

MAX_EXPOSURE: Final = 1.0
"""Largest exposure to one symbol and in all [fraction of equity]: nothing is borrowed."""

EXIT_QUANTILES: Final = (0.95, 0.975, 0.99, 1.0)
"""Quantiles of the train excursions at which stop and target are tried, nearest first: the first that keeps the edge."""

BEYOND: Final = 1.01
"""Factor on the largest excursion, so that the last try is touched by no train event."""

MAX_EDGE_LOSS: Final = 0.05
"""Share of the train net mean that stop, target and guards together may cost: they guard the tested time exit, they do
not replace it."""

BREAK_EVEN_R: Final = 1.0
"""The one break-even that is tried [stop distances]."""

TRAIL_OF_STOP: Final = 0.75
"""The one trailing distance that is tried [stop distances]."""

TAIL: Final = 0.05
"""Share of the worst trades whose mean a break-even or trailing stop must raise, at no loss of the mean."""

MIN_GUARDED_SHARE: Final = 0.95
"""Least share of the train entries that a guard lets pass: the hypothesis was tested without it."""

THROTTLES: Final = ((0.60, 0.25), (0.80, 0.50))
"""Robustness below which a position is scaled down, and to what share."""

MIN_DRY_ENTRIES: Final = 1
"""Positions a blueprint must open alone on train [entries]: one that never enters was never tested."""

LEAST_TRADES, MOST_TRADES = 10, 200
"""Bounds of the trades a promotion needs of a blueprint: half of what it did alone on train [trades]."""
