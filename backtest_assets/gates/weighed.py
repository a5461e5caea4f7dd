"""The numbers of phase 1 counted again in SQL: means, clustered errors and contradictions, and bounds for what was drawn.

Draws are not repeated: the same code would agree with itself. Keep decisions out (`phase1`).
"""

import math
from typing import Final, cast

import numpy as np
import polars as pl
from scipy import special

from backtest_assets.domain.event import EventType
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

STUDENT_FACTOR: Final = 1.5
"""How far the p of the wild bootstrap may lie from Student's [ratio]. They differ where few clusters weigh much, most of which
the effective number of clusters takes up, and where a few clusters have few signs: 2 to the power 1 - G is added. 26,000
numbers from 4 to 300 clusters of fat tails, one of them up to three fifths of all events: none beyond."""

_NO_SCATTER: Final = 1e-12  # a standard error below this share of the mean is rounding
_KEY: Final = ("event_type", "metric")

# Every metric of every event and control of train as one row, each event beside its controls' mean, and what is told of it
# as a whole and of every year, symbol and third of the volatility rank, by clusters: days for moves, weeks for the rest.
_AGAIN: Final = """
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
),
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
    train = pl.col("split") == "train"
    outcomes = evidence.inputs["event_outcomes"].filter(
        train, pl.col("variant") == "centre", pl.col("delay_bars") == 0, pl.col("hold_bars").is_in([4, 16, 48, 96])
    )
    sided = pl.DataFrame({"event_type": [family.value for family in EventType if family.is_sided]})
    utc = pl.col("known_at").dt.replace_time_zone(None)
    frames = {
        "outcomes": outcomes.select(pl.exclude("^accrual_.*$")).with_columns(utc),
        "barriers": evidence.inputs["event_barriers"].filter(train),
        "controls": evidence.inputs["event_controls"].select("event_id", "control_no", utc, "event_rv_pct"),
        "sided": sided,
    }
    told = _with_t(ask_sql(_AGAIN, frames).sort(*_KEY, "kind", "label"))
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


def drawn_bounds(rows: pl.DataFrame) -> pl.DataFrame:
    """Bound the p of the bootstrap, of the true events and of their placebos, by Student's t.

    The largest of several |t| exceeds one more seldom than each of them together, and at least as often as its own. A p below
    its bounds claims too much, one above them too little.

    Args:
        rows: `event_type`, `metric`, `z`, `g`, `n_effective`, `n_placebos`, `z_placebo_max` and `placebo_clusters_effective`, of all
            metrics of each family.

    Returns:
        `rows` with `p_family_low`, `p_family_high`, `p_placebo_low` and `p_placebo_high`.
    """
    found = [
        of_family.with_columns(
            *_between("p_family", of_family, ("z", "g", "n_effective"), np.ones(of_family.height)),
            *_between(
                "p_placebo",
                of_family,
                ("z_placebo_max", "placebo_clusters_effective", "placebo_clusters_effective"),
                _numbers(of_family, "n_placebos"),
                is_any=True,
            ),
        )
        for of_family in rows.partition_by("event_type")
    ]
    unknown = pl.lit(None, pl.Float64)
    nothing = [unknown.alias(f"{name}_{end}") for name in ("p_family", "p_placebo") for end in ("low", "high")]
    return pl.concat(found) if found else rows.with_columns(nothing)


def _between(
    name: str, rows: pl.DataFrame, columns: tuple[str, str, str], times: FloatArray, *, is_any: bool = False
) -> tuple[pl.Series, pl.Series]:
    t, clusters, effective = (_numbers(rows, column) for column in columns)
    few_signs = 2.0 ** (1.0 - clusters)
    # a placebo of any number of clusters may have the largest t: none has a smaller p than a normal one
    own = _two_sided(t, np.full(t.size, np.inf) if is_any else np.maximum(clusters - 1.0, 1.0)) / STUDENT_FACTOR
    union = STUDENT_FACTOR * _two_sided(t[:, np.newaxis], np.maximum(effective - 1.0, 1.0)).sum(axis=1)
    low = np.maximum(own - _monte_carlo(own) - few_signs, 0.0)
    high = np.minimum(union, 1.0) + _monte_carlo(np.minimum(union, 1.0)) + few_signs.sum()
    return pl.Series(f"{name}_low", np.minimum(times * low, 1.0)), pl.Series(f"{name}_high", times * high)


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
