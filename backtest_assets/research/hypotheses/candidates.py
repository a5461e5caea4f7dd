"""The edge candidates: survivors of multiplicity with everything that is known of them. Keep the decision out (`checklist`)."""

import json
from typing import Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.naive_entry import NaiveStatus
from backtest_assets.research.hypotheses.traps import Trap
from backtest_assets.tables.candidates import EDGE_CANDIDATES

PROMOTED: Final = "PROMOTED"
DRAFT: Final = "DRAFT"

TRAP: Final = "trap:"
"""What the name of a trap is led in by among the reasons against a candidate."""

ROLLOUT_SHARE: Final = 0.75
"""Smallest over largest net mean of the symbols [fraction]: below, the worst symbol is carried by the best."""

_ALL_SYMBOLS: Final = "ALL"
_MIN_SYMBOLS: Final = 2


def list_candidates(
    hypotheses: pl.DataFrame, naive: pl.DataFrame, expectancy: pl.DataFrame, traps: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Gather what is known of every hypothesis that survives multiplicity on train, and promote those nothing speaks against.

    Args:
        hypotheses: table hypotheses.
        naive: table naive_entry.
        expectancy: table expectancy.
        traps: table expectancy_traps.
        run: gives name, symbols and window.

    Returns:
        Table edge_candidates. PROMOTED needs every gate of the hypothesis, naive entry, evidence and every trap; what is
        missing or was not run counts as no.

    Knows:
        train and validation statistics.
    """
    survivors = hypotheses.filter(pl.col("is_eligible"), pl.col("gate_multiplicity"))
    known = (
        survivors.join(
            naive.select("hypothesis_id", naive_status="status", naive_ok="is_passed"), on="hypothesis_id", how="left"
        )
        .join(
            expectancy.select("hypothesis_id", "sd_train_bps", "capacity_quote", "symbol_scores_json", "is_evidence"),
            on="hypothesis_id",
            how="left",
        )
        .join(_asked(traps), on="hypothesis_id", how="left")
    )
    yes = {
        "is_selected": pl.col("status") == "selected",
        "naive_ok": pl.col("naive_ok"),
        "is_evidence": pl.col("is_evidence"),
        **{trap.value: pl.col(trap.value) for trap in Trap},
    }
    told = known.with_columns(**{name: answer.fill_null(value=False) for name, answer in yes.items()})
    start, end = run.window
    smaller = pl.min_horizontal("net_mean_train_bps", "net_mean_validation_bps")
    both = pl.col("net_mean_train_bps").is_not_null() & pl.col("net_mean_validation_bps").is_not_null()
    expected = pl.when(both).then(smaller)
    frequency = pl.col("n_run") / (end - start).days
    symbols = [_symbol_of(name, run) for name in told["condition"].to_list()]
    rollout = [_is_even(text) for text in told["symbol_scores_json"].to_list()]
    return EDGE_CANDIDATES.conform(
        told.select(
            "condition",
            "side_rule",
            "delay_bars",
            "hold_bars",
            "is_selected",
            "is_evidence",
            candidate_id="hypothesis_id",
            run_id=pl.lit(run.run_id),
            run_symbols=pl.lit(run.symbols),
            candidate_symbol=pl.Series(symbols, dtype=pl.String),
            event="event_type",
            status=pl.when(pl.all_horizontal(*yes)).then(pl.lit(PROMOTED)).otherwise(pl.lit(DRAFT)),
            fail_reasons=_reasons(),
            naive_status=pl.col("naive_status").fill_null(NaiveStatus.NOT_RUN.value),
            is_robust=pl.all_horizontal(*(trap.value for trap in Trap)),
            is_stable=Trap.STABILITY.value,
            has_capacity=Trap.CAPACITY.value,
            edge_score="t_train",
            expected_return_proxy="gross_mean_train_bps",
            expectancy_per_trade=expected,
            after_cost_expectancy_per_trade="net_mean_train_bps",
            stressed_after_cost_expectancy_per_trade="stressed_mean_train_bps",
            cost_ratio="cost_ratio_train",
            variance=pl.col("sd_train_bps") ** 2,
            stability_proxy="left_t",
            robustness_score="delay_robustness_score",
            event_frequency=frequency,
            capacity_proxy="capacity_quote",
            profit_density_score=expected * frequency,
            n_events="n_run",
            symbol_scores_json=pl.col("symbol_scores_json").fill_null("{}"),
            is_rollout_eligible=pl.Series(rollout, dtype=pl.Boolean),
            source_path=pl.lit(f"hypotheses/run_id={run.run_id}"),
        )
    )


def with_standing(hypotheses: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """Tell every hypothesis how it stands as a candidate.

    Args:
        hypotheses: table hypotheses.
        candidates: table edge_candidates.

    Returns:
        The rows of `hypotheses`, in their order, plus `is_promotable`: every gate, evidence and every trap passed, naive
        entry aside, which may be overridden on its own (R67); false without a candidate. `reasons_against`: what failed.

    Knows:
        train and validation statistics.
    """
    told = candidates.select(
        hypothesis_id="candidate_id",
        is_promotable=pl.all_horizontal("is_selected", "is_evidence", "is_robust"),
        reasons_against="fail_reasons",
    )
    both = hypotheses.join(told, on="hypothesis_id", how="left", maintain_order="left")
    return both.with_columns(
        is_promotable=pl.col("is_promotable").fill_null(value=False),
        reasons_against=pl.col("reasons_against").fill_null(pl.col("fail_reasons")),
    )


def _asked(traps: pl.DataFrame) -> pl.DataFrame:
    """Return one column per trap with its answer, null where it was not asked, and what stability measured."""
    answers = {
        trap.value: pl.col("is_passed").filter(pl.col("trap") == trap.value).first().alias(trap.value) for trap in Trap
    }
    left = pl.col("observed").filter(pl.col("trap") == Trap.STABILITY.value).first()
    return traps.group_by("hypothesis_id").agg(*answers.values(), left_t=left)


def _reasons() -> pl.Expr:
    own = pl.when(pl.col("fail_reasons") != "").then("fail_reasons")
    others = {"naive_ok": "naive_entry", "is_evidence": "evidence"} | {
        trap.value: f"{TRAP}{trap.value}" for trap in Trap
    }
    red = [pl.when(~pl.col(name)).then(pl.lit(reason)) for name, reason in others.items()]
    return pl.concat_list(own, *red).list.drop_nulls().list.join(",")


def _symbol_of(condition: str, run: ResearchRun) -> str:
    only = run.symbol_list[0] if len(run.symbol_list) == 1 else _ALL_SYMBOLS
    return Condition(condition).symbol or only


def _is_even(scores_json: str | None) -> bool:
    scores: dict[str, dict[str, float | None]] = json.loads(scores_json or "{}")
    means = [score["net_mean_train_bps"] for score in scores.values() if score["n"]]
    known = [mean for mean in means if mean is not None and mean > 0]
    return len(known) == len(means) >= _MIN_SYMBOLS and min(known) >= ROLLOUT_SHARE * max(known)
