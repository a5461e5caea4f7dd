"""Simulated matched sets of one family: days that share a shock, metrics that hang together, an effect if one is asked for."""

import numpy as np

from backtest_assets.research.phase1.criteria import METRICS, PLACEBO_WEEKS, decide_family
from backtest_assets.research.phase1.evidence import FamilyNumbers, weigh_family
from backtest_assets.research.phase1.sets import MatchedSets

N_DAYS = 900
HOLDS = (4, 16, 48, 96)
N_DAY_METRICS = len(METRICS) - len(HOLDS)


COST_BPS = 12.0
"""Round trip of a run's default fees and slippage."""


def simulated_sets(
    rng: np.random.Generator,
    *,
    n_events: int = 200,
    strength: float = 0.0,
    at_hold: int = 16,
    cost_bps: float = COST_BPS,
) -> MatchedSets:
    """A family whose moves after events drift over `at_hold` bars, by an edge of a strength.

    Strength is that of the recipe: the planted mean net of costs over the day-clustered error of the events' own mean.

    Two events in five share their day with another of the other symbol, at a correlation of .5. Tails are fat. Moves grow
    with the hold and contain one another; volatility, range and tail hang together and are not touched by the drift.
    """
    days = np.sort(rng.choice(np.repeat(np.arange(N_DAYS), 2), n_events, replace=False)).astype(np.int64)
    symbols = rng.integers(0, 2, n_events)
    members = np.stack(
        [_members(rng, days if k == 0 else rng.permutation(N_DAYS)[:n_events] + N_DAYS) for k in range(4)], axis=1
    )
    moves = members[:, :, N_DAY_METRICS:]
    error = np.sqrt(_clustered_variance(moves[:, 0, HOLDS.index(at_hold)], days)) / n_events
    reach = np.minimum(np.array(HOLDS), at_hold) / at_hold
    moves[:, 0] += (strength * error + cost_bps * (strength > 0)) * reach
    young = rng.random(n_events) < 0.1
    members[young, 2:] = np.nan  # some have one control only
    return MatchedSets(members, days, 2020 + days // 365, symbols.astype(np.int64), rng.integers(0, 3, n_events))


def _members(rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
    n = days.size
    _, day_of = np.unique(days, return_inverse=True)
    size = np.exp(0.4 * rng.standard_normal(n))
    steps = np.sqrt(np.diff((0, *HOLDS)))[:, np.newaxis] * 20.0
    own, shared = rng.standard_t(4, (len(HOLDS), n)), rng.standard_t(4, (len(HOLDS), n))[:, day_of]
    moves = np.cumsum(steps * size * np.sqrt(0.5) * (own + shared) / np.sqrt(2.0), axis=0)
    calm = rng.standard_normal(n)
    vol = 20.0 * size * np.exp(0.2 * calm)
    tail = (np.abs(moves[-1]) > 180.0).astype(float)
    return np.stack([vol, 14.0 * vol * np.exp(0.2 * rng.standard_normal(n)), tail, *moves], axis=1)


def _clustered_variance(values: np.ndarray, days: np.ndarray) -> float:
    centred = values - values.mean()
    return float((np.bincount(days, weights=centred) ** 2).sum())


def decided(
    seed: int, *, n_events: int = 200, strength: float = 0.0, at_hold: int = 16, cost_bps: float = COST_BPS
) -> tuple[str, str, FamilyNumbers]:
    """Decision, reason and numbers of one simulated family; its placebos are as many events without an effect."""
    rng = np.random.default_rng(seed)
    sets = simulated_sets(rng, n_events=n_events, strength=strength, at_hold=at_hold, cost_bps=cost_bps)
    placebos = [simulated_sets(rng, n_events=n_events) for _ in PLACEBO_WEEKS]
    numbers = weigh_family(sets, placebos, np.random.default_rng([13, seed]))
    found = decide_family(numbers.of_metrics(), n_placebos=numbers.placebos.n)
    return found.decision.value, found.reason, numbers
