"""What a report must say of discovery: families, numbers beside, candidates, capital and trials are those of their tables."""

import re
from typing import Any, Final

import polars as pl

from backtest_assets.domain.gate import Verdict
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.said import answer, decision_of, differing, in_section

_ALLOCATED: Final = {
    "fraction of capital": ("weight", "parity_weight", "kelly_weight", "volatility_annual", "expected_return_annual"),
    "fraction of variance": ("risk_share",),
}
_TRIALS_OF_ALL: Final = ("n_trials_all", "n_hypotheses_all", "n_trials_same_data", "effective_trials_all")
_MOVE = re.compile(r"move_[0-9]+_bars_bps")
_PHASE1_NUMBERS: Final = ("delta", "ci_low", "ci_high", "p_family")


def phase1_agrees(evidence: Evidence) -> Verdict:
    """Ask whether every family stands with its decision and the numbers of its clearest move."""
    tested = evidence.inputs["hypotheses"].filter(pl.col("is_eligible"))
    families: dict[str, list[dict[str, Any]]] = {}
    for row in evidence.inputs["phase1_evidence"].to_dicts():
        families.setdefault(row["event_type"], []).append(row)
    truth: list[tuple[str, float | None, str]] = []
    for name, rows in families.items():
        moves = [row for row in rows if _MOVE.fullmatch(row["metric"]) and row["p_family"] is not None]
        clearest = min(moves, key=lambda row: (row["p_family"], _hold(row["metric"])), default=None)
        truth += [(f"{name}/{item}", None, text) for item in ("decision", "ground") for text in {r[item] for r in rows}]
        truth.append((f"{name}/clearest_metric", None, "none" if clearest is None else clearest["metric"]))
        truth += [(f"{name}/{item}", None if clearest is None else clearest[item], "") for item in _PHASE1_NUMBERS]
        truth += [(f"{name}/n_events", float(n), "") for n in {row["n_events"] for row in rows}]
        truth.append((f"{name}/n_hypotheses", float(tested.filter(pl.col("event_type") == name).height), ""))
    schema = {"item": pl.String, "observed": pl.Float64, "text": pl.String}
    stated = pl.DataFrame(truth, schema=schema, orient="row")
    wrong = differing(in_section(evidence, "phase1"), stated, ["observed"], ["text"])
    return answer("phase1_agrees", wrong, "phase1_evidence and hypotheses")


def _hold(metric: str) -> int:
    return int(metric.split("_")[1])


def beside_agrees(evidence: Evidence) -> Verdict:
    """Ask whether the numbers beside, the strategy candidates and the capital are those of their tables."""
    inference = evidence.inputs["inference_summary"].select(item="statistic", observed="value", unit="unit")
    strategies = evidence.inputs["strategy_candidates"].select(
        item="strategy_candidate_id", observed="score", unit="score_unit"
    )
    wrong = pl.concat(
        [
            differing(in_section(evidence, section), truth, ["observed"], ["unit"])
            for section, truth in (
                ("inference", inference),
                ("strategies", strategies),
                ("allocation", _allocated(evidence)),
            )
        ]
    )
    return answer("beside_agrees", wrong, "inference_summary, strategy_candidates and capital_allocation")


def _allocated(evidence: Evidence) -> pl.DataFrame:
    """Return what capital_allocation says, item by item; nothing where execution was not run."""
    if decision_of(evidence) != "PROMOTE":
        return pl.DataFrame(schema={"item": pl.String, "observed": pl.Float64, "unit": pl.String})
    numbers = evidence.inputs["capital_allocation"].select(
        "blueprint_id", *(name for names in _ALLOCATED.values() for name in names)
    )
    units = {name: unit for unit, names in _ALLOCATED.items() for name in names}
    return numbers.unpivot(index="blueprint_id", variable_name="name", value_name="observed").select(
        item=pl.col("blueprint_id") + "/" + pl.col("name"),
        observed="observed",
        unit=pl.col("name").replace_strict(units, return_dtype=pl.String),
    )


def trials_counted(evidence: Evidence) -> Verdict:
    """Ask whether the trials of the run and of all runs are those of their tables."""
    counts, ledger = evidence.inputs["trial_counts"], evidence.inputs["trial_ledger"]
    of_all = (
        counts.select(pl.col(_TRIALS_OF_ALL).cast(pl.Float64))
        .unique()
        .unpivot(variable_name="item", value_name="observed")
    )
    none = pl.DataFrame({"item": ["none"], "observed": [None]}, schema={"item": pl.String, "observed": pl.Float64})
    kinds: list[str] = ledger["kind"].unique().sort().to_list()
    own = {
        "trials": float(ledger.height),
        **{f"trials/{kind}": float(ledger.filter(kind=kind).height) for kind in kinds},
    }
    mine = pl.DataFrame({"item": list(own), "observed": list(own.values())})
    is_count = (pl.col("item") == "trials") | pl.col("item").str.starts_with("trials/")
    wrong = pl.concat(
        [
            differing(in_section(evidence, "trials"), none if of_all.is_empty() else of_all, ["observed"]),
            differing(in_section(evidence, "hypotheses").filter(is_count), mine, ["observed"]),
        ]
    )
    return answer("trials_counted", wrong, "trial_counts and trial_ledger")
