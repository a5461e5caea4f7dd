"""What promotion measures of every executed blueprint on train and validation, beside the summary; limits stay out.

The deflated Sharpe ratio is that of 2014 (`stats.sharpe`: variance at the observed ratio), of daily returns over the
calendar days of train and validation together, 0 where flat. What it is held against is what the luckiest of as many
worthless trials shows as all runs are worth together (`trial_counts`). A trial's daily ratio is its t before costs over
the root of the days of train, where it was tried. Of trials without an edge these ratios scatter by 1 over that root; the
run's own may scatter more, which counts, measured by the median of their size: rules and their mirror images lie evenly
about 0. The plain variance would take the edge for luck: one strong edge, asked for in forty ways, doubles it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.hypotheses.overfitting import search_overfitting
from backtest_assets.research.promotions.criteria import (
    CROSS_SYMBOL,
    DEFLATED_SHARPE,
    NEIGHBOUR_SHARE,
    OVERFITTING,
    POSITIVE_NEIGHBOURS,
)
from backtest_assets.research.promotions.neighbours import CENTRE, OPEN_SPLITS
from backtest_assets.research.simulation.orders import OrderBook
from backtest_assets.research.walkforward.slices import Slice
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.overfitting import Overfitting, approximate_maximum
from backtest_assets.stats.sharpe import annual_sharpe, deflated_sharpe_ratio, probabilistic_sharpe_ratio

_MEDIAN_OF_NORMAL: Final = 0.6744897501960817
"""Median size of a standard normal number."""


@dataclass(frozen=True, slots=True)
class PromotionSources:
    """What promotion decides on; each field is named after its table."""

    walkforward_summary: pl.DataFrame
    blueprints: pl.DataFrame
    blueprint_neighbours: pl.DataFrame
    simulation_ledger: pl.DataFrame
    trades: pl.DataFrame
    trial_counts: pl.DataFrame
    hypotheses: pl.DataFrame
    event_outcomes: pl.DataFrame
    event_registry: pl.DataFrame
    market_context: pl.DataFrame
    bars_um: pl.DataFrame

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame]) -> "PromotionSources":
        """Gather them from frames by table name.

        Raises:
            TableError: naming the tables that are missing.
        """
        names = [item.name for item in fields(cls)]
        if missing := [name for name in names if name not in frames]:
            message = f"promotions: tables {', '.join(missing)} are missing; materialise them first"
            raise TableError(message)
        return cls(**{name: frames[name] for name in names})


@dataclass(frozen=True, slots=True)
class Found:
    """A number that promotion asks for.

    Attributes:
        observed: the number; NaN if it is unknown, which fails.
        detail: what it is made of, or why it is unknown.
    """

    observed: float
    detail: str


@dataclass(frozen=True, slots=True)
class MeasuredBlueprints:
    """What promotion knows of the executed blueprints beside the summary.

    Attributes:
        found: by blueprint and gate.
        returns: by blueprint, (n_days,) daily returns of train, then of validation [fraction of equity].
    """

    found: Mapping[tuple[str, str], Found]
    returns: Mapping[str, FloatArray]

    @classmethod
    def of(cls, sources: PromotionSources, *, run: ResearchRun) -> "MeasuredBlueprints":
        """Measure them.

        Args:
            sources: the run's tables.
            run: splits and symbols.

        Raises:
            RefusedError: if a blueprint was judged with other costs or symbols than the run's.
            SettingsError: if a blueprint's JSON cannot be obeyed.
            TableError: if the outcomes do not belong to the hypotheses.
        """
        specs = OrderBook.specs(sources.blueprints, run=run)
        if not specs:
            return cls({}, {})
        returns = daily_returns(sources.simulation_ledger, sources.trades, sources.blueprints, run=run)
        benchmark = Benchmark.of(sources.hypotheses, sources.trial_counts, run=run)
        search = search_overfitting(
            sources.event_outcomes,
            sources.event_registry,
            sources.market_context,
            sources.bars_um,
            sources.hypotheses,
            run=run,
        )
        found: dict[tuple[str, str], Found] = {}
        for spec in specs:
            name = spec.blueprint_id
            found[name, CROSS_SYMBOL.gate] = _pass_rate(spec, sources.trades)
            found[name, DEFLATED_SHARPE.gate] = _deflated(returns[name], benchmark)
            found[name, OVERFITTING.gate] = _overfitting(search)
            own = sources.blueprint_neighbours.filter(blueprint_id=name)
            found |= {(name, gate): one for gate, one in _neighbourhood(own)}
        return cls(found, returns)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The daily Sharpe ratio that the luckiest of all runs' trials shows without any edge.

    Attributes:
        n_trials: independent trials of all runs; NaN if they are not counted.
        deviation: standard deviation of worthless trials' ratios [per day]; NaN if nothing was tested.
    """

    n_trials: float
    deviation: float

    @classmethod
    def of(cls, hypotheses: pl.DataFrame, counts: pl.DataFrame, *, run: ResearchRun) -> "Benchmark":
        """Take the trials from table trial_counts and their scatter from the tested rows of table hypotheses."""
        said = counts["effective_trials_all"].unique().to_list()
        n_trials = float(said[0]) if len(said) == 1 and said[0] is not None else math.nan
        before_costs = (pl.col("excess_mean_train_bps") + run.cost.round_trip_bps) / pl.col("se_train_bps")
        sizes = hypotheses.filter("is_eligible").select(before_costs.abs()).to_series().drop_nulls().drop_nans()
        median = sizes.median()
        scatter = max(1.0, median / _MEDIAN_OF_NORMAL) if isinstance(median, float) else math.nan
        return cls(n_trials, scatter / math.sqrt(run.splits[Split.TRAIN].n_days))

    @property
    def ratio(self) -> float:
        """The ratio [per day]; NaN if it is unknown."""
        known = math.isfinite(self.n_trials) and self.n_trials >= 1
        return self.deviation * approximate_maximum(self.n_trials) if known else math.nan


def daily_returns(
    ledger: pl.DataFrame, trades: pl.DataFrame, blueprints: pl.DataFrame, *, run: ResearchRun
) -> Mapping[str, FloatArray]:
    """Return what each executed blueprint earned on every calendar day of train, then of validation.

    Args:
        ledger: table simulation_ledger.
        trades: table trades.
        blueprints: table blueprints.
        run: splits.

    Returns:
        By blueprint, (n_days,) [fraction of equity], 0 on days without a position.

    Knows:
        the trades labelled train or validation.
    """
    parts: dict[str, list[FloatArray]] = {}
    for split in OPEN_SPLITS:
        window, own = run.splits[split], trades.filter(split=split.value)
        for piece in Slice.each(ledger, own, blueprints, window.start, window.end):
            parts.setdefault(piece.scope, []).append(piece.daily_returns())
    return {name: np.concatenate(both) for name, both in parts.items()}


def correlation(left: FloatArray, right: FloatArray) -> float:
    """Correlate two series of daily returns; NaN if one of them shows no scatter.

    Args:
        left: (n_days,) returns.
        right: (n_days,) returns of the same days.

    Knows:
        its arguments.
    """
    a, b = left - left.mean(), right - right.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(float(a @ b) / scale, -1.0, 1.0)) if scale > 0 else math.nan


def _pass_rate(spec: Blueprint, trades: pl.DataFrame) -> Found:
    """Count the symbols in scope that earn on the split on which fewer do; an untraded one does not."""
    scope = spec.symbol_scope.symbols
    own = trades.filter(pl.col("blueprint_id") == spec.blueprint_id, pl.col("symbol").is_in(scope))
    net = own.group_by("split", "symbol", maintain_order=True).agg(pl.col("net_pnl").sum())
    earning = {split: net.filter(pl.col("net_pnl") > 0, split=split.value).height for split in OPEN_SPLITS}
    told = ", ".join(f"{split.value} {n} of {len(scope)} symbols" for split, n in earning.items())
    return Found(min(earning.values()) / len(scope), f"net above 0: {told}; a symbol without a trade is none")


def _deflated(returns: FloatArray, benchmark: Benchmark) -> Found:
    own, held = annual_sharpe(returns), benchmark.ratio
    if not (math.isfinite(own.daily) and math.isfinite(held)):
        why = "the daily ratio" if not math.isfinite(own.daily) else "what the luckiest of all runs' trials shows"
        return Found(math.nan, f"insufficient evidence: {why} is unknown")
    shape = (own.daily, own.n_days, own.skew, own.kurtosis)
    return Found(
        deflated_sharpe_ratio(*shape, n_trials=benchmark.n_trials, trials_variance=benchmark.deviation**2),
        f"daily ratio {own.daily:.4g} over {own.n_days} days (2014) against {held:.4g}, what the luckiest of "
        f"{benchmark.n_trials:.4g} independent trials of all runs shows at {benchmark.deviation:.4g} each; "
        f"against 0 the probability is {probabilistic_sharpe_ratio(*shape):.4g}",
    )


def _overfitting(search: Overfitting) -> Found:
    if math.isnan(search.probability):
        return Found(
            math.nan,
            f"insufficient evidence: {search.n_trials} tested hypotheses in {search.n_halves} halves; a rank needs two of "
            "them with scatter, and every block two days",
        )
    return Found(
        search.probability,
        f"the best of {search.n_trials} tested hypotheses on half of the days, before costs, is at or below the median "
        f"on the others in so many of {search.n_halves} halves; mean logit {search.mean_logit:.3g}; of the whole search, "
        "and of noise alone .5 with a scatter of .2",
    )


def _neighbourhood(rows: pl.DataFrame) -> Iterator[tuple[str, Found]]:
    """Yield the worst neighbour's share of the blueprint's own net per day, and how many neighbours are positive on both."""
    by = {(name, split): value for name, split, value in rows.select("neighbour", "split", "net_per_day").iter_rows()}
    names = sorted({name for name, _ in by} - {CENTRE})
    own = {split: by.get((CENTRE, split.value), math.nan) for split in OPEN_SPLITS}
    if not names or any(math.isnan(value) for value in own.values()):
        unknown = Found(math.nan, "insufficient evidence: no neighbour was simulated")
        yield from ((gate, unknown) for gate in (NEIGHBOUR_SHARE.gate, POSITIVE_NEIGHBOURS.gate))
        return
    told = ", ".join(f"{split.value} {value:.3g}" for split, value in own.items())
    if min(own.values()) > 0:
        share, name, split = _worst_share(by, names, own)
        why = f"worst of {len(names)} neighbours: {name} on {split.value}; own net per day {told}"
        missing = f"insufficient evidence: {name} on {split.value} was not simulated"
        yield NEIGHBOUR_SHARE.gate, Found(share, missing if math.isnan(share) else why)
    else:
        why = f"insufficient evidence: own net per day is not above 0 on both ({told}); a loss has no neighbourhood"
        yield NEIGHBOUR_SHARE.gate, Found(math.nan, why)
    positive = [name for name in names if all(by.get((name, split.value), math.nan) > 0 for split in OPEN_SPLITS)]
    lost = ", ".join(name for name in names if name not in positive) or "none"
    yield (
        POSITIVE_NEIGHBOURS.gate,
        Found(len(positive) / len(names), f"{len(positive)} of {len(names)} positive on both; others: {lost}"),
    )


def _worst_share(
    by: Mapping[tuple[str, str], float], names: Sequence[str], own: Mapping[Split, float]
) -> tuple[float, str, Split]:
    """Return the least share of the own net per day, whose and where; NaN if a neighbour is missing."""
    shares = [(by.get((name, split.value), math.nan) / own[split], name, split) for name in names for split in own]
    return next((one for one in shares if math.isnan(one[0])), min(shares))
