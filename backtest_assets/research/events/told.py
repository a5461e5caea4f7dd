"""What the UI tells of the event tables: a row per family; nothing that decides reads it."""

from typing import Final

import polars as pl

from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.events.definition import IS_ACCEPTED, Status
from backtest_assets.research.events.registry import FAMILIES

_IS_CENTRE: Final = pl.col("variant") == Variant.CENTRE.value
_DROPS: Final = tuple(status for status in Status if status is not Status.ACCEPTED)


def fates_by_family(candidates: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Count the candidates of every family by what became of them, and show the thresholds in force.

    Args:
        candidates: rows of `event_candidates`.
        run: the families.

    Returns:
        One row per family of the run: `exceedance_rate` declared, `n_candidates` of the declared definition and of them
        `n_accepted` and one column per reason of a drop, `n_accepted_rate_minus` and `n_accepted_rate_plus`, and the
        lowest and highest over the symbols of the last `threshold` (null without candidates), and `measures`: the family's
        declared ones, each with its number of candidates.

    Knows:
        the whole run.
    """
    centre = candidates.filter(_IS_CENTRE)
    fates = centre.group_by("event_type").agg(
        n_candidates=pl.len(),
        n_accepted=IS_ACCEPTED.sum(),
        **{f"n_{status.value}": (pl.col("status") == status.value).sum() for status in _DROPS},
    )
    rates = _accepted_by_rate(candidates.filter(IS_ACCEPTED))
    return _per_family(run, fates, rates, _thresholds(centre), _measures(centre, run))


def events_by_family(events: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Count the events of every family, and say how far apart they are kept.

    Args:
        events: rows of `event_registry`.
        run: the families.

    Returns:
        One row per family of the run: `n_events` of the declared definition, of them `n_up`, `n_down` and `n_open` (not
        over yet), `n_symbols`, `first_known_at`, `last_known_at`, `median_severity`, lowest and highest last `threshold`,
        the events of the other exceedance rates, the declared spacing: `is_over_after`, `rest_bars`, and `measures` with
        the number of events that each decided.

    Knows:
        the whole run.
    """
    centre = events.filter(_IS_CENTRE)
    counts = centre.group_by("event_type").agg(
        n_events=pl.len(),
        n_up=(pl.col("side") > 0).sum(),
        n_down=(pl.col("side") < 0).sum(),
        n_open=pl.col("exit_at").null_count(),
        n_symbols=pl.col("symbol").n_unique(),
        first_known_at=pl.col("known_at").min(),
        last_known_at=pl.col("known_at").max(),
        median_severity=pl.col("severity").median(),
    )
    spacings = [(family.value, FAMILIES[family].definition.spacing) for family in run.event_types]
    declared = pl.DataFrame(
        [(name, spacing.until, spacing.rest_bars) for name, spacing in spacings],
        schema={"event_type": pl.String, "is_over_after": pl.String, "rest_bars": pl.Int64},
        orient="row",
    )
    return _per_family(run, counts, _thresholds(centre), _accepted_by_rate(events), declared, _measures(centre, run))


def controls_by_family(controls: pl.DataFrame, events: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Count the controls of every family, and compare the volatility ranks that they were matched on.

    Args:
        controls: rows of `event_controls`.
        events: rows of `event_registry`.
        run: the families.

    Returns:
        One row per family of the run: `n_events`, of them `n_matched` and `n_without_control`, `n_controls`,
        `mean_event_rv_pct` and `mean_control_rv_pct` over the controls (null without any).

    Knows:
        the whole run.
    """
    centre = events.filter(_IS_CENTRE).group_by("event_type").agg(n_events=pl.len())
    matched = controls.group_by("event_type").agg(
        n_matched=pl.col("event_id").n_unique(),
        n_controls=pl.len(),
        mean_event_rv_pct=pl.col("event_rv_pct").mean(),
        mean_control_rv_pct=pl.col("control_rv_pct").mean(),
    )
    told = _per_family(run, centre, matched)
    alone = (pl.col("n_events").cast(pl.Int64) - pl.col("n_matched")).alias("n_without_control")
    return told.select("event_type", "exceedance_rate", "n_events", "n_matched", alone, "n_controls", r"^mean_.*$")


def _accepted_by_rate(events: pl.DataFrame) -> pl.DataFrame:
    rates = (variant.value for variant in Variant if variant is not Variant.CENTRE)
    return events.group_by("event_type").agg(
        **{f"n_accepted_{rate}": (pl.col("variant") == rate).sum() for rate in rates}
    )


def _measures(centre: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    counted = {(family, word): n for family, word, n in centre.group_by("event_type", "measure").len().iter_rows()}
    told = [
        (family.value, ", ".join(f"{word.value} {counted.get((family.value, word.value), 0)}" for word in declared))
        for family, declared in ((family, FAMILIES[family].definition.measures) for family in run.event_types)
    ]
    return pl.DataFrame(told, schema={"event_type": pl.String, "measures": pl.String}, orient="row")


def _thresholds(centre: pl.DataFrame) -> pl.DataFrame:
    last = centre.sort("known_at", "event_id").group_by("event_type", "symbol").agg(pl.col("threshold").last())
    return last.group_by("event_type").agg(
        lowest_threshold=pl.col("threshold").min(), highest_threshold=pl.col("threshold").max()
    )


def _per_family(run: ResearchRun, *parts: pl.DataFrame) -> pl.DataFrame:
    """Put what was counted side by side, a row per family in the run's order; a count that is not there is 0."""
    told = pl.DataFrame(
        [(family.value, FAMILIES[family].definition.rate) for family in run.event_types],
        schema={"event_type": pl.String, "exceedance_rate": pl.Float64},
        orient="row",
    )
    for part in parts:
        told = told.join(part, on="event_type", how="left", maintain_order="left")
    return told.with_columns(pl.col(r"^n_.*$").fill_null(0))
