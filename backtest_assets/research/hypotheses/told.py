"""What the UI tells of the hypothesis stage: counts by status and by reason; nothing that decides reads it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from backtest_assets.research.hypotheses.candidates import DRAFT, PROMOTED
from backtest_assets.research.hypotheses.checklist import describe_best, loss_histogram
from backtest_assets.research.hypotheses.criteria import GATE_NUMBERS
from backtest_assets.research.hypotheses.naive_entry import NaiveStatus

_STATUSES: Final = ("selected", "rejected", "insufficient_evidence", "beyond_budget")
_CANDIDATE_STATUSES: Final = (PROMOTED, DRAFT)


def describe_hypotheses(hypotheses: pl.DataFrame) -> Mapping[str, str]:
    """Count the hypotheses by status and by the first gate they fail, and name the best.

    Args:
        hypotheses: table hypotheses.

    Returns:
        `by_status`, `first_lost_at` of the tested, `not_tested` by what they first lack, and `best`, for the operator.

    Knows:
        train and validation statistics of the run's hypotheses.
    """
    untested = hypotheses.filter(~pl.col("is_eligible"))
    return {
        "by_status": count_words(hypotheses["status"], _STATUSES),
        "first_lost_at": loss_histogram(hypotheses),
        "not_tested": count_words(untested["fail_reasons"].str.split(",").list.first()),
        "best": describe_best(hypotheses),
    }


def hypotheses_by_family(hypotheses: pl.DataFrame) -> pl.DataFrame:
    """Count the hypotheses of every family through the gates.

    Args:
        hypotheses: table hypotheses.

    Returns:
        One row per family that has any: `event_type`, `phase1_decision`, `n_hypotheses`, of them `n_tested`, one `n_<gate>`
        per gate for the tested that pass it whatever the other gates say, `n_selected`, and `largest_t` of the tested (null
        without any).

    Knows:
        train and validation statistics of the run's hypotheses.
    """
    is_tested = pl.col("is_eligible")
    passing = {f"n_{gate.removeprefix('gate_')}": (is_tested & pl.col(gate)).sum() for gate in GATE_NUMBERS}
    return (
        hypotheses.group_by("event_type", "phase1_decision")
        .agg(
            n_hypotheses=pl.len(),
            n_tested=is_tested.sum(),
            **passing,
            n_selected=(pl.col("status") == "selected").sum(),
            largest_t=pl.col("t_train").filter(is_tested).max(),
        )
        .sort("event_type", "phase1_decision")
    )


def describe_naive_entry(naive_entry: pl.DataFrame) -> Mapping[str, str]:
    """Count the plain rules by status and by the limits they do not keep.

    Args:
        naive_entry: table naive_entry.

    Returns:
        `by_status` and `failed_by_limit` (a rule may fail several), for the operator.

    Knows:
        what naive_entry knows.
    """
    failed = naive_entry.filter(pl.col("status") == NaiveStatus.FAIL.value)
    return {
        "by_status": count_words(naive_entry["status"], (status.value for status in NaiveStatus)),
        "failed_by_limit": count_words(_words(failed["fail_reasons"])),
    }


def describe_expectancy(expectancy: pl.DataFrame) -> Mapping[str, str]:
    """Count the examined hypotheses, the survivors of multiplicity among them, and those with evidence.

    Args:
        expectancy: table expectancy.

    Returns:
        `examined`, `survive_multiplicity` and `with_evidence`, for the operator.

    Knows:
        what expectancy knows.
    """
    return {
        "examined": str(expectancy.height),
        "survive_multiplicity": str(expectancy.filter("is_survivor").height),
        "with_evidence": str(expectancy.filter("is_evidence").height),
    }


def answers_by_trap(expectancy_traps: pl.DataFrame) -> pl.DataFrame:
    """Count the answers to every trap.

    Args:
        expectancy_traps: table expectancy_traps.

    Returns:
        One row per trap: `trap`, `n_asked`, of them `n_passed` and `n_red`, and of the red `n_unknown`.

    Knows:
        what expectancy_traps knows.
    """
    return (
        expectancy_traps.group_by("trap")
        .agg(
            n_asked=pl.len(),
            n_passed=pl.col("is_passed").sum(),
            n_red=(~pl.col("is_passed")).sum(),
            n_unknown=pl.col("observed").null_count(),
        )
        .sort("trap")
    )


def describe_candidates(edge_candidates: pl.DataFrame) -> Mapping[str, str]:
    """Count the edge candidates by status and by what speaks against them.

    Args:
        edge_candidates: table edge_candidates.

    Returns:
        `by_status` and `lost_to` (a candidate may be lost to several reasons), for the operator.

    Knows:
        what edge_candidates knows.
    """
    return {
        "by_status": count_words(edge_candidates["status"], _CANDIDATE_STATUSES),
        "lost_to": count_words(_words(edge_candidates["fail_reasons"])),
    }


def describe_checklist(research_checklist: pl.DataFrame) -> Mapping[str, str]:
    """Say what was decided, and every gate that stands in the way with its number (R86).

    Args:
        research_checklist: table research_checklist.

    Returns:
        `decision` and `failed_gates` (`none` if all pass), for the operator.

    Knows:
        what research_checklist knows.
    """
    failed = research_checklist.filter(~pl.col("is_passed")).to_dicts()
    told = (
        f"{row['gate']} {'unknown' if row['observed'] is None else format(row['observed'], 'g')} "
        f"(limit {row['limit']:g} {row['unit']})"
        for row in failed
    )
    return {"decision": str(research_checklist["decision"][0]), "failed_gates": "; ".join(told) or "none"}


def count_words(values: Iterable[str], words: Iterable[str] = ()) -> str:
    """Count values in one line.

    Args:
        values: one per row.
        words: named first and in this order, be there any or not; the others follow, the most frequent first.

    Returns:
        `word n` after `word n`, or `none`.

    Knows:
        the values.
    """
    counted = Counter(values)
    others = sorted(counted, key=lambda word: (-counted[word], word))
    return ", ".join(f"{word} {counted[word]}" for word in dict.fromkeys((*words, *others))) or "none"


def _words(reasons: pl.Series) -> Iterable[str]:
    return (word for text in reasons for word in text.split(",") if word)
