"""What holds earned by UTC day, counted again from opens and settlements, and which instants of funding are unknown.

Nothing of the outcomes' code is used: each day is cut out of its hold by time, not by row. Whether a row was asked for is the
business of `outcomes`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import DAY_US, HOUR_US
from backtest_assets.gates.ask import broken
from backtest_assets.gates.gate import Evidence
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

TOLERANCE: Final = 1e-9
"""Rounding allowed of a day's profit [bps] or share [fraction], relative to 1 + its size: a difference of running sums."""

_ON_THE_MINUTE_US: Final = 60_000_000  # settlements come some milliseconds late
_BPS: Final = 1e4
_NO_DAY: Final = -1
_LISTS: Final = ("accrual_day", "accrual_bps", "accrual_share")
_SPAN: Final = ("entered_at", "exited_at", "entry_price")


@dataclass(frozen=True, slots=True)
class Payments:
    """The settlements of one symbol.

    Attributes:
        settled_us: (n_settlements,) ascending [us].
        cost: (n_settlements,) what a long of one unit of base pays at each, 0 where unknown [quote per base].
        unknown_us: (n_unknown,) ascending instants at which a settlement is missing or lacks its rate or price [us].
    """

    settled_us: IntArray
    cost: FloatArray
    unknown_us: IntArray

    @classmethod
    def of(cls, evidence: Evidence, symbol: str) -> "Payments":
        """Read a symbol's settlements, each at the last close known by then.

        Args:
            evidence: with `settlements_um` and `bars_um`.
            symbol: instrument.
        """
        bars = evidence.inputs["bars_um"].filter(pl.col("symbol") == symbol)
        closes = bars.filter(pl.col("close").is_not_null()).select("known_at", "close").sort("known_at")
        rows = (
            evidence.inputs["settlements_um"]
            .filter(pl.col("symbol") == symbol)
            .sort("settled_at")
            .join_asof(closes, left_on="settled_at", right_on="known_at", strategy="backward", check_sortedness=False)
        )
        at = _us(rows["settled_at"])
        cost = (rows["funding_rate"] * rows["close"]).cast(pl.Float64).to_numpy()
        span = _us(bars["open_at"]).min(initial=0), _us(bars["known_at"]).max(initial=0)
        missing = _missing(at, (rows["funding_interval_h"].to_numpy() * HOUR_US).astype(np.int64), span)
        return cls(at, np.nan_to_num(cost, nan=0.0), np.sort(np.concatenate([missing, at[np.isnan(cost)]])))

    def is_unknown(self, after_us: IntArray, until_us: IntArray) -> BoolArray:
        """Say of which spans (after, until] some funding is unknown: of all of them, if there are no settlements.

        Args:
            after_us: (n_spans,) [us].
            until_us: (n_spans,) [us].
        """
        if not self.settled_us.size:
            return np.ones(after_us.shape, dtype=np.bool_)
        return _count(self.unknown_us, until_us) > _count(self.unknown_us, after_us)

    def paid(self, after_us: IntArray, until_us: IntArray) -> FloatArray:
        """Return what a long of one unit of base pays in the spans (after, until] [quote per base].

        Args:
            after_us: (n_spans,) [us].
            until_us: (n_spans,), not before `after_us` [us].
        """
        total = np.append(0.0, np.cumsum(self.cost))
        return total[_count(self.settled_us, until_us)] - total[_count(self.settled_us, after_us)]


def wrong_accruals(evidence: Evidence) -> pl.DataFrame:
    """Return outcomes whose days are not those of their hold, or whose profit or share of a day is another.

    The days are every UTC day from the entry to the last instant before the exit, and the day of an exit at midnight if
    funding is paid there. A day's profit is marked at the first open from each of its ends on, funding of its instants off.

    Args:
        evidence: rows of `event_outcomes`, with `bars_um` and `settlements_um`.

    Returns:
        The rows that differ, with how.
    """
    frame = evidence.frame.with_columns(row=pl.int_range(pl.len()))
    known = pl.all_horizontal(pl.col("symbol", *_SPAN, *_LISTS).is_not_null())
    alike = pl.all_horizontal(pl.col(name).list.len() == pl.col("accrual_day").list.len() for name in _LISTS)
    whole = frame.select("row", "symbol", *_SPAN, *_LISTS).filter(known & alike)
    unknown = frame.join(whole, on="row", how="anti").select("row", differs=pl.lit("a list is missing or too short"))
    told = [unknown.cast({"row": pl.Int64})]
    for (symbol,), rows in whole.partition_by("symbol", as_dict=True).items():
        for wrong, text in _wrong(evidence, str(symbol), rows):
            told.append(rows.filter(pl.Series(wrong)).select(pl.col("row").cast(pl.Int64), differs=pl.lit(text)))
    by_row = pl.concat(told).group_by("row").agg(pl.col("differs").sort().str.join("; "))
    return frame.with_columns(pl.col("row").cast(pl.Int64)).join(by_row, on="row").select(*_SHOWN, "differs")


def wrong_funding(evidence: Evidence) -> pl.DataFrame:
    """Return outcomes whose funding over the whole hold is another.

    Args:
        evidence: rows of `event_outcomes`, with `bars_um` and `settlements_um`.

    Returns:
        The rows that differ, with `funding_bps` and `again`.
    """
    columns = ("symbol", *_SPAN, "funding_bps")
    is_known = pl.all_horizontal(pl.col(columns).is_not_null())
    told = [evidence.frame.filter(~is_known).with_columns(again=pl.lit(None, pl.Float64)).select(*_ROW, *_FUNDING)]
    for (symbol,), rows in (
        evidence.frame.select(*_ROW, *columns[1:]).filter(is_known).partition_by("symbol", as_dict=True).items()
    ):
        entered, exited = _us(rows["entered_at"]), _us(rows["exited_at"])
        paid = Payments.of(evidence, str(symbol)).paid(entered, exited) / rows["entry_price"].to_numpy() * _BPS
        both = rows.with_columns(again=pl.Series(paid))
        near = (pl.col("funding_bps") - pl.col("again")).abs() <= TOLERANCE * (1.0 + pl.col("again").abs())
        told.append(broken(both, near).select(*_ROW, *_FUNDING))
    return pl.concat(told)


_ROW: Final = ("variant", "event_id", "control_no", "delay_bars", "hold_bars", "symbol")
_SHOWN: Final = (*_ROW, "entered_at", "exited_at", *_LISTS)
_FUNDING: Final = ("funding_bps", "again")


def _wrong(evidence: Evidence, symbol: str, rows: pl.DataFrame) -> list[tuple[BoolArray, str]]:
    payments = Payments.of(evidence, symbol)
    opens = evidence.inputs["bars_um"].filter(pl.col("symbol") == symbol, pl.col("open").is_not_null()).sort("open_at")
    entered, exited, n_days = _us(rows["entered_at"]), _us(rows["exited_at"]), rows["accrual_day"].list.len().to_numpy()
    first, last = entered // DAY_US, exited // DAY_US
    settles = payments.paid(exited - 1, exited) != 0.0
    last = np.where((exited % DAY_US == 0) & ~settles, last - 1, last)
    hold = np.repeat(np.arange(rows.height), n_days)
    number = np.arange(hold.size) - np.repeat(np.cumsum(n_days.astype(np.int64)) - n_days, n_days)
    day = _flat(rows, "accrual_day").to_physical().cast(pl.Int64).fill_null(_NO_DAY).to_numpy()
    bps, share = (_flat(rows, name).to_numpy() for name in _LISTS[1:])
    is_day = day == first[hold] + number
    begin, end = day * DAY_US, (day + 1) * DAY_US
    cut = [np.clip(edge, entered[hold], exited[hold]) for edge in (begin, end)]
    mark = [_first_from(opens, edge) for edge in cut]
    after, until = np.clip(begin - 1, entered[hold], exited[hold]), np.clip(end - 1, entered[hold], exited[hold])
    unit = _BPS / rows["entry_price"].to_numpy()[hold]
    earned = (mark[1] - mark[0] - payments.paid(after, until)) * unit
    length = np.where(exited > entered, exited - entered, np.nan)
    wide = (cut[1] - cut[0]) / length[hold]
    near = [np.abs(mine - again) <= TOLERANCE * (1.0 + np.abs(again)) for mine, again in ((bps, earned), (share, wide))]
    return [
        ((n_days != last - first + 1) | _any(~is_day, hold, rows.height), "its days are not those of the hold"),
        (_any(~near[0], hold, rows.height), "a day's profit is another"),
        (_any(~near[1], hold, rows.height), "a day's share is another"),
        (payments.is_unknown(entered, exited), "a settlement in the hold is missing"),
    ]


def _missing(at: IntArray, interval_us: IntArray, span: tuple[int, int]) -> IntArray:
    """Return the instants of a span at which a settlement must have been, going by the intervals of those that are there."""
    if not at.size:
        return at
    ends: list[int] = at.tolist()
    steps: list[int] = interval_us.tolist()
    starts = [min(span[0], ends[0]) - steps[0], *ends[:-1]]
    found = [
        np.arange(end - step, start + _ON_THE_MINUTE_US, -step)
        for start, end, step in zip(starts, ends, steps, strict=True)
        if end - step > start + _ON_THE_MINUTE_US
    ]
    return np.concatenate([*found, np.arange(ends[-1] + steps[-1], span[1] + 1, steps[-1])])


def _first_from(opens: pl.DataFrame, at_us: IntArray) -> FloatArray:
    """Return the first open at or after each instant, NaN where there is none."""
    prices = np.append(opens["open"].to_numpy(), np.nan)
    return prices[np.searchsorted(_us(opens["open_at"]), at_us, side="left")]


def _any(flags: BoolArray, group: IntArray, n_groups: int) -> BoolArray:
    return np.bincount(group[flags], minlength=n_groups) > 0


def _flat(rows: pl.DataFrame, name: str) -> pl.Series:
    return rows[name].explode(empty_as_null=False, keep_nulls=False)


def _count(instants: IntArray, until_us: IntArray) -> IntArray:
    return np.searchsorted(instants, until_us, side="right")


def _us(instants: pl.Series) -> IntArray:
    return instants.dt.epoch("us").to_numpy()
