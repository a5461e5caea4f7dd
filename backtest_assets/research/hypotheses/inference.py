"""What the means are worth: day-clustered t, the shared bootstrap, and the p-values of all tested hypotheses together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backtest_assets.research.hypotheses.days import DaySums
from backtest_assets.research.hypotheses.rules import HypothesisRule
from backtest_assets.stats.bootstrap import wild_day_bootstrap
from backtest_assets.stats.clustered import ClusteredMean, accrual_t
from backtest_assets.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, luckiest_null, romano_wolf
from backtest_assets.stats.shrinkage import shrink_means


@dataclass(frozen=True, slots=True)
class Joint:
    """The tested hypotheses of a run, judged together.

    Attributes:
        clustered: day-clustered means of the excess.
        p_rw: (n_hypotheses,) Romano-Wolf adjusted p; 1 if unknown, as the others.
        p_bh: (n_hypotheses,) Benjamini-Hochberg adjusted p.
        p_by: (n_hypotheses,) Benjamini-Yekutieli adjusted p.
        luckiest: mean over draws of the largest t of all hypotheses without an edge [standard errors].
        shrunken: (n_hypotheses,) mean excess after costs, shrunk towards no effect but the cost [bps]; NaN if unknown.
    """

    clustered: ClusteredMean
    p_rw: NDArray[np.float64]
    p_bh: NDArray[np.float64]
    p_by: NDArray[np.float64]
    luckiest: float
    shrunken: NDArray[np.float64]


def clustered_means(rules: Sequence[HypothesisRule], sums: DaySums, *, cost_bps: float) -> ClusteredMean:
    """Test each rule's excess over costs and drift against 0 on one split.

    Args:
        rules: hypotheses in the order of the result.
        sums: day sums of the split.
        cost_bps: cost of a round trip [bps of notional], booked by share of the hold.

    Returns:
        Means, errors, t and one-sided p, one per rule.

    Knows:
        outcomes of the split.
    """
    return accrual_t(day_gains(rules, sums, cost_bps=cost_bps), sums.shares[_rows(rules, sums)])


def day_gains(rules: Sequence[HypothesisRule], sums: DaySums, *, cost_bps: float) -> NDArray[np.float64]:
    """Return what each rule earned over costs and drift on each day of one split.

    Args:
        rules: hypotheses in the order of the result.
        sums: day sums of the split.
        cost_bps: cost of a round trip [bps of notional], booked by share of the hold.

    Returns:
        (n_rules, n_days) [bps of notional], 0 on days without a hold.

    Knows:
        outcomes of the split.
    """
    rows = _rows(rules, sums)
    return _signs(rules)[:, np.newaxis] * sums.sums[rows] - cost_bps * sums.shares[rows]


def judge_together(
    rules: Sequence[HypothesisRule], sums: DaySums, rng: np.random.Generator, *, cost_bps: float
) -> Joint:
    """Test all rules on train and adjust their p-values for one another.

    Args:
        rules: the eligible hypotheses of the run, at least one.
        sums: day sums of train.
        rng: source of the bootstrap's signs.
        cost_bps: cost of a round trip [bps of notional].

    Returns:
        Means and adjusted p-values, one per rule. A rule and its mirror image share their draws with opposite sign.

    Knows:
        outcomes of train.
    """
    clustered = clustered_means(rules, sums, cost_bps=cost_bps)
    drawn = _Drawn.of(rules, sums, rng)
    unsigned, t_star = drawn.unsigned, drawn.t_star
    shrunken = shrink_means(unsigned.mean, unsigned.standard_error, unsigned.n_days).mean
    return Joint(
        clustered,
        romano_wolf(clustered.t, t_star, n_days=sums.sums.shape[1]),
        benjamini_hochberg(clustered.p),
        benjamini_yekutieli(clustered.p),
        luckiest_null(t_star),
        shrunken[drawn.column_of] * _signs(rules) - cost_bps,
    )


def draw_luckiest(rules: Sequence[HypothesisRule], sums: DaySums, rng: np.random.Generator) -> float:
    """Draw what the luckiest of all rules shows without any edge, and nothing else of `judge_together`.

    Args:
        rules: the eligible hypotheses of the run, at least one.
        sums: day sums of train.
        rng: source of the bootstrap's signs; in the state that `judge_together` got it, the number is the same.

    Returns:
        Mean over draws of the largest t [standard errors]; NaN if none is known.

    Knows:
        outcomes of train.
    """
    return luckiest_null(_Drawn.of(rules, sums, rng).t_star)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What rules and their mirror images share, before costs, and the t of every rule without any edge.

    Attributes:
        unsigned: means of the distinct rows of the day sums.
        column_of: (n_rules,) which of them is each rule's.
        t_star: (n_draws, n_rules) drawn once per row, mirrored for the other side.
    """

    unsigned: ClusteredMean
    column_of: NDArray[np.int64]
    t_star: NDArray[np.float64]

    @classmethod
    def of(cls, rules: Sequence[HypothesisRule], sums: DaySums, rng: np.random.Generator) -> "_Drawn":
        rows, column_of = np.unique(_rows(rules, sums), return_inverse=True)
        unsigned = accrual_t(sums.sums[rows], sums.shares[rows])
        draws = wild_day_bootstrap(unsigned.residuals.T, sums.shares[rows].T, rng)
        return cls(unsigned, column_of, draws[:, column_of] * _signs(rules))


def _rows(rules: Sequence[HypothesisRule], sums: DaySums) -> NDArray[np.int64]:
    return np.array([sums.row_of[rule.base] for rule in rules], dtype=np.int64)


def _signs(rules: Sequence[HypothesisRule]) -> NDArray[np.float64]:
    return np.array([rule.sign for rule in rules], dtype=np.float64)
