"""Every hypothesis of a run counted and tested once more, in plain numpy; what a gate makes of it stays out.

The signs of the bootstrap are drawn from the one seed, so that adjusted p-values are the same draws counted by another
road: nothing is left to Monte Carlo error behind which a forged p could hide.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from scipy import stats

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import HOLD_GRID_BARS, SEED, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.gates.booked import TRAIN, VALIDATION, Booked, Trades, day_of, first_day, sign_of, train_returns
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.queue import cells_asked
from backtest_assets.research.hypotheses.criteria import ELIGIBILITY, EXCURSION_QUANTILE
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.bootstrap import N_DRAWS

Base: TypeAlias = tuple[str, str, int, int]
"""event_type, condition, delay_bars, hold_bars."""

_AT_ONCE: Final = 250
"""Draws counted at once [draws]; changes memory, no number."""

_LEAST_SCATTER: Final = 1e-12
"""A standard error below this share of its mean is rounding."""

_LEAST_VARIANCE: Final = 1e-9
"""A variance of a draw below this share of the data's own is rounding."""


@dataclass(frozen=True, slots=True)
class Clustered:
    """Means with days as clusters, one per row of day sums; NaN where unknown."""

    mean: FloatArray
    error: FloatArray
    n_days: IntArray
    residuals: FloatArray
    shares: FloatArray

    @classmethod
    def of(cls, sums: FloatArray, shares: FloatArray) -> "Clustered":
        """Test (n_rows, n_days) of P&L against shares of holds."""
        with np.errstate(invalid="ignore", divide="ignore"):
            n_days, n = (shares > 0).sum(axis=1), shares.sum(axis=1)
            mean = sums.sum(axis=1) / n
            residuals = sums - mean[:, None] * shares
            error = np.sqrt(np.einsum("ij,ij->i", residuals, residuals) * n_days / (n_days - 1.0)) / n
            known = (n_days > 1) & (error > _LEAST_SCATTER * np.abs(mean))
        return cls(mean, np.where(known, error, np.nan), n_days.astype(np.int64), residuals, shares)

    def t(self, sign: float, cost_bps: float) -> FloatArray:
        """Return t of the mean of one side after costs."""
        return (sign * self.mean - cost_bps) / self.error

    def p(self, sign: float, cost_bps: float) -> FloatArray:
        """Return the one-sided p of the same."""
        return np.asarray(stats.t.sf(self.t(sign, cost_bps), np.maximum(self.n_days - 1, 1)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one base comes to on train and validation."""

    base: Base
    counts: Mapping[str, int]
    means: Mapping[str, float]
    is_tested: bool
    train: tuple[FloatArray, FloatArray]
    validation: tuple[FloatArray, FloatArray]


def retest(evidence: Evidence) -> Mapping[tuple[str, str, str, int, int], Mapping[str, float]]:
    """Return the counts of every declared hypothesis, and all numbers of those that are tested.

    Args:
        evidence: of table hypotheses, with its inputs.

    Returns:
        By family, condition, side rule, delay and hold: what each column should say; NaN where it is unknown.
    """
    run = evidence.settings
    booked = Booked.of(evidence, train_returns(evidence.inputs["bars_um"], run))
    cells = list(_cells(booked, _asked(evidence)))
    tested = [cell for cell in cells if cell.is_tested]
    told = {
        (*cell.base[:2], rule.value, *cell.base[2:]): {**cell.counts, "is_eligible": float(cell.is_tested)}
        for cell in cells
        for rule in _sides(cell.base[0])
    }
    for key, numbers in _tests(tested, run) if tested else ():
        told[key] = {**told[key], **numbers}
    for row in evidence.frame.filter(pl.col("gate_multiplicity").fill_null(value=True)).to_dicts():
        key = (row["event_type"], row["condition"], row["side_rule"], row["delay_bars"], row["hold_bars"])
        if key in told:
            told[key] = {**told[key], **_of_trades(row, booked)}
    return told


def _asked(evidence: Evidence) -> set[tuple[str, str, int]] | None:
    """Return what the queue asks for of all families, those that are not enumerated too; None if it is not obeyed."""
    run = evidence.settings
    if not run.obeys_queue:
        return None
    return set(cells_asked(evidence.inputs["hypothesis_queue"], replace(run, phase2_event_type="all")))


def _sides(family: str) -> tuple[SideRule, SideRule]:
    if EventType(family).is_sided:
        return SideRule.WITH_EVENT, SideRule.AGAINST_EVENT
    return SideRule.LONG, SideRule.SHORT


def _cells(booked: Booked, asked: set[tuple[str, str, int]] | None) -> Iterator[_Cell]:
    run = booked.run
    for family, conditions in booked.conditions.items():
        n_run = booked.holds[family] @ booked.in_window[family].astype(np.int64)
        for delay in sorted({int(text) for text in run.phase2_entry_delays_bars.split(",")}):
            for hold in HOLD_GRID_BARS:
                trades = booked.trades.get((family, delay, hold))
                holds = booked.holds[family][:, trades.event] if trades else np.zeros((len(conditions), 0), np.bool_)
                sides = [_measured(trades, holds, split, run) for split in (Split.TRAIN, Split.VALIDATION)]
                for number, name in enumerate(conditions):
                    if asked is not None and (family, name, hold) not in asked:
                        continue
                    (train, means), (validation, later) = sides
                    counts = {
                        "condition_place": number + 1,
                        "n_run": int(n_run[number]),
                        "n_train": int(means["n"][number]),
                        "n_validation": int(later["n"][number]),
                        "n_days_train": int(means["n_days"][number]),
                        "n_days_validation": int(later["n_days"][number]),
                    }
                    enough = all(counts[count] >= least for count, least in ELIGIBILITY.items())
                    yield _Cell(
                        (family, name, delay, hold),
                        counts,
                        {
                            "gross_train": float(means["gross"][number]),
                            "pnl_train": float(means["pnl"][number]),
                            "pnl_validation": float(later["pnl"][number]),
                        },
                        enough and number < run.phase2_max_conditions,
                        (train[0][number], train[1][number]),
                        (validation[0][number], validation[1][number]),
                    )


def _measured(
    trades: Trades | None, holds: BoolArray, split: Split, run: ResearchRun
) -> tuple[tuple[FloatArray, FloatArray], Mapping[str, FloatArray]]:
    """Return day sums and shares of every condition on a split, and its trades' means."""
    size = (len(holds), run.splits[split].n_days)
    if trades is None:
        nothing = np.full(len(holds), np.nan)
        none = np.zeros(len(holds))
        return (np.zeros(size), np.zeros(size)), {"n": none, "n_days": none, "gross": nothing, "pnl": nothing}
    own = trades.split == (TRAIN if split is Split.TRAIN else VALIDATION)
    mine = holds[:, own].astype(np.float64)
    n = mine.sum(axis=1)
    with np.errstate(invalid="ignore"):
        means = {
            "n": n,
            "n_days": _entry_days(trades.entered_us[own], mine),
            "gross": mine @ trades.gross[own] / n,
            "pnl": mine @ trades.pnl[own] / n,
        }
    return day_sums(trades, holds, own, first_day=first_day(run, split), n_days=size[1]), means


def _entry_days(entered_us: IntArray, mine: FloatArray) -> FloatArray:
    """Count the days on which each condition's trades were entered."""
    _, day = np.unique(day_of(entered_us), return_inverse=True)
    on_day = np.zeros((entered_us.size, int(day.max(initial=-1)) + 1))
    on_day[np.arange(entered_us.size), day] = 1.0
    return (mine @ on_day > 0).sum(axis=1).astype(np.float64)


def day_sums(
    trades: Trades, holds: BoolArray, own: BoolArray, *, first_day: int, n_days: int
) -> tuple[FloatArray, FloatArray]:
    """Add up P&L net of drift, and shares, by group and day.

    Args:
        trades: of one cell.
        holds: (n_groups, n_trades), whether a trade is of the group.
        own: (n_trades,), which of them count at all.
        first_day: day 0, since 1970 [days].
        n_days: days of the split.

    Returns:
        Two arrays (n_groups, n_days), before costs, in the direction of `long` or `with_event`.

    Raises:
        ValueError: if a trade accrues outside the split.
    """
    at, number = trades.days_of(own)
    day = trades.day[at] - first_day
    if day.size and not (day.min() >= 0 and day.max() < n_days):
        message = "a trade accrues outside its split; measure the outcomes again"
        raise ValueError(message)
    group, entry = np.nonzero(holds[:, own][:, number])
    flat = group * n_days + day[entry]
    size = len(holds) * n_days
    added = [
        np.bincount(flat, weights=values[at][entry], minlength=size).astype(np.float64).reshape(len(holds), n_days)
        for values in (trades.day_pnl, trades.day_share)
    ]
    return added[0], added[1]


def _of_trades(row: Mapping[str, Any], booked: Booked) -> Mapping[str, float]:
    """Return what single trades of a survivor say: its effective sample and its excursions."""
    found = booked.chosen(row)
    if found is None:
        return {"ess_train": math.nan}
    trades, own = found
    own &= trades.split == TRAIN
    excursions = [float(np.quantile(moves[own], EXCURSION_QUANTILE)) for moves in (trades.adverse, trades.favourable)]
    if sign_of(row) < 0:
        excursions.reverse()
    return {
        "ess_train": _independent((trades.pnl - trades.drift)[own], booked.run.phase2_ess_max_lag),
        "adverse_q95_train_bps": excursions[0],
        "favourable_q95_train_bps": excursions[1],
    }


def _independent(series: FloatArray, max_lag: int) -> float:
    """Count the independent observations that a series is worth: pairs of autocorrelations while their sum is positive."""
    n, centred = series.size, series - series.mean()
    lags, variance = range(1, min(max_lag, n // 10) + 1), float(np.dot(centred, centred))
    rho = [1.0, *(float(np.dot(centred[lag:], centred[:-lag])) / variance for lag in lags)]
    total = 0.0
    for place in range(0, len(rho), 2):
        pair = math.fsum(rho[place : place + 2])
        if pair <= 0:
            break
        total += pair
    return n / max(2.0 * total - 1.0, 1.0)


def _tests(
    tested: Sequence[_Cell], run: ResearchRun
) -> Iterator[tuple[tuple[str, str, str, int, int], Mapping[str, float]]]:
    cost, k = 2.0 * (run.fees_bps + run.slippage_bps), run.phase2_multiplicity_k
    train = Clustered.of(np.stack([cell.train[0] for cell in tested]), np.stack([cell.train[1] for cell in tested]))
    later = Clustered.of(
        np.stack([cell.validation[0] for cell in tested]), np.stack([cell.validation[1] for cell in tested])
    )
    t, p = (np.concatenate([ask(1.0, cost), ask(-1.0, cost)]) for ask in (train.t, train.p))
    t_later, p_later = (np.concatenate([ask(1.0, cost), ask(-1.0, cost)]) for ask in (later.t, later.p))
    p_rw, luckiest = _stepped_down(t, train)
    p_bh, p_by = _false_discovery(p)
    for number, cell in enumerate(tested):
        for place, (rule, sign) in enumerate(zip(_sides(cell.base[0]), (1.0, -1.0), strict=True)):
            at = place * len(tested) + number
            error = float(train.error[number])
            yield (
                (*cell.base[:2], rule.value, *cell.base[2:]),
                {
                    "gross_mean_train_bps": sign * cell.means["gross_train"],
                    "net_mean_train_bps": sign * cell.means["pnl_train"] - cost,
                    "net_mean_validation_bps": sign * cell.means["pnl_validation"] - cost,
                    "excess_mean_train_bps": sign * float(train.mean[number]) - cost,
                    "se_train_bps": error,
                    "t_train": float(t[at]),
                    "p_train": float(p[at]),
                    "p_rw": float(p_rw[at]),
                    "p_bh": float(p_bh[at]),
                    "p_by": float(p_by[at]),
                    "multiplicity_penalty_bps": k * error * luckiest,
                    "excess_mean_validation_bps": sign * float(later.mean[number]) - cost,
                    "t_validation": float(t_later[at]),
                    "p_validation": float(p_later[at]),
                },
            )


def _stepped_down(t: FloatArray, train: Clustered) -> tuple[FloatArray, float]:
    """Return the step-down p of t (both sides, one after the other), and the mean largest t of all without an edge."""
    known = np.isfinite(t)
    rising = np.flatnonzero(known)[np.argsort(t[known], kind="stable")]
    n_tests, n_days = train.residuals.shape
    bar = -math.sqrt(2.0 * math.log(math.log(n_days)))
    shift = np.where(t[rising] < bar, t[rising], 0.0)
    coins = np.random.default_rng(SEED).integers(0, 2, size=(N_DRAWS, n_days), dtype=np.int8)
    signs = np.where(coins == 1, 1.0, -1.0)
    unit = train.residuals / np.sqrt(np.einsum("ij,ij->i", train.residuals, train.residuals))[:, None]
    share = train.shares / train.shares.sum(axis=1)[:, None]
    factors = unit.T, (unit * share).T, np.einsum("ij,ij->i", share, share), train.n_days / (train.n_days - 1.0)
    n_as_large, largest = np.zeros(rising.size), 0.0
    for begin in range(0, N_DRAWS, _AT_ONCE):
        drawn = _drawn(signs[begin : begin + _AT_ONCE], *factors)
        both = np.concatenate([drawn, -drawn], axis=1)[:, rising]
        largest += float(both.max(axis=1).sum())
        n_as_large += (np.maximum.accumulate(both + shift, axis=1) >= t[rising]).sum(axis=0)
    adjusted = np.ones(2 * n_tests)
    adjusted[rising] = np.maximum.accumulate(((1.0 + n_as_large) / (1.0 + N_DRAWS))[::-1])[::-1]
    return adjusted, round(largest / N_DRAWS, 9)


def _drawn(
    signs: FloatArray, unit: FloatArray, cross: FloatArray, squares: FloatArray, factor: FloatArray
) -> FloatArray:
    """Return the t of every row of day sums when each day's residuals take one of the given signs."""
    move = signs @ unit
    scatter = 1.0 + move * (move * squares - 2.0 * (signs @ cross))
    with np.errstate(divide="ignore", invalid="ignore"):
        return move / np.sqrt(np.where(scatter > _LEAST_VARIANCE, scatter, 0.0) * factor)


def _false_discovery(p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return p adjusted for the false discovery rate under positive and under any dependence; unknown counts as 1."""
    known = np.where(np.isnan(p), 1.0, p)
    rising, ranks = np.argsort(known, kind="stable"), np.arange(1, p.size + 1)
    falling = np.minimum.accumulate((known[rising] * p.size / ranks)[::-1])[::-1]
    adjusted = np.empty(p.size)
    adjusted[rising] = np.minimum(falling, 1.0)
    any_dependence = np.empty(p.size)
    any_dependence[rising] = np.minimum(falling * float((1.0 / ranks).sum()), 1.0)
    return adjusted, any_dependence
