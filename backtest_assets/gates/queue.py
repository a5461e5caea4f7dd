"""What must be true of the hypothesis queue, and of hypotheses that obey it; choosing stays in research."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.sensor import SENSING, SensorDataset
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.queue.leaks import LEAST_CONTROLS, OUTCOME_WORDS
from backtest_assets.research.hypotheses.queue.placebos import SHUFFLE_LIMIT
from backtest_assets.research.hypotheses.queue.templates import TEMPLATES
from backtest_assets.research.phase1.criteria import N_SHUFFLES, PLACEBO_LEVEL, SHUFFLE_LEVEL

MAX_SCORE_ERROR: Final = 1e-4
"""Difference of a recomputed score [score]: scores are rounded to four digits."""

MAX_P_ERROR: Final = 1e-12
"""Difference of a recomputed p [probability]: rounding of a binomial sum; others are copied."""

_KEY: Final = ("hypothesis_id", "event_type")
_SHOWN: Final = (*_KEY, "status", "reason")
_HOLDS: Final = {"short": (4, 16), "medium": (48, 96)}
_WEIGHTS: Final = {"trigger": 0.4, "state": 0.2, "confirm": 0.2, "invalidate": 0.2}
_CONTENT: Final = {
    "um_liquidations": "liquidated_short_quote",
    "um_takers": "taker_imbalance",
    "um_open_interest": "open_interest_quote",
    "um_funding": "funding_rate",
    "um_ohlcv": "range_frac",
    "um_volumes": "volume_quote_ratio_2880",
    "spot_ohlcv": "basis_bps",
}
_HALF: Final = 0.5
_SPEAKS: Final = pl.col("source_kind").ne_missing("family")  # a row of unknown kind is held against every rule


def cells_asked(queue: pl.DataFrame, run: ResearchRun) -> Mapping[tuple[str, str, int], int]:
    """Return family, condition and hold of what a queue asks for of the run's phase 2, each with its best rank."""
    best: dict[tuple[str, str, int], int] = {}
    for row in _tested(queue, run).to_dicts():
        family = next(family for family in run.event_types if family.value == row["event_type"])
        every = [condition.name for condition in Condition.declared(family, run.symbol_list)]
        for name in [row["condition"]] if row["condition"] else every:
            for hold in _HOLDS[row["horizon_bucket"]]:
                cell = (row["event_type"], name, hold)
                best[cell] = min(row["rank"], best.get(cell, row["rank"]))
    return best


def nothing_asked(evidence: Evidence) -> bool:
    """Say whether hypotheses may be empty: the run obeys a queue that asks for none of the families it enumerates."""
    run = evidence.settings
    return run.obeys_queue and _tested(evidence.inputs["hypothesis_queue"], run).is_empty()


def _tested(queue: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    """Return what a queue asks for of the families that the run enumerates; a row of unknown family is kept."""
    others = pl.col("event_type").is_in(
        [family.value for family in run.event_types if family not in run.phase2_families]
    )
    return queue.filter(pl.col("is_tested"), ~others.fill_null(value=False))


def _disobedient(evidence: Evidence) -> pl.DataFrame:
    """Return hypotheses whose rank is not the queue's, or that have one though the run does not obey."""
    run = evidence.settings
    asked: Mapping[tuple[str, str, int], int] = {}
    if run.obeys_queue:
        asked = cells_asked(evidence.inputs["hypothesis_queue"], run)
    names = ("event_type", "condition", "hold_bars", "queue_rank")
    wrong = [
        None in {family, name, hold} or asked.get((family, name, hold)) != rank
        for family, name, hold, rank in evidence.frame.select(names).iter_rows()
    ]
    return evidence.frame.filter(pl.Series(wrong, dtype=pl.Boolean)).select("hypothesis_id", *names)


QUEUE_OBEYED: Final = rows_gate(
    "queue_obeyed",
    "A hypothesis has the best rank that asks for it; without obedience to the queue it has none (R7).",
    _disobedient,
    fix="hypothesis_queue changed since: test the hypotheses again",
    may_be_empty=nothing_asked,
)


def _untold(evidence: Evidence) -> pl.DataFrame:
    """Return mechanisms and families that should have a row and have none, or that nobody asked for."""
    run, rows = evidence.settings, evidence.frame
    told = set(rows.filter(pl.col("source_kind") == "template").select(_KEY).rows())
    asked = {(one.id, family.value) for one in TEMPLATES for family in one.families if family in run.event_types}
    queued = set(rows.filter(pl.col("status") == "QUEUED")["event_type"])
    recorded = set(rows.filter(pl.col("source_kind") == "family", pl.col("status") == "SKIPPED")["event_type"])
    phase1 = set(evidence.inputs["phase1_evidence"]["event_type"])
    families = {family.value for family in run.event_types}
    wrong = [
        *((mechanism, family, "template told or left out wrongly") for mechanism, family in told ^ asked),
        *(("", family, "neither queued nor recorded") for family in (families | phase1) - queued - recorded),
        *(("", family, "queued and recorded, or unknown") for family in recorded - ((families | phase1) - queued)),
        *(("", str(family), "queued, unknown to the run") for family in queued - families),
    ]
    return pl.DataFrame(sorted(wrong), schema=(*_KEY, "what"), orient="row")


def _content(evidence: Evidence) -> Mapping[str, list[float]]:
    """Measure again, value by value, on what share of its bars of train and validation each symbol has a data set."""
    run = evidence.settings
    start, end = run.splits[Split.TRAIN].start, run.splits[Split.VALIDATION].end
    n_bars = (end - start) // BAR
    features = evidence.inputs["features"].select("symbol", "known_at", *_CONTENT.values())
    shares: dict[str, list[float]] = {name: [] for name in SensorDataset}
    for symbol in run.symbol_list:
        rows = features.filter(pl.col("symbol") == symbol)
        inside = ((rows["known_at"] > start) & (rows["known_at"] <= end)).to_numpy()
        for name in SensorDataset:
            known = rows[_CONTENT[name]].is_not_null().to_numpy() if name in _CONTENT else inside & ~inside
            shares[name].append(float((known & inside).sum()) / n_bars)
    return shares


def _is_usable(name: str, shares: list[float], run: ResearchRun) -> bool:
    chosen = run.hypothesis_datasets == "auto" or name in run.hypothesis_datasets.replace(" ", "").split(",")
    enough = sum(share >= _HALF for share in shares) / len(shares) >= run.hypothesis_min_symbol_coverage
    return name in _CONTENT and chosen and enough


def _score_error(evidence: Evidence) -> tuple[float, str]:
    """Compute every score again from the row's own words, the features and phase 1's counts."""
    content, matched = _content(evidence), _matched(evidence)
    worst, culprit = 0.0, f"{evidence.frame.height} rows recomputed"
    for row in evidence.frame.filter(_SPEAKS).to_dicts():
        again = _scores_of(row, content, matched.get(row["event_type"], 0), evidence.settings)
        error = max(_distance(row[name], value) for name, value in again.items())
        if not error <= worst:
            worst, culprit = error, f"largest difference at {row['hypothesis_id']} on {row['event_type']}"
    return worst, culprit


def _scores_of(
    row: Mapping[str, Any], content: Mapping[str, list[float]], matched: int, run: ResearchRun
) -> dict[str, float]:
    names = row["required_datasets"].split(",")
    roles = {role.value for name in names for role in SENSING[SensorDataset(name)].roles}
    seen = [
        SENSING[SensorDataset(name)].resolution * math.fsum(content[name]) / len(content[name])
        for name in names
        if _is_usable(name, content[name], run)
    ]
    controls = json.loads(row["negative_controls_json"])
    n_run = sum(one["p"] is not None for one in controls.values())
    scores = {
        "mechanism_coherence": sum(_WEIGHTS[role] for role in roles),
        "observability": math.fsum(seen) / len(names),
        "testability": (n_run / len(controls) if controls else 0.0) / 2 + min(1.0, matched / run.phase2_min_ess) / 2,
    }
    return scores | {"priority": sum(scores.values()) / len(scores)}


def _distance(shown: float | None, again: float) -> float:
    return math.inf if shown is None else abs(shown - again)


def _matched(evidence: Evidence) -> Mapping[str, int]:
    rows = evidence.inputs["phase1_evidence"].group_by("event_type").agg(pl.col("n_matched").fill_null(0).min())
    return dict(rows.iter_rows())


def _p_error(evidence: Evidence) -> tuple[float, str]:
    """Compute every p of a negative control again from phase 1."""
    again, worst, culprit = _placebos_again(evidence), 0.0, "every p is phase 1's"
    for row in evidence.frame.filter(_SPEAKS).to_dicts():
        for control, one in json.loads(row["negative_controls_json"]).items():
            p, passed = again.get((row["event_type"], control, row["horizon_bucket"]), (None, False))
            is_same = (one["p"] is None) == (p is None) and one["passed"] is passed
            error = abs((one["p"] or 0.0) - (p or 0.0)) if is_same else math.inf
            if not error <= worst:
                worst, culprit = error, f"{control} of {row['hypothesis_id']} on {row['event_type']}"
    return worst, culprit


def _placebos_again(evidence: Evidence) -> Mapping[tuple[str, str, str], tuple[float | None, bool]]:
    found: dict[tuple[str, str, str], tuple[float | None, bool]] = {}
    for (family,), rows in evidence.inputs["phase1_evidence"].group_by("event_type"):
        for bucket, holds in _HOLDS.items():
            moves = rows.filter(pl.col("metric").is_in([f"move_{hold}_bars_bps" for hold in holds]))
            placebo, rejected = (moves[name].to_list() for name in ("p_placebo", "shuffled_rejection_share"))
            whole = len(placebo) == len(holds)
            least = min(placebo) if whole and None not in placebo else None
            found[str(family), "time_shifted", bucket] = least, least is not None and least > PLACEBO_LEVEL
            found[str(family), "label_shuffled", bucket] = _shuffles(rejected) if whole else (None, False)
    return found


def _shuffles(rejected: list[float | None]) -> tuple[float | None, bool]:
    """Sum the chance of as many rejections, or more, of a test that keeps its level."""
    known = [share for share in rejected if share is not None]
    if len(known) < len(rejected):
        return None, False
    level, most = SHUFFLE_LEVEL, round(max(known) * N_SHUFFLES)
    as_many = math.fsum(
        math.comb(N_SHUFFLES, n) * level**n * (1.0 - level) ** (N_SHUFFLES - n) for n in range(most, N_SHUFFLES + 1)
    )
    return as_many, as_many > SHUFFLE_LIMIT


def _leaking(evidence: Evidence) -> pl.DataFrame:
    rows = evidence.frame.filter(_SPEAKS, pl.col("status").ne_missing("REJECTED"))
    wrong = [_leaks(row, evidence.settings) for row in rows.to_dicts()]
    return rows.filter(pl.Series(wrong, dtype=pl.Boolean)).select(*_KEY, "mechanism_sentence", "condition")


def _leaks(row: Mapping[str, Any], run: ResearchRun) -> bool:
    text = f"{row['mechanism_sentence']} {row['consequence']}".lower()
    family = next((one for one in run.event_types if one.value == row["event_type"]), None)
    declared = [condition.name for condition in Condition.declared(family, run.symbol_list)] if family else []
    return (
        not row["mechanism_sentence"]
        or bool(OUTCOME_WORDS & set(re.findall(r"[a-z]+", text)))
        or any(name in text for name in SensorDataset)
        or len(json.loads(row["negative_controls_json"])) < LEAST_CONTROLS
        or row["horizon_bucket"] not in _HOLDS
        or row["condition"] not in {"", *declared}
    )


def _misranked(evidence: Evidence) -> pl.DataFrame:
    ranked = evidence.frame.sort("rank").with_columns(
        place=pl.int_range(1, pl.len() + 1),
        standing=pl.when(pl.col("status") == "QUEUED").then(0).when(pl.col("is_tested")).then(1).otherwise(2),
        asked=pl.col("priority").fill_null(0.0),
    )
    same = pl.col("standing") == pl.col("standing").shift(1)
    in_order = (pl.col("standing") > pl.col("standing").shift(1)) | (
        same & (pl.col("asked") <= pl.col("asked").shift(1))
    )
    holds = (pl.col("rank") == pl.col("place")) & in_order.fill_null(value=True)
    return ranked.filter(~holds.fill_null(value=False)).select(*_KEY, "rank", "priority", "status")


def _unearned(evidence: Evidence) -> pl.DataFrame:
    """Return queued rows that have not earned it, and rows whose place in phase 2 does not follow from their reason."""
    decisions = dict(evidence.inputs["phase1_evidence"].select("event_type", "decision").unique().iter_rows())
    content = _content(evidence)
    usable = {name for name, shares in content.items() if _is_usable(name, shares, evidence.settings)}
    rows = evidence.frame
    wrong = [not _is_earned(row, decisions.get(row["event_type"]), usable) for row in rows.to_dicts()]
    return rows.filter(pl.Series(wrong, dtype=pl.Boolean)).select(_SHOWN)


def _is_earned(row: Mapping[str, Any], decision: str | None, usable: set[str]) -> bool:
    if row["source_kind"] == "family":
        return row["status"] == "SKIPPED" and not row["is_tested"]
    controls = json.loads(row["negative_controls_json"]).values()
    is_seen = set(row["required_datasets"].split(",")) <= usable
    if row["status"] == "QUEUED":
        return (
            is_seen and decision == "pass" and all(one["passed"] is True and one["p"] is not None for one in controls)
        )
    if row["is_tested"]:
        return is_seen and row["status"] == "SKIPPED" and decision in {"freeze", "not_run"}
    # a decision of phase 1 alone removes no template: what is out is rejected or not run, and a fused one may rank too low
    return row["status"] in {"REJECTED", "NOT_RUN"} or (row["status"] == "SKIPPED" and row["source_kind"] == "fusion")


def _fused_too_many(evidence: Evidence) -> tuple[float, str]:
    if evidence.frame["source_kind"].has_nulls():
        return math.nan, "rows of unknown kind"
    fused = evidence.frame.filter(pl.col("source_kind") == "fusion")
    tested = fused.filter(pl.col("is_tested"))["hypothesis_id"].n_unique()
    left = fused.filter(pl.col("status") == "SKIPPED", ~pl.col("is_tested"))["hypothesis_id"].n_unique()
    most = evidence.settings.hypothesis_max_fused
    excess = max(tested - most, most - tested if left else 0)
    return excess, f"{tested} fused are tested, {left} rank too low, hypothesis_max_fused {most}; too many or too few"


def _unqueued(evidence: Evidence) -> tuple[float, str]:
    run, queued = evidence.settings, set(evidence.frame.filter(pl.col("status") == "QUEUED")["event_type"])
    records = dict(evidence.frame.filter(pl.col("source_kind") == "family").select("event_type", "reason").iter_rows())
    without = [family.value for family in run.event_types if family.value not in queued]
    listed = "; ".join(f"{family}: {records.get(family, 'unknown why')}" for family in without)
    switch = (
        "phase 2 obeys (run_hypothesis_generator 1)" if run.obeys_queue else "not obeyed: run_hypothesis_generator 0"
    )
    unknown = "".join(f"; {name}: {reason}" for name, reason in records.items() if name not in {*run.event_types})
    return len(without), f"{switch}; nothing queued for {listed or 'no family'}{unknown}; families"


_AGAIN: Final = "make hypothesis_queue again from this run's own tables"

GATES_HYPOTHESIS_QUEUE: Final = (
    rows_gate(
        "every_mechanism_told",
        "Every template has a row for each of its families, every family is queued or recorded.",
        _untold,
        fix=_AGAIN,
    ),
    limit_gate(
        "scores_recomputed",
        "Scores computed again from roles, content and counts are the stored ones.",
        _score_error,
        limit=MAX_SCORE_ERROR,
        unit="score",
        fix=_AGAIN,
    ),
    limit_gate(
        "controls_recomputed",
        "Negative controls have the numbers of phase1_evidence.",
        _p_error,
        limit=MAX_P_ERROR,
        unit="probability",
        fix=_AGAIN,
    ),
    rows_gate(
        "no_leak",
        "What is not rejected names no outcome and no data set, has two controls and a condition known in time.",
        _leaking,
        fix="mend the mechanism in research/hypotheses/queue",
    ),
    rows_gate(
        "ranks_permute",
        "Ranks are 1, 2, ...: queued rows first, then what is tested beside them, by falling priority.",
        _misranked,
        fix=_AGAIN,
    ),
    rows_gate(
        "queued_is_earned",
        "Queued is what has its data, its controls passed and phase 1's pass; a freeze removes nothing from phase 2.",
        _unearned,
        fix=_AGAIN,
    ),
    limit_gate(
        "fused_are_bounded",
        "As many fused mechanisms are tested as hypothesis_max_fused allows.",
        _fused_too_many,
        limit=0,
        unit="mechanisms",
        fix=_AGAIN,
    ),
    limit_gate(
        "every_family_queued",
        "Every family has something queued (R7).",
        _unqueued,
        limit=0,
        unit="families",
        fix="the record of the family says what is lacking; the others are not affected",
        severity=Severity.WARN,
    ),
)
