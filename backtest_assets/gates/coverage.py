"""Questions about the coverage ledger: that it tiles the month, counts what raw has, and how much is missing."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import BAR_US, DAY_US, MICROSECOND, MINUTE_US, epoch_us, month_end, month_start
from backtest_assets.domain.exchange import SNAPSHOT_EVERY
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, breaking, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.rows import inside_partition
from backtest_assets.research.bars.coverage import State
from backtest_assets.tables import raw

DATASETS: Final = tuple(table.name for table in raw.TABLES)
"""Every raw table must be accounted for in every month, ingested or not."""

_INSTANTS: Final = {table.name: table.key[1] for table in raw.TABLES}
_STEPS_US: Final = {
    raw.RAW_UM_OPEN_INTEREST.name: SNAPSHOT_EVERY // MICROSECOND,
    raw.RAW_UM_LIQUIDATIONS.name: DAY_US,
    raw.RAW_UM_FUNDING.name: 0,
}
_LACKING: Final = (State.OUTAGE.value, State.SOURCE_MISSING.value)
_KNOWN: Final = frozenset(state.value for state in State)
_REBUILD: Final = "materialise the month's coverage again; if it stays red, cover is broken"


def _untiled(evidence: Evidence) -> Measured:
    start, end = (epoch_us(of(evidence.partition["month"])) for of in (month_start, month_end))
    rows = evidence.frame
    of = rows["dataset"].to_numpy()
    first, until = (rows[name].to_physical().to_numpy() for name in ("first_at", "until_at"))
    tiles = np.ones(rows.height, dtype=np.bool_)
    for dataset in DATASETS:
        own = np.flatnonzero(of == dataset)
        own = own[np.argsort(first[own], kind="stable")]
        joint, last = np.append(start, until[own][:-1]), np.append(first[own][1:], end)
        if own.size:
            tiles[own] = (first[own] == joint) & (until[own] == last) & (until[own] > first[own])
    wrong = sorted(set(DATASETS) ^ set(of.tolist()), key=str)
    apart = np.flatnonzero(~tiles)
    text = f"datasets {', '.join(map(str, wrong))} are missing or unknown" if wrong else f"{rows.height} stretches"
    told = (apart.size + len(wrong), f"{text}; {apart.size} stretches leave a hole or overlap")
    return (*told, rows.select("dataset", "first_at", "until_at", "state")[apart]) if apart.size else told


def _miscounted(evidence: Evidence) -> Measured:
    """Count the stretches whose numbers are not those of the calendar and of the raw rows inside them."""
    rows = evidence.frame
    of, state = rows["dataset"].to_numpy(), rows["state"].to_numpy()
    first, until, n_said = (rows[name].to_physical().to_numpy() for name in ("first_at", "until_at", "n_instants"))
    right, n_raw = np.zeros(rows.height, dtype=np.bool_), np.zeros(rows.height, dtype=np.int64)
    for dataset in DATASETS:
        own, step = of == dataset, _step(dataset, evidence)
        at = _instants(dataset, step, evidence)
        n_raw[own] = np.searchsorted(at, until[own]) - np.searchsorted(at, first[own])
        right[own] = (n_said[own] == (until[own] - first[own]) / step) if step else (n_said[own] >= 1)
    # A day of liquidations that a file covers is known without an order.
    right &= (state != State.PRESENT) | (n_raw == n_said) | (of == raw.RAW_UM_LIQUIDATIONS.name)
    right &= ~np.isin(state, (*_LACKING, State.NOT_INGESTED.value)) | (n_raw == 0)
    wrong = np.flatnonzero(~right)
    text = f"{wrong.size} of {rows.height} stretches do not count what raw has"
    if not wrong.size:
        return 0, text
    shown = rows.select("dataset", "state", "first_at", "until_at", "n_instants", n_raw=n_raw)
    return wrong.size, text, shown[wrong]


def _instants(dataset: str, step: int, evidence: Evidence) -> NDArray[np.int64]:
    """Return the expected instants that raw has a row of, ascending [us]."""
    frame = evidence.inputs.get(dataset)
    if frame is None or frame.is_empty():
        return np.zeros(0, dtype=np.int64)
    at = np.sort(frame[_INSTANTS[dataset]].to_physical().to_numpy())
    start = epoch_us(month_start(evidence.partition["month"]))
    at = at - (at - start) % step if step else at
    return at[np.flatnonzero(np.diff(at, prepend=at[0] - 1))]


def _step(dataset: str, evidence: Evidence) -> int:
    """Return the distance of two expected instants [us]; 0 for settlements, which keep their own intervals."""
    if dataset in _STEPS_US:
        return _STEPS_US[dataset]
    frame = evidence.inputs.get(dataset)
    minutes = None if frame is None else frame["interval_min"].max()
    return minutes * MINUTE_US if isinstance(minutes, int) else BAR_US


def _has_origin(evidence: Evidence) -> pl.Series:
    """Tell of each stretch whether its state is known and fits its digest."""
    state, has_digest = evidence.frame["state"].to_numpy(), evidence.frame["sha256"].is_not_null().to_numpy()
    fits = np.where(state == State.OUTAGE, has_digest, (state == State.PRESENT) | ~has_digest)
    return pl.Series(fits & [one in _KNOWN for one in state.tolist()])


def _is_traced(evidence: Evidence) -> pl.Series:
    return (evidence.frame["state"] != State.PRESENT.value) | evidence.frame["sha256"].is_not_null()


def _lacking(evidence: Evidence) -> Measured:
    state = evidence.frame["state"]
    if state.null_count():
        return float("nan"), f"{state.null_count()} stretches have no state"
    is_lacking = (state == State.OUTAGE.value) | (state == State.SOURCE_MISSING.value)
    if not is_lacking.any():
        return 0, "nothing"
    rows = evidence.frame.filter(is_lacking).sort("n_instants", descending=True)
    counts = rows.group_by("dataset", "state").agg(pl.col("n_instants").sum()).sort("dataset", "state")
    told = ", ".join(f"{dataset} {n} ({why})" for dataset, why, n in counts.iter_rows())
    # The longest of each dataset and reason first.
    worst = rows.select("dataset", "state", "first_at", "until_at", "n_instants").unique(
        ["dataset", "state"], keep="first", maintain_order=True
    )
    return int(rows["n_instants"].sum()), told, worst


def _never_ingested(evidence: Evidence) -> Measured:
    state = evidence.frame["state"]
    if state.null_count():
        return float("nan"), f"{state.null_count()} stretches have no state"
    absent = evidence.frame["dataset"].filter(state == State.NOT_INGESTED.value).to_list()
    return len(set(absent)), ", ".join(sorted(set(absent))) or "none"


GATES_COVERAGE: Final = (
    inside_partition("first_at"),
    limit_gate(
        "tiles_the_month",
        "The stretches of every raw table follow each other from the month's first instant to its last.",
        _untiled,
        limit=0,
        unit="stretches",
        fix=_REBUILD,
    ),
    limit_gate(
        "counts_agree_with_raw",
        "Every stretch counts the calendar's instants, and as many rows as raw has in it; a lacking one has none.",
        _miscounted,
        limit=0,
        unit="stretches",
        fix=_REBUILD,
    ),
    rows_gate(
        "states_have_their_origin",
        "A state is one of the known ones; an outage has a file that covers it, what no file covers has no digest.",
        breaking(_has_origin, ("dataset", "state", "first_at", "origin")),
        fix=_REBUILD,
    ),
    rows_gate(
        "present_is_traced",
        "What is present names its file and digest; a remark, because the rows themselves are judged elsewhere.",
        breaking(_is_traced, ("dataset", "state", "first_at", "n_instants")),
        fix="ingest the month again, so that its origins are recorded",
        severity=Severity.WARN,
    ),
    limit_gate(
        "nothing_missing",
        "Expected instants that are not there (R33-R35); a remark, because the limits on them are the clean tables'. Missing:",
        _lacking,
        limit=0,
        unit="instants",
        fix="an outage was the exchange's; what is source_missing can be ingested from another source",
        severity=Severity.WARN,
    ),
    limit_gate(
        "all_ingested",
        "Raw tables of which nothing is published for this month: never ingested, or refused, as their own checks then say; a "
        "remark, because a run may do without some. Not there:",
        _never_ingested,
        limit=0,
        unit="tables",
        fix="ingest them if you mean to use them",
        severity=Severity.WARN,
    ),
)
"""Inputs: the raw tables that were ingested, each by its name. The ledger is never empty, listed or not."""
