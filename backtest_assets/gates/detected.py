"""Whether the events of a family are what its detection gives: all of them, and at some without or with another future."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType, Variant
from backtest_assets.gates.ask import differing
from backtest_assets.gates.foresight import N_CUTS, Cut, Future, Line, Tape, random_cuts, random_of
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.definition import THRESHOLD_BARS, Status
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView

_BURN_IN: Final = 2_880 * BAR
"""After the longest threshold's window: a month, in which cooldowns that began before are over."""
_TAIL: Final = 960 * BAR
"""Events known within it before a cut are compared: ten days."""
_MEMORY: Final = THRESHOLD_BARS * BAR + _BURN_IN
_SHOWN: Final = ("onset_at", "known_at", "exit_at", "side", "severity", "threshold", "quality", "status")
_KIND: Final = ("event_type", "variant", "symbol")
_FATES: Final = (Status.ACCEPTED.value, Status.COOLDOWN.value, Status.LOW_QUALITY.value)
"""What detection decides; window and universe are counted again by gates of their own."""


@dataclass(frozen=True, slots=True)
class _Market:
    bars: Tape
    features: Tape
    funding: Tape

    @classmethod
    def of(cls, evidence: Evidence, symbol: str) -> "_Market":
        settlements = evidence.inputs["settlements_um"]
        kept = [name for name in settlements.columns if name != "funding_rate"]
        return cls(
            Tape.of(evidence.inputs["bars_um"], symbol),
            Tape.of(evidence.inputs["features"], symbol),
            Tape.of(settlements, symbol, time="settled_at", kept=kept),
        )

    def view(self, cut: Cut, future: Future, *, is_whole: bool) -> MarketView:
        since = None if is_whole else cut.at - _TAIL - _MEMORY
        return MarketView(
            self.bars.seen(cut, future, since),
            self.features.seen(cut, future, since),
            self.funding.seen(cut, future, since),
        )


def changed_families(evidence: Evidence) -> Mapping[str, Line]:
    """Detect each family again at `N_CUTS` instants, and compare the events of the days before.

    Half of the instants are when an event of the family is known, so that it must be there already; the other half a
    bar before, so that it must not. A family with few events is cut at random instants too.

    Args:
        evidence: rows of `event_candidates` and what they were made from.

    Returns:
        Lines by family of the run.
    """
    symbols = evidence.inputs["bars_um"]["symbol"].unique().sort().to_list()
    markets = {symbol: _Market.of(evidence, symbol) for symbol in symbols}
    of_family = evidence.frame.partition_by("event_type", as_dict=True)
    lines: dict[str, Line] = {}
    for family in evidence.settings.event_types:
        events = of_family.pop((family.value,), evidence.frame.clear())
        lines[family.value] = line = Line()
        kinds = events.partition_by("symbol", "variant", as_dict=True)
        for cut, variant in _cuts(evidence, events, symbols):
            mine = _tail(kinds.get((cut.symbol, variant.value), events.clear()), cut)
            for future in Future:
                line.add(cut, future, *_compared(markets[cut.symbol], mine, (family, variant), cut, future))
    for (strange,), events in of_family.items():
        lines[str(strange)] = line = Line(example="not a family of the run")
        line.changed[Future.REMOVED] = events.height
    return lines


def unlike_detected(evidence: Evidence) -> pl.DataFrame:
    """Detect each family once more over the whole window, and compare all its candidates.

    The centre is always detected, of the two other exceedance rates one that the run's settings draw for each family. The same
    code detects, so this finds what was lost or altered since; whether the code is right is asked by its numbers
    (`exceeded`, `triggers`).

    Args:
        evidence: rows of `event_candidates` and what they were made from.

    Returns:
        `event_type`, `variant`, `symbol`, `onset_at` and `differs`, of candidates that are on one side only or differ.
    """
    view = MarketView(*(evidence.inputs[name] for name in ("bars_um", "features", "settlements_um")))
    kinds = evidence.frame.select(*_KIND, *_SHOWN).partition_by(_KIND, as_dict=True, include_key=False)
    none, rng = evidence.frame.select(_SHOWN).clear(), random_of(evidence)
    told = [evidence.frame.select(*_KIND, "onset_at", differs="status").clear()]
    for family in evidence.settings.event_types:
        drawn = (Variant.RATE_MINUS, Variant.RATE_PLUS)[int(rng.integers(2))]
        for variant in (Variant.CENTRE, drawn):
            found = FAMILIES[family].detect(view, params=FAMILIES[family].definition.at(variant))
            again = found.select("symbol", *_SHOWN).partition_by("symbol", as_dict=True, include_key=False)
            stored = {symbol: rows for (*kind, symbol), rows in kinds.items() if kind == [family.value, variant.value]}
            for symbol in sorted({*stored, *(str(one) for (one,) in again)}, key=str):
                mine, other = (_ordered(rows) for rows in (stored.get(symbol, none), again.get((symbol,), none)))
                left, right = _by_fate(mine, other)
                if not left.equals(right):
                    named = (
                        pl.lit(text).alias(name)
                        for name, text in zip(_KIND, (family.value, variant.value, symbol), strict=True)
                    )
                    told.append(differing(left, right, ("onset_at",)).select(*named, "onset_at", "differs"))
    return pl.concat(told)


def _ordered(events: pl.DataFrame) -> pl.DataFrame:
    return events if events["onset_at"].is_sorted() else events.sort("onset_at")


def _cuts(evidence: Evidence, events: pl.DataFrame, symbols: list[str]) -> Iterator[tuple[Cut, Variant]]:
    rng = random_of(evidence)
    known = events.filter(pl.col("symbol").is_in(symbols)).select("symbol", "known_at", "variant")
    shuffled = known[rng.permutation(known.height)].unique(("symbol", "known_at"), keep="first", maintain_order=True)
    chosen = shuffled.head(N_CUTS)
    seeds: list[int] = rng.integers(2**32, size=chosen.height).tolist()
    for number, (symbol, at, variant) in enumerate(chosen.iter_rows()):
        yield Cut(symbol, at - BAR if number % 2 else at, seeds[number]), Variant(variant)
    for cut in random_cuts(evidence, evidence.inputs["bars_um"]["known_at"], symbols, N_CUTS - chosen.height):
        yield cut, Variant.CENTRE


def _compared(
    market: _Market, mine: pl.DataFrame, kind: tuple[EventType, Variant], cut: Cut, future: Future
) -> tuple[int, int, str]:
    family, variant = FAMILIES[kind[0]], kind[1]
    lost, n_rows = pl.DataFrame(), mine.height
    for is_whole in (False, True):
        view = market.view(cut, future, is_whole=is_whole)
        again = _tail(family.detect(view, params=family.definition.at(variant)), cut)
        left, right = _by_fate(mine, again)
        if left.equals(right):
            return n_rows, 0, ""
        lost, n_rows = differing(left, right, ("onset_at",)), max(mine.height, again.height)
        if lost.is_empty():
            return n_rows, 0, ""
    first = ", ".join(f"{name} {value}" for name, value in lost.row(0, named=True).items())
    return n_rows, lost.height, f"{variant.value}, {first}"


def _tail(events: pl.DataFrame, cut: Cut) -> pl.DataFrame:
    known = pl.col("known_at")
    ended = pl.when(pl.col("exit_at") <= cut.at).then("exit_at").alias("exit_at")
    inside = events.filter((known <= cut.at) & (known > cut.at - _TAIL) | known.is_null())
    shown = inside.select(ended if name == "exit_at" else name for name in _SHOWN)
    return _ordered(shown)


def _by_fate(mine: pl.DataFrame, again: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Blank the fate of events that window or universe dropped."""
    if mine["status"].is_in(_FATES).all():
        return mine, again
    decided = mine.filter(~pl.col("status").is_in(_FATES)).select("onset_at")
    is_dropped = pl.col("onset_at").is_in(decided["onset_at"].implode())
    blank = pl.when(~is_dropped).then("status").alias("status")
    return mine.with_columns(blank), again.with_columns(blank)
