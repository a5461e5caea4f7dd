"""Phase 1: age curves of events and controls, and the evidence and decision of every family; train only."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Rule, Table

_F = pl.Float64()
_I = pl.Int64()
_S = pl.String()
_METRIC = "unit of the metric"


def _known_if_run(name: str, unit: str, about: str, dtype: pl.DataType = _F) -> Column:
    return Column(name, dtype, unit, about, nullable=True)


PHASE1_HAZARDS = Table(
    "phase1_hazards",
    Stage.PHASE1,
    "research",
    ("event_type", "cohort", "outcome", "age_bars"),
    (
        Column("event_type", _S, "text", "Event family."),
        Column("cohort", _S, "text", "events or controls."),
        Column("outcome", _S, "text", "up, down or either: which daily-sigma barrier is waited for."),
        Column("age_bars", pl.Int32(), "bars", "Age, 1 is the entry bar.", sample=(1, 96)),
        Column("n_at_risk", _I, "1", "Watched at this age and not hit before it.", sample=(9, 9)),
        Column("n_hits", _I, "1", "Of them hit at this age.", sample=(1, 9)),
        Column("hazard", _F, "fraction", "n_hits over n_at_risk; null where nobody is at risk.", nullable=True),
        Column(
            "survival", _F, "fraction", "Share not hit up to this age (Kaplan-Meier); null likewise.", nullable=True
        ),
    ),
    "When events and controls of train first move by a daily sigma, by age, with censoring.",
    (
        Rule("hits_are_at_risk", pl.col("n_hits").is_between(0, pl.col("n_at_risk"))),
        Rule(
            "shares",
            pl.all_horizontal(pl.col("hazard", "survival").is_between(0, 1).fill_null(value=True)),
        ),
    ),
)
PHASE1_EVIDENCE = Table(
    "phase1_evidence",
    Stage.PHASE1,
    "research",
    ("event_type", "metric"),
    (
        Column("event_type", _S, "text", "Event family."),
        Column(
            "metric",
            _S,
            "text",
            "realized_vol_sigmas and range_sigmas over 96 bars, in daily sigmas known before the onset; tail_hit (either "
            "daily-sigma barrier within 96 bars); move_4_bars_bps ... move_96_bars_bps: gross minus funding in the event's "
            "side, of a family without sides long.",
        ),
        Column("n_events", _I, "events", "Accepted centre events of train.", sample=(40, 50)),
        Column("n_matched", _I, "events", "Of them with the metric known, and known of a control.", sample=(30, 40)),
        _known_if_run("mean_event", _METRIC, "Mean of the matched events; null, as all below, if not_run."),
        _known_if_run("mean_control", _METRIC, "Mean of the means of their own controls."),
        _known_if_run("delta", _METRIC, "Mean of event minus its own controls."),
        _known_if_run("n_clusters", "1", "UTC days on which the matched events were known; weeks, but for moves.", _I),
        _known_if_run("se", _METRIC, "Standard error of delta, clustered by those days or weeks."),
        _known_if_run("ci_low", _METRIC, "Lower end of its 95 % interval."),
        _known_if_run("ci_high", _METRIC, "Upper end."),
        _known_if_run("z", "1", "delta over se."),
        _known_if_run(
            "p_family", "probability", "Two-sided p, adjusted for the family's metrics (max |z|, wild bootstrap)."
        ),
        Column(
            "n_placebos",
            _I,
            "1",
            "Shifts by whole weeks whose comparison could be tested; null where the family was not weighed.",
            nullable=True,
        ),
        _known_if_run(
            "placebo_clusters_effective",
            "1",
            "Fewest days or weeks of one of them, as many as equal ones would weigh: what bounds their p.",
        ),
        _known_if_run(
            "p_shifted", "probability", "Share of placebos, the true events among them, with at least the true |z|."
        ),
        _known_if_run(
            "p_placebo", "probability", "Smallest adjusted p of the events shifted by whole weeks, times their shifts."
        ),
        _known_if_run("z_placebo_max", "1", "Largest |z| of the shifted events."),
        _known_if_run(
            "shuffled_rejection_share",
            "fraction",
            "Of 199 shuffles (which member of a set is the event, by whole days) those whose moves the test rejects at 5 %; the "
            "family's, the same on every row.",
        ),
        _known_if_run("n_years", "years", "Years with a testable delta.", _I),
        _known_if_run("n_years_opposite", "years", "Of them significantly of the other sign (Bonferroni).", _I),
        _known_if_run("n_groups", "1", "Symbols and volatility regimes with a testable delta.", _I),
        _known_if_run("n_groups_opposite", "1", "Of them significantly of the other sign (Bonferroni).", _I),
        Column(
            "decision", _S, "text", "pass, freeze or not_run: the family's, the same on every row. Phase 2 obeys it."
        ),
        Column(
            "ground",
            _S,
            "text",
            "Why, in one word: unsupported, few_matched, no_scatter, few_placebos (not_run); no_effect, biased, contradicted "
            "(freeze); effect (pass).",
        ),
        Column("reason", _S, "text", "Why, with metric and number."),
    ),
    "What followed every family's train events beside their controls and placebos, and the decision phase 2 obeys.",
    (
        Rule(
            "probabilities",
            pl.all_horizontal(
                pl.col("p_family", "p_shifted", "p_placebo", "shuffled_rejection_share")
                .is_between(0, 1)
                .fill_null(value=True)
            ),
        ),
        Rule("matched_are_events", pl.col("n_matched").is_between(0, pl.col("n_events"))),
        Rule("reason_given", pl.col("reason") != ""),
    ),
)
TABLES = (PHASE1_HAZARDS, PHASE1_EVIDENCE)
