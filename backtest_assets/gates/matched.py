"""Whether every event has the controls that its past gives, no fewer and no others: each event matched again by itself.

Events are served one after the other, but the stored rows tell what each found: what was used up before its turn. So nothing of
the matching is repeated as a whole, and one missing row is one event that differs. Windows are asked by the first instant at
which anybody knew that they cover a bar.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, BARS_PER_DAY, DAY_US, HOUR_US
from backtest_assets.domain.event import Variant
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.controls import (
    BARS_AFTER,
    BARS_BEFORE,
    CALIPER,
    CALIPER_FURTHER,
    CONTROLS_PER_EVENT,
    EMBARGO_BARS,
    LOOKBACK_DAYS,
    MAX_DAY_USES,
    MAX_USES,
)
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

_NEVER: Final = np.iinfo(np.int64).max
_OTHER_WEEKDAY: Final = 0.02  # a control on another weekday must be nearer in rank by this much [fraction]
_THURSDAY, _SATURDAY = 3, 5  # 1970-01-01 was a Thursday; Monday is 0
_SCHEMA: Final = {
    "event_id": pl.String,
    "event_type": pl.String,
    "symbol": pl.String,
    "stored": pl.String,
    "again": pl.String,
}
_Told = tuple[str, str, str, str, str]


def unlike_matches(evidence: Evidence) -> pl.DataFrame:
    """Return the events whose stored controls are not the nearest that were free when it was their turn.

    Args:
        evidence: rows of `event_controls`, with `bars_um`, `features` and `event_registry`.

    Returns:
        `event_id`, `event_type`, `symbol`, and the instants of the controls `stored` and found `again`.

    Raises:
        ValueError: if a symbol's bars or features leave out an instant.
    """
    events = evidence.inputs["event_registry"].filter(pl.col("variant") == Variant.CENTRE.value)
    stored = evidence.frame.sort("event_id", "control_no").group_by("event_id").agg(pl.col("known_at").dt.epoch("us"))
    strangers = stored.join(events, on="event_id", how="anti")
    told: list[_Told] = [(str(of), "", "", "controls of no event", "") for of in strangers["event_id"]]
    placed = events.join(stored.rename({"known_at": "controls"}), on="event_id", how="left")
    for (symbol,), rows in (
        placed.sort("known_at", "event_type", "event_id")
        .partition_by("symbol", as_dict=True, maintain_order=True)
        .items()
    ):
        told += _unlike(_Past.of(evidence, str(symbol)), rows)
    return pl.DataFrame(told, schema=_SCHEMA, orient="row")


@dataclass(frozen=True, slots=True)
class _Past:
    """The bars of one symbol, each array (n_bars,).

    Attributes:
        first_us: when the first is known [us].
        rank: volatility rank, NaN = unknown.
        is_offered: real bars inside a split.
        day: UTC day on which each is known [days since 1970].
        by_hour: rows of each hour and kind of day, ascending.
    """

    first_us: int
    rank: FloatArray
    is_offered: BoolArray
    day: IntArray
    by_hour: dict[tuple[int, bool], IntArray]

    @classmethod
    def of(cls, evidence: Evidence, symbol: str) -> "_Past":
        bars, features = (
            evidence.inputs[name].filter(pl.col("symbol") == symbol).select("known_at", column).sort("known_at")
            for name, column in (("bars_um", "is_gap"), ("features", "rv_pct_2880"))
        )
        known_us = _us(bars["known_at"])
        if not bars["known_at"].equals(features["known_at"]) or bool((np.diff(known_us) != BAR_US).any()):
            message = f"bars_um or features of {symbol} leave out an instant, so nothing can be matched again"
            raise ValueError(message)
        is_offered = np.zeros(known_us.size, dtype=np.bool_)
        for window in evidence.settings.splits.windows:
            inside = bars["known_at"].is_between(window.start, window.last_entry, closed="left")
            is_offered |= inside.to_numpy()
        day = known_us // DAY_US
        kind = known_us // HOUR_US % 24 * 2 + ((day + _THURSDAY) % 7 >= _SATURDAY)
        by_hour = {(code // 2, bool(code % 2)): np.flatnonzero(kind == code) for code in range(48)}
        is_real = ~bars["is_gap"].to_numpy()
        rank = features["rv_pct_2880"].cast(pl.Float64).to_numpy()
        return cls(int(known_us[0]), rank, is_offered & is_real, day, by_hour)

    def rows(self, at: pl.Series) -> IntArray:
        """Return the newest bar known at each instant, -1 before the first."""
        return np.maximum((_us(at) - self.first_us) // BAR_US, -1)

    def like(self, row: int) -> IntArray:
        """Return the rows of the hour and kind of day of a row."""
        at_us = self.first_us + row * BAR_US
        return self.by_hour[at_us // HOUR_US % 24, (at_us // DAY_US + _THURSDAY) % 7 >= _SATURDAY]


def _unlike(past: _Past, events: pl.DataFrame) -> Iterator[_Told]:
    known, onset = past.rows(events["known_at"]), past.rows(events["onset_at"])
    over = np.where(
        events["exit_at"].is_null(), past.rank.size, past.rows(events["exit_at"].fill_null(events["known_at"]))
    )
    of_any = _known_from(past, known, onset, over + EMBARGO_BARS)
    of_own: dict[str, IntArray] = {}
    for family in events["event_type"].unique():
        own = (events["event_type"] == family).to_numpy()
        of_own[family] = _known_from(past, known[own], onset[own] + 1 - BARS_BEFORE, known[own] + BARS_AFTER)
    uses = np.zeros(past.rank.size, dtype=np.int64)
    day_uses = {family: np.zeros(past.rank.size // BARS_PER_DAY + 2, dtype=np.int64) for family in of_own}
    names: list[tuple[str, str, str]] = events.select("event_id", "event_type", "symbol").rows()
    stored: list[list[int | None]] = events["controls"].fill_null([]).to_list()
    for number, ((event_id, family, symbol), controls) in enumerate(zip(names, stored, strict=True)):
        at, lag = int(known[number]), int(known[number] - onset[number])
        found: list[int] = []
        if onset[number] >= 0 and not np.isnan(past.rank[onset[number]]):
            rows = past.like(at)
            rows = rows[np.searchsorted(rows, max(lag, at - LOOKBACK_DAYS * BARS_PER_DAY)) : np.searchsorted(rows, at)]
            apart = np.abs(past.rank[rows - lag] - past.rank[onset[number]])
            of_day = day_uses[family][past.day[rows] - past.day[0]]
            near = (apart <= CALIPER) & past.is_offered[rows] & (uses[rows] < MAX_USES) & (of_day < MAX_DAY_USES)
            near &= (of_any[rows] > at) & (of_own[family][rows] > at)
            found = _nearest(past, at, rows[near], apart[near], of_day[near])
        again = [past.first_us + row * BAR_US for row in found]
        if again != controls:
            yield event_id, family, symbol, _said(controls), _said(again)
        taken = np.array([(us - past.first_us) // BAR_US for us in controls if us is not None], dtype=np.int64)
        taken = taken[(taken >= 0) & (taken < past.rank.size)]
        np.add.at(uses, taken, 1)
        np.add.at(day_uses[family], past.day[taken] - past.day[0], 1)


def _known_from(past: _Past, known: IntArray, begin: IntArray, end: IntArray) -> IntArray:
    """Return for each bar the row at which the first window that covers it was known."""
    first = np.full(past.rank.size, _NEVER)
    for i in np.argsort(-known, kind="stable").tolist():
        first[max(int(begin[i]), 0) : int(end[i]) + 1] = known[i]
    return first


def _nearest(past: _Past, at: int, rows: IntArray, apart: FloatArray, of_day: IntArray) -> list[int]:
    is_same_weekday = (past.day[rows] - past.day[at]) % 7 == 0
    cost = apart + np.where(is_same_weekday, 0.0, _OTHER_WEEKDAY)
    found: list[int] = []
    seen: set[int] = set()
    for i in np.lexsort((-rows, cost)).tolist():
        day = int(past.day[rows[i]])
        if day not in seen and (not found or (apart[i] <= CALIPER_FURTHER and of_day[i] == 0)):
            found.append(int(rows[i]))
        seen.add(day)
        if len(found) == CONTROLS_PER_EVENT:
            break
    return found


def _said(instants_us: Sequence[int | None]) -> str:
    return ", ".join("unknown" if us is None else str(np.datetime64(us, "us")) for us in instants_us) or "none"


def _us(instants: pl.Series) -> IntArray:
    return instants.dt.epoch("us").to_numpy()
