"""Hypotheses with their evidence, the trial ledger and the checklist that decides whether execution may run."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables import candidates
from backtest_assets.tables.contract import Column, Rule, Table

_F = pl.Float64()
_B = pl.Boolean()
_I = pl.Int64()
_S = pl.String()


def _nullable(name: str, unit: str, about: str) -> Column:
    return Column(name, _F, unit, about, nullable=True)


HYPOTHESIS_QUEUE = Table(
    "hypothesis_queue",
    Stage.HYPOTHESES,
    "research",
    ("hypothesis_id", "event_type"),
    (
        Column(
            "hypothesis_id",
            _S,
            "text",
            "Content id of the mechanism, the same in every run; no id of table hypotheses.",
        ),
        Column("source_kind", _S, "text", "template, fusion, or family: the record that a family has nothing queued."),
        Column("template_id", _S, "text", "T1..T5; empty for the others."),
        Column("fusion_operator", _S, "text", "F1..F5; empty for the others."),
        Column("mechanism_sentence", _S, "text", "Why something should follow; empty for a record."),
        Column("consequence", _S, "text", "What should follow; empty for a record."),
        Column(
            "required_datasets",
            _S,
            "text",
            "Data sets it is seen in, first those that are lacking, comma separated; empty for a record.",
        ),
        Column("event_type", _S, "text", "Target family; the row's mapping to phase 2."),
        Column("horizon_bucket", _S, "text", "short (4 and 16 bars), medium (48 and 96); empty for a record."),
        Column("condition", _S, "text", "Condition it is bound to; empty for every condition of the family."),
        Column(
            "negative_controls_json",
            _S,
            "JSON",
            "For each declared control: p observed by phase 1 on the bucket's moves (null if not run), its limit, whether it passed.",
        ),
        _nullable("mechanism_coherence", "score", "Roles that its data sets can play, 0 to 1; null for a record."),
        _nullable("observability", "score", "Mean resolution times content of its data sets; null for a record."),
        _nullable(
            "testability",
            "score",
            "Half the share of controls run, half matched events over phase2_min_ess, at most 1; null for a record.",
        ),
        _nullable("priority", "score", "Mean of the three; null for a record."),
        Column("rank", _I, "1", "1 is asked first: queued rows, then others that are tested, then the rest."),
        Column("status", _S, "text", "QUEUED; REJECTED, SKIPPED or NOT_RUN for the reason given."),
        Column(
            "is_tested",
            _B,
            "bool",
            "Phase 2 tests it if the run obeys the queue: QUEUED, or SKIPPED only by phase 1's decision.",
            sample=(0, 0),
        ),
        Column("reason", _S, "text", "Why it is not queued; empty if it is."),
    ),
    "Mechanisms that the run's data can show, judged by their negative controls and ranked; phase 2 obeys if told to.",
    (
        Rule("reason_if_not_queued", (pl.col("status") == "QUEUED") == (pl.col("reason") == "")),
        Rule("tested_is_queued_or_skipped", ~pl.col("is_tested") | pl.col("status").is_in(["QUEUED", "SKIPPED"])),
        Rule("queued_is_tested", (pl.col("status") != "QUEUED") | pl.col("is_tested")),
        Rule(
            "scores_are_shares",
            pl.all_horizontal(
                pl.col("mechanism_coherence", "observability", "testability", "priority")
                .is_between(0, 1)
                .fill_null(value=True)
            ),
        ),
    ),
)
HYPOTHESES = Table(
    "hypotheses",
    Stage.HYPOTHESES,
    "research",
    ("hypothesis_id",),
    (
        Column("hypothesis_id", _S, "text", "Content id of family, definition, condition, side rule, delay and hold."),
        Column("event_type", _S, "text", "Event family."),
        Column("condition", _S, "text", "What must be true at known_at, for example session_us."),
        Column("side_rule", _S, "text", "long, short, with_event or against_event."),
        Column(
            "delay_bars",
            pl.Int32(),
            "bars",
            "Bars between known_at and entry: one of phase2_entry_delays_bars.",
            sample=(0, 0),
        ),
        Column("hold_bars", pl.Int32(), "bars", "Bars between entry and the time exit.", sample=(4, 96)),
        Column(
            "condition_place",
            _I,
            "1",
            "Place of the condition in its family's order of priority; beyond phase2_max_conditions it is not tested.",
            sample=(1, 9),
        ),
        Column(
            "queue_rank",
            _I,
            "1",
            "Best rank in hypothesis_queue that asks for it; null where the run does not obey the queue.",
            nullable=True,
        ),
        Column("n_train", _I, "events", "Events on train."),
        Column("n_days_train", _I, "days", "Days of train on which a trade was entered."),
        Column("n_validation", _I, "events", "Events on validation."),
        Column("n_days_validation", _I, "days", "Days of validation on which a trade was entered."),
        Column("n_run", _I, "events", "Events of the whole run window; a count, nothing else of test is seen."),
        Column(
            "is_eligible",
            _B,
            "bool",
            "Tested: within the budget, with enough events and days; from counts only.",
            sample=(1, 1),
        ),
        Column("phase1_decision", _S, "text", "What phase 1 decided about the family: pass, freeze or not_run."),
        _nullable("gross_mean_train_bps", "bps per event", "Mean before costs and funding."),
        _nullable("net_mean_train_bps", "bps per event", "Mean net of costs and funding."),
        _nullable(
            "excess_mean_train_bps",
            "bps per event",
            "Net mean minus the symbol's own train drift over the hold: what is tested.",
        ),
        _nullable("se_train_bps", "bps per event", "Day-clustered standard error of the excess mean."),
        _nullable("t_train", "1", "Day-clustered t of the excess mean."),
        _nullable("p_train", "probability", "One-sided p of t_train."),
        _nullable("p_rw", "probability", "Romano-Wolf step-down adjusted p over all eligible hypotheses of the run."),
        _nullable("p_bh", "probability", "Benjamini-Hochberg adjusted p."),
        _nullable("p_by", "probability", "Benjamini-Yekutieli adjusted p; shown, not deciding."),
        _nullable("t_iid_train", "1", "t of the excess mean as if trades were independent; shown, not deciding."),
        _nullable(
            "shrunken_excess_mean_train_bps",
            "bps per event",
            "Excess mean shrunk towards the cost alone by what all tested hypotheses show; shown, not deciding.",
        ),
        _nullable(
            "penalty_ln_m_bps", "bps per event", "Older penalty k x sd x sqrt(ln m / ess_train); shown, not deciding."
        ),
        _nullable(
            "penalty_2_ln_m_bps",
            "bps per event",
            "Older penalty k x sd x sqrt(2 ln m / ess_train); shown, not deciding.",
        ),
        _nullable(
            "multiplicity_penalty_bps", "bps per event", "k x se x what the luckiest null hypothesis of this run shows."
        ),
        _nullable(
            "expectancy_after_multiplicity_bps",
            "bps per event",
            "Net train mean minus the penalty: a floor, not an estimate.",
        ),
        _nullable("net_mean_validation_bps", "bps per event", "Mean net of costs and funding on validation."),
        _nullable("excess_mean_validation_bps", "bps per event", "Validation mean minus drift."),
        _nullable("t_validation", "1", "Day-clustered t on validation."),
        _nullable("p_validation", "probability", "One-sided p on validation."),
        _nullable("ess_train", "events", "Effective sample size on train."),
        _nullable("ess_run", "events", "n_run x ess_train / n_train."),
        Column(
            "is_ess_lag_significant",
            _B,
            "bool",
            "The last used lag is still significant: the ESS may be overstated.",
            sample=(0, 0),
        ),
        _nullable("delay_positive_ratio", "fraction", "Share of applicable delays with a positive net mean."),
        _nullable("delay_robustness_score", "1", "0.7 ratio + 0.3 stability."),
        Column(
            "delay_means_json", _S, "JSON", "Net mean by delay; delays past half the hold are marked not applicable."
        ),
        _nullable("curvature_penalty", "fraction", "Largest relative loss among the +-10 % neighbours."),
        Column("n_positive_neighbours", _I, "1", "Positive ones among centre and neighbours."),
        Column(
            "n_curvature_means",
            _I,
            "1",
            "Centre and neighbours: 5, 7 where the condition is a threshold; 0 where it was not tested.",
        ),
        Column("curvature_means_json", _S, "JSON", "Net mean of the centre and of each neighbour."),
        _nullable("stressed_mean_train_bps", "bps per event", "Mean with 1.5 times the costs."),
        _nullable("cost_ratio_train", "fraction", "Cost over gross profit; null when gross <= 0."),
        _nullable(
            "control_net_mean_train_bps",
            "bps per event",
            "Net mean of the matched controls under the same rule; shown, not deciding.",
        ),
        _nullable(
            "adverse_q95_train_bps",
            "bps of notional",
            "95th percentile of the worst move against the position on train.",
        ),
        _nullable(
            "favourable_q95_train_bps", "bps of notional", "95th percentile of the best move for the position on train."
        ),
        Column("gate_phase1", _B, "bool", "phase1_decision is pass; the others stay in the multiplicity adjustment."),
        Column("gate_multiplicity", _B, "bool", "p_rw and p_bh <= 0.05 and expectancy after multiplicity > 0."),
        Column("gate_validation", _B, "bool", "Validation mean > 0 and p <= 0.10."),
        Column("gate_ess", _B, "bool", "ess_run >= phase2_min_ess."),
        Column("gate_after_cost", _B, "bool", "Net train mean > 0."),
        Column("gate_stressed_cost", _B, "bool", "Stressed train mean > 0."),
        Column("gate_cost_ratio", _B, "bool", "cost_ratio_train < 0.60."),
        Column("gate_delay_robustness", _B, "bool", "Both delay limits are kept."),
        Column("gate_parameter_curvature", _B, "bool", "Penalty within its limit and at least two thirds positive."),
        Column("status", _S, "text", "selected, rejected, insufficient_evidence or beyond_budget (both not tested)."),
        Column(
            "fail_reasons",
            _S,
            "text",
            "Failed gates, or the budget or the counts that were too small, comma separated; empty if selected.",
        ),
    ),
    "Every hypothesis of the run with its evidence and gates.",
    (
        Rule(
            "probabilities",
            pl.all_horizontal(
                pl.col("p_train", "p_rw", "p_bh", "p_by", "p_validation").is_between(0, 1).fill_null(value=True)
            ),
        ),
    ),
)
INFERENCE_SUMMARY = Table(
    "inference_summary",
    Stage.HYPOTHESES,
    "research",
    ("statistic",),
    (
        Column("statistic", _S, "text", "Name of the number."),
        _nullable("value", "unit", "Its value; null where it is unknown, all but n_tested if nothing was tested."),
        Column("unit", _S, "text", "Unit of the value."),
        Column("detail", _S, "text", "What the number means in this run."),
    ),
    "How hard the tested hypotheses were to pass together, and what the bootstrap takes for granted; never deciding.",
)
TRIAL_LEDGER = Table(
    "trial_ledger",
    Stage.HYPOTHESES,
    "research",
    ("trial_id",),
    (
        Column("trial_id", _S, "text", "Content id of the rule, the settings and the data it was tried on."),
        Column("hypothesis_id", _S, "text", "The hypothesis it belongs to."),
        Column("kind", _S, "text", "hypothesis, delay or neighbour."),
        Column("event_type", _S, "text", "Event family."),
        Column("detail", _S, "text", "What was tried: condition, side rule, delay, hold, variant."),
        Column("settings_digest", _S, "sha256", "Settings of the run."),
        Column("inputs_digest", _S, "sha256", "Content digest of the outcomes it was tried on."),
        _nullable("net_mean_bps", "bps per event", "Net mean on train; null where it had no trades."),
        _nullable("t", "1", "Its t on train; null for delays and neighbours, which are not tested."),
        _nullable("p", "probability", "Its own one-sided p on train; null where t is."),
        _nullable(
            "luckiest_t",
            "standard errors",
            "What the luckiest of all hypotheses that were adjusted for together shows without an edge; null if unknown.",
        ),
    ),
    "Every test ever made by this run, over all its materialisations; append-only.",
    (Rule("p_is_probability", pl.col("p").is_between(0, 1).fill_null(value=True)),),
)
TRIAL_COUNTS = Table(
    "trial_counts",
    Stage.HYPOTHESES,
    "research",
    ("of_run_id", "inputs_digest"),
    (
        Column("of_run_id", _S, "text", "The run whose trial ledger was counted."),
        Column("inputs_digest", _S, "sha256", "The outcomes that these trials were tried on."),
        Column("ledger_digest", _S, "sha256", "Content digest of that ledger as it was counted."),
        Column("is_same_data", _B, "bool", "They are the outcomes that the counting run tried its own trials on."),
        Column(
            "n_trials",
            _I,
            "trials",
            "Trials of that ledger on these outcomes, delays and neighbours among them.",
            sample=(1, 3),
        ),
        Column("n_hypotheses", _I, "trials", "Of them hypotheses."),
        Column(
            "n_trials_all",
            _I,
            "trials",
            "Distinct trials over all runs of the lake; the same on every row.",
            sample=(3, 9),
        ),
        Column("n_hypotheses_all", _I, "trials", "Of them hypotheses; the same on every row.", sample=(2, 3)),
        Column("n_trials_same_data", _I, "trials", "Of n_trials_all those on the run's own outcomes; as above."),
        Column(
            "effective_trials_all",
            _F,
            "independent trials",
            "Independent trials whose luckiest shows as much, at most: all runs of the lake; the same on every row.",
            sample=(1.0, 2.0),
        ),
    ),
    "How many tests were ever made on this lake, over all runs and families, as this run found them.",
    (
        Rule("hypotheses_are_trials", pl.col("n_hypotheses") <= pl.col("n_trials")),
        Rule("parts_are_of_all", pl.col("n_trials") <= pl.col("n_trials_all")),
        Rule("effective_at_most_all", pl.col("effective_trials_all").is_between(0, pl.col("n_hypotheses_all"))),
    ),
)
RESEARCH_CHECKLIST = Table(
    "research_checklist",
    Stage.HYPOTHESES,
    "research",
    ("gate",),
    (
        Column("gate", _S, "text", "What was asked of the run's hypotheses and edge candidates."),
        _nullable("observed", "unit", "Measured number; null where it is unknown, which makes the decision ERROR."),
        Column("limit", _F, "unit", "Limit."),
        Column("unit", _S, "text", "Unit of both."),
        Column("is_passed", _B, "bool", "The answer."),
        Column("detail", _S, "text", "Why, and what to look at."),
        Column(
            "decision", _S, "text", "PROMOTE, KEEP_RESEARCH or ERROR: the decision of the run, the same on every row."
        ),
    ),
    "The decision that lets execution run, with its reasons.",
)
TABLES = (
    HYPOTHESIS_QUEUE,
    HYPOTHESES,
    INFERENCE_SUMMARY,
    TRIAL_LEDGER,
    *candidates.TABLES,
    RESEARCH_CHECKLIST,
    TRIAL_COUNTS,
)
