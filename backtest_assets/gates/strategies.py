"""What must be true of the strategy candidates: merged again on another way, with nothing made up; merging stays in research."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.domain.blueprint import ALL_SYMBOLS, Blueprint, blueprint_from_json
from backtest_assets.domain.event import EventType
from backtest_assets.domain.gate import Scalar, Severity, Verdict
from backtest_assets.domain.run import ResearchRun, run_from_dict
from backtest_assets.errors import BacktestAssetsError
from backtest_assets.gates.ask import broken, changed, empty_verdict, rows_gate
from backtest_assets.gates.executed import near
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.hypotheses.checklist import CHECKLIST
from backtest_assets.research.promotions.strategies import MAX_NAMED, UNMAPPED

_FIX: Final = "rebuild strategy_candidates from this run's own tables"
_PROMOTE: Final = "PROMOTE"
_BLUEPRINT: Final = "promoted_blueprint"
_EDGE: Final = "edge_candidate"
_FREE: Final = {"run_id", "blueprints_filter_event_type", "cost_bps"}
"""Settings that a manual backtest may have of its own; the last follows from two others."""


def _decision(evidence: Evidence) -> str:
    decisions: list[str] = evidence.inputs["research_checklist"]["decision"].unique().to_list()
    return decisions[0] if len(decisions) == 1 else "of two minds"


def _may_list(evidence: Evidence) -> bool:
    return _decision(evidence) == _PROMOTE or evidence.settings.strategy_builder_ignore_checklist == 1


def _seen(evidence: Evidence) -> pl.DataFrame:
    """Return all that may be merged: source, blueprint and hypothesis, with score and detail; every promoted one and edge."""
    edges, run = evidence.inputs["edge_candidates"], evidence.settings
    nothing = pl.DataFrame(
        schema={"source": pl.String, "blueprint_id": pl.String, "hypothesis_id": pl.String, "score": pl.Float64}
    )
    if not _may_list(evidence):
        return nothing.with_columns(has_detail=pl.lit(value=True))
    allowed = ["PROMOTED", "DRAFT"] if run.strategy_builder_allow_non_promoted == 1 else ["PROMOTED"]
    parts = [
        nothing,
        edges.filter(pl.col("status").is_in(allowed)).select(
            source=pl.lit(_EDGE),
            blueprint_id=pl.lit(None, pl.String),
            hypothesis_id="candidate_id",
            score="profit_density_score",
        ),
    ]
    if _decision(evidence) == _PROMOTE:
        parts.append(_promoted(evidence))
    details = (
        edges["candidate_id"].to_list(),
        evidence.inputs["hypotheses"]["hypothesis_id"].to_list(),
        evidence.inputs["expectancy"]["hypothesis_id"].to_list(),
    )
    named = pl.col("hypothesis_id")
    return pl.concat(parts).with_columns(
        has_detail=pl.all_horizontal(named.is_in(ids).fill_null(value=False) for ids in details)
    )


def _promoted(evidence: Evidence) -> pl.DataFrame:
    won = evidence.inputs["promotions"].filter("is_promoted").select("blueprint_id").unique()
    late = evidence.inputs["walkforward_summary"].filter(pl.col("split") == "validation", pl.col("value").is_finite())
    stressed, net = (
        late.filter(pl.col("metric") == metric).select("blueprint_id", pl.col("value").alias(metric))
        for metric in ("stressed_net", "net")
    )
    scored = won.join(stressed, on="blueprint_id", how="left").join(net, on="blueprint_id", how="left")
    known = evidence.inputs["blueprints"].select("blueprint_id", "hypothesis_id")
    return scored.join(known, on="blueprint_id", how="left").select(
        pl.lit(_BLUEPRINT).alias("source"),
        "blueprint_id",
        "hypothesis_id",
        pl.coalesce("stressed_net", "net").alias("score"),
    )


def _specs(evidence: Evidence) -> dict[str, Blueprint]:
    rows = evidence.inputs["blueprints"].select("hypothesis_id", "spec_json").iter_rows()
    return {name: blueprint_from_json(text) for name, text in rows}


def _acts(edge: Mapping[str, Any], spec: Blueprint | None, run: ResearchRun) -> str:
    """Say what a candidate does, in words that equal ones share."""
    scope = spec.symbol_scope.symbols if spec else _tested_on(edge, run)
    wait = spec.entry.wait_bars if spec else edge["delay_bars"]
    said = "all" if len(scope) == 1 and edge["condition"] == f"symbol_{scope[0]}" else edge["condition"]
    return f"{edge['event']} {said} {edge['side_rule']} {wait} {edge['hold_bars']} {sorted(scope)}"


def _tested_on(edge: Mapping[str, Any], run: ResearchRun) -> list[str]:
    return [one for one in run.symbol_list if edge["candidate_symbol"] in (ALL_SYMBOLS, one)]


def _merged(evidence: Evidence) -> pl.DataFrame:
    """Merge again, in one sort and four cuts."""
    run, specs = evidence.settings, _specs(evidence)
    edges = {row["candidate_id"]: row for row in evidence.inputs["edge_candidates"].to_dicts()}
    seen = _seen(evidence).filter("has_detail")
    ids = seen["hypothesis_id"].to_list()
    told = seen.with_columns(
        pl.Series("acts", [_acts(edges[i], specs.get(i), run) for i in ids], pl.String),
        pl.Series("event", [edges[i]["event"] for i in ids], pl.String),
        name=pl.coalesce("blueprint_id", "hypothesis_id"),
        is_late=pl.col("source") == _EDGE,
    )
    best = (
        told.sort("is_late", "score", "name", descending=[False, True, False], nulls_last=True)
        .unique("hypothesis_id", keep="first", maintain_order=True)
        .unique("acts", keep="first", maintain_order=True)
    )
    place = pl.col("is_late").cast(pl.Int64).cum_sum().over("event")
    kept = best.filter(~pl.col("is_late") | (place <= run.strategy_builder_top_k_per_event))
    return kept.head(run.strategy_builder_max_candidates).with_row_index("rank", 1)


def _may_be_empty(evidence: Evidence) -> bool:
    return _merged(evidence).is_empty()


def _not_merged(evidence: Evidence) -> pl.DataFrame:
    wanted = _merged(evidence).select(pl.col("rank").cast(pl.Int64), "source", "hypothesis_id", "score")
    found = evidence.frame.select("rank", "source", "hypothesis_id", "score", "score_kind", "score_unit")
    both = found.join(wanted, on="rank", how="full", coalesce=True, suffix="_again")
    same_score = pl.col("score").eq_missing(pl.col("score_again")) | near(pl.col("score"), pl.col("score_again"))
    units = {_BLUEPRINT: "fraction of equity", _EDGE: "bps per calendar day"}
    same = (
        (pl.col("source") == pl.col("source_again"))
        & (pl.col("hypothesis_id") == pl.col("hypothesis_id_again"))
        & same_score.fill_null(value=False)
        & (pl.col("score_unit") == pl.col("source").replace_strict(units, default=None, return_dtype=pl.String))
        & ((pl.col("score_kind") == "profit_density") == (pl.col("source") == _EDGE))
    )
    return broken(both, same).select("rank", "source", "hypothesis_id", "score", "source_again", "hypothesis_id_again")


def _misgathered(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose numbers are not those of the edge candidate, hypothesis and expectancy of the same id."""
    same = {
        "event": "event", "condition": "condition", "side_rule": "side_rule", "hold_bars": "hold_bars",
        "edge_status": "status", "fail_reasons": "fail_reasons", "n_events": "n_events", "edge_score": "edge_score",
        "expectancy_per_trade": "expectancy_per_trade", "profit_density_score": "profit_density_score",
        "event_frequency": "event_frequency", "stability_proxy": "stability_proxy", "robustness_score": "robustness_score",
        "capacity_proxy": "capacity_proxy", "symbol_scores_json": "symbol_scores_json",
        "is_rollout_eligible": "is_rollout_eligible", "candidate_symbol": "candidate_symbol",
    }  # fmt: skip
    edges = evidence.inputs["edge_candidates"].select(
        "candidate_id", *(pl.col(own).alias(f"{name}_again") for name, own in same.items())
    )
    found = (
        evidence.frame.join(edges, left_on="hypothesis_id", right_on="candidate_id", how="left")
        .join(evidence.inputs["hypotheses"].select("hypothesis_id", p_rw_again="p_rw"), on="hypothesis_id", how="left")
        .join(
            evidence.inputs["expectancy"].select(
                "hypothesis_id", expectancy_after_multiplicity_bps_again="expectancy_after_multiplicity_bps"
            ),
            on="hypothesis_id",
            how="left",
        )
    )
    names = [*same, "p_rw", "expectancy_after_multiplicity_bps"]
    kept = [pl.col(name).eq_missing(pl.col(f"{name}_again")) for name in names]
    wrong = broken(found, pl.all_horizontal(*kept, pl.col("hypothesis_id").is_not_null()))
    told = [pl.when(~holds).then(changed(name, f"{name}_again")) for name, holds in zip(names, kept, strict=True)]
    return wrong.select("rank", "hypothesis_id", differs=pl.concat_str(told, separator=", ", ignore_nulls=True))


def _misdeployed(evidence: Evidence) -> pl.DataFrame:
    """Return rows that trade other symbols than they were tested on, or have other risk controls than their blueprint."""
    run, specs = evidence.settings, _specs(evidence)
    edges = {row["candidate_id"]: row for row in evidence.inputs["edge_candidates"].to_dicts()}
    wrong = [not _is_deployed(row, edges.get(row["hypothesis_id"]), specs, run) for row in evidence.frame.to_dicts()]
    shown = ("rank", "hypothesis_id", "deployment_symbols", "entry_delay_bars", "size_scale", "is_blocked")
    return evidence.frame.filter(pl.Series(wrong)).select(shown)


def _is_deployed(
    row: Mapping[str, Any], edge: Mapping[str, Any] | None, specs: Mapping[str, Blueprint], run: ResearchRun
) -> bool:
    if edge is None:
        return False
    spec = specs.get(row["hypothesis_id"])
    scope = list(spec.symbol_scope.symbols) if spec else _tested_on(edge, run)
    kind = "none" if not scope else "single_symbol" if len(scope) == 1 else "multi_symbol"
    size = spec.size_scale if spec else None
    wanted = {
        "blueprint_id": spec.blueprint_id if spec else None,
        "deployment_symbols": ",".join(scope),
        "deployment_type": kind,
        "entry_delay_bars": spec.entry.wait_bars if spec else edge["delay_bars"],
        "size_scale": size,
        "is_blocked": size is None or size <= 0,
    }
    return all(row[name] == value for name, value in wanted.items()) and set(scope) <= set(run.symbol_list)


def _falsely_ready(evidence: Evidence) -> pl.DataFrame:
    """Return rows that are said to be ready and are not, or the other way round."""
    known = [family.value for family in EventType]
    mapped = pl.col("event").is_in(known)
    may_run = pl.lit(_decision(evidence) == _PROMOTE)
    enters = (
        mapped & (pl.col("deployment_type") != "none") & ~pl.col("is_blocked") & pl.col("blueprint_id").is_not_null()
    )
    routed = pl.col("execution_family") == pl.when(mapped).then("event").otherwise(pl.lit(UNMAPPED))
    ready = pl.col("is_backtest_ready")
    holds = routed & (ready == (enters & may_run)) & (ready == (pl.col("not_ready_reason") == ""))
    return broken(evidence.frame, holds).select("rank", "hypothesis_id", "is_backtest_ready", "not_ready_reason")


def _wrong_commands(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose command is not this run with the family alone, under a name of its own."""
    wrong = [
        not _is_command(row["manual_backtest_command"], row, evidence.settings) for row in evidence.frame.to_dicts()
    ]
    return evidence.frame.filter(pl.Series(wrong)).select("rank", "hypothesis_id", "manual_backtest_command")


def _is_command(text: str, row: Mapping[str, Any], run: ResearchRun) -> bool:
    if not row["is_backtest_ready"]:
        return text == "" and row["is_backtest_ready"] is False
    words = shlex.split(text)
    flags, values = words[2::2], words[3::2]
    asked = {flag.removeprefix("--"): value for flag, value in zip(flags, values, strict=True)}
    try:
        made = run_from_dict({name: _typed(value, run.to_dict()[name]) for name, value in asked.items()})
    except (BacktestAssetsError, ValueError):
        return False
    mine, theirs = run.to_dict(), made.to_dict()
    return (
        words[:2] == ["backtest-assets", "run"]
        and {name for name in mine if mine[name] != theirs[name]} <= _FREE
        and made.blueprints_filter_event_type == row["event"]
    )


def _typed(text: str, like: Scalar) -> Scalar:
    """Read a setting as the type that it has in the run."""
    return int(text) if isinstance(like, int) else float(text) if isinstance(like, float) else text


def _ask_details(evidence: Evidence) -> Verdict:
    lacking = _seen(evidence).filter(~pl.col("has_detail"))
    names = lacking.select(pl.coalesce("blueprint_id", "hypothesis_id")).to_series().sort().to_list()
    unknown = evidence.frame.join(evidence.inputs["hypotheses"], on="hypothesis_id", how="anti").height
    if evidence.frame.is_empty() and not names:
        return empty_verdict("details_present", "candidates", 0, evidence, _may_be_empty)
    allowed = evidence.settings.strategy_builder_allow_missing_candidate_detail == 1
    listed = f"{', '.join(map(str, names[:MAX_NAMED]))}{' and more' if len(names) > MAX_NAMED else ''}"
    fate = "skipped and counted" if allowed else "make hypotheses, expectancy and edge_candidates again"
    detail = (
        f"{len(names)} candidates lack their hypothesis, expectancy or edge candidate: {listed or 'none'}; {fate}"
        if names
        else f"{evidence.frame.height - unknown} of {evidence.frame.height} listed candidates have their hypothesis"
    )
    passed = unknown == 0 and (allowed or not names)
    return Verdict("details_present", len(names) + unknown, 0, "candidates", passed=passed, detail=detail)


def _ask_nonzero(evidence: Evidence) -> Verdict:
    counts = evidence.frame["source"].value_counts()
    selected = dict(counts.iter_rows())
    edges = evidence.inputs["edge_candidates"]
    won = _promoted(evidence).height if _decision(evidence) == _PROMOTE else 0
    upstream = (
        f"edge candidates {edges.height}, PROMOTED {edges.filter(pl.col('status') == 'PROMOTED').height}; "
        f"promoted blueprints {won} of {evidence.inputs['blueprints'].height} compiled"
    )
    told = ", ".join(f"{source} {selected.get(source, 0)}" for source in (_BLUEPRINT, _EDGE))
    detail = f"selected: {told}; seen: {upstream}; {_first_failing(evidence)}"
    n = evidence.frame["hypothesis_id"].count()
    return Verdict("candidates_nonzero", n, 1, "strategy candidates", passed=n >= 1, detail=detail)


def _first_failing(evidence: Evidence) -> str:
    """Name the first gate that stands in the way: of the checklist, else of the promotions (R50)."""
    checklist = evidence.inputs["research_checklist"]
    red = set(checklist.filter(~pl.col("is_passed").fill_null(value=False))["gate"].to_list())
    asked = [*CHECKLIST, *sorted(red - set(CHECKLIST))]
    first = next((gate for gate in asked if gate in red), None)
    if first is not None:
        detail = checklist.filter(gate=first)["detail"][0]
        return f"the checklist says {_decision(evidence)}, first failing gate {first}: {detail}"
    if _decision(evidence) != _PROMOTE:
        return f"the checklist says {_decision(evidence)} without a failing gate"
    failed = evidence.inputs["promotions"].filter(~pl.col("is_passed").fill_null(value=False))
    counts = failed["gate"].value_counts().sort("count", "gate", descending=[True, False]).rows()
    return f"first failing promotion gate {counts[0][0]}, of {counts[0][1]} blueprints" if counts else "no gate fails"


GATES_STRATEGY_CANDIDATES: Final = (
    Gate(
        "details_present",
        Severity.ERROR,
        "Every candidate has its hypothesis, expectancy and edge candidate, unless overridden (R70); limit: 0 candidates.",
        _ask_details,
    ),
    rows_gate(
        "merged_by_precedence",
        "Promoted blueprints, then edge candidates, by score, each hypothesis and behaviour once, within the caps (R68-R73).",
        _not_merged,
        fix=_FIX,
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "numbers_gathered",
        "Numbers are those of the tables they were gathered from.",
        _misgathered,
        fix=_FIX,
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "deployed_as_tested",
        "Symbols are those it was tested on, risk controls those of its blueprint.",
        _misdeployed,
        fix=_FIX,
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "ready_for_cause",
        "Ready is what execution knows, enters and was let to run; an unknown family is unmapped (X8).",
        _falsely_ready,
        fix=_FIX,
        may_be_empty=_may_be_empty,
    ),
    rows_gate(
        "commands_are_the_run",
        "A command is this run with one family executed, under a run_id of its own.",
        _wrong_commands,
        fix=_FIX,
        may_be_empty=_may_be_empty,
    ),
    Gate(
        "candidates_nonzero",
        Severity.WARN,
        "There is a strategy candidate; limit: 1 (R50).",
        _ask_nonzero,
    ),
)
