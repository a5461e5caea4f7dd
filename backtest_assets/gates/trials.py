"""What must be true of the trial ledger and of its count over all runs; what is promoted on the count is promotions'."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from scipy import special

from backtest_assets.gates.ask import broken, differing, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.sql import ask_sql

MAX_EFFECTIVE_ERROR: Final = 1e-3
"""Relative difference of the effective number computed again: a sum over a grid against a quadrature, some 1e-6."""

MAX_LUCKIEST_ERROR: Final = 1e-8
"""Difference of what the luckiest shows [standard errors]: it is stored to nine decimals."""

_GRID: Final = np.linspace(-12.0, 12.0, 48_001)
_MOST_DOUBLINGS: Final = 40
_BISECTIONS: Final = 60
_NAMES: Final = ("trial_id", "hypothesis_id", "kind", "detail")


def _nothing_tested(evidence: Evidence) -> bool:
    """Say whether a run without any testable hypothesis and without earlier trials asks for its ledger."""
    had_trials = evidence.previous is not None and not evidence.previous.is_empty()
    return not had_trials and not bool(evidence.inputs["hypotheses"]["is_eligible"].any())


def _before(evidence: Evidence) -> pl.DataFrame:
    return evidence.table.empty() if evidence.previous is None else evidence.table.widen(evidence.previous)


def _forgotten(evidence: Evidence) -> pl.DataFrame:
    names = evidence.table.schema.names()
    lost = _before(evidence).join(evidence.frame, on=names, how="anti", nulls_equal=True)
    return lost.select("trial_id", "hypothesis_id")


def _uncounted(evidence: Evidence) -> pl.DataFrame:
    """Return tested hypotheses that lack themselves, a delay or a neighbour under the run's settings on what was read."""
    now = evidence.frame.filter(
        pl.col("settings_digest") == evidence.settings.digest,
        pl.col("inputs_digest") == evidence.digest_of("event_outcomes"),
    )
    has = {
        (name, kind): n
        for name, kind, n in now.group_by("hypothesis_id", "kind").agg(pl.col("detail").n_unique()).rows()
    }
    tested = evidence.inputs["hypotheses"].filter(pl.col("is_eligible"))
    wrong = [any(has.get((row["hypothesis_id"], kind), 0) < n for kind, n in _asked(row)) for row in tested.to_dicts()]
    return tested.filter(pl.Series(wrong, dtype=pl.Boolean)).select("hypothesis_id", "event_type", "condition")


def _asked(row: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield "hypothesis", 1
    yield "delay", len(set(json.loads(row["delay_means_json"])) - {str(row["delay_bars"])})
    yield "neighbour", len(set(json.loads(row["curvature_means_json"])) - {"centre"})


def _unknown_kinds(evidence: Evidence) -> pl.DataFrame:
    known = pl.col("kind").is_in(["hypothesis", "delay", "neighbour"])
    return broken(evidence.frame, known).select("trial_id", "hypothesis_id", "kind")


def _misquoted(evidence: Evidence) -> pl.DataFrame:
    """Return trials that are new in this ledger and are not of what was read, or have other numbers than were made of it."""
    new = evidence.frame.join(_before(evidence).select("trial_id"), on="trial_id", how="anti")
    told = {row["hypothesis_id"]: row for row in evidence.inputs["hypotheses"].to_dicts()}
    luckiest, k = _lowest_luckiest(evidence), evidence.settings.phase2_multiplicity_k
    means = {name: _means(by) for name, by in told.items()}
    tried = (evidence.settings.digest, evidence.digest_of("event_outcomes"))
    wrong = [
        (row["settings_digest"], row["inputs_digest"]) != tried
        or row["trial_id"] != _id_again(row)
        or row["hypothesis_id"] not in told
        or not _is_quoted(row, told[row["hypothesis_id"]], means[row["hypothesis_id"]])
        or (row["luckiest_t"] is None) is (k > 0)
        or (row["luckiest_t"] is not None and not abs(row["luckiest_t"] - luckiest) <= MAX_LUCKIEST_ERROR)
        for row in new.to_dicts()
    ]
    return new.filter(pl.Series(wrong, dtype=pl.Boolean)).select(*_NAMES, "inputs_digest", "t", "p", "luckiest_t")


def _id_again(trial: Mapping[str, Any]) -> str:
    """Return the id that what a trial says of itself gives: two runs share one only if they tried the same."""
    named = ("kind", "detail", "hypothesis_id", "settings_digest", "inputs_digest")
    return hashlib.sha256("|".join(str(trial[name]) for name in named).encode()).hexdigest()


def _is_quoted(trial: Mapping[str, Any], by: Mapping[str, Any], means: Mapping[str, set[float | None]]) -> bool:
    if trial["event_type"] != by["event_type"] or not by["is_eligible"]:
        return False
    if trial["kind"] == "hypothesis":
        quoted = (trial["t"], trial["p"], trial["net_mean_bps"])
        return quoted == (by["t_train"], by["p_train"], by["net_mean_train_bps"])
    return trial["t"] is None and trial["p"] is None and trial["net_mean_bps"] in means.get(trial["kind"], ())


def _means(by: Mapping[str, Any]) -> dict[str, set[float | None]]:
    """Return what a hypothesis says its delays and neighbours earn."""
    return {
        "delay": {shown["mean_bps"] for shown in json.loads(by["delay_means_json"]).values()},
        "neighbour": set(json.loads(by["curvature_means_json"]).values()),
    }


def _lowest_luckiest(evidence: Evidence) -> float:
    """Divide the standard errors out of the penalties again; all hypotheses of a run must give one number."""
    k = evidence.settings.phase2_multiplicity_k
    tested = evidence.inputs["hypotheses"].filter(pl.col("is_eligible"))
    pairs = tested.select("multiplicity_penalty_bps", "se_train_bps").rows()
    found = [penalty / (k * se) for penalty, se in pairs if penalty is not None and se and k > 0]
    return min(found) if found and max(found) - min(found) <= MAX_LUCKIEST_ERROR else math.nan


def _nothing_tried(evidence: Evidence) -> bool:
    had = evidence.previous is not None and not evidence.previous.is_empty()
    return not had and evidence.inputs["trial_ledger"].is_empty()


_COUNTS: Final = """
with every as (
    select count(distinct trial_id) as n_all,
        count(distinct trial_id) filter (where kind = 'hypothesis') as n_tested from ledgers
)
select l.of_run_id, l.inputs_digest, l.ledger_digest, count(*) as n_trials,
    count(*) filter (where l.kind = 'hypothesis') as n_hypotheses,
    any_value(e.n_all) as n_trials_all, any_value(e.n_tested) as n_hypotheses_all,
    (select count(distinct s.trial_id) from ledgers s
        where s.inputs_digest in (select inputs_digest from counted where is_same_data)) as n_trials_same_data
from ledgers l cross join every e group by l.of_run_id, l.inputs_digest, l.ledger_digest
"""


def _miscounted(evidence: Evidence) -> pl.DataFrame:
    frames = {"ledgers": evidence.inputs["trial_ledger"], "counted": evidence.frame}
    again = ask_sql(_COUNTS, frames)
    return differing(evidence.frame.select(again.columns), again, ("of_run_id", "inputs_digest"))


def _strange_data(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose word on being the same data cannot be true: of two data sets, or not where the run tested now."""
    frame, own = evidence.frame, evidence.partition["run_id"]
    has_tested = bool(evidence.inputs["hypotheses"]["is_eligible"].any())
    same = frame.filter(pl.col("is_same_data").fill_null(value=True))
    mine = frame.filter(pl.col("of_run_id") == own)["inputs_digest"].to_list()
    named = same["inputs_digest"].unique().to_list()
    is_right = pl.lit(value=len(named) == 1 and set(named) <= set(mine) if has_tested else len(named) <= 1)
    is_one = pl.col("is_same_data") == pl.col("inputs_digest").is_in(named)
    return broken(frame, is_right & is_one).select("of_run_id", "inputs_digest", "is_same_data")


def _fewer(evidence: Evidence) -> pl.DataFrame:
    """Return counts that were larger when this run counted before."""
    key, counts = ["of_run_id", "inputs_digest"], ("n_trials", "n_hypotheses", "n_trials_all", "n_hypotheses_all")
    before = evidence.table.empty() if evidence.previous is None else evidence.previous
    both = before.select(*key, *counts).join(evidence.frame.select(*key, *counts), on=key, how="left", suffix="_now")
    return broken(both, pl.all_horizontal(pl.col(f"{name}_now") >= pl.col(name) for name in counts)).select(
        *key, "n_trials", "n_trials_now"
    )


def _effective_error(evidence: Evidence) -> tuple[float, str]:
    said = set(evidence.frame["effective_trials_all"].to_list())
    if len(said) != 1 or None in said:
        return math.nan, "the rows are of two minds"
    (observed,) = said
    again = _effective_again(evidence.inputs["trial_ledger"])
    return abs(observed - again) / again, f"{observed:.6g} counted, {again:.6g} again"


def _effective_again(ledgers: pl.DataFrame) -> float:
    """Add up the searches row by row, with the largest of independent trials averaged over a grid."""
    searches: dict[tuple[str, str], tuple[set[str], list[float | None]]] = {}
    names = ("kind", "inputs_digest", "settings_digest", "hypothesis_id", "luckiest_t")
    for kind, data, settings, rule, luckiest in ledgers.select(names).iter_rows():
        if kind == "hypothesis":
            rules, shown = searches.setdefault((data, settings), (set(), []))
            rules.add(rule)
            shown.append(luckiest)
    sized = sorted(
        ((-_worth(rules, shown), data, settings) for (data, settings), (rules, shown) in searches.items()),
    )
    tried: dict[str, set[str]] = {}
    total = 0.0
    for size, data, settings in sized:
        fresh = searches[data, settings][0] - tried.setdefault(data, set())
        tried[data] |= fresh
        total += min(-size, len(fresh))
    return total


def _worth(rules: set[str], shown: list[float | None]) -> float:
    known = [one for one in shown if one is not None]
    return float(len(rules)) if len(known) < len(shown) else min(float(len(rules)), _independent(max(known)))


def _independent(luckiest: float) -> float:
    low, high = 1.0, 2.0
    for _ in range(_MOST_DOUBLINGS):
        if _largest(high) >= luckiest:
            break
        high *= 2.0
    else:
        return math.inf
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _largest(middle) >= luckiest else (middle, high)
    return low


def _largest(n: float) -> float:
    below = np.exp(n * special.log_ndtr(_GRID))
    return float(_GRID[-1] - np.trapezoid(below, _GRID))


def uncounted_trials(evidence: Evidence) -> tuple[float, str]:
    """Count the trials of all runs that the published count leaves out, or has too many; NaN where there is no count.

    Args:
        evidence: of a table that reads `trial_counts` and the ledgers of all runs.
    """
    counts, ledgers = evidence.inputs["trial_counts"], evidence.inputs["trial_ledger"]
    said = counts["n_trials_all"].unique().to_list()
    if len(said) != 1 or said[0] is None or not counts["effective_trials_all"].is_finite().all():
        return math.nan, f"trial_counts[{evidence.partition.label}] has no count; trials of all runs not counted"
    now = ledgers.group_by("of_run_id", "ledger_digest").len().select("of_run_id", "ledger_digest")
    new = now.join(counts, on=["of_run_id", "ledger_digest"], how="anti")["of_run_id"].sort().to_list()
    n_wrong = abs(ledgers["trial_id"].n_unique() - int(said[0]))
    culprits = f", of runs {', '.join(new[:5])}" if new else ""
    return max(n_wrong, len(new)), f"{said[0]} trials counted over all runs{culprits}; trials not counted"


_LIST_AGAIN: Final = "list the trials again"
_COUNT_AGAIN: Final = "count the ledgers of all runs again"

GATES_TRIAL_LEDGER: Final = (
    rows_gate(
        "grows_only",
        "Every trial that any earlier version held is still there, as it was first listed.",
        _forgotten,
        fix="append to what all versions of the ledger held, never replace it",
        may_be_empty=_nothing_tested,
    ),
    rows_gate(
        "counts_every_test",
        "Every tested hypothesis is counted under this run's settings on the outcomes read, with its delays and neighbours.",
        _uncounted,
        fix=_LIST_AGAIN,
        may_be_empty=_nothing_tested,
    ),
    rows_gate(
        "kinds_known",
        "A trial is a hypothesis, a delay or a neighbour.",
        _unknown_kinds,
        fix=_LIST_AGAIN,
        may_be_empty=_nothing_tested,
    ),
    rows_gate(
        "numbers_are_the_tests",
        "A new trial is of the outcomes read, has the mean, t and p of its hypothesis, and what the luckiest of the run shows.",
        _misquoted,
        fix=_LIST_AGAIN,
        may_be_empty=_nothing_tested,
    ),
)
"""Inputs: hypotheses; the digest of `event_outcomes`."""

GATES_TRIAL_COUNTS: Final = (
    rows_gate(
        "counts_recomputed",
        "Counts equal those of the ledgers of all runs, counted again in SQL.",
        _miscounted,
        fix=_COUNT_AGAIN,
        may_be_empty=_nothing_tried,
    ),
    rows_gate(
        "same_data_is_the_runs",
        "What is the same data is one data set, of which the run tried something if it tested anything.",
        _strange_data,
        fix=_COUNT_AGAIN,
        may_be_empty=_nothing_tried,
    ),
    rows_gate(
        "counts_never_fall",
        "No count is smaller than when this run counted before.",
        _fewer,
        fix="a ledger of the lake lost trials: put it back",
        may_be_empty=_nothing_tried,
    ),
    limit_gate(
        "effective_recomputed",
        "The effective number equals the one computed again on a grid.",
        _effective_error,
        limit=MAX_EFFECTIVE_ERROR,
        unit="relative",
        fix=_COUNT_AGAIN,
        may_be_empty=_nothing_tried,
    ),
)
"""Inputs: hypotheses, trial_ledger of all runs with `of_run_id` and `ledger_digest`."""
