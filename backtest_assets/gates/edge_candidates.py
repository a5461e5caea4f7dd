"""What must be true of the edge candidates: who they are, why one is PROMOTED, and where their numbers come from."""

import json
import math
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.tested import tested_of
from backtest_assets.research.hypotheses.candidates import ROLLOUT_SHARE
from backtest_assets.research.hypotheses.traps import Trap

MAX_RELATIVE_ERROR: Final = 1e-12
"""Difference of a product or quotient made again [fraction]: rounding, nothing else."""

_MIN_SYMBOLS: Final = 2
"""One symbol cannot be carried by another [symbols]."""

_AGAIN: Final = "make it again from this run's own tables"


def _nothing_survived(evidence: Evidence) -> bool:
    return not bool(tested_of(evidence)["gate_multiplicity"].any())


def _not_the_survivors(evidence: Evidence) -> pl.DataFrame:
    survivors = set(tested_of(evidence).filter(pl.col("gate_multiplicity"))["hypothesis_id"].to_list())
    wrong = survivors ^ set(evidence.frame["candidate_id"].to_list())
    return pl.DataFrame({"candidate_id": sorted(map(str, wrong))}, schema={"candidate_id": pl.String})


def _wrongly_promoted(evidence: Evidence) -> pl.DataFrame:
    """Ask everything that promotes a candidate again, of the tables it was gathered from."""
    selected = {row["hypothesis_id"] for row in tested_of(evidence).to_dicts() if row["status"] == "selected"}
    naive = {row["hypothesis_id"] for row in evidence.inputs["naive_entry"].to_dicts() if row["status"] == "PASS"}
    evident = {row["hypothesis_id"] for row in evidence.inputs["expectancy"].to_dicts() if row["is_evidence"]}
    passed: dict[str, set[str]] = {}
    for row in evidence.inputs["expectancy_traps"].to_dicts():
        if row["is_passed"]:
            passed.setdefault(row["hypothesis_id"], set()).add(row["trap"])
    is_wrong: list[bool] = []
    for row in evidence.frame.to_dicts():
        name, traps = row["candidate_id"], passed.get(row["candidate_id"], set[str]())
        answers = {
            "is_selected": name in selected,
            "is_evidence": name in evident,
            "is_robust": traps == set(Trap),
            "is_stable": Trap.STABILITY.value in traps,
            "has_capacity": Trap.CAPACITY.value in traps,
        }
        promoted = answers["is_selected"] and answers["is_evidence"] and answers["is_robust"] and name in naive
        said = all(row[key] is answer for key, answer in answers.items())
        is_wrong.append(
            not said or (row["status"] == "PROMOTED") is not promoted or (row["fail_reasons"] == "") is not promoted
        )
    return evidence.frame.filter(pl.Series(is_wrong)).select("candidate_id", "status", "fail_reasons")


def _misgathered(evidence: Evidence) -> pl.DataFrame:
    """Return candidates whose numbers are not those of the tables they were gathered from."""
    run = evidence.settings
    start, end = run.window
    own = {row["hypothesis_id"]: row for row in tested_of(evidence).to_dicts()}
    examined = {row["hypothesis_id"]: row for row in evidence.inputs["expectancy"].to_dicts()}
    naive = dict(evidence.inputs["naive_entry"].select("hypothesis_id", "status").iter_rows())
    traps = evidence.inputs["expectancy_traps"].filter(pl.col("trap") == Trap.STABILITY.value)
    left = dict(traps.select("hypothesis_id", "observed").iter_rows())
    is_wrong: list[bool] = []
    for row in evidence.frame.to_dicts():
        hypothesis = own.get(row["candidate_id"])
        measured = examined.get(row["candidate_id"])
        if hypothesis is None or measured is None:
            is_wrong.append(True)
            continue
        frequency = hypothesis["n_run"] / (end - start).days
        expected = min(hypothesis["net_mean_train_bps"], hypothesis["net_mean_validation_bps"])
        truth = {
            "run_id": run.run_id,
            "run_symbols": run.symbols,
            "event": hypothesis["event_type"],
            "condition": hypothesis["condition"],
            "side_rule": hypothesis["side_rule"],
            "delay_bars": hypothesis["delay_bars"],
            "hold_bars": hypothesis["hold_bars"],
            "candidate_symbol": _symbol_of(hypothesis["condition"], run.symbol_list),
            "naive_status": naive.get(row["candidate_id"], "NOT_RUN"),
            "is_rollout_eligible": _is_even(measured["symbol_scores_json"]),
            "source_path": f"hypotheses/run_id={run.run_id}",
            "edge_score": hypothesis["t_train"],
            "after_cost_expectancy_per_trade": hypothesis["net_mean_train_bps"],
            "stressed_after_cost_expectancy_per_trade": hypothesis["stressed_mean_train_bps"],
            "cost_ratio": hypothesis["cost_ratio_train"],
            "expectancy_per_trade": expected,
            "event_frequency": frequency,
            "n_events": hypothesis["n_run"],
            "profit_density_score": expected * frequency,
            "expected_return_proxy": hypothesis["gross_mean_train_bps"],
            "robustness_score": hypothesis["delay_robustness_score"],
            "variance": measured["sd_train_bps"] ** 2,
            "capacity_proxy": measured["capacity_quote"],
            "symbol_scores_json": measured["symbol_scores_json"],
            "stability_proxy": left.get(row["candidate_id"]),
        }
        is_wrong.append(not all(_is_same(row[name], value) for name, value in truth.items()))
    return evidence.frame.filter(pl.Series(is_wrong)).select("candidate_id", "edge_score", "expectancy_per_trade")


def _symbol_of(condition: str, symbols: tuple[str, ...]) -> str:
    """Return the one symbol that a candidate trades, by how its condition is written; ALL for several."""
    named = [symbol for symbol in symbols if condition == f"symbol_{symbol}"]
    return (named or symbols)[0] if named or len(symbols) == 1 else "ALL"


def _is_even(scores_json: str) -> bool:
    """Say whether at least two symbols trade, and the worst of those that do earns three quarters of the best."""
    traded = [score["net_mean_train_bps"] for score in json.loads(scores_json).values() if score["n"] > 0]
    if len(traded) < _MIN_SYMBOLS or any(mean is None or mean <= 0 for mean in traded):
        return False
    return min(traded) >= ROLLOUT_SHARE * max(traded)


def _is_same(found: object, value: object) -> bool:
    if isinstance(found, float) and isinstance(value, float):
        return math.isclose(found, value, rel_tol=MAX_RELATIVE_ERROR)
    return found == value


def _ask_promoted(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    promoted = frame.filter(pl.col("status") == "PROMOTED").height
    lost = frame["fail_reasons"].str.split(",").explode(empty_as_null=True, keep_nulls=True).value_counts(sort=True)
    why = ", ".join(f"{reason} {n}" for reason, n in lost.filter(pl.col("fail_reasons") != "").iter_rows())
    detail = f"{promoted} of {frame.height} edge candidates are PROMOTED" + (f"; lost to: {why}" if why else "")
    return Verdict("candidates_promoted", promoted, 1, "edge candidates", passed=promoted >= 1, detail=detail)


GATES_EDGE_CANDIDATES: Final = (
    rows_gate(
        "survivors_once",
        "Edge candidates are the survivors of multiplicity.",
        _not_the_survivors,
        fix=_AGAIN,
        may_be_empty=_nothing_survived,
    ),
    rows_gate(
        "promoted_for_cause",
        "PROMOTED if and only if gates, naive entry, evidence and every trap say yes.",
        _wrongly_promoted,
        fix=_AGAIN,
        may_be_empty=_nothing_survived,
    ),
    rows_gate(
        "numbers_gathered",
        "Numbers are those of the hypotheses they were gathered from.",
        _misgathered,
        fix=_AGAIN,
        may_be_empty=_nothing_survived,
    ),
    Gate("candidates_promoted", Severity.WARN, "Something is PROMOTED; limit: 1 edge candidate.", _ask_promoted),
)
