"""What promotion measures beside the summary, counted once more by DuckDB and plain numpy; what a gate makes of it stays out."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from scipy import stats

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.split import Split
from backtest_assets.gates.booked import TRAIN, VALIDATION, Booked, first_day, sign_of, train_returns
from backtest_assets.gates.executed import executed_specs
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.retested import day_sums
from backtest_assets.gates.sql import ask_sql
from backtest_assets.stats.arrays import FloatArray, IntArray

_BLOCKS: Final = 10
_EULER: Final = 0.5772156649015329
_OPEN: Final = {Split.TRAIN: TRAIN, Split.VALIDATION: VALIDATION}
_LEAST_SCATTER: Final = 1e-9
"""A deviation below this share of the largest return is rounding; rounding is some 1e-16 of it."""

_BY_SYMBOL: Final = """
with net as (
    select s.blueprint_id, p.split, s.symbol, coalesce(sum(t.net_pnl), 0) as net
    from scope s cross join (values ('train'), ('validation')) p(split)
    left join trades t on t.blueprint_id = s.blueprint_id and t.symbol = s.symbol and t.split = p.split group by all
), rates as (select blueprint_id, split, avg((net > 0)::int) as rate from net group by all)
select blueprint_id, min(rate) as counted from rates group by all
"""
_DAYS: Final = """
with bars as (
    select t.blueprint_id, t.split, l.open_at, sum(l.net_pnl) as pnl
    from trades t join ledger l using (trade_id) where t.split in ('train', 'validation') group by all
)
select blueprint_id, split, date_diff('day', date '1970-01-01', cast(open_at as date)) as day,
    product(greatest(1 + pnl, 0)) - 1 as earned from bars group by all
"""
_NEIGHBOURS: Final = """
with own as (
    select blueprint_id, split, net_per_day from neighbours where neighbour = 'centre'
), beside as (
    select n.blueprint_id, n.neighbour, min(n.net_per_day / o.net_per_day) as share, min(o.net_per_day) as least,
        min(n.net_per_day) > 0 as earns
    from neighbours n join own o using (blueprint_id, split) where n.neighbour <> 'centre' group by all
)
select blueprint_id, case when min(least) > 0 then min(share) end as share, avg(earns::int) as earning
from beside group by all
"""


def counted_again(evidence: Evidence) -> Iterator[tuple[str, str, float | None]]:
    """Yield blueprint, gate and number of everything promotion measures but the correlations; None where it is unknown.

    Args:
        evidence: of table promotions, with its inputs.
    """
    specs = executed_specs(evidence)
    names = [spec.blueprint_id for spec in specs]
    rates = dict(ask_sql(_BY_SYMBOL, {"scope": _scope(specs), "trades": evidence.inputs["trades"]}).iter_rows())
    beside = {row[0]: row[1:] for row in _beside(evidence).iter_rows()}
    returns, search = returns_again(evidence), _overfitting(evidence)
    held = _benchmark(evidence)
    for name in names:
        share, earning = beside.get(name, (None, None))
        yield name, "cross_symbol_pass_rate", rates.get(name)
        yield name, "deflated_sharpe", _deflated(returns[name], held)
        yield name, "overfitting_probability", search
        yield name, "parameter_neighbourhood", share
        yield name, "positive_neighbours", earning


def returns_again(evidence: Evidence) -> Mapping[str, FloatArray]:
    """Return the daily returns of every executed blueprint on train, then on validation, 0 on days without a position."""
    run = evidence.settings
    tables = {"trades": evidence.inputs["trades"], "ledger": evidence.inputs["simulation_ledger"]}
    n_train = run.splits[Split.TRAIN].n_days
    offset = {"train": first_day(run, Split.TRAIN), "validation": first_day(run, Split.VALIDATION) - n_train}
    size = n_train + run.splits[Split.VALIDATION].n_days
    found = {spec.blueprint_id: np.zeros(size) for spec in executed_specs(evidence)}
    for name, split, day, earned in ask_sql(_DAYS, tables).iter_rows():
        if name in found:
            found[name][day - offset[split]] = earned
    return found


def correlated(left: FloatArray, right: FloatArray) -> float | None:
    """Return the correlation of two series; None where one shows no scatter."""
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _scope(specs: Sequence[Blueprint]) -> pl.DataFrame:
    rows = [(spec.blueprint_id, symbol) for spec in specs for symbol in spec.symbol_scope.symbols]
    return pl.DataFrame(rows, schema={"blueprint_id": pl.String, "symbol": pl.String}, orient="row")


def _beside(evidence: Evidence) -> pl.DataFrame:
    return ask_sql(_NEIGHBOURS, {"neighbours": evidence.inputs["blueprint_neighbours"]})


def _benchmark(evidence: Evidence) -> float:
    """Return the daily ratio that the luckiest of all runs' trials shows; NaN where it is unknown."""
    run, counts = evidence.settings, evidence.inputs["trial_counts"]
    said: set[float | None] = set(counts["effective_trials_all"].to_list())
    tested = evidence.inputs["hypotheses"].filter("is_eligible").to_dicts()
    cost = 2.0 * (run.fees_bps + run.slippage_bps)
    sizes = [
        abs((row["excess_mean_train_bps"] + cost) / row["se_train_bps"])
        for row in tested
        if row["excess_mean_train_bps"] is not None and row["se_train_bps"] is not None
    ]
    n = said.pop() if len(said) == 1 else None
    if n is None or not 1 <= n < math.inf or not sizes:
        return math.nan
    scatter = max(1.0, float(np.quantile(sizes, 0.5)) / float(stats.norm.ppf(0.75)))
    usual, rare = (float(stats.norm.ppf(1.0 - 1.0 / (n * factor))) for factor in (1.0, math.e))
    luckiest = max(0.0, (1.0 - _EULER) * usual + _EULER * rare) if n > 1 else 0.0
    return scatter * luckiest / math.sqrt(run.splits[Split.TRAIN].n_days)


def _deflated(returns: FloatArray, held: float) -> float | None:
    """Return the probability that the ratio beats what it is held against, the variance taken at the observed ratio (2014)."""
    n = returns.size
    if np.ptp(returns) == 0 or math.isnan(held):
        return None
    ratio = float(returns.mean() / returns.std(ddof=1))
    skew, kurtosis = float(stats.skew(returns)), float(stats.kurtosis(returns, fisher=False))
    variance = (1.0 - skew * ratio + (kurtosis - 1.0) / 4.0 * ratio**2) / (n - 1)
    return float(stats.norm.cdf((ratio - held) / math.sqrt(variance))) if variance > 0 else None


def _overfitting(evidence: Evidence) -> float | None:
    """Return in how many halves of time the best tested hypothesis is at or below the median in the other half."""
    tested = evidence.inputs["hypotheses"].filter("is_eligible").to_dicts()
    if not tested:
        return None
    keys = [(row["event_type"], row["condition"], row["delay_bars"], row["hold_bars"]) for row in tested]
    bases = sorted(set(keys))
    days = _days(evidence, bases)
    column = np.array([bases.index(key) for key in keys])
    sign = np.array([sign_of(row) for row in tested])
    length = days.shape[1] // _BLOCKS
    halves = list(itertools.combinations(range(_BLOCKS), _BLOCKS // 2))
    ratios = np.stack([_ratios(days, half, length) for half in halves])[:, column] * sign
    others = ratios[::-1]  # combinations in order: each half's complement stands as far from the other end
    known = ~np.isnan(ratios).any(axis=0)
    n_known = int(known.sum())
    if n_known < 2:  # noqa: PLR2004  # a rank of one
        return None
    n_lost = sum(_is_lost(inside[known], outside[known]) for inside, outside in zip(ratios, others, strict=True))
    return n_lost / len(halves)


def _days(evidence: Evidence, bases: Sequence[tuple[str, str, int, int]]) -> FloatArray:
    """Return (n_bases, n_days) of P&L net of drift, before costs, of train, then of validation."""
    run = evidence.settings
    booked = Booked.of(
        evidence, train_returns(evidence.inputs["bars_um"], run), only={(b[0], b[2], b[3]) for b in bases}
    )
    rows = np.zeros((len(bases), sum(run.splits[split].n_days for split in _OPEN)))
    for key in {(b[0], b[2], b[3]) for b in bases}:
        trades = booked.trades.get(key)
        own = [i for i, b in enumerate(bases) if (b[0], b[2], b[3]) == key]
        if trades is None:
            continue
        asked = [booked.conditions[key[0]].index(bases[i][1]) for i in own]
        mine = booked.holds[key[0]][asked][:, trades.event]
        at = 0
        for split, number in _OPEN.items():
            n = run.splits[split].n_days
            sums, _ = day_sums(trades, mine, trades.split == number, first_day=first_day(run, split), n_days=n)
            rows[own, at : at + n] = sums
            at += n
    return rows


def _ratios(days: FloatArray, half: Sequence[int], length: int) -> FloatArray:
    at: IntArray = np.concatenate([np.arange(block * length, (block + 1) * length) for block in half])
    own = days[:, at]
    deviation = own.std(axis=1)
    shown = deviation > _LEAST_SCATTER * np.abs(own).max(axis=1)
    return own.mean(axis=1) / np.where(shown, deviation, np.nan)


def _is_lost(inside: FloatArray, outside: FloatArray) -> bool:
    """Return whether the best inside ranks in the lower half outside, ties sharing their rank."""
    own = outside[int(np.argmax(inside))]
    below, level = int((outside < own).sum()), int((outside == own).sum())
    return 2 * below + level + 1 <= outside.size + 1
