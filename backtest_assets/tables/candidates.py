"""The evidence of a run's best hypotheses, one table per question; listed with the other tables of their stage."""

from typing import Final

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Rule, Table

_F: Final = pl.Float64()
_B: Final = pl.Boolean()
_I: Final = pl.Int64()
_S: Final = pl.String()
_RULE: Final = (
    Column("hypothesis_id", _S, "text", "The hypothesis."),
    Column("event_type", _S, "text", "Event family."),
    Column("condition", _S, "text", "What must be true at known_at."),
    Column("side_rule", _S, "text", "long, short, with_event or against_event."),
    Column("delay_bars", pl.Int32(), "bars", "Bars between known_at and entry.", sample=(0, 0)),
    Column("hold_bars", pl.Int32(), "bars", "Bars between entry and the time exit.", sample=(4, 96)),
)


def _nullable(name: str, unit: str, about: str, sample: tuple[float, float] = (0.0, 1.0)) -> Column:
    return Column(name, _F, unit, about, nullable=True, sample=sample)


NAIVE_ENTRY = Table(
    "naive_entry",
    Stage.HYPOTHESES,
    "research",
    ("hypothesis_id",),
    (
        *_RULE,
        Column(
            "n_run", _I, "trades", "Events of the run window, each one trade; a count, nothing else of test is seen."
        ),
        Column("n_train", _I, "trades", "Trades on train."),
        Column("n_validation", _I, "trades", "Trades on validation."),
        _nullable("net_mean_train_bps", "bps per trade", "Mean after costs and funding on train; null if not run."),
        _nullable("net_mean_validation_bps", "bps per trade", "The same on validation."),
        _nullable("net_mean_bps", "bps per trade", "The same on both together: what is held against the limit."),
        _nullable(
            "sharpe_annual",
            "1",
            "Mean / standard deviation of trades times the root of trades per year, both splits; null without scatter.",
        ),
        _nullable(
            "max_drawdown",
            "fraction of peak",
            "Deepest fall of 1 + the running sum of trades at one notional, both splits, in the order of known_at.",
            (-1.0, 0.0),
        ),
        Column("status", _S, "text", "PASS, FAIL, or NOT_RUN where the run does not evaluate it."),
        Column("is_passed", _B, "bool", "PASS; NOT_RUN is not passed.", sample=(0, 0)),
        Column("fail_reasons", _S, "text", "The limits that are not kept, comma separated; empty if passed."),
    ),
    "Every tested hypothesis traded plainly: next open, fixed hold, real costs once (R74-R77).",
    (
        Rule("reason_unless_passed", pl.col("is_passed") == (pl.col("fail_reasons") == "")),
        Rule("drawdown_is_a_fall", pl.col("max_drawdown").is_between(-1, 0).fill_null(value=True)),
    ),
)
EXPECTANCY = Table(
    "expectancy",
    Stage.HYPOTHESES,
    "research",
    ("hypothesis_id",),
    (
        *_RULE,
        Column(
            "is_survivor",
            _B,
            "bool",
            "Survives multiplicity on train; the others are shown as the best by t.",
            sample=(0, 0),
        ),
        Column(
            "n_run", _I, "trades", "Events of the run window, each one trade; a count, nothing else of test is seen."
        ),
        Column("n_train", _I, "trades", "Trades on train."),
        Column("n_validation", _I, "trades", "Trades on validation."),
        _nullable(
            "net_mean_train_bps",
            "bps per trade",
            "Mean after costs and funding on train. Selection bias: it was chosen for this number among all tested; measured on "
            "planted edges it is 1.3 to 1.6 times the truth at t 4, 1.1 times at t 6.",
        ),
        _nullable("se_train_bps", "bps per trade", "Day-clustered standard error of the excess over drift."),
        _nullable("t_train", "1", "Day-clustered t of the excess over drift; what hypotheses are ranked by."),
        _nullable(
            "multiplicity_penalty_bps", "bps per trade", "k x se x what the luckiest null hypothesis of this run shows."
        ),
        _nullable(
            "expectancy_after_multiplicity_bps",
            "bps per trade",
            "Train mean minus the penalty: a floor, 30 to 50 bps below the truth on planted edges, not an estimate.",
        ),
        _nullable(
            "net_mean_validation_bps",
            "bps per trade",
            "The mean on validation. Biased by its own screen, by 15 to 46 % at t 4; only the test window's, which is opened "
            "after promotion, is not.",
        ),
        _nullable("p_validation", "probability", "One-sided p of the excess on validation."),
        _nullable("median_train_bps", "bps per trade", "Median after costs on train."),
        _nullable("sd_train_bps", "bps per trade", "Standard deviation of trades on train."),
        _nullable("win_rate_train", "fraction", "Trades above 0 after costs on train."),
        _nullable("p05_train_bps", "bps per trade", "5th percentile of trades on train."),
        _nullable("p25_train_bps", "bps per trade", "25th percentile."),
        _nullable("p75_train_bps", "bps per trade", "75th percentile."),
        _nullable("p95_train_bps", "bps per trade", "95th percentile."),
        _nullable(
            "top_1pct_share_train",
            "fraction",
            "Net P&L of the best 1 % of trades over that of all; null if all lose. May exceed 1.",
        ),
        _nullable("top_5pct_share_train", "fraction", "The same of the best 5 %."),
        _nullable(
            "capacity_quote",
            "quote",
            "1 % of the median quote volume of the bars entered, train and validation; null where the source has no volume.",
        ),
        Column(
            "symbol_scores_json", _S, "JSON", "By symbol: trades and net mean on train, null where nothing was traded."
        ),
        Column(
            "is_evidence",
            _B,
            "bool",
            "Survives multiplicity, and both its train mean after the penalty and its validation mean are above 0.",
            sample=(0, 0),
        ),
    ),
    "What the survivors of multiplicity and the best hypotheses by t earn on train and validation; test stays sealed.",
    (Rule("evidence_survives", ~pl.col("is_evidence") | pl.col("is_survivor")),),
)
EXPECTANCY_TRAPS = Table(
    "expectancy_traps",
    Stage.HYPOTHESES,
    "research",
    ("hypothesis_id", "trap"),
    (
        Column("hypothesis_id", _S, "text", "An examined hypothesis."),
        Column("trap", _S, "text", "overlap, uniqueness, symmetry, tails, regimes, stability or capacity."),
        _nullable("observed", "unit", "Measured number; null where it is unknown, which is red."),
        Column("comparator", _S, "text", "at most, at least or above."),
        Column("limit", _F, "unit", "Limit."),
        Column("unit", _S, "text", "Unit of both."),
        Column("is_passed", _B, "bool", "The answer.", sample=(0, 0)),
        Column("detail", _S, "text", "What it was measured from."),
    ),
    "Ways in which an edge may be none, asked of every examined hypothesis on its trades on train.",
    (Rule("unknown_is_red", pl.col("observed").is_not_null() | ~pl.col("is_passed")),),
)
EDGE_CANDIDATES = Table(
    "edge_candidates",
    Stage.HYPOTHESES,
    "research",
    ("candidate_id",),
    (
        Column("candidate_id", _S, "text", "The hypothesis_id."),
        Column("run_id", _S, "text", "The run."),
        Column("run_symbols", _S, "text", "Symbols of the run, comma separated."),
        Column(
            "candidate_symbol",
            _S,
            "text",
            "The symbol its condition asks for, else the run's only symbol, else ALL: never the best.",
        ),
        Column("event", _S, "text", "Event family."),
        *_RULE[2:],
        Column("status", _S, "text", "PROMOTED if every question below is answered yes, else DRAFT."),
        Column(
            "fail_reasons",
            _S,
            "text",
            "What was answered no, comma separated: gates of the hypothesis, naive_entry, evidence, trap:<name>; empty if PROMOTED.",
        ),
        Column("is_selected", _B, "bool", "The hypothesis passes every gate of its own.", sample=(0, 0)),
        Column("naive_status", _S, "text", "PASS, FAIL or NOT_RUN."),
        Column(
            "is_evidence",
            _B,
            "bool",
            "Earns on train after the multiplicity penalty, and on validation.",
            sample=(0, 0),
        ),
        Column("is_robust", _B, "bool", "Passes every trap.", sample=(0, 0)),
        Column("is_stable", _B, "bool", "Passes the trap stability.", sample=(0, 0)),
        Column("has_capacity", _B, "bool", "Passes the trap capacity.", sample=(0, 0)),
        _nullable("edge_score", "standard errors", "Day-clustered t on train; candidates are ranked by it."),
        _nullable("expected_return_proxy", "bps per trade", "Mean on train before costs and funding."),
        _nullable(
            "expectancy_per_trade",
            "bps per trade",
            "The smaller of the net means on train and on validation; both are biased upwards (see expectancy).",
        ),
        _nullable("after_cost_expectancy_per_trade", "bps per trade", "Net mean on train."),
        _nullable("stressed_after_cost_expectancy_per_trade", "bps per trade", "The same with 1.5 times the costs."),
        _nullable("cost_ratio", "fraction", "Cost over gross profit on train; null when gross <= 0."),
        _nullable("variance", "bps squared", "Variance of net trades on train."),
        _nullable("stability_proxy", "standard errors", "Smallest t that is left without one fifth of train."),
        _nullable("robustness_score", "1", "Delay robustness of the hypothesis: 0.7 ratio + 0.3 steadiness."),
        _nullable("event_frequency", "events per calendar day", "Events of the run window over its days, all symbols."),
        _nullable(
            "capacity_proxy",
            "quote",
            "1 % of the median quote volume of the bars entered; null where the source has none.",
        ),
        _nullable("profit_density_score", "bps per calendar day", "expectancy_per_trade times event_frequency."),
        Column("n_events", _I, "events", "Events of the run window; a count."),
        Column("symbol_scores_json", _S, "JSON", "By symbol: trades and net mean on train."),
        Column(
            "is_rollout_eligible",
            _B,
            "bool",
            "Trades two symbols or more, each with a net mean above 0 and of at least 0.75 of the largest.",
            sample=(0, 0),
        ),
        Column(
            "source_path", _S, "text", "Table and partition of the hypothesis; its digest is in this table's lineage."
        ),
    ),
    "Hypotheses that survive multiplicity on train, with all that is known of them; PROMOTED if nothing speaks against them.",
    (Rule("reason_unless_promoted", (pl.col("status") == "PROMOTED") == (pl.col("fail_reasons") == "")),),
)
TABLES = (NAIVE_ENTRY, EXPECTANCY, EXPECTANCY_TRAPS, EDGE_CANDIDATES)
