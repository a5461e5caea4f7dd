"""The traps of a hypothesis measured again, one hypothesis at a time in plain numpy; limits and verdicts stay out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from scipy import stats

from backtest_assets.domain.clock import BAR_US
from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.gates.booked import TRAIN, Booked, Key, Trades, day_of, first_day, sign_of, train_returns
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.retested import Clustered, day_sums
from backtest_assets.research.hypotheses.traps import MIN_GROUP_TRADES, N_BLOCKS, TRIMMED
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray

_REGIMES: Final = ("vol_regime", "bull_bear", "funding_regime", "session")
_TWO: Final = 2


@dataclass(frozen=True, slots=True)
class Trapped:
    """What the traps of a run's hypotheses are measured from.

    Attributes:
        booked: the centre trades.
        labels: by name of a regime, and of a symbol's place and instant, the label that was known; absent if unknown.
        controls: by family, delay and hold: event, day and P&L net of funding and drift of every matched control on train,
            in the direction of its event [bps].
        run: its settings.
    """

    booked: Booked
    labels: Mapping[str, Mapping[tuple[int, int], str]]
    controls: Mapping[Key, tuple[IntArray, IntArray, FloatArray]]
    run: ResearchRun

    @classmethod
    def of(cls, evidence: Evidence, rows: Sequence[Mapping[str, Any]]) -> "Trapped":
        """Read what rows of table hypotheses need from a table's inputs.

        Raises:
            TableError: as `Booked.of`.
        """
        run = evidence.settings
        keys = {(row["event_type"], row["delay_bars"], row["hold_bars"]) for row in rows}
        drift = train_returns(evidence.inputs["bars_um"], run)
        booked = Booked.of(evidence, drift, only=keys)
        return cls(booked, _labels(evidence, run), dict(_controls(evidence, booked, keys, drift)), run)

    def measure(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Return every trap's number of one row of table hypotheses; NaN where it is unknown."""
        start, end = self.run.window
        cost = 2.0 * (self.run.fees_bps + self.run.slippage_bps)
        sign = sign_of(row)
        found = self.booked.chosen(row)
        if found is None:
            return {}
        trades, own = found
        own &= trades.split == TRAIN
        named = [("all", "all", np.ones(int(own.sum()), np.bool_)), *self._groups(trades, own)]
        sums, shares = self._book(trades, own, np.stack([members for *_, members in named]))
        clustered = Clustered.of(sign * sums - cost * shares, shares)
        t = clustered.mean / clustered.error
        kept = np.sort(sign * trades.pnl[own] - cost)[: own.sum() - math.ceil(TRIMMED * own.sum())]
        excess = sign * (trades.pnl - trades.drift)[own]
        sides = [t[number] for number, (dimension, *_) in enumerate(named) if dimension == "side"]
        controls = self._control_t(row, own, trades, sign, cost)
        return {
            "overlap": float(clustered.error[0]) / (float(excess.std(ddof=1)) / math.sqrt(excess.size)),
            "uniqueness": _alone(trades, own),
            "symmetry": float(np.max([controls, *(-side for side in sides)])) if len(sides) == _TWO else controls,
            "tails": float(kept.mean()) if kept.size else math.nan,
            "regimes": _shared(named, clustered),
            "stability": _without_a_part(sign * sums[0] - cost * shares[0], shares[0]),
            "capacity": row["n_run"] / (end - start).days,
        }

    def _groups(self, trades: Trades, own: BoolArray) -> Iterator[tuple[str, str, BoolArray]]:
        """Yield dimension, label and members (among own trades) of every group that is large enough."""
        symbol, known, side = trades.symbol[own], trades.known_us[own], trades.side[own]
        years = 1970 + known.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)
        told: dict[str, list[str | None]] = {
            "year": [str(year) for year in years],
            "symbol": [str(place) for place in symbol],
            **{
                name: [self.labels[name].get(at) for at in zip(symbol.tolist(), known.tolist(), strict=True)]
                for name in _REGIMES
            },
            "side": [str(one) if one else None for one in side.tolist()],
        }
        for dimension, labels in told.items():
            values = np.array(["" if label is None else label for label in labels])
            for label in sorted({label for label in labels if label is not None}):
                members = values == label
                if members.sum() >= MIN_GROUP_TRADES:
                    yield dimension, label, members

    def _book(self, trades: Trades, own: BoolArray, members: BoolArray) -> tuple[FloatArray, FloatArray]:
        holds = np.zeros((len(members), own.size), np.bool_)
        holds[:, own] = members
        window = self.run.splits[Split.TRAIN]
        return day_sums(trades, holds, own, first_day=first_day(self.run, Split.TRAIN), n_days=window.n_days)

    def _control_t(self, row: Mapping[str, Any], own: BoolArray, trades: Trades, sign: float, cost: float) -> float:
        event, day, pnl = self.controls[row["event_type"], row["delay_bars"], row["hold_bars"]]
        mine = np.isin(event, trades.event[own])
        n_days = self.run.splits[Split.TRAIN].n_days
        at = day[mine] - first_day(self.run, Split.TRAIN)
        net = sign * pnl[mine] - cost
        sums = np.bincount(at, weights=net, minlength=n_days).astype(np.float64)
        tested = Clustered.of(sums[None], np.bincount(at, minlength=n_days).astype(np.float64)[None])
        return float((tested.mean / tested.error)[0])


def _labels(evidence: Evidence, run: ResearchRun) -> Mapping[str, Mapping[tuple[int, int], str]]:
    place = {symbol: number for number, symbol in enumerate(sorted(run.symbol_list))}
    near = evidence.inputs["market_context"].join(
        evidence.inputs["event_registry"].select("symbol", "known_at"), on=["symbol", "known_at"], how="semi"
    )
    symbols, known = near["symbol"].to_list(), near["known_at"].to_physical().to_list()
    return {
        name: {
            (place[symbol], at): label
            for symbol, at, label in zip(symbols, known, near[name].to_list(), strict=True)
            if label is not None and label != "unknown"
        }
        for name in _REGIMES
    }


def _controls(
    evidence: Evidence, booked: Booked, keys: set[Key], drift: Mapping[str, float]
) -> Iterator[tuple[Key, tuple[IntArray, IntArray, FloatArray]]]:
    train = evidence.inputs["event_outcomes"].filter(
        pl.col("variant") == Variant.CENTRE, pl.col("control_no") > 0, pl.col("split") == Split.TRAIN.value
    )
    for family, delay, hold in keys:
        rows = train.filter(
            pl.col("event_type") == family, pl.col("delay_bars") == delay, pl.col("hold_bars") == hold
        ).join(booked.events[family], on="event_id", how="inner")
        entered, exited = (rows[name].to_physical().to_numpy() for name in ("entered_at", "exited_at"))
        by_bar = rows["symbol"].replace_strict(dict(drift), return_dtype=pl.Float64).to_numpy()
        moved = rows["gross_bps"].to_numpy() - rows["funding_bps"].to_numpy() - (exited - entered) / BAR_US * by_bar
        side = rows["side"].cast(pl.Float64).to_numpy() if EventType(family).is_sided else 1.0
        yield (
            (family, delay, hold),
            (
                rows["event"].cast(pl.Int64).to_numpy(),
                day_of(rows["known_at"].to_physical().to_numpy()),
                np.asarray(side * moved, dtype=np.float64),
            ),
        )


def _alone(trades: Trades, own: BoolArray) -> float:
    """Return how much of the time held is held once: until the next entry on the same symbol."""
    entered, held, symbol = trades.entered_us[own], (trades.exited_us - trades.entered_us)[own], trades.symbol[own]
    order = np.lexsort((entered, symbol))
    until = np.diff(entered[order])
    is_same = np.diff(symbol[order]) == 0
    alone = held[order].copy()
    alone[:-1] = np.where(is_same, np.minimum(alone[:-1], until), alone[:-1])
    return float(alone.sum() / held.sum())


def _shared(named: Sequence[tuple[str, str, BoolArray]], clustered: Clustered) -> float:
    """Return the smallest p of one mean in all groups of a dimension, times the dimensions that could be asked."""
    found: list[float] = []
    for dimension in ("year", "symbol", *_REGIMES):
        at = [number for number, (name, *_) in enumerate(named) if name == dimension]
        at = [number for number in at if clustered.error[number] > 0]
        if len(at) < _TWO:
            continue
        mean, weight = clustered.mean[at], clustered.error[at] ** -2.0
        scatter = float((weight * (mean - np.average(mean, weights=weight)) ** 2).sum())
        found.append(float(stats.chi2.sf(scatter, len(at) - 1)))
    return min(1.0, min(found) * len(found)) if found else math.nan


def _without_a_part(sums: FloatArray, shares: FloatArray) -> float:
    """Return the smallest t that is left without one fifth of the days; NaN if one is unknown."""
    n_days, left = sums.size, list[float]()
    for number in range(N_BLOCKS):
        keep = np.ones(n_days, np.bool_)
        keep[number * n_days // N_BLOCKS : (number + 1) * n_days // N_BLOCKS] = False
        tested = Clustered.of(sums[keep][None], shares[keep][None])
        left.append(float((tested.mean / tested.error)[0]))
    return float(np.min(left))
