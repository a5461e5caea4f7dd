"""The centre trades of a run in plain numpy, with who makes them and the days they are booked to; what they come to stays out.

The other road to `research/hypotheses` (`trades`, `days`, `members`): only the questions that conditions ask are shared.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, DAY_US
from backtest_assets.domain.event import EventType, SideRule, Variant
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

Key: TypeAlias = tuple[str, int, int]
"""event_type, delay_bars, hold_bars."""

TRAIN, VALIDATION = 0, 1
_SPLITS: Final = {Split.TRAIN.value: TRAIN, Split.VALIDATION.value: VALIDATION}
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Trades:
    """The centre trades of one family at one delay and hold, in the order in which they became known, then by symbol.

    Attributes:
        event: (n,) number of the event within its family.
        known_us, entered_us, exited_us: (n,) [us].
        symbol: (n,) place of the symbol among the run's, in order of the alphabet.
        side: (n,) side of the event.
        split: (n,) TRAIN or VALIDATION.
        gross, pnl, drift: (n,) before funding, after it, and what holding earns, of `long` or `with_event` [bps].
        adverse, favourable: (n,) largest move against it and for it [bps].
        first: (n + 1,) where the days of each trade begin.
        day: (n_days,) day since 1970 [days].
        day_pnl: (n_days,) `pnl` minus `drift` of each day [bps].
        day_share: (n_days,) share of the hold.
    """

    event: IntArray
    known_us: IntArray
    entered_us: IntArray
    exited_us: IntArray
    symbol: IntArray
    side: IntArray
    split: IntArray
    gross: FloatArray
    pnl: FloatArray
    drift: FloatArray
    adverse: FloatArray
    favourable: FloatArray
    first: IntArray
    day: IntArray
    day_pnl: FloatArray
    day_share: FloatArray

    def days_of(self, chosen: BoolArray) -> tuple[IntArray, IntArray]:
        """Return the places of the days of chosen trades, and for each the number of its trade among the chosen."""
        at = np.flatnonzero(chosen)
        sizes = self.first[at + 1] - self.first[at]
        number = np.repeat(np.arange(at.size), sizes)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)[:-1]])
        return self.first[at][number] + np.arange(number.size) - starts[number], number


@dataclass(frozen=True, slots=True)
class Booked:
    """The centre trades of a run by family, delay and hold, and which events each condition chooses.

    Attributes:
        run: its settings.
        trades: by family, delay and hold; nothing where nothing was traded.
        conditions: names by family, in order of priority.
        holds: by family, (n_conditions, n_events), whether the event is chosen.
        in_window: by family, (n_events,), whether it became known inside the run window.
        events: by family, `event_id` and `event`, its number.
    """

    run: ResearchRun
    trades: Mapping[Key, Trades]
    conditions: Mapping[str, tuple[str, ...]]
    holds: Mapping[str, BoolArray]
    in_window: Mapping[str, BoolArray]
    events: Mapping[str, pl.DataFrame]

    @classmethod
    def of(
        cls, evidence: Evidence, drift: Mapping[str, float] | None = None, *, only: Collection[Key] | None = None
    ) -> "Booked":
        """Read a table's inputs `event_registry`, `market_context` and `event_outcomes`.

        Args:
            evidence: gives inputs and settings.
            drift: mean return of each symbol [bps per bar]; None where nothing is judged against it.
            only: families, delays and holds that are needed; None for all that hypotheses are tested at.

        Raises:
            TableError: if an outcome has no event, or accrues on no day.
        """
        run = evidence.settings
        families = [family for family in run.event_types if only is None or family.value in {key[0] for key in only}]
        events = _events(evidence, families)
        start, end = run.window
        conditions = {f.value: tuple(c.name for c in Condition.declared(f, run.symbol_list)) for f in families}
        own = {f.value: events.filter(pl.col("event_type") == f.value) for f in families}
        holds = {
            name: np.stack([rows.select(Condition(c).holds).to_series().to_numpy() for c in conditions[name]])
            for name, rows in own.items()
        }
        inside = {name: rows["known_at"].is_between(start, end, closed="left").to_numpy() for name, rows in own.items()}
        rows = _outcomes(evidence, events, only)
        ids = {name: rows.select("event_id", "event") for name, rows in own.items()}
        return cls(run, dict(_cells(rows, drift, run)), conditions, holds, inside, ids)

    def chosen(self, row: Mapping[str, Any]) -> tuple[Trades, BoolArray] | None:
        """Return the trades at a hypothesis' delay and hold, and which of them are its own; None where there are none."""
        family = row["event_type"]
        trades = self.trades.get((family, row["delay_bars"], row["hold_bars"]))
        if trades is None or row["condition"] not in self.conditions[family]:
            return None
        return trades, self.holds[family][self.conditions[family].index(row["condition"])][trades.event]


def train_returns(bars: pl.DataFrame, run: ResearchRun) -> Mapping[str, float]:
    """Return what holding each symbol earned on train per bar, gaps counted with the bars they span [bps per bar]."""
    train = run.splits[Split.TRAIN]
    found: dict[str, float] = {}
    for symbol in run.symbol_list:
        own = bars.filter(
            pl.col("symbol") == symbol, ~pl.col("is_gap"), pl.col("open_at") >= train.start, pl.col("open_at") < train.end
        ).sort("open_at")  # fmt: skip
        price, at = own["open"].to_numpy(), own["open_at"].to_physical().to_numpy()
        found[symbol] = 1e4 * float((price[1:] / price[:-1] - 1.0).sum()) / float((at[-1] - at[0]) / BAR_US)
    return found


def sign_of(row: Mapping[str, Any]) -> float:
    """Return -1 for the mirror image of `long` or `with_event`, else 1."""
    return -1.0 if row["side_rule"] in {SideRule.SHORT.value, SideRule.AGAINST_EVENT.value} else 1.0


def first_day(run: ResearchRun, split: Split) -> int:
    """Return the first day of a split, since 1970 [days]."""
    return (run.splits[split].start.date() - _EPOCH).days


def day_of(instant_us: IntArray) -> IntArray:
    """Return the UTC day of instants, since 1970 [days]."""
    return instant_us // DAY_US


def _events(evidence: Evidence, families: Collection[EventType]) -> pl.DataFrame:
    centre = evidence.inputs["event_registry"].filter(
        pl.col("variant") == Variant.CENTRE, pl.col("event_type").is_in([family.value for family in families])
    )
    attached = attach_conditions(centre, evidence.inputs["market_context"])
    return attached.with_columns(event=pl.int_range(pl.len()).over("event_type"))


def _outcomes(evidence: Evidence, events: pl.DataFrame, only: Collection[Key] | None) -> pl.DataFrame:
    run = evidence.settings
    keys = ("event_type", "delay_bars", "hold_bars")
    rows = evidence.inputs["event_outcomes"].filter(
        pl.col("variant") == Variant.CENTRE,
        pl.col("control_no") == 0,
        pl.col("delay_bars").is_in(list(run.entry_delays)),
        pl.col("hold_bars").is_in(HOLD_GRID_BARS),
        pl.col("event_type").is_in(events["event_type"].unique().to_list()),
    )
    if only is not None:
        wanted = pl.DataFrame(sorted(only), schema={name: rows.schema[name] for name in keys}, orient="row")
        rows = rows.join(wanted, on=keys, how="semi")
    known = rows.join(events.select("event_type", "event_id", "event"), on=["event_type", "event_id"], how="left")
    if lost := known.filter(pl.col("event").is_null() | (pl.col("accrual_day").list.len() == 0)).height:
        message = (
            f"table event_outcomes, run {run.run_id}: {lost} rows have no event, or accrue on no day; make events and "
            "outcomes again"
        )
        raise TableError(message)
    return known.sort(*keys, "known_at", "symbol", "event_id")


def _cells(rows: pl.DataFrame, drift: Mapping[str, float] | None, run: ResearchRun) -> Iterator[tuple[Key, Trades]]:
    symbols = sorted(run.symbol_list)
    whole = _arrays(rows, symbols, np.array([0.0 if drift is None else drift[symbol] for symbol in symbols]))
    sizes = rows.group_by("event_type", "delay_bars", "hold_bars", maintain_order=True).len()
    begin = 0
    for family, delay, hold, n in sizes.iter_rows():
        yield (family, delay, hold), _part(whole, begin, begin + n)
        begin += n


def _arrays(rows: pl.DataFrame, symbols: list[str], drift_bps: FloatArray) -> Trades:
    place = {symbol: number for number, symbol in enumerate(symbols)}
    symbol = rows["symbol"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    side = rows["side"].cast(pl.Int64).to_numpy()
    sided = [family.value for family in EventType if family.is_sided]
    direction = np.where(rows["event_type"].is_in(sided).to_numpy(), side, 1).astype(np.float64)
    entered, exited = (rows[name].to_physical().to_numpy() for name in ("entered_at", "exited_at"))
    drift = direction * ((exited - entered) / BAR_US) * drift_bps[symbol]
    names = ("gross_bps", "funding_bps", "lowest_bps", "highest_bps")
    gross, funding, lowest, highest = (rows[name].to_numpy() for name in names)
    sizes = rows["accrual_day"].list.len().cast(pl.Int64).to_numpy()
    day, bps, share = (
        rows[name].explode(empty_as_null=True, keep_nulls=True).to_physical().to_numpy()
        for name in ("accrual_day", "accrual_bps", "accrual_share")
    )
    trade = np.repeat(np.arange(sizes.size), sizes)
    # Paid at the very exit, on a day of which nothing was held: it belongs to the last day held.
    held = np.maximum.accumulate(np.where(share > 0, np.arange(share.size), 0))
    return Trades(
        rows["event"].cast(pl.Int64).to_numpy(),
        rows["known_at"].to_physical().to_numpy(),
        entered,
        exited,
        symbol,
        side,
        rows["split"].replace_strict(_SPLITS, return_dtype=pl.Int64).to_numpy(),
        direction * gross,
        direction * (gross - funding),
        drift,
        np.where(direction > 0, -lowest, highest),
        np.where(direction > 0, highest, -lowest),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        day.astype(np.int64)[held],
        direction[trade] * bps - drift[trade] * share,
        share,
    )


def _part(whole: Trades, begin: int, stop: int) -> Trades:
    one, days = slice(begin, stop), slice(int(whole.first[begin]), int(whole.first[stop]))
    return Trades(
        whole.event[one],
        whole.known_us[one],
        whole.entered_us[one],
        whole.exited_us[one],
        whole.symbol[one],
        whole.side[one],
        whole.split[one],
        whole.gross[one],
        whole.pnl[one],
        whole.drift[one],
        whole.adverse[one],
        whole.favourable[one],
        whole.first[begin : stop + 1] - whole.first[begin],
        whole.day[days],
        whole.day_pnl[days],
        whole.day_share[days],
    )
