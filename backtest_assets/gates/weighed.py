"""The numbers of phase 1 counted again in SQL: means, clustered errors and contradictions, and bounds for what was drawn.

The p of the events is drawn anew, by other code and another seed, from the sums counted here; placebos are not made again,
and their p is bounded by Student's t. Keep decisions out (`phase1`).
"""

import math
from typing import Final, cast

import numpy as np
import polars as pl
from scipy import special

from backtest_assets.domain.event import EventType
from backtest_assets.gates.foresight import random_of
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.sql import ask_sql
from backtest_assets.research.phase1.criteria import CONTRADICTION_LEVEL, N_SHUFFLES, PLACEBO_WEEKS
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.bootstrap import N_DRAWS

MAX_ERROR: Final = 1e-9
"""Difference of a number counted again, relative to 1 + its size: rounding of sums in another order, nothing else."""

MC_ERRORS: Final = 5.0
"""How far the share of a bootstrap's draws may lie from the p it estimates [standard errors of that share]: one number in two
million is farther."""

N_DRAWN_AGAIN: Final = 8_000
"""Draws of the p of the events [draws]: with these its error is the stored one's for the most part, .010 at a p of .20."""

STUDENT_FACTOR: Final = 1.5
"""How far the p of the wild bootstrap may lie from Student's [ratio]. They differ where few clusters weigh much, most of which
the effective number of clusters takes up, and where a few clusters have few signs: 2 to the power 1 - G is added. 26,000
numbers from 4 to 300 clusters of fat tails, one of them up to three fifths of all events: none beyond."""

_NO_SCATTER: Final = 1e-12  # a standard error below this share of the mean is rounding
_KEY: Final = ("event_type", "metric")
_AT_ONCE: Final = 1_000  # draws per matrix product
_NO_VARIANCE: Final = 1e-9  # of a draw, as a share of the data's own: rounding

# Every metric of every event and control of train as one row, each event beside its controls' mean, and what is told of it
# as a whole and of every year, symbol and third of the volatility rank, by clusters: days for moves, weeks for the rest.
_BLOCKS: Final = """
with measured as (
    select o.event_type, o.event_id, o.control_no, o.known_at, o.symbol, m.metric,
        case m.metric when 'realized_vol_sigmas' then o.realized_vol_bps * sqrt(96) else o.highest_bps - o.lowest_bps end
            / b.barrier_bps as value
    from outcomes o join barriers b on b.event_id = o.event_id and b.control_no = o.control_no
        cross join (values ('realized_vol_sigmas'), ('range_sigmas')) as m(metric)
    where o.hold_bars = 96
    union all
    select event_type, event_id, control_no, known_at, symbol, 'move_' || hold_bars || '_bars_bps',
        (case when event_type in (select event_type from sided) then side else 1 end) * (gross_bps - funding_bps)
    from outcomes
    union all
    select o.event_type, o.event_id, o.control_no, o.known_at, o.symbol, 'tail_hit',
        case when coalesce(b.up_bars, 97) <= 96 or coalesce(b.down_bars, 97) <= 96 then 1.0 else 0.0 end
    from barriers b join outcomes o on o.event_id = b.event_id and o.control_no = b.control_no and o.hold_bars = 96
    where b.bars_watched = 96
),
matches as (
    select m.event_id, m.metric, avg(m.value) as value, any_value(c.event_rv_pct) as rank
    from measured m join controls c on c.event_id = m.event_id and c.control_no = m.control_no and c.known_at = m.known_at
    where m.value is not null
    group by m.event_id, m.metric
),
pairs as (
    select e.event_type, e.metric, e.value as event, m.value as control, e.value - m.value as delta,
        year(e.known_at)::varchar as year, e.symbol, m.rank,
        date_trunc(case when starts_with(e.metric, 'move_') then 'day' else 'week' end, e.known_at) as block
    from measured e join matches m on m.event_id = e.event_id and m.metric = e.metric
    where e.control_no = 0 and e.value is not null
),
told as (
    select *, 'whole' as kind, '' as label from pairs
    union all select *, 'years', year from pairs
    union all select *, 'groups', symbol from pairs
    union all select *, 'groups', case when rank <= 1/3 then ' low' when rank <= 2/3 then ' middle' else ' high' end
    from pairs where rank is not null
),
blocks as (
    select event_type, metric, kind, label, block, count(*) as n, sum(delta) as delta, sum(event) as event,
        sum(control) as control
    from told group by all
)
"""
_SUMS: Final = """
select event_type, metric, block, n, delta from blocks where kind = 'whole'
"""
_MEANS: Final = """
,
means as (
    select event_type, metric, kind, label, count(*) as g, sum(n)::bigint as n, sum(event) / sum(n) as event,
        sum(control) / sum(n) as control, sum(delta) / sum(n) as delta
    from blocks group by all
),
scatter as (
    select event_type, metric, kind, label, sum(b.n ** 2) as nn, sum((b.delta - m.delta * b.n) ** 2) as uu,
        sum((b.delta - m.delta * b.n) ** 4) as uuuu
    from blocks b join means m using (event_type, metric, kind, label)
    group by event_type, metric, kind, label
)
select m.*, sqrt(uu * g / nullif(g - 1, 0)) / n as se, least(n ** 2 / nn, uu ** 2 / nullif(uuuu, 0)) as n_effective
from means m join scatter using (event_type, metric, kind, label)
"""


def weigh_again(evidence: Evidence) -> pl.DataFrame:
    """Count every family and metric of `phase1_evidence` again from outcomes, barriers and controls.

    Args:
        evidence: of `phase1_evidence`.

    Returns:
        One row per family and metric with a matched event: `n`, `event`, `control`, `delta`, `g` (clusters), `se` and `t` (null
        below two clusters or without scatter), `n_effective`, `ci_low`, `ci_high`, and `n_years`, `n_years_opposite`,
        `n_groups`, `n_groups_opposite`.
    """
    told = _with_t(ask_sql(_BLOCKS + _MEANS, _frames(evidence)).sort(*_KEY, "kind", "label"))
    whole = told.filter(pl.col("kind") == "whole").drop("kind", "label")
    for kind in ("years", "groups"):
        parts = told.filter(pl.col("kind") == kind).join(whole.select(*_KEY, whole="delta"), on=_KEY, how="left")
        n_tested = pl.col("t").count().over(_KEY)
        is_opposite = (pl.col("p") <= CONTRADICTION_LEVEL / n_tested) & (pl.col("t") * pl.col("whole") < 0)
        counted = parts.with_columns(against=is_opposite).group_by(_KEY).agg(
            pl.col("t").count().cast(pl.Int64).alias(f"n_{kind}"),
            pl.col("against").sum().cast(pl.Int64).alias(f"n_{kind}_opposite"),
        )  # fmt: skip
        whole = whole.join(counted, on=_KEY, how="left")
    return whole.drop("p")


def _frames(evidence: Evidence) -> dict[str, pl.DataFrame]:
    train = pl.col("split") == "train"
    outcomes = evidence.inputs["event_outcomes"].filter(
        train, pl.col("variant") == "centre", pl.col("delay_bars") == 0, pl.col("hold_bars").is_in([4, 16, 48, 96])
    )
    sided = pl.DataFrame({"event_type": [family.value for family in EventType if family.is_sided]})
    utc = pl.col("known_at").dt.replace_time_zone(None)
    return {
        "outcomes": outcomes.select(pl.exclude("^accrual_.*$")).with_columns(utc),
        "barriers": evidence.inputs["event_barriers"].filter(train),
        "controls": evidence.inputs["event_controls"].select("event_id", "control_no", utc, "event_rv_pct"),
        "sided": sided,
    }


def _with_t(rows: pl.DataFrame) -> pl.DataFrame:
    """Add t, its one-sided p in its own direction and the ends of the interval; null where the error is unknown."""
    known = pl.when(pl.col("se") > _NO_SCATTER * pl.col("delta").abs()).then("se")
    told = rows.with_columns(se=known).with_columns(t=pl.col("delta") / pl.col("se"))
    df = np.maximum(told["g"].to_numpy() - 1, 1).astype(np.float64)
    t, se, delta = (told[name].fill_null(math.nan).to_numpy() for name in ("t", "se", "delta"))
    half = cast("FloatArray", special.stdtrit(df, 0.975)) * se
    return told.with_columns(
        p=pl.Series(special.stdtr(df, -np.abs(t)), nan_to_null=True),
        ci_low=pl.Series(delta - half, nan_to_null=True),
        ci_high=pl.Series(delta + half, nan_to_null=True),
    )


def family_bounds(evidence: Evidence) -> pl.DataFrame:
    """Draw the family-wise p of every metric anew, and say how far a share of `N_DRAWS` other draws may lie from it.

    Args:
        evidence: of `phase1_evidence`; its run is the seed.

    Returns:
        `event_type`, `metric`, `p_again`, and `p_family_low` and `p_family_high` for the stored p of each row; null where the
        family is not run or no error known.
    """
    run = evidence.frame.filter(pl.col("decision") != "not_run").select(_KEY)
    sums, rng = ask_sql(_BLOCKS + _SUMS, _frames(evidence)).join(run, on=_KEY, how="semi"), random_of(evidence)
    p_again = [_drawn_again(of_family, rng) for of_family in sums.sort(*_KEY, "block").partition_by("event_type")]
    both = evidence.frame.select(*_KEY, "p_family").join(
        pl.concat(p_again) if p_again else pl.DataFrame(schema={**dict.fromkeys(_KEY, pl.String), "p_again": pl.Float64}),
        on=_KEY, how="left",
    )  # fmt: skip
    pooled = (N_DRAWS * pl.col("p_family") + N_DRAWN_AGAIN * pl.col("p_again")) / (N_DRAWS + N_DRAWN_AGAIN)
    error = (pooled * (1.0 - pooled) * (1.0 / N_DRAWS + 1.0 / N_DRAWN_AGAIN)).sqrt()
    apart = MC_ERRORS * error + 2.0 / (N_DRAWS + 1)
    return both.select(
        *_KEY, "p_again", p_family_low=pl.col("p_again") - apart, p_family_high=pl.col("p_again") + apart
    )


def _drawn_again(sums: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Flip the sign of every cluster's residuals, for all metrics that have it, and count draws whose largest |t| is as large."""
    metrics = sums["metric"].unique().sort().to_list()
    is_move = pl.col("metric").str.starts_with("move_")  # a day is another cluster than the week that begins with it
    cluster = sums.select(pl.struct(is_move, "block").rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    place = cluster, np.searchsorted(metrics, sums["metric"].to_list())
    n, delta = (np.zeros((int(cluster.max()) + 1, len(metrics))) for _ in range(2))
    n[place], delta[place] = sums["n"].to_numpy(), sums["delta"].to_numpy()
    clusters = (n > 0).sum(axis=0)
    residual = delta - delta.sum(axis=0) / n.sum(axis=0) * n
    squares = (residual**2).sum(axis=0)
    is_known = (clusters > 1) & (np.sqrt(squares) > _NO_SCATTER * np.abs(delta.sum(axis=0)))
    if not is_known.any():
        return pl.DataFrame({"event_type": sums["event_type"][0], "metric": metrics, "p_again": None}, schema=_P_AGAIN)
    n, residual, squares, clusters = n[:, is_known], residual[:, is_known], squares[is_known], clusters[is_known]
    known = np.array(metrics)[is_known]
    total, factor = n.sum(axis=0), clusters / (clusters - 1.0)
    t = delta.sum(axis=0)[is_known] / np.sqrt(squares * factor)
    both, n_beyond = np.hstack([residual, residual * n]), np.zeros(t.size)
    for _ in range(0, N_DRAWN_AGAIN, _AT_ONCE):
        signs = 2.0 * rng.integers(0, 2, size=(_AT_ONCE, n.shape[0]), dtype=np.int8) - 1.0
        moved, crossed = np.hsplit(signs @ both, 2)
        mean = moved / total
        variance = squares - 2.0 * mean * crossed + mean**2 * (n**2).sum(axis=0)
        with np.errstate(divide="ignore"):
            drawn = np.abs(moved) / np.sqrt(np.where(variance > _NO_VARIANCE * squares, variance, 0.0) * factor)
        n_beyond += (drawn.max(axis=1)[:, np.newaxis] >= np.abs(t)).sum(axis=0)
    p = (1.0 + n_beyond) / (1.0 + N_DRAWN_AGAIN)
    return pl.DataFrame({"metric": known, "p_again": p}).select(
        event_type=pl.lit(sums["event_type"][0]), metric="metric", p_again="p_again"
    )


_P_AGAIN: Final = {"event_type": pl.String, "metric": pl.String, "p_again": pl.Float64}


def placebo_bounds(rows: pl.DataFrame) -> pl.DataFrame:
    """Bound the p of the placebos by Student's t.

    The largest of several |t| exceeds one more seldom than each of them together, and at least as often as its own. A p below
    its bounds claims too much, one above them too little.

    Args:
        rows: `event_type`, `metric`, `n_placebos`, `z_placebo_max` and `placebo_clusters_effective`, of all metrics of each family.

    Returns:
        `rows` with `p_placebo_low` and `p_placebo_high`.
    """
    found = [of_family.with_columns(*_between(of_family)) for of_family in rows.partition_by("event_type")]
    nothing = [pl.lit(None, pl.Float64).alias(f"p_placebo_{end}") for end in ("low", "high")]
    return pl.concat(found) if found else rows.with_columns(nothing)


def _between(rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    t, clusters, times = (
        _numbers(rows, name) for name in ("z_placebo_max", "placebo_clusters_effective", "n_placebos")
    )
    few_signs = 2.0 ** (1.0 - clusters)
    # a placebo of any number of clusters may have the largest t: none has a smaller p than a normal one
    own = _two_sided(t, np.full(t.size, np.inf)) / STUDENT_FACTOR
    union = STUDENT_FACTOR * _two_sided(t[:, np.newaxis], np.maximum(clusters - 1.0, 1.0)).sum(axis=1)
    low = np.maximum(own - _monte_carlo(own) - few_signs, 0.0)
    high = np.minimum(union, 1.0) + _monte_carlo(np.minimum(union, 1.0)) + few_signs.sum()
    return pl.Series("p_placebo_low", np.minimum(times * low, 1.0)), pl.Series("p_placebo_high", times * high)


def _two_sided(t: FloatArray, df: FloatArray) -> FloatArray:
    return 2.0 * np.where(np.isinf(df), special.ndtr(-np.abs(t)), special.stdtr(df, -np.abs(t)))


def _monte_carlo(p: FloatArray) -> FloatArray:
    return MC_ERRORS * np.sqrt(p * (1.0 - p) / N_DRAWS) + 1.0 / (N_DRAWS + 1)


def _numbers(rows: pl.DataFrame, column: str) -> FloatArray:
    return rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy()


def shares_hold() -> pl.Expr:
    """Return whether what placebos and shuffles show can be a share of so many, and agrees with the largest |z|.

    Returns:
        A condition on rows of `phase1_evidence`.
    """
    n_beyond = pl.col("p_shifted") * (1 + pl.col("n_placebos")) - 1
    n_rejected = pl.col("shuffled_rejection_share") * N_SHUFFLES
    return (
        pl.col("n_placebos").is_between(0, len(PLACEBO_WEEKS))
        & ((n_beyond - n_beyond.round()).abs() <= MAX_ERROR)
        & ((n_beyond.round() > 0) == (pl.col("z_placebo_max") >= pl.col("z").abs()))
        & ((n_rejected - n_rejected.round()).abs() <= MAX_ERROR * N_SHUFFLES)
        & (pl.col("shuffled_rejection_share").n_unique().over("event_type") == 1)
        & (pl.col("n_placebos").n_unique().over("event_type") == 1)
    )
