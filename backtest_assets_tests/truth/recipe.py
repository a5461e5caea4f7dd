"""The inference recipe, measured again with the product's own functions: tables 2 and 3 of the recipe's own page.

Size: markets without drift, cells whose trades burst and overlap (B) or come one by one (A), one test at a time. Chain: a run's
hypotheses on six years, nothing or one edge of 16 bars planted, `judge_together` on train and the t of validation. Events
are random instants, so this holds the inference to its word, not the event families and not the gates after it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from scipy import stats

from backtest_assets.domain.clock import BARS_PER_DAY
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.criteria import (
    ELIGIBILITY,
    MAX_ADJUSTED_P,
    MAX_VALIDATION_P,
)
from backtest_assets.research.hypotheses.days import DaySums
from backtest_assets.research.hypotheses.inference import clustered_means, judge_together
from backtest_assets.research.hypotheses.rules import Base, HypothesisRule
from backtest_assets.research.outcomes.accrual import accruals
from backtest_assets.sources.synthetic.paths import draw_path
from backtest_assets.stats.bootstrap import wild_day_bootstrap
from backtest_assets.stats.clustered import accrual_t, day_matrix
from backtest_assets.stats.funding import funding_path

SD_BPS: Final = 30.0
"""Standard deviation of a bar [bps]: 16 bars after a shock then scatter by some 150."""
CORRELATION: Final = 0.53
SYMBOLS: Final = ("AUSDT", "BUSDT")
COST_BPS: Final = 12.0
EDGE_BARS: Final = 16
TRAIN, WHOLE = 1314, 2190 - 438
"""Days of train, and of train and validation, of six years."""
N_DRAWS: Final = 999
MARGIN: Final = 0.005
"""Chance that an honest rate breaks its bound."""
Trades: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Symbol number and bar of the entry of each trade."""

TABLE_2: Final[Mapping[str, tuple[tuple[float, float], tuple[float, float]]]] = {
    "A hold 16, 100": ((5.2, 1.0), (5.2, 1.1)),
    "A hold 96, 100": ((4.7, 0.9), (4.8, 0.9)),
    "B hold 96, 50": ((5.4, 1.1), (5.1, 1.2)),
    "B hold 96, 100": ((5.0, 1.2), (4.8, 1.2)),
    "B hold 96, 200": ((4.5, 0.5), (3.9, 0.5)),
    "B hold 96, 500": ((3.9, 0.7), (3.9, 0.4)),
    "B hold 96, 1000": ((5.2, 0.7), (4.9, 0.6)),
}
"""Rejections of the accrual-day t and of the wild bootstrap at 5 and 1 % [%], by kind, hold and trades."""
SE_TABLE_2: Final = (0.9, 0.4)
"""Their standard errors at 5 and 1 % [%]."""

FAMILIES: Final[Mapping[EventType, tuple[int, float]]] = {
    EventType.VOL_SHOCK_RELAXATION: (175, 0.2),
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: (1048, 0.4),
    EventType.LIQUIDITY_VACUUM: (519, 0.4),
    EventType.FUNDING_EXTREME_REVERSAL_WINDOW: (250, 0.3),
}
"""Trades on train and the share of instants that both symbols have: with it the table's days come out."""


def prices(rng: np.random.Generator, n_days: int) -> np.ndarray:
    """Draw returns [fraction] of two correlated symbols, mean zero given the past: (2, n_bars)."""
    n_bars = n_days * BARS_PER_DAY
    common, *own = (draw_path(rng, n_bars).returns for _ in range(3))
    return SD_BPS / 1e4 * (math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * np.array(own))


def booked(returns: np.ndarray, symbol: np.ndarray, bar: np.ndarray, hold: int) -> pl.DataFrame:
    """Book trades, long from the open of `bar`, on days: trade, day, bps, share."""
    nothing = funding_path(np.array([0]), np.array([10**17]), np.zeros(1), np.ones(1))
    parts = []
    for number in range(len(SYMBOLS)):
        own = np.flatnonzero(symbol == number)
        price = np.asarray(100.0 * np.cumprod(np.concatenate(([1.0], 1.0 + returns[number]))), dtype=np.float64)
        day, bps, share = accruals(0, price, nothing, bar[own], bar[own] + hold)
        parts.append(pl.DataFrame({"trade": own, "day": day, "bps": bps, "share": share}))
    return pl.concat(parts).explode("day", "bps", "share").with_columns(pl.col("day").dt.epoch("d").cast(pl.Int64))


def instants(rng: np.random.Generator, n: int, n_bars: int, *, kind: str, both: float = 0.5) -> Trades:
    """Draw symbols and bars of about n trades: bursts of six within a day over both symbols, or one by one."""
    if kind == "B":
        first = rng.integers(0, n_bars - 3 * BARS_PER_DAY, max(1, round(n / 6)))
        bar = (first[:, np.newaxis] + rng.integers(0, BARS_PER_DAY // 2, (first.size, 6))).ravel()
        return rng.integers(0, 2, bar.size), bar
    once = rng.integers(0, n_bars - 3 * BARS_PER_DAY, round(n / (1 + both)))
    again = once[rng.random(once.size) < both]
    first = rng.integers(0, 2, once.size)
    return np.concatenate([first, 1 - first[np.isin(once, again)]]), np.concatenate([once, once[np.isin(once, again)]])


Cell: TypeAlias = tuple[str, np.ndarray, np.ndarray]
"""Name of a cell of table 2, P&L [bps] and shares by day of one sample of it."""


def size_cells(seed: int, *, n_days: int = 876, repeats: int = 4) -> list[Cell]:
    """Draw one market and book some samples of every cell of table 2 on it."""
    rng = np.random.default_rng((2, seed))
    returns, found = prices(rng, n_days), []
    for name in sorted(TABLE_2) * repeats:
        kind, _, hold, n = name.replace(",", "").split()
        rows = booked(returns, *instants(rng, int(n), returns.shape[1], kind=kind), int(hold))
        zeros, day = np.zeros(rows.height, dtype=np.int64), rows["day"].to_numpy()
        sums, shares = (
            day_matrix(zeros, day, rows[c].to_numpy(), n_hypotheses=1, n_days=n_days)[0] for c in ("bps", "share")
        )
        found.append((name, sums, shares))
    return found


def sized(cells: Sequence[Cell]) -> pl.DataFrame:
    """Reject true nulls one at a time: one row per cell of table 2, test and level, with the rate and the table's [%]."""
    rng, told = np.random.default_rng(len(cells)), []
    for name in TABLE_2:
        sums, shares = (np.array([cell[i] for cell in cells if cell[0] == name]) for i in (1, 2))
        tested = accrual_t(sums, shares)
        drawn = wild_day_bootstrap(tested.residuals.T, shares.T, rng, n_draws=N_DRAWS)
        wild = (1 + np.count_nonzero(drawn >= tested.t, axis=0)) / (1 + N_DRAWS)
        told += [
            {"cell": name, "test": test, "n": p.size, "days": float(tested.n_days.mean()), "level": level,
             "rate": 100 * float(np.mean(p <= level / 100)), "table": TABLE_2[name][i][j], "se_table": SE_TABLE_2[j]}
            for i, (test, p) in enumerate((("accrual-day t", tested.p), ("wild", wild))) for j, level in enumerate((5, 1))
        ]  # fmt: skip
    frame = pl.DataFrame(told)
    # The count must be one that some rate in the table's 95 % interval gives, at 1 % over all rows together, two-sided.
    each = MARGIN / frame.height
    rate, error, n = (frame[name].to_numpy() for name in ("table", "se_table", "n"))
    low, high = (np.clip((rate + sign * 1.96 * error) / 100, 0.0, 1.0) for sign in (-1, 1))
    hits = np.rint(frame["rate"].to_numpy() * n / 100)
    is_kept = (stats.binom.ppf(each, n, low) <= hits) & (hits <= stats.binom.isf(each, n, high))
    return frame.with_columns(is_kept=pl.Series(is_kept))


@dataclass(frozen=True, slots=True)
class Found:
    """What the chain says of one market.

    Whether anything passed train, and validation too; whether that was of the planted family and side, or something else;
    truth, and of the best such hypothesis with the planted hold train, shrunken and validation mean [bps], NaN if none.
    """

    on_train: bool
    confirmed: bool
    right: bool
    false: bool
    means: tuple[float, float, float, float]


def chain(seed: int, *, cost_bps: float, planted: EventType | None = None, strength: float = 0.0) -> Found:
    """Judge one six-year market's hypotheses together on train and confirm on validation."""
    rng = np.random.default_rng((3, seed))
    returns = prices(rng, WHOLE + 3)
    limit = WHOLE * BARS_PER_DAY
    events = {
        family: instants(rng, round(n * WHOLE / TRAIN), limit, kind="A", both=both)
        for family, (n, both) in FAMILIES.items()
    }
    truth = 0.0
    if planted is not None:
        symbol, bar = events[planted]
        cell = _sums(
            returns, {planted: (symbol, bar)}, {planted: {"all": np.ones(bar.size, dtype=bool)}}, (EDGE_BARS,)
        )[0]
        truth = float(strength * accrual_t(cell.sums, cell.shares).standard_error[0])
        for number, first in zip(symbol, bar, strict=True):
            returns[number, first : first + EDGE_BARS] += (cost_bps + truth) / 1e4 / EDGE_BARS
    member = {
        family: {
            condition.name: np.ones(bar.size, dtype=bool) if condition.name == "all"
            else np.repeat(rng.random(limit // 200 + 2) < 0.4, 200)[bar]
            for condition in Condition.declared(family, SYMBOLS)
        }
        for family, (_, bar) in events.items()
    }  # fmt: skip
    train, validation = _sums(returns, events, member, HOLD_GRID_BARS)
    rules = [
        HypothesisRule(family, Condition(name), side, hold)
        for family in events for name in member[family] for side in _sides(family) for hold in HOLD_GRID_BARS
        if _is_eligible(train, validation, (family.value, name, 0, hold))
    ]  # fmt: skip
    joint = judge_together(rules, train, rng, cost_bps=cost_bps)
    later = clustered_means(rules, validation, cost_bps=cost_bps)
    passed = joint.p_rw <= MAX_ADJUSTED_P
    confirmed = passed & (later.mean > 0) & (later.p <= MAX_VALIDATION_P)
    is_own = np.array([rule.event_type is planted and rule.sign > 0 for rule in rules])
    own = np.flatnonzero(confirmed & is_own)
    exact = [i for i in own if rules[i].hold_bars == EDGE_BARS]
    best = max(exact, key=lambda i: joint.clustered.t[i], default=None)
    means = truth, math.nan, math.nan, math.nan
    if best is not None:
        means = truth, float(joint.clustered.mean[best]), float(joint.shrunken[best]), float(later.mean[best])
    return Found(bool(passed.any()), bool(confirmed.any()), own.size > 0, bool((confirmed & ~is_own).any()), means)


def _sums(
    returns: np.ndarray,
    events: Mapping[EventType, Trades],
    member: Mapping[EventType, Mapping[str, np.ndarray]],
    holds: Sequence[int],
) -> tuple[DaySums, DaySums]:
    """Book every family, condition and hold on train and on validation, less each symbol's drift on train."""
    drift = 1e4 * returns[:, : TRAIN * BARS_PER_DAY].mean(axis=1)
    row_of: dict[Base, int] = {}
    entries: list[tuple[np.ndarray, ...]] = []
    for family, (symbol, bar) in events.items():
        for hold in holds:
            rows = booked(returns, symbol, bar, hold)
            trade, day, bps, share = (rows[name].to_numpy() for name in ("trade", "day", "bps", "share"))
            excess = bps - hold * drift[symbol[trade]] * share
            last_day = (bar[trade] + 127) // BARS_PER_DAY
            is_kept = (last_day < TRAIN) | ((bar[trade] // BARS_PER_DAY >= TRAIN) & (last_day < WHOLE))
            for name, is_member in member[family].items():
                row = row_of.setdefault((family.value, name, 0, hold), len(row_of))
                own = is_kept & is_member[trade]
                entries.append(
                    (np.full(int(own.sum()), row), day[own], excess[own], share[own], bar[trade[own]] // BARS_PER_DAY)
                )
    row, day, excess, share, entered = (np.concatenate([entry[i] for entry in entries]) for i in range(5))
    sums, shares = (day_matrix(row, day, x, n_hypotheses=len(row_of), n_days=WHOLE) for x in (excess, share))
    owners, days = np.unique(np.stack([row, entered]), axis=1)
    n_train, n_later = (np.bincount(owners[own], minlength=len(row_of)) for own in (days < TRAIN, days >= TRAIN))
    return (
        DaySums(row_of, sums[:, :TRAIN], shares[:, :TRAIN], n_train),
        DaySums(row_of, sums[:, TRAIN:], shares[:, TRAIN:], n_later),
    )


def _is_eligible(train: DaySums, validation: DaySums, base: Base) -> bool:
    counts: dict[str, float] = {}
    for split, sums in (("train", train), ("validation", validation)):
        row = sums.row_of[base]
        counts |= {
            f"n_{split}": round(float(sums.shares[row].sum()), 6),
            f"n_days_{split}": int(sums.n_entry_days[row]),
        }
    return all(counts[name] >= least for name, least in ELIGIBILITY.items())


def _sides(family: EventType) -> tuple[SideRule, SideRule]:
    return (SideRule.WITH_EVENT, SideRule.AGAINST_EVENT) if family.is_sided else (SideRule.LONG, SideRule.SHORT)


PLANTED: Final = (
    (EventType.VOL_SHOCK_RELAXATION, 3.9, 0.34),
    (EventType.VOL_SHOCK_RELAXATION, 5.8, 0.83),
    (EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, 3.9, 0.46),
    (EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, 5.8, 0.83),
    (EventType.LIQUIDITY_VACUUM, 4.0, 0.62),
    (EventType.LIQUIDITY_VACUUM, 6.0, 0.91),
)
"""Table 3: family, strength, and the lower end of the interval of the share found, gates included."""


def judged_nulls(found: Mapping[float, Sequence[Found]]) -> pl.DataFrame:
    """Hold the markets without an edge against the level: one row per cost, with the most markets that may pass train."""
    return pl.DataFrame(
        [
            {
                "cost_bps": cost, "markets": len(all_), "on_train": sum(one.on_train for one in all_),
                "most_on_train": int(stats.binom.isf(MARGIN, len(all_), MAX_ADJUSTED_P)), "confirmed": sum(one.confirmed for one in all_),
                "most_confirmed": int(stats.binom.isf(MARGIN, len(all_), 0.028)),
            }
            for cost, all_ in found.items()
        ]
    ).with_columns(
        is_kept=(pl.col("on_train") <= pl.col("most_on_train")) & (pl.col("confirmed") <= pl.col("most_confirmed"))
    )  # fmt: skip


def judged_planted(found: Sequence[Sequence[Found]]) -> pl.DataFrame:
    """Hold the planted markets, in the order of `PLANTED`, against table 3: how many are found, and how far their means lie off.

    Biases are means over the found, relative to the truth: of the train mean, the shrunken one and that of validation.
    """
    rows = []
    for (family, strength, low), all_ in zip(PLANTED, found, strict=True):
        means = np.array([one.means for one in all_ if one.right and not math.isnan(one.means[1])]).reshape(-1, 4)
        truth = means[:, 0].mean() if len(means) else math.nan
        bias = (means[:, 1:].mean(axis=0) / truth - 1) if len(means) else np.full(3, math.nan)
        n_right, least = sum(one.right for one in all_), int(stats.binom.ppf(MARGIN, len(all_), low))
        rows.append(
            {
                "edge": f"t {strength} after {family.value}", "markets": len(all_), "right": n_right, "least": least,
                "false": sum(one.false for one in all_), "truth_bps": truth, "bias_train": bias[0], "bias_shrunken": bias[1],
                "bias_validation": bias[2], "is_kept": n_right >= least,
            }
        )  # fmt: skip
    return pl.DataFrame(rows)
