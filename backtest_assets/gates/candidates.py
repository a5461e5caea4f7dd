"""What must be true of the evidence of a run's best hypotheses; measuring and judging stay in research."""

import hashlib
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import polars as pl

from backtest_assets.domain.event import SideRule, Variant
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.hypotheses.expectancy import N_BEST, STATED, TOP_SHARES
from backtest_assets.research.hypotheses.traps import LIMITS, TRIMMED, Trap

N_RECOMPUTED: Final = 5
"""Hypotheses whose trades are added up again [hypotheses]."""

MAX_ERROR_BPS: Final = 1e-6
"""Difference of a number added up again [bps]: a running sum over thousands of trades, in another order."""

MAX_RELATIVE_ERROR: Final = 1e-12
"""Difference of a product or quotient made again [fraction]: rounding, nothing else."""

_BPS: Final = 1e-4
_AGAIN: Final = "make it again from this run's own tables"


_Trades: TypeAlias = list[tuple[datetime, str, str, float]]
_Truth: TypeAlias = Callable[[Mapping[str, Any], _Trades], Mapping[str, float | None]]


def nothing_tested(evidence: Evidence) -> bool:
    """Say whether no hypothesis of the run could be tested, so that there is nothing to show."""
    return not bool(evidence.inputs["hypotheses"]["is_eligible"].any())


def _tested(evidence: Evidence) -> pl.DataFrame:
    return evidence.inputs["hypotheses"].filter(pl.col("is_eligible"))


def _not_the_tested(evidence: Evidence) -> pl.DataFrame:
    """Return hypotheses that are tested and have no row, or have a row of other counts or another rule."""
    named = ["hypothesis_id", "event_type", "condition", "side_rule", "delay_bars", "hold_bars"]
    named += ["n_run", "n_train", "n_validation"]
    tested, shown = _tested(evidence).select(named), evidence.frame.select(named)
    lacking = tested.join(shown, on=named, how="anti")
    return pl.concat([lacking, shown.join(tested, on=named, how="anti", nulls_equal=True)]).head(100)


def _misjudged_naive(evidence: Evidence) -> pl.DataFrame:
    """Judge every row again in plain comparisons and return those judged otherwise."""
    is_wrong = [not _is_judged_right(row, evidence.settings) for row in evidence.frame.to_dicts()]
    return evidence.frame.filter(pl.Series(is_wrong)).select("hypothesis_id", "status", "is_passed", "fail_reasons")


def _is_judged_right(row: Mapping[str, Any], run: ResearchRun) -> bool:
    if run.run_naive_entry_eval == 0:
        shown = [row[n] for n in ("net_mean_train_bps", "net_mean_validation_bps", "net_mean_bps", "max_drawdown")]
        unknown = all(value is None for value in shown)
        return unknown and row["status"] == "NOT_RUN" and row["is_passed"] is False
    mean, fall = (math.nan if row[name] is None else row[name] for name in ("net_mean_bps", "max_drawdown"))
    red = [
        name
        for name, is_kept in (
            ("naive_min_trades", row["n_run"] is not None and row["n_run"] >= run.naive_min_trades),
            ("naive_min_expectancy_after_cost", mean * _BPS >= run.naive_min_expectancy_after_cost),
            ("naive_max_drawdown", fall >= run.naive_max_drawdown),
        )
        if not is_kept
    ]
    said = [reason.split(" ")[0] for reason in str(row["fail_reasons"]).split(",") if reason]
    return said == red and row["is_passed"] is (not red) and row["status"] == ("FAIL" if red else "PASS")


def _naive_error(evidence: Evidence) -> tuple[float, str]:
    """Add up the trades of a sample that the run's digest draws, and of what passed best, one by one."""
    run = evidence.settings
    rows = [row for row in evidence.frame.to_dicts() if row["status"] != "NOT_RUN"]
    if not rows:
        never = run.run_naive_entry_eval == 0
        return (0.0 if never else math.nan), "the run does not evaluate the plain rule (R74)"
    _shuffle(rows, run)
    passed = [row for row in rows[N_RECOMPUTED:] if row["is_passed"]]
    passed.sort(key=lambda row: (-row["net_mean_bps"], row["hypothesis_id"]))
    attached = attach_conditions(evidence.inputs["event_registry"], evidence.inputs["market_context"])
    centre = attached.filter(pl.col("variant") == Variant.CENTRE)
    worst, culprit = 0.0, "trades added up one by one"
    for row in rows[:N_RECOMPUTED] + passed[:N_RECOMPUTED]:
        error = _error_of(row, centre, evidence.inputs["event_outcomes"], run)
        if not error <= worst:
            worst, culprit = error, f"largest difference at {row['hypothesis_id']}"
    return worst, culprit


def _shuffle(rows: list[dict[str, Any]], run: ResearchRun) -> None:
    """Put rows into the order that the run's digest draws."""
    digest = run.digest
    rows.sort(key=lambda row: hashlib.sha256(f"{digest}{row['hypothesis_id']}".encode()).hexdigest())


def _trades_of(row: Mapping[str, Any], events: pl.DataFrame, outcomes: pl.DataFrame, run: ResearchRun) -> _Trades:
    """Return known_at, symbol, split and net [bps] of a rule's trades, in the order of known_at."""
    members = events.filter(pl.col("event_type") == row["event_type"], Condition(row["condition"]).holds)
    trades = outcomes.filter(
        pl.col("event_id").is_in(members["event_id"].to_list()),
        pl.col("variant") == Variant.CENTRE,
        pl.col("control_no") == 0,
        pl.col("delay_bars") == row["delay_bars"],
        pl.col("hold_bars") == row["hold_bars"],
    )
    rule, cost = SideRule(row["side_rule"]), 2 * (run.fees_bps + run.slippage_bps)
    return [
        (known_at, symbol, split, rule.side(side) * (gross - funding) - cost)
        for known_at, symbol, split, side, gross, funding in trades.sort("known_at", "symbol")
        .select("known_at", "symbol", "split", "side", "gross_bps", "funding_bps")
        .iter_rows()
    ]


def _error_of(row: Mapping[str, Any], events: pl.DataFrame, outcomes: pl.DataFrame, run: ResearchRun) -> float:
    nets = _trades_of(row, events, outcomes, run)
    truth = {
        "net_mean_train_bps": _mean([net for _, _, split, net in nets if split == "train"]),
        "net_mean_validation_bps": _mean([net for _, _, split, net in nets if split == "validation"]),
        "net_mean_bps": _mean([net for *_, net in nets]),
    }
    errors = [abs(value - row[name]) for name, value in truth.items()]
    errors.append(abs(_fall([(known_at, net) for known_at, _, _, net in nets]) - row["max_drawdown"]) / _BPS)
    return max(errors) if len(nets) == row["n_train"] + row["n_validation"] else math.inf


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _fall(nets: list[tuple[datetime, float]]) -> float:
    at_once: dict[datetime, float] = {}
    for known_at, net in nets:
        at_once[known_at] = at_once.get(known_at, 0.0) + net
    equity = peak = 1.0
    deepest, total = 0.0, 1.0
    for net in at_once.values():
        total += _BPS * net
        equity = max(total, 0.0)
        peak = max(peak, equity)
        deepest = min(deepest, equity / peak - 1.0)
    return deepest


def _worst_error(rows: list[dict[str, Any]], evidence: Evidence, truth: _Truth) -> tuple[float, str]:
    """Measure a sample of rows again, drawn by the run's digest, and return the largest difference."""
    run = evidence.settings
    _shuffle(rows, run)
    attached = attach_conditions(evidence.inputs["event_registry"], evidence.inputs["market_context"])
    centre = attached.filter(pl.col("variant") == Variant.CENTRE)
    worst, culprit = 0.0, "trades measured again one by one"
    for row in rows[:N_RECOMPUTED]:
        for name, value in truth(row, _trades_of(row, centre, evidence.inputs["event_outcomes"], run)).items():
            error = (
                0.0
                if value is row[name] is None
                else math.inf
                if None in (value, row[name])
                else abs(value - row[name])
            )
            if not error <= worst:
                worst, culprit = error, f"largest difference at {row['hypothesis_id']} {name}"
    return worst, culprit


def _examined_ids(evidence: Evidence) -> set[str]:
    """Choose the survivors of multiplicity and the best by t again, in plain words."""
    tested = [row for row in _tested(evidence).to_dicts() if row["t_train"] is not None]
    tested.sort(key=lambda row: (-row["t_train"], row["hypothesis_id"]))
    return {row["hypothesis_id"] for n, row in enumerate(tested) if n < N_BEST or row["gate_multiplicity"]}


def _not_examined(evidence: Evidence) -> pl.DataFrame:
    wanted, shown = _examined_ids(evidence), set(evidence.frame["hypothesis_id"].to_list())
    return pl.DataFrame({"hypothesis_id": sorted(map(str, wanted ^ shown))}, schema={"hypothesis_id": pl.String})


def _misstated(evidence: Evidence) -> pl.DataFrame:
    """Return rows that say something else of a hypothesis than its own row, or call evidence what is none."""
    named = ("event_type", "condition", "side_rule", "delay_bars", "hold_bars", *STATED)
    own = _tested(evidence).select("hypothesis_id", "gate_multiplicity", *named)
    both = evidence.frame.join(own, on="hypothesis_id", how="left", suffix="_own")
    same = [pl.col(name).eq_missing(pl.col(f"{name}_own")) for name in named]
    evident = (
        pl.col("gate_multiplicity")
        & (pl.col("expectancy_after_multiplicity_bps") > 0)
        & (pl.col("net_mean_validation_bps") > 0)
    ).fill_null(value=False)
    right = pl.all_horizontal(
        *same, pl.col("is_survivor") == pl.col("gate_multiplicity"), pl.col("is_evidence") == evident
    )
    return broken(both, right).select("hypothesis_id", "is_survivor", "is_evidence", "net_mean_train_bps")


def _distribution_error(evidence: Evidence) -> tuple[float, str]:
    def truth(_: Mapping[str, Any], trades: _Trades) -> dict[str, float | None]:
        nets = sorted((net for _, _, split, net in trades if split == "train"), reverse=True)
        total, n = math.fsum(nets), len(nets)
        best = {
            name: math.fsum(nets[: math.ceil(share * n)]) / total if total > 0 else None
            for name, share in TOP_SHARES.items()
        }
        middle = (nets[(n - 1) // 2] + nets[n // 2]) / 2
        return {"median_train_bps": middle, "win_rate_train": sum(net > 0 for net in nets) / n, **best}

    return _worst_error(evidence.frame.to_dicts(), evidence, truth)


def _unasked_traps(evidence: Evidence) -> pl.DataFrame:
    wanted = {(name, trap.value) for name in _examined_ids(evidence) for trap in Trap}
    found = evidence.frame.select("hypothesis_id", "trap").rows()
    wrong = sorted((str(name), str(trap)) for name, trap in wanted ^ set(found))
    return pl.DataFrame(wrong, schema={"hypothesis_id": pl.String, "trap": pl.String}, orient="row")


def _misjudged_traps(evidence: Evidence) -> pl.DataFrame:
    capacity = evidence.settings.expectancy_capacity_min_events_per_day
    is_wrong: list[bool] = []
    for row in evidence.frame.to_dicts():
        limit = LIMITS[Trap(row["trap"])] if row["trap"] in set(Trap) else None
        held = None if limit is None else capacity if limit.limit is None else limit.limit
        stated = limit is not None and (row["comparator"], row["limit"], row["unit"]) == (
            limit.comparator,
            held,
            limit.unit,
        )
        kept = stated and row["observed"] is not None and _is_kept(row["observed"], row["comparator"], row["limit"])
        is_wrong.append(not stated or row["is_passed"] is not kept)
    return evidence.frame.filter(pl.Series(is_wrong)).select("hypothesis_id", "trap", "observed", "limit", "is_passed")


def _is_kept(observed: float, comparator: str, limit: float) -> bool:
    if comparator == "above":
        return observed > limit
    return observed <= limit if comparator == "at most" else observed >= limit


def _trap_error(evidence: Evidence) -> tuple[float, str]:
    """Measure tails and capacity of a sample again."""
    start, end = evidence.settings.window
    days = (end - start).days
    wide = evidence.frame.pivot(on="trap", index="hypothesis_id", values="observed")
    rows = wide.join(_tested(evidence), on="hypothesis_id", how="left").to_dicts()

    def truth(row: Mapping[str, Any], trades: _Trades) -> dict[str, float | None]:
        nets = sorted(net for _, _, split, net in trades if split == "train")
        kept = nets[: len(nets) - math.ceil(TRIMMED * len(nets))]
        return {"tails": _mean(kept), "capacity": row["n_run"] / days}

    return _worst_error(rows, evidence, truth)


def _nothing_survived(evidence: Evidence) -> bool:
    return not bool(_tested(evidence)["gate_multiplicity"].any())


def _not_the_survivors(evidence: Evidence) -> pl.DataFrame:
    survivors = set(_tested(evidence).filter(pl.col("gate_multiplicity"))["hypothesis_id"].to_list())
    wrong = survivors ^ set(evidence.frame["candidate_id"].to_list())
    return pl.DataFrame({"candidate_id": sorted(map(str, wrong))}, schema={"candidate_id": pl.String})


def _wrongly_promoted(evidence: Evidence) -> pl.DataFrame:
    """Ask everything that promotes a candidate again, of the tables it was gathered from."""
    selected = {row["hypothesis_id"] for row in _tested(evidence).to_dicts() if row["status"] == "selected"}
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
    own = {row["hypothesis_id"]: row for row in _tested(evidence).to_dicts()}
    examined = {row["hypothesis_id"]: row for row in evidence.inputs["expectancy"].to_dicts()}
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


def _is_same(found: object, value: object) -> bool:
    if isinstance(found, float) and isinstance(value, float):
        return math.isclose(found, value, rel_tol=MAX_RELATIVE_ERROR)
    return found == value


def _ask_evidence(evidence: Evidence) -> Verdict:
    n = evidence.frame.filter(pl.col("is_evidence").fill_null(value=False)).height
    detail = f"{n} of {evidence.frame.height} examined hypotheses earn on train after the penalty, and on validation"
    return Verdict("evidence_found", n, 1, "hypotheses", passed=n >= 1, detail=detail)


def _ask_traps(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    clean = frame.group_by("hypothesis_id").agg(pl.col("is_passed").fill_null(value=False).all()).filter("is_passed")
    red = frame.filter(~pl.col("is_passed").fill_null(value=False))["trap"].value_counts(sort=True)
    why = ", ".join(f"{trap} {n}" for trap, n in red.iter_rows()) or "none"
    detail = f"{clean.height} of {frame['hypothesis_id'].n_unique()} examined hypotheses pass every trap; red: {why}"
    return Verdict("traps_passed", clean.height, 1, "hypotheses", passed=clean.height >= 1, detail=detail)


def _ask_promoted(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    promoted = frame.filter(pl.col("status") == "PROMOTED").height
    lost = frame["fail_reasons"].str.split(",").explode(empty_as_null=True, keep_nulls=True).value_counts(sort=True)
    why = ", ".join(f"{reason} {n}" for reason, n in lost.filter(pl.col("fail_reasons") != "").iter_rows()) or "none"
    detail = f"{promoted} of {frame.height} edge candidates are PROMOTED; lost to: {why}"
    return Verdict("candidates_promoted", promoted, 1, "edge candidates", passed=promoted >= 1, detail=detail)


def _ask_naive_passed(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    passed = frame.filter(pl.col("is_passed").fill_null(value=False)).height
    lost = frame["fail_reasons"].str.split(",").list.first().value_counts(sort=True)
    why = ", ".join(f"{reason} {n}" for reason, n in lost.filter(pl.col("fail_reasons") != "").iter_rows()) or "none"
    detail = f"{passed} of {frame.height} tested hypotheses earn when traded plainly; first short of: {why}"
    return Verdict("naive_entry_passed", passed, 1, "hypotheses", passed=passed >= 1, detail=detail)


GATES_NAIVE_ENTRY: Final = (
    rows_gate(
        "every_tested_once",
        "Every tested hypothesis has one row with its own counts.",
        _not_the_tested,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    rows_gate(
        "verdicts_follow_numbers",
        "Status and reasons follow from the numbers and the run's limits (R75-R77).",
        _misjudged_naive,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    limit_gate(
        "trades_added_up",
        "Means and drawdown equal those of the trades, added up one by one.",
        _naive_error,
        limit=MAX_ERROR_BPS,
        unit="bps",
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate(
        "naive_entry_passed",
        Severity.WARN,
        "Something earns when traded plainly; limit: 1 hypothesis.",
        _ask_naive_passed,
    ),
)
GATES_EXPECTANCY: Final = (
    rows_gate(
        "examined_once",
        "Examined are the survivors of multiplicity and the best by t.",
        _not_examined,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    rows_gate(
        "hypotheses_restated",
        "What is said of a hypothesis is what its own row says, and evidence follows from it.",
        _misstated,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    limit_gate(
        "trades_measured_again",
        "Median, share of winners and share of the best trades equal those of the trades, one by one.",
        _distribution_error,
        limit=MAX_ERROR_BPS,
        unit="bps",
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate("evidence_found", Severity.WARN, "Something earns on both splits; limit: 1 hypothesis.", _ask_evidence),
)
GATES_EXPECTANCY_TRAPS: Final = (
    rows_gate(
        "every_trap_asked",
        "Every trap is asked once of every examined hypothesis.",
        _unasked_traps,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    rows_gate(
        "verdicts_follow_numbers",
        "Limits are the declared ones, and answers follow from them; what is unknown is red.",
        _misjudged_traps,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    limit_gate(
        "trades_measured_again",
        "Tails and capacity equal those of the trades, one by one.",
        _trap_error,
        limit=MAX_ERROR_BPS,
        unit="bps",
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate("traps_passed", Severity.WARN, "Something passes every trap; limit: 1 hypothesis.", _ask_traps),
)
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
