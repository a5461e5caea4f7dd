"""What must be true of compiled blueprints; compiling stays in research."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.split import Split
from backtest_assets.errors import SettingsError
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.executed import TOLERANCE, near
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.redone import redo
from backtest_assets.gates.tested import is_near
from backtest_assets.research.blueprints.criteria import (
    LEAST_TRADES,
    MAX_EDGE_LOSS,
    MIN_DRY_ENTRIES,
    MOST_TRADES,
    QUALITY_FLOOR,
)
from backtest_assets.research.blueprints.entries import Entries
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


def _not_executable(_: Evidence, __: dict[str, str | int | float | bool], blueprint: Blueprint) -> str | None:
    try:
        Entries.check(blueprint)
    except SettingsError as error:
        return str(error)
    return None


def _of_this_run(evidence: Evidence, _: dict[str, str | int | float | bool], blueprint: Blueprint) -> str | None:
    run = evidence.settings
    outside = sorted(set(blueprint.symbol_scope.symbols) - set(run.symbol_list))
    costs = (blueprint.evaluation.fees_bps, blueprint.evaluation.slippage_bps)
    if blueprint.run_id != run.run_id:
        return f"belongs to run {blueprint.run_id}"
    if outside:
        return f"symbols {', '.join(outside)} are not in the run"
    return None if costs == (run.fees_bps, run.slippage_bps) else f"judged with costs {costs} bps, not the run's"


def _with_hypotheses(evidence: Evidence) -> pl.DataFrame:
    hypotheses = standing_of(evidence).drop("event_type", "condition", "side_rule", "delay_bars", "t_train")
    return evidence.frame.join(hypotheses, on="hypothesis_id", how="left")


def standing_of(evidence: Evidence) -> pl.DataFrame:
    """Return the hypotheses with `is_promotable`, asked of the candidates anew; `is_naive_ok` and `is_promoted` (R67)."""
    run, said, naive = evidence.settings, evidence.inputs["edge_candidates"], evidence.inputs["naive_entry"]
    whole = said.filter(pl.col("is_selected") & pl.col("is_evidence") & pl.col("is_robust"))["candidate_id"].implode()
    promoted = said.filter(pl.col("status") == "PROMOTED")["candidate_id"].implode()
    passed = naive.filter((pl.col("status") == "PASS") & pl.col("is_passed"))["hypothesis_id"].implode()
    is_waived = pl.lit(run.strategy_blueprint_allow_naive_entry_fail == 1)
    own = pl.col("hypothesis_id")
    return evidence.inputs["hypotheses"].with_columns(
        is_promotable=(own.is_in(whole) & (pl.col("status") == "selected")).fill_null(value=False),
        is_naive_ok=own.is_in(passed).fill_null(value=False) | is_waived,
        is_promoted=own.is_in(promoted).fill_null(value=False) | is_waived,
    )


def _untested(evidence: Evidence) -> pl.DataFrame:
    """Return the blueprints that never enter on train, or whose hypothesis was not promoted and may not stand in.

    Naive entry is asked of those that stand in too, unless it is waived (R67); what is waived is no candidate's status.
    """
    may_stand_in = pl.lit(evidence.settings.strategy_blueprint_allow_fallback == 1) & pl.col("is_fallback")
    is_chosen = (pl.col("is_promotable") & pl.col("is_promoted") & ~pl.col("is_fallback")) | (
        may_stand_in & ~pl.col("is_promotable") & pl.col("status").is_in(["selected", "rejected"])
    )
    enters = (pl.col("n_train") >= MIN_TRAIN_ENTRIES) & (pl.col("n_entries_train") >= MIN_DRY_ENTRIES)
    within = pl.col("n_entries_train") <= pl.col("n_train")
    rows = broken(_with_hypotheses(evidence), is_chosen & pl.col("is_naive_ok") & enters & within)
    return rows.select("blueprint_id", "hypothesis_id", "status", "n_train", "n_entries_train")


def _below_floor(evidence: Evidence) -> pl.DataFrame:
    limits = [
        {">=": pl.col(name) >= limit, ">": pl.col(name) > limit, "<": pl.col(name) < limit}[how]
        for name, (how, limit) in QUALITY_FLOOR.items()
    ]
    return broken(_with_hypotheses(evidence), pl.all_horizontal(limits)).select("blueprint_id", *QUALITY_FLOOR)


def _edge_lost(evidence: Evidence) -> pl.DataFrame:
    """Return the blueprints whose time exit is not the tested one, or whose exits cost more of it than they may."""
    tested = near(pl.col("time_exit_train_bps"), pl.col("gross_mean_train_bps"))
    least = pl.col("time_exit_train_bps") - MAX_EDGE_LOSS * pl.col("net_mean_train_bps")
    kept = pl.col("with_exits_train_bps") >= least - TOLERANCE
    shown = ("blueprint_id", "gross_mean_train_bps", "time_exit_train_bps", "with_exits_train_bps")
    return broken(_with_hypotheses(evidence), tested & kept).select(shown)


def _not_so_traded(evidence: Evidence) -> pl.DataFrame:
    """Trade every blueprint on train again and return those that earn, enter or may be judged otherwise."""
    frame = evidence.frame
    specs = [blueprint_from_json(text) for text in frame["spec_json"]]
    again = redo(evidence, specs)
    right = [
        is_near(row["time_exit_train_bps"], one.time_exit_bps)
        and is_near(row["with_exits_train_bps"], one.with_exits_bps)
        and row["n_entries_train"] == one.n_entries
        and spec.evaluation.min_trades == min(max(one.n_entries // 2, LEAST_TRADES), MOST_TRADES)
        for row, spec, one in zip(frame.to_dicts(), specs, again, strict=True)
    ]
    told = frame.select("blueprint_id", "time_exit_train_bps", "with_exits_train_bps", "n_entries_train").with_columns(
        with_exits_again_bps=pl.Series([one.with_exits_bps for one in again], dtype=pl.Float64),
        n_entries_again=pl.Series([one.n_entries for one in again], dtype=pl.Int64),
    )
    return told.filter(~pl.Series(right, dtype=pl.Boolean))


def _unmet_flags(evidence: Evidence, row: dict[str, str | int | float | bool], blueprint: Blueprint) -> str | None:
    """Say which required evidence the hypothesis lacks, or which requirement a strict blueprint gave up."""
    flags = blueprint.evaluation.robustness_flags
    own = evidence.inputs["hypotheses"].filter(hypothesis_id=row["hypothesis_id"]).row(0, named=True)
    asked = {"gate_validation": flags.oos_required, "gate_multiplicity": flags.multiplicity_required}
    unmet = [gate for gate, is_required in asked.items() if is_required and not own[gate]]
    if not row["is_fallback"] and not all(asked.values()):
        unmet.append("a blueprint of a selected hypothesis requires both")
    return f"robustness flags: {', '.join(unmet)}" if unmet else None


def _ask_ranks(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    by_rank = frame.sort("rank", nulls_last=True)
    tested = dict(evidence.inputs["hypotheses"].select("hypothesis_id", "t_train").iter_rows())
    own = [(t, tested.get(name)) for name, t in frame.select("hypothesis_id", "t_train").iter_rows()]
    faults = {
        "t_train is not the hypothesis'": any(t is None or t != said for t, said in own),
        "ranks are not 1..n": by_rank["rank"].to_list() != list(range(1, frame.height + 1)),
        "ids repeat": frame["blueprint_id"].n_unique() != frame.height,
        "two blueprints trade alike": frame["behaviour_digest"].n_unique() != frame.height,
        "t_train rises with the rank": any(
            not part["t_train"].is_sorted(descending=True)
            for part in (by_rank.filter(~pl.col("is_fallback")), by_rank.filter("is_fallback"))
        ),
        "a fallback is ranked before a selected hypothesis": not by_rank["is_fallback"].is_sorted(),
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


def _is_promoted(evidence: Evidence) -> bool:
    return evidence.inputs["research_checklist"]["decision"].unique().to_list() == [PROMOTE]


def may_be_present(evidence: Evidence) -> bool:
    """Say whether the run may compile anything: promoted, or the checklist is overridden (R64)."""
    return _is_promoted(evidence) or evidence.settings.strategy_blueprint_ignore_checklist == 1


def _may_be_empty(evidence: Evidence) -> bool:
    """Say whether the run compiles nothing: its checklist is not PROMOTE, or no candidate is promoted and enters naively."""
    may_be_one = pl.col("is_promotable") & pl.col("is_naive_ok")
    return not _is_promoted(evidence) or not standing_of(evidence).select(may_be_one.any()).item()


def _ask_emptiness(evidence: Evidence) -> Verdict:
    """Ask whether there are blueprints exactly where there may be some."""
    expected, present = not _may_be_empty(evidence), not evidence.frame.is_empty()
    passed = present if expected else (not present or may_be_present(evidence))
    why = f"the checklist says {PROMOTE} and candidates are promoted: {'yes' if expected else 'no'}"
    detail = f"{evidence.frame.height} blueprints; {why}; blueprint_rejections says what became of each"
    return Verdict("empty_iff_not_promoted", present, expected, "bool", passed=passed, detail=detail)


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
        "Every blueprint's hypothesis is promoted, earns when traded plainly (R67), and had events on train.",
        _untested,
        fix="compile again from this run's hypotheses",
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "quality_floor",
        "Every blueprint's hypothesis keeps the quality floor (R65).",
        _below_floor,
        fix="compile again from this run's hypotheses",
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "exits_keep_the_edge",
        "The fitted time exit earns what research tested, and exits and guards leave at least 95 % of the net mean.",
        _edge_lost,
        fix="bars, events or context are not those the hypotheses were tested on: rebuild hypotheses and blueprints",
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "traded_again",
        "What a blueprint earns on train with and without its exits, and how often it enters, is so when traded again.",
        _not_so_traded,
        fix="compile again from this run's hypotheses",
        may_be_empty=_may_be_empty,
    ),
    _count_problems("flags_are_met", "Evidence that a blueprint requires is there; limit: 0 unmet.", _unmet_flags),
    _count_problems(
        "executable", "Conditions, nodes and metrics have an evaluator (X7); limit: 0 unknown.", _not_executable
    ),
    Gate(
        "ranks_and_ids",
        Severity.ERROR,
        "Ranks 1..n by the hypotheses' t, ids and behaviour unique; limit: 0 faults.",
        _ask_ranks,
    ),
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
