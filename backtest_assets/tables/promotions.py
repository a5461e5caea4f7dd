"""The neighbours of the blueprints, the promotion decision gate by gate, and the strategy candidates that it leaves."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

BLUEPRINT_NEIGHBOURS = Table(
    "blueprint_neighbours",
    Stage.PROMOTIONS,
    "research",
    ("blueprint_id", "neighbour", "split"),
    (
        Column("blueprint_id", pl.String(), "text", "Executed blueprint."),
        Column(
            "neighbour",
            pl.String(),
            "text",
            "centre, the blueprint itself; or what is moved by a tenth and whereto: stop_minus, hold_plus, condition_1_looser.",
        ),
        Column("split", pl.String(), "text", "train or validation; never test."),
        Column(
            "change",
            pl.String(),
            "text",
            "The part that is moved, from its value to the neighbour's; empty for the centre.",
        ),
        Column(
            "n_trades", pl.Int64(), "trades", "Trades of the split, simulated alone, under its own caps.", sample=(1, 9)
        ),
        Column("n_days", pl.Int64(), "days", "Calendar days of the split.", sample=(9, 99)),
        Column(
            "net_pnl", pl.Float64(), "fraction of equity", "Sum of the trades' net P&L; 0 where nothing was traded."
        ),
        Column("net_per_day", pl.Float64(), "fraction of equity per day", "The same over the days of the split."),
    ),
    "Every executed blueprint and its +-10 % neighbours, each really simulated alone (D36).",
)
PROMOTIONS = Table(
    "promotions",
    Stage.PROMOTIONS,
    "research",
    ("blueprint_id", "gate"),
    (
        Column("blueprint_id", pl.String(), "text", "Executed blueprint."),
        Column("gate", pl.String(), "text", "Promotion gate."),
        Column("observed", pl.Float64(), "unit", "Measured number; null for insufficient evidence.", nullable=True),
        Column("limit", pl.Float64(), "unit", "Limit."),
        Column("comparator", pl.String(), "text", "How observed is held against the limit: <=, >= or >."),
        Column("unit", pl.String(), "text", "Unit of both."),
        Column(
            "margin", pl.Float64(), "unit", "Distance to the limit, positive if passed; null if unknown.", nullable=True
        ),
        Column("is_passed", pl.Boolean(), "bool", "The answer."),
        Column("detail", pl.String(), "text", "The evidence in words."),
        Column("evidence", pl.String(), "text", "Where the observed number comes from: tables and splits."),
        Column("is_promoted", pl.Boolean(), "bool", "All gates of the blueprint passed; the same on each of its rows."),
    ),
    "Every executed blueprint with every promotion gate; default is rejected.",
)
STRATEGY_CANDIDATES = Table(
    "strategy_candidates",
    Stage.PROMOTIONS,
    "research",
    ("rank", "strategy_candidate_id"),
    (
        Column("rank", pl.Int64(), "1", "1 is first: by source, then score, then id.", sample=(1, 9)),
        Column(
            "strategy_candidate_id", pl.String(), "text", "Source and name: blueprint/<id> or edge/<hypothesis_id>."
        ),
        Column("source", pl.String(), "text", "promoted_blueprint or edge_candidate; the first goes before (R73)."),
        Column("hypothesis_id", pl.String(), "text", "The hypothesis behind it."),
        Column(
            "blueprint_id",
            pl.String(),
            "text",
            "The blueprint that executes the hypothesis, promoted or not; null if none was compiled.",
            nullable=True,
        ),
        Column("known_at", INSTANT, "UTC", "When it can be known: the end of validation."),
        Column("event", pl.String(), "text", "Event family."),
        Column("execution_family", pl.String(), "text", "The same if execution knows it, else unmapped (X8)."),
        Column("condition", pl.String(), "text", "What must be true at known_at."),
        Column("side_rule", pl.String(), "text", "long, short, with_event or against_event."),
        Column("hold_bars", pl.Int32(), "bars", "Bars between entry and the time exit.", sample=(4, 96)),
        Column("edge_status", pl.String(), "text", "PROMOTED or DRAFT: what its edge candidate is."),
        Column(
            "fail_reasons", pl.String(), "text", "What the edge candidate failed, comma separated; empty if PROMOTED."
        ),
        Column(
            "score",
            pl.Float64(),
            "score_unit",
            "What candidates of one source are ranked by; scores of two sources are of two units and never compared. "
            "Null where it is unknown, ranked last.",
            nullable=True,
        ),
        Column(
            "score_kind",
            pl.String(),
            "text",
            "stressed_net_validation: net of the blueprint at twice the costs; net_validation where that is unknown (R71); "
            "profit_density: the edge candidate's profit_density_score (R72).",
        ),
        Column("score_unit", pl.String(), "text", "fraction of equity, or bps per calendar day."),
        Column(
            "n_promotion_gates",
            pl.Int64(),
            "gates",
            "Promotion gates that its blueprint kept, all there are; null if it is not promoted.",
            nullable=True,
            sample=(1, 9),
        ),
        Column("n_events", pl.Int64(), "events", "Events of the run window; a count, nothing else of test is seen."),
        Column("edge_score", pl.Float64(), "standard errors", "Day-clustered t on train.", nullable=True),
        Column("p_rw", pl.Float64(), "probability", "Adjusted p over all tested hypotheses of the run.", nullable=True),
        Column(
            "expectancy_per_trade",
            pl.Float64(),
            "bps per trade",
            "The smaller of the net means on train and on validation; both are biased upwards (see expectancy).",
            nullable=True,
        ),
        Column(
            "expectancy_after_multiplicity_bps",
            pl.Float64(),
            "bps per trade",
            "Train mean minus the penalty: a floor, not an estimate.",
            nullable=True,
        ),
        Column(
            "profit_density_score", pl.Float64(), "bps per calendar day", "Expectancy times frequency.", nullable=True
        ),
        Column("event_frequency", pl.Float64(), "events per calendar day", "Of the run window.", nullable=True),
        Column(
            "stability_proxy", pl.Float64(), "standard errors", "Smallest t without a fifth of train.", nullable=True
        ),
        Column(
            "robustness_score", pl.Float64(), "1", "Delay robustness; never replaced by another number.", nullable=True
        ),
        Column("capacity_proxy", pl.Float64(), "quote", "1 % of the median volume of the bars entered.", nullable=True),
        Column("symbol_scores_json", pl.String(), "JSON", "By symbol: trades and net mean on train."),
        Column("is_rollout_eligible", pl.Boolean(), "bool", "Trades two symbols or more evenly.", sample=(0, 0)),
        Column(
            "candidate_symbol", pl.String(), "text", "The symbol its condition asks for, else the only one, else ALL."
        ),
        Column(
            "deployment_type",
            pl.String(),
            "text",
            "single_symbol, multi_symbol, or none if its symbol is not in the run.",
        ),
        Column(
            "deployment_symbols",
            pl.String(),
            "text",
            "What it was tested on, comma separated: never the best symbol of several, never a stand-in.",
        ),
        Column("entry_delay_bars", pl.Int32(), "bars", "Bars between known_at and entry.", sample=(0, 0)),
        Column(
            "size_scale",
            pl.Float64(),
            "fraction",
            "What the blueprint's throttles leave of its size; null without a blueprint.",
            nullable=True,
            sample=(0.0, 0.0),
        ),
        Column("is_blocked", pl.Boolean(), "bool", "Nothing is entered: no size is known, or it is 0.", sample=(1, 1)),
        Column("is_backtest_ready", pl.Boolean(), "bool", "The command backtests it.", sample=(0, 0)),
        Column("not_ready_reason", pl.String(), "text", "Why it does not; empty if it does."),
        Column("manual_backtest_command", pl.String(), "text", "Backtests its family alone; empty if not ready."),
        Column("behaviour_key", pl.String(), "sha256", "Equal keys enter and leave alike; size aside."),
    ),
    "Promoted blueprints, then edge candidates that are none, with score, deployment and risk controls (R68-R73).",
    (
        Rule("ready_or_reason", pl.col("is_backtest_ready") == (pl.col("not_ready_reason") == "")),
        Rule("ready_enters", ~(pl.col("is_backtest_ready") & pl.col("is_blocked"))),
        Rule("blocked_without_size", pl.col("is_blocked") == ~(pl.col("size_scale") > 0).fill_null(value=False)),
    ),
)
CAPITAL_ALLOCATION = Table(
    "capital_allocation",
    Stage.PROMOTIONS,
    "research",
    ("blueprint_id",),
    (
        Column("blueprint_id", pl.String(), "text", "Promoted blueprint, or cash."),
        Column("rank", pl.Int64(), "1", "Rank of the blueprint; null for cash.", nullable=True, sample=(1, 9)),
        Column("weight", pl.Float64(), "fraction of capital", "What it gets; all rows sum to 1.", sample=(0.0, 1.0)),
        Column(
            "parity_weight",
            pl.Float64(),
            "fraction of capital",
            "What equal risk gives it, caps aside; null for cash and where refused.",
            nullable=True,
        ),
        Column(
            "kelly_weight",
            pl.Float64(),
            "fraction of capital",
            "What the fraction of Kelly gives it within allocation_max_weight; null for cash and where refused.",
            nullable=True,
        ),
        Column(
            "bound_by",
            pl.String(),
            "text",
            "What decided the weight: risk_parity, kelly, max_weight, volatility_target, min_weight or refused; empty for cash.",
        ),
        Column("reason", pl.String(), "text", "Why, in words."),
        Column(
            "volatility_annual",
            pl.Float64(),
            "fraction of capital",
            "Of daily returns on train and validation, times the root of 365; null for cash.",
            nullable=True,
        ),
        Column(
            "expected_return_annual",
            pl.Float64(),
            "fraction of capital",
            "Mean of the same days times what shrinkage leaves of its hypothesis' mean; null for cash and if unknown.",
            nullable=True,
        ),
        Column(
            "risk_share",
            pl.Float64(),
            "fraction of variance",
            "What it adds to the variance of all weights together; null for cash and where nothing is allocated.",
            nullable=True,
        ),
        Column(
            "n_active_days",
            pl.Int64(),
            "days",
            "Days of train and validation with a position; null for cash.",
            nullable=True,
            sample=(1, 9),
        ),
    ),
    "What share of capital each promoted blueprint gets; the rest is cash.",
    (Rule("weight_is_a_share", pl.col("weight").is_between(0.0, 1.0)),),
)
TABLES = (BLUEPRINT_NEIGHBOURS, PROMOTIONS, STRATEGY_CANDIDATES, CAPITAL_ALLOCATION)
