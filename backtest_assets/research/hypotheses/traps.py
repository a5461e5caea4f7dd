"""The ways in which a mean that looks like an edge is none, each with a verdict that can be red.

There is no trap for leakage here: the gates of `event_candidates` ask for foresight, and a run whose answer is red has no
hypotheses to examine; a copy of their verdict could never be red. Keep the means themselves out (`expectancy`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.days import accrue
from backtest_assets.research.hypotheses.expectancy import examined
from backtest_assets.research.hypotheses.members import Members, members_of
from backtest_assets.research.hypotheses.trades import train_drift
from backtest_assets.research.outcomes.direction import direction_of_event
from backtest_assets.stats.clustered import ClusteredMean, accrual_t, day_matrix
from backtest_assets.stats.heterogeneity import cochran_q
from backtest_assets.tables.candidates import EXPECTANCY_TRAPS


class Trap(StrEnum):
    """What is asked of every examined hypothesis, in fixed order."""

    OVERLAP = "overlap"
    UNIQUENESS = "uniqueness"
    SYMMETRY = "symmetry"
    TAILS = "tails"
    REGIMES = "regimes"
    STABILITY = "stability"
    CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class TrapLimit:
    """How a trap's number is held.

    Attributes:
        comparator: `at most`, `at least` or `above`.
        limit: the number; None where the run's settings give it.
        unit: unit of both.
    """

    comparator: str
    limit: float | None
    unit: str


MAX_INFLATION: Final = 2.0
"""Day-clustered over independent standard error [1]: bursts of six overlapping day-long holds show 2.4, single events 1.0
to 1.3; beyond 2 the number of events says four times as much as the days do."""

MIN_UNIQUENESS: Final = 1 / 3
"""Distinct over all bars held, per symbol [fraction]: below a third, each moment is counted more than three times."""

MAX_MIRROR_T: Final = 1.645
"""t of what must not earn [standard errors]: one-sided 5 %."""

MIN_TRIMMED_BPS: Final = 0.0
"""Net mean without the best 1 % of trades [bps], exclusive: an edge that needs its luckiest trades is those trades."""

MIN_REGIME_P: Final = 0.01
"""Chance that regimes share one mean, all dimensions together [probability]: one true edge in a hundred is lost."""

MIN_LEFT_T: Final = 1.645
"""Smallest t without one fifth of train [standard errors]: the rest alone must still speak at one-sided 5 %."""

TRIMMED: Final = 0.01
"""Best trades that are left out [fraction of trades], at least one."""

MIN_GROUP_TRADES: Final = 20
"""Trades of a regime, symbol, year or side below which its mean is not judged [trades]."""

N_BLOCKS: Final = 5
"""Parts of train that are left out one by one, equal in days [parts]."""

LIMITS: Final[Mapping[Trap, TrapLimit]] = {
    Trap.OVERLAP: TrapLimit("at most", MAX_INFLATION, "1"),
    Trap.UNIQUENESS: TrapLimit("at least", MIN_UNIQUENESS, "fraction"),
    Trap.SYMMETRY: TrapLimit("at most", MAX_MIRROR_T, "standard errors"),
    Trap.TAILS: TrapLimit("above", MIN_TRIMMED_BPS, "bps per trade"),
    Trap.REGIMES: TrapLimit("at least", MIN_REGIME_P, "probability"),
    Trap.STABILITY: TrapLimit("at least", MIN_LEFT_T, "standard errors"),
    Trap.CAPACITY: TrapLimit("at least", None, "events per calendar day"),
}
"""Every trap's limit; that of capacity is the setting `expectancy_capacity_min_events_per_day`."""

_REGIMES: Final = ("vol_regime", "bull_bear", "funding_regime", "session")
_DIMENSIONS: Final = ("year", "symbol", *_REGIMES)
_WHOLE: Final = "all"
_SIDE: Final = "side"
_SIDES: Final = 2


def judge_traps(
    hypotheses: pl.DataFrame,
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    run: ResearchRun,
) -> pl.DataFrame:
    """Ask every trap of every examined hypothesis, of its trades on train.

    - overlap: how much larger its day-clustered error is than that of independent trades.
    - uniqueness: how much of the time it holds is held once.
    - symmetry: its matched controls, traded alike, must not earn; and of the two sides of its events none may lose, where
      both have enough trades.
    - tails: what is left without its best trades.
    - regimes: whether years, symbols and regimes share one mean (Cochran's Q, times the dimensions asked).
    - stability: the smallest t that is left without one fifth of train.
    - capacity: events per calendar day of the run window.

    Args:
        hypotheses: table hypotheses.
        outcomes: table event_outcomes, controls included.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um; gives each symbol's drift on train.
        run: gives window, costs and the limit of capacity.

    Returns:
        Table expectancy_traps, one row per examined hypothesis and trap; red where a number is unknown.

    Raises:
        TableError: if the tables do not belong together (see `trades`).

    Knows:
        outcomes of train; of the rest of the run window only how many events there are.
    """
    rows = examined(hypotheses)
    if rows.is_empty():
        return EXPECTANCY_TRAPS.empty()
    members = members_of(rows, outcomes, events, context, train_drift(bars, run=run), run=run)
    train = members.joined("event_id", "delay_bars", "hold_bars", "entered_at", "exited_at", "side").filter(
        pl.col("split") == Split.TRAIN
    )
    groups = _groups(train, context)
    sums, shares = _book(groups, members, run)
    clustered = accrual_t(sums - members.cost_bps * shares, shares)
    known = groups.select("group", "hypothesis_id", "dimension", "label", "n").unique("group").sort("group")
    known = known.with_columns(
        mean=pl.Series(clustered.mean), error=pl.Series(clustered.standard_error), t=pl.Series(clustered.t)
    ).with_columns(pl.col("mean", "error", "t").fill_nan(None))  # NaN is above 0 to polars, and no part of a minimum
    whole = known.filter(pl.col("dimension") == _WHOLE).sort("hypothesis_id")
    at = whole["group"].to_numpy()
    left = _left_t(sums[at] - members.cost_bps * shares[at], shares[at])
    numbers = (
        rows.select("hypothesis_id", "se_train_bps", "n_run", "n_train")
        .join(_trade_numbers(train), on="hypothesis_id", how="left")
        .join(_weaker_side(known), on="hypothesis_id", how="left")
        .with_columns(pl.col("n_sides").fill_null(0))
        .join(_control_t(train, outcomes, members.cost_bps, bars, run), on="hypothesis_id", how="left")
        .join(_regime_p(known), on="hypothesis_id", how="left")
        .join(whole.select("hypothesis_id", left_t=pl.Series(left)), on="hypothesis_id", how="left")
    )
    return EXPECTANCY_TRAPS.conform(_verdicts(numbers.with_columns(pl.col(pl.Float64).fill_nan(None)), run))


def _groups(train: pl.DataFrame, context: pl.DataFrame) -> pl.DataFrame:
    """Return the trades of every hypothesis by dimension and label, those of small groups left out, with a group number."""
    regimes = context.select("symbol", "known_at", *(_known_label(name) for name in _REGIMES))
    labelled = train.join(regimes, on=["symbol", "known_at"], how="left", maintain_order="left").select(
        "hypothesis_id",
        "trade",
        "sign",
        *_REGIMES,
        "symbol",
        year=pl.col("known_at").dt.year().cast(pl.String),
        **{_SIDE: pl.when(pl.col(_SIDE) != 0).then(pl.col(_SIDE).cast(pl.String)), _WHOLE: pl.lit(_WHOLE)},
    )
    long = labelled.unpivot(
        on=[*_DIMENSIONS, _SIDE, _WHOLE],
        index=["hypothesis_id", "trade", "sign"],
        variable_name="dimension",
        value_name="label",
    ).filter(pl.col("label").is_not_null())
    key = ("hypothesis_id", "dimension", "label")
    counted = long.with_columns(n=pl.len().over(key)).filter(
        (pl.col("n") >= MIN_GROUP_TRADES) | (pl.col("dimension") == _WHOLE)
    )
    numbered = counted.select(key).unique().sort(key).with_row_index("group")
    return counted.join(numbered, on=list(key), how="inner").with_columns(pl.col("group").cast(pl.Int64))


def _known_label(name: str) -> pl.Expr:
    return pl.when(pl.col(name) != "unknown").then(pl.col(name)).alias(name)


def _book(groups: pl.DataFrame, members: Members, run: ResearchRun) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Book the P&L of every group, net of drift, and its shares to the days of train."""
    window = run.splits[Split.TRAIN]
    used = members.trades.join(groups, on="trade", how="semi")
    booked = accrue(used.drop("trade"), number=used["trade"], first_day=window.start.date())
    entries = groups.select("group", "trade", "sign").join(booked, on="trade", how="inner")
    at, day = entries["group"].to_numpy(), entries["day"].to_numpy()
    n_groups = int(groups["group"].max() or 0) + 1  # pyright: ignore[reportArgumentType]
    size = {"n_hypotheses": n_groups, "n_days": window.n_days}
    pnl = (entries["sign"] * entries["pnl"]).to_numpy()
    return day_matrix(at, day, pnl, **size), day_matrix(at, day, entries["share"].to_numpy(), **size)


def _left_t(sums: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest t of every hypothesis that is left without one part of train; NaN if one is unknown."""
    left: list[NDArray[np.float64]] = []
    n_days = sums.shape[1]
    for number in range(N_BLOCKS):
        kept = np.ones(n_days)
        kept[number * n_days // N_BLOCKS : (number + 1) * n_days // N_BLOCKS] = 0.0
        left.append(accrual_t(sums * kept, shares * kept).t)
    return np.min(left, axis=0)


def _trade_numbers(train: pl.DataFrame) -> pl.DataFrame:
    """Return what single trades say of every hypothesis."""
    net = pl.col("net")
    n_best = (TRIMMED * pl.len()).ceil().cast(pl.Int64)
    spread = train.group_by("hypothesis_id").agg(
        n=pl.len(),
        sd=pl.col("excess").std(),
        median=net.median(),
        trimmed=net.sort(descending=True).slice(n_best).mean(),
        n_best=n_best,
    )
    held = pl.col("exited_at") - pl.col("entered_at")
    following = pl.col("entered_at").shift(-1).over("hypothesis_id", "symbol", order_by="entered_at")
    distinct = train.with_columns(
        held=held, alone=pl.min_horizontal(held, (following - pl.col("entered_at")).fill_null(held))
    )
    unique = distinct.group_by("hypothesis_id").agg(uniqueness=pl.col("alone").sum() / pl.col("held").sum())
    return spread.join(unique, on="hypothesis_id", how="left")


def _weaker_side(known: pl.DataFrame) -> pl.DataFrame:
    """Return how many sides of a hypothesis' events have enough trades, and of two the smaller t; null if one is unknown."""
    sides = known.filter(pl.col("dimension") == _SIDE)
    both_known = (pl.len() == _SIDES) & (pl.col("t").null_count() == 0)
    return sides.group_by("hypothesis_id").agg(n_sides=pl.len(), side_t=pl.when(both_known).then(pl.col("t").min()))


def _control_t(
    train: pl.DataFrame, outcomes: pl.DataFrame, cost_bps: float, bars: pl.DataFrame, run: ResearchRun
) -> pl.DataFrame:
    """Test the matched controls of every hypothesis' events, traded alike, with the days they became known on as clusters."""
    window = run.splits[Split.TRAIN]
    direction = direction_of_event()
    bars_held = (pl.col("exited_at") - pl.col("entered_at")) / BAR
    traded = (
        outcomes.filter(
            pl.col("variant") == Variant.CENTRE, pl.col("control_no") > 0, pl.col("delay_bars").is_in(run.entry_delays),
            pl.col("split") == Split.TRAIN,
        )
        .join(train_drift(bars, run=run), on="symbol", how="inner")
        .select(
            "event_id",
            "delay_bars",
            "hold_bars",
            day=(pl.col("known_at").dt.date() - pl.lit(window.start.date())).dt.total_days(),
            pnl=direction * (pl.col("gross_bps") - pl.col("funding_bps") - bars_held * pl.col("drift_bps")),
        )
    )  # fmt: skip
    ids = train["hypothesis_id"].unique().sort()
    numbered = pl.DataFrame({"hypothesis_id": ids}).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    entries = (
        train.select("hypothesis_id", "event_id", "sign", "delay_bars", "hold_bars")
        .join(numbered, on="hypothesis_id", how="inner")
        .join(traded, on=["event_id", "delay_bars", "hold_bars"], how="inner")
        .select("row", "day", net=pl.col("sign") * pl.col("pnl") - cost_bps)
    )
    at, day = entries["row"].to_numpy(), entries["day"].to_numpy()
    size = {"n_hypotheses": ids.len(), "n_days": window.n_days}
    sums = day_matrix(at, day, entries["net"].to_numpy(), **size)
    tested: ClusteredMean = accrual_t(sums, day_matrix(at, day, np.ones(entries.height), **size))
    return numbered.select("hypothesis_id", control_t=pl.Series(tested.t))


def _regime_p(known: pl.DataFrame) -> pl.DataFrame:
    """Return for every hypothesis its most different dimension: p of Cochran's Q times the dimensions that could be asked."""
    keys = ("hypothesis_id", "dimension")
    grouped = (
        known.filter(pl.col("dimension").is_in(_DIMENSIONS), pl.col("error") > 0)
        .sort(*keys, "label")
        .group_by(keys, maintain_order=True)
        .agg("mean", "error", "label")
        .filter(pl.col("mean").list.len() > 1)
    )
    means, errors = (_padded(grouped[name]) for name in ("mean", "error"))
    asked = grouped.select(*keys, p=pl.Series(cochran_q(means, errors).p, dtype=pl.Float64)).drop_nans("p")
    return (
        asked.sort("hypothesis_id", "p", "dimension")
        .group_by("hypothesis_id", maintain_order=True)
        .agg(
            regime_p=(pl.col("p").min() * pl.len()).clip(upper_bound=1.0),
            regime=pl.col("dimension").first(),
            n_dimensions=pl.len(),
        )
    )


def _padded(lists: pl.Series) -> NDArray[np.float64]:
    rows = [np.array(row, dtype=np.float64) for row in lists.to_list()]
    padded = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded


def _verdicts(numbers: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    """Return one row per hypothesis and trap."""
    start, end = run.window
    n_days = (end - start).days
    inflation = pl.col("se_train_bps") / (pl.col("sd") / pl.col("n").sqrt())
    # A side that loses is as bad as a control that earns. Controls are always asked, sides only if there are two; what is
    # asked and unknown makes the whole unknown.
    is_told = pl.col("control_t").is_not_null() & (pl.col("side_t").is_not_null() | (pl.col("n_sides") < _SIDES))
    mirror = pl.when(is_told).then(pl.max_horizontal("control_t", -pl.col("side_t")))
    observed = {
        Trap.OVERLAP: inflation,
        Trap.UNIQUENESS: pl.col("uniqueness"),
        Trap.SYMMETRY: mirror,
        Trap.TAILS: pl.col("trimmed"),
        Trap.REGIMES: pl.col("regime_p"),
        Trap.STABILITY: pl.col("left_t"),
        Trap.CAPACITY: pl.col("n_run") / n_days,
    }
    details = {
        Trap.OVERLAP: _told("day-clustered error {} bps over {} trades", "se_train_bps", "n"),
        Trap.UNIQUENESS: _told("{} of the time held is held once, over {} trades", "uniqueness", "n"),
        Trap.SYMMETRY: _told(
            "matched controls traded alike have t {}, the weaker of {} sides with enough trades t {}",
            "control_t",
            "n_sides",
            "side_t",
        ),
        Trap.TAILS: _told(
            "median {} bps; without the best {} trades the mean is {} bps", "median", "n_best", "trimmed"
        ),
        Trap.REGIMES: _told("most different by {} of {} dimensions that could be asked", "regime", "n_dimensions"),
        Trap.STABILITY: _told("smallest t without one fifth of train is {}", "left_t"),
        Trap.CAPACITY: _told(f"{{}} events in {n_days} days, all symbols", "n_run"),
    }
    parts = [
        numbers.select(
            "hypothesis_id",
            trap=pl.lit(trap.value),
            observed=observed[trap].cast(pl.Float64),
            comparator=pl.lit(limit.comparator),
            limit=pl.lit(run.expectancy_capacity_min_events_per_day if limit.limit is None else limit.limit),
            unit=pl.lit(limit.unit),
            detail=details[trap],
        )
        for trap, limit in LIMITS.items()
    ]
    kept = (
        pl.when(pl.col("comparator") == "at most")
        .then(pl.col("observed") <= pl.col("limit"))
        .when(pl.col("comparator") == "at least")
        .then(pl.col("observed") >= pl.col("limit"))
        .otherwise(pl.col("observed") > pl.col("limit"))
    )
    return pl.concat(parts).with_columns(is_passed=kept.fill_null(value=False))


def _told(text: str, *names: str) -> pl.Expr:
    words = (pl.col(name).round(4).cast(pl.String) if name not in _TEXTS else pl.col(name) for name in names)
    return pl.format(text, *(word.fill_null("unknown") for word in words))


_TEXTS: Final = frozenset({"regime"})
