"""What must be true of compiled blueprints; compiling stays in research."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.hypotheses.checklist import PROMOTE, loss_histogram

MIN_TRAIN_ENTRIES: Final = 1
"""Train events that match a blueprint [events]: one that never entered was never tested."""

_Problem = Callable[[Evidence, dict[str, str | int | float | bool], Blueprint], str | None]


def _count_problems(name: str, about: str, problem: _Problem) -> Gate:
    """Return a gate that parses every row's blueprint and counts the rows with a problem; limit: 0."""

    def ask(evidence: Evidence) -> Verdict:
        found: list[str] = []
        for row in evidence.frame.to_dicts():
            text = problem(evidence, row, blueprint_from_json(row["spec_json"]))
            if text:
                found.append(f"{row['blueprint_id']}: {text}")
        detail = "; ".join(found[:5]) or f"{evidence.frame.height} blueprints checked"
        return Verdict(name, len(found), 0, "blueprints", passed=not found, detail=detail)

    return Gate(name, Severity.ERROR, about, ask)


def _readable(_: Evidence, row: dict[str, str | int | float | bool], blueprint: Blueprint) -> str | None:
    shown = {
        "blueprint_id": blueprint.blueprint_id,
        "hypothesis_id": blueprint.lineage.hypothesis_id,
        "event_type": blueprint.event_type.value,
        "condition": ",".join(blueprint.entry.conditions),
        "direction": blueprint.direction,
        "side_rule": blueprint.entry.side_rule.value,
        "symbols": ",".join(blueprint.symbol_scope.symbols),
        "delay_bars": blueprint.entry.delay_bars,
        "time_stop_bars": blueprint.exit.time_stop_bars,
        "stop_frac": blueprint.exit.stop_value,
        "target_frac": blueprint.exit.target_value,
        "behaviour_digest": blueprint.behaviour_digest,
        "spec_json": blueprint.to_json(),
    }
    differing = [name for name, value in shown.items() if row[name] != value]
    return f"columns {', '.join(differing)} differ from spec_json" if differing else None


def _fitted_on_train(evidence: Evidence, _: dict[str, str | int | float | bool], blueprint: Blueprint) -> str | None:
    train = evidence.settings.splits[Split.TRAIN]
    first = datetime.fromisoformat(blueprint.lineage.fitted_from)
    last = datetime.fromisoformat(blueprint.lineage.fitted_to)
    inside = train.start <= first < last <= train.end
    return None if inside else f"fitted on {first}..{last}, outside train {train.start}..{train.end}"


def _of_this_run(evidence: Evidence, _: dict[str, str | int | float | bool], blueprint: Blueprint) -> str | None:
    run = evidence.settings
    outside = sorted(set(blueprint.symbol_scope.symbols) - set(run.symbol_list))
    costs = (blueprint.evaluation.fees_bps, blueprint.evaluation.slippage_bps)
    if blueprint.run_id != run.run_id:
        return f"belongs to run {blueprint.run_id}"
    if outside:
        return f"symbols {', '.join(outside)} are not in the run"
    return None if costs == (run.fees_bps, run.slippage_bps) else f"judged with costs {costs} bps, not the run's"


def _untested(evidence: Evidence) -> pl.DataFrame:
    """Return the blueprints whose hypothesis is not selected or had no event on train."""
    hypotheses = evidence.inputs["hypotheses"].select("hypothesis_id", "n_train", "status")
    joined = evidence.frame.select("blueprint_id", "hypothesis_id").join(hypotheses, on="hypothesis_id", how="left")
    return broken(joined, (pl.col("status") == "selected") & (pl.col("n_train") >= MIN_TRAIN_ENTRIES))


def _ask_ranks(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    by_rank = frame.sort("rank", nulls_last=True)
    faults = {
        "ranks are not 1..n": by_rank["rank"].to_list() != list(range(1, frame.height + 1)),
        "ids repeat": frame["blueprint_id"].n_unique() != frame.height,
        "two blueprints trade alike": frame["behaviour_digest"].n_unique() != frame.height,
        "t_train rises with the rank": not by_rank["t_train"].is_sorted(descending=True),
        "a family has more than strategy_blueprint_max_per_event": bool(
            (frame["event_type"].value_counts()["count"] > evidence.settings.strategy_blueprint_max_per_event).any()
        ),
    }
    found = [text for text, is_true in faults.items() if is_true]
    detail = "; ".join(found) or f"{frame.height} distinct blueprints in rank order"
    return Verdict("ranks_and_ids", len(found), 0, "faults", passed=not found, detail=detail)


def _ask_executed(evidence: Evidence) -> Verdict:
    run = evidence.settings
    wanted = [
        row["rank"]
        for row in evidence.frame.sort("rank").to_dicts()
        if run.blueprints_filter_event_type in {"all", row["event_type"]}
    ][: run.blueprints_top_k]
    executed = evidence.frame.filter(pl.col("is_executed"))["rank"].sort().to_list()
    wrong = set(wanted).symmetric_difference(executed)
    detail = (
        f"ranks {sorted(wrong)} are executed against blueprints_top_k {run.blueprints_top_k} and family filter "
        f"{run.blueprints_filter_event_type}"
        if wrong
        else f"{len(executed)} blueprints are executed"
    )
    return Verdict("executed_by_rank", len(wrong), 0, "blueprints", passed=not wrong, detail=detail)


def _may_be_empty(evidence: Evidence) -> bool:
    """Say whether the run compiles nothing: its checklist is not PROMOTE, or no hypothesis was selected."""
    promoted = evidence.inputs["research_checklist"]["decision"].unique().to_list() == [PROMOTE]
    return not promoted or evidence.inputs["hypotheses"].filter(pl.col("status") == "selected").is_empty()


def _ask_emptiness(evidence: Evidence) -> Verdict:
    """Ask whether there are blueprints exactly where there may be some."""
    expected, present = not _may_be_empty(evidence), not evidence.frame.is_empty()
    why = f"the checklist says {PROMOTE} and hypotheses are selected: {'yes' if expected else 'no'}"
    detail = f"{evidence.frame.height} blueprints; {why}"
    return Verdict("empty_iff_not_promoted", present, expected, "bool", passed=present == expected, detail=detail)


def _ask_something_executed(evidence: Evidence) -> Verdict:
    """Ask whether the family filter leaves something to execute: an empty execution could only fail later and unclearly."""
    compiled, executed = evidence.frame.height, evidence.frame.filter(pl.col("is_executed")).height
    families = ", ".join(evidence.frame["event_type"].unique().sort().to_list())
    wanted = evidence.settings.blueprints_filter_event_type
    passed = executed > 0 or compiled == 0  # emptiness is empty_iff_not_promoted's question
    detail = (
        f"{executed} of {compiled} blueprints are executed"
        if passed
        else f"no compiled blueprint is of family {wanted}; compiled are {families or 'none'}: use another filter and run_id (R24)"
    )
    return Verdict("something_executed", executed, min(compiled, 1), "blueprints", passed=passed, detail=detail)


def _ask_present(evidence: Evidence) -> Verdict:
    n_executed = evidence.frame.filter(pl.col("is_executed")).height
    hypotheses = evidence.inputs["hypotheses"]
    detail = (
        f"{n_executed} blueprints will be executed"
        if n_executed
        else f"no blueprint is executed; tested hypotheses were first lost at: {loss_histogram(hypotheses)}; see research_checklist"
    )
    return Verdict("blueprints_present", n_executed, 1, "blueprints", passed=n_executed >= 1, detail=detail)


GATES_BLUEPRINTS: Final = (
    _count_problems("spec_readable", "spec_json reads back to the row's own values; limit: 0 differing.", _readable),
    _count_problems(
        "fitted_on_train", "Exits were fitted inside the train window; limit: 0 outside.", _fitted_on_train
    ),
    _count_problems("of_this_run", "Run, symbols and costs are the run's; limit: 0 foreign.", _of_this_run),
    rows_gate(
        "enters_on_train",
        "Every blueprint's hypothesis is selected and had events on train.",
        _untested,
        fix="compile again from this run's hypotheses",
        may_be_empty=_may_be_empty,
    ),
    Gate("ranks_and_ids", Severity.ERROR, "Ranks 1..n by t, ids and behaviour unique; limit: 0 faults.", _ask_ranks),
    Gate("executed_by_rank", Severity.ERROR, "Executed are the first top_k of the filter; limit: 0.", _ask_executed),
    Gate(
        "something_executed",
        Severity.ERROR,
        "If blueprints are compiled, at least one is executed (R24); limit: 1 blueprint.",
        _ask_something_executed,
    ),
    Gate("empty_iff_not_promoted", Severity.ERROR, "Blueprints exist iff PROMOTE and selected.", _ask_emptiness),
    Gate("blueprints_present", Severity.WARN, "Something is executed; limit: 1 blueprint (R50).", _ask_present),
)
