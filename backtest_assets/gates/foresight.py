"""Whether a column or family knows what comes after an instant: rebuilt from the past alone, and before another future.

A rebuild starts from a short past, long enough for every trailing window; where it differs from the stored rows, the
whole past is asked, and only what differs then counts. So a sound table costs a fraction of its making, and a long
memory raises no false alarm. What is rebuilt belongs to the table's own gates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Scalar, Severity, Verdict
from backtest_assets.gates.ask import empty_verdict
from backtest_assets.gates.gate import MAX_EXAMPLES, Evidence, Gate
from backtest_assets.gates.past import is_same
from backtest_assets.stats.arrays import IntArray

N_CUTS: Final = 8
"""Instants per table or family at which the future is taken away [cuts]."""
FIRST_CUT: Final = 0.3
"""No cut before this share of the data, where windows are still filling [fraction]."""
AHEAD: Final = 480 * BAR
"""Length of the other future: five days, beyond the longest confirmation that an event waits for."""
_KEY: Final = ("symbol", "open_at")


class Future(StrEnum):
    """What is put in place of the future."""

    REMOVED = "removed"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Cut:
    """An instant of one symbol behind which the future is another.

    Attributes:
        symbol: instrument.
        at: what is known by it is kept.
        seed: of the other future.
    """

    symbol: str
    at: datetime
    seed: int


@dataclass(frozen=True, slots=True)
class Tape:
    """One symbol's rows of an input, by the instant at which they are known.

    Attributes:
        rows: by `known_us`.
        known_us: (n_rows,) [us].
        kept: columns that another future leaves alone: keys and times.
    """

    rows: pl.DataFrame
    known_us: IntArray
    kept: Sequence[str]

    @classmethod
    def of(cls, frame: pl.DataFrame, symbol: str, *, time: str = "known_at", kept: Sequence[str] = _KEY) -> "Tape":
        """Read a symbol's rows.

        Args:
            frame: rows with `symbol`.
            symbol: instrument.
            time: when a row is known.
            kept: columns that another future leaves alone, beside `time`.
        """
        rows = _rows_of(frame, symbol)
        rows = rows if rows[time].is_sorted() else rows.sort(time)
        return cls(rows, rows[time].dt.epoch("us").to_numpy(), tuple(dict.fromkeys((*kept, time))))

    def seen(self, cut: Cut, future: Future, since: datetime | None) -> pl.DataFrame:
        """Return the rows as they would be, had the future been another.

        Args:
            cut: where it turns.
            future: removed, or replaced by rows drawn at random from the past.
            since: rows known up to it are left out; None keeps the whole past.
        """
        first = 0 if since is None else self._place(since)
        known, last = self._place(cut.at), self._place(cut.at + AHEAD)
        past = self.rows.slice(first, known - first)
        if future is Future.REMOVED or past.is_empty() or last == known:
            return past
        at = np.random.default_rng(cut.seed).integers(0, past.height, last - known)
        later = self.rows.slice(known, last - known)
        return pl.concat([past, past[at].with_columns(later.select(self.kept).get_columns())])

    def _place(self, at: datetime) -> int:
        return int(np.searchsorted(self.known_us, int(at.timestamp() * 1e6), side="right"))


def _rows_of(frame: pl.DataFrame, symbol: str) -> pl.DataFrame:
    """Cut a symbol's rows out, without a copy where symbols are in order, as in every conformed table."""
    symbols = frame["symbol"]
    if not symbols.is_sorted() or symbols.null_count():
        return frame.filter(pl.col("symbol") == symbol)
    first, last = (int(symbols.search_sorted(symbol, side)) for side in ("left", "right"))
    return frame.slice(first, last - first)


@dataclass(slots=True)
class Line:
    """What was compared of one column or family.

    Attributes:
        cuts: instants compared at.
        n_rows: rows compared that hold a value, over all cuts, each against both futures.
        changed: rows that differ, by what was put in place of the future.
        example: the first of them.
    """

    cuts: set[tuple[str, datetime]] = field(default_factory=set[tuple[str, datetime]])
    n_rows: int = 0
    changed: dict[Future, int] = field(default_factory=lambda: dict.fromkeys(Future, 0))
    example: str = ""

    def add(self, cut: Cut, future: Future, n_rows: int, n_changed: int, example: str) -> None:
        """Count one comparison; rows are counted once for both futures."""
        if (cut.symbol, cut.at) not in self.cuts:
            self.n_rows += n_rows
        self.cuts.add((cut.symbol, cut.at))
        self.changed[future] += n_changed
        if n_changed and not self.example:
            self.example = f"future {future.value} after {cut.at:%Y-%m-%d %H:%M} of {cut.symbol}: {example}"


def foresight_gate(
    name: str, about: str, subject: str, compare: Callable[[Evidence], Mapping[str, Line]], *, fix: str
) -> Gate:
    """Return a gate that is green when nothing compared differs; its verdict shows every line, also when green.

    Args:
        name: name of the gate.
        about: the rule, one line.
        subject: what a line is about: column or family.
        compare: gives the lines by name.
        fix: what to do when it is red.
    """

    def ask(evidence: Evidence) -> Verdict:
        if evidence.frame.is_empty():
            return empty_verdict(name, "rows", 0, evidence)
        lines = compare(evidence)
        changed = {what: line for what, line in lines.items() if any(line.changed.values())}
        n_rows, n_changed = (
            sum(line.n_rows for line in lines.values()),
            sum(sum(line.changed.values()) for line in lines.values()),
        )
        detail = f"{about} {n_rows} values of {len(lines)} compared"
        if changed:
            detail += f"; {', '.join(changed)} differ; {fix}"
        observed = float(n_changed) if n_rows or n_changed else float("nan")
        examples = tuple({subject: what, "example": line.example} for what, line in changed.items())[:MAX_EXAMPLES]
        compared = tuple(_shown(subject, what, line) for what, line in lines.items())
        return Verdict(
            name, observed, 0, "rows", passed=observed == 0, detail=detail, examples=examples, compared=compared
        )

    return Gate(name, Severity.ERROR, f"{about} Limit: 0 rows.", ask)


def _shown(subject: str, what: str, line: Line) -> Mapping[str, Scalar]:
    return {
        subject: what,
        "cuts": len(line.cuts),
        "rows": line.n_rows,
        **{f"differ_if_{future.value}": n for future, n in line.changed.items()},
        "example": line.example,
    }


def random_cuts(evidence: Evidence, times: pl.Series, symbols: Sequence[str], n_cuts: int = N_CUTS) -> Iterator[Cut]:
    """Draw instants over the data, one in each of as many equal parts; the run's settings are the seed.

    Args:
        evidence: for its run.
        times: when rows are known.
        symbols: drawn from in turn.
        n_cuts: how many [cuts].

    Raises:
        ValueError: if there are no instants or symbols to draw from.
    """
    first, last = times.min(), times.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime) or not symbols:
        message = f"{evidence.table.name}: no instants or no symbols; there is no past to compare"
        raise ValueError(message)
    rng = random_of(evidence)
    order: list[int] = rng.permutation(len(symbols)).tolist()
    seeds: list[int] = rng.integers(2**32, size=n_cuts).tolist()
    shares = FIRST_CUT + (1.0 - FIRST_CUT) * (np.arange(n_cuts) + rng.random(n_cuts)) / max(n_cuts, 1)
    for number, share in enumerate(shares.tolist()):
        yield Cut(symbols[order[number % len(symbols)]], first + share * (last - first), seeds[number])


def random_of(evidence: Evidence) -> np.random.Generator:
    """Return the randomness of a run's gates: the same settings are always asked the same way."""
    return np.random.default_rng(int(evidence.settings.digest[:16], 16))


def compare_columns(
    evidence: Evidence,
    source: str,
    rebuild: Callable[[str], Callable[[Cut, Future, datetime | None], pl.DataFrame]],
    *,
    memory: timedelta,
    tail: timedelta,
) -> Mapping[str, Line]:
    """Compare every column of a table of bars with what another future would have left.

    Args:
        evidence: the stored rows, by `symbol` and `open_at`, with `known_at`.
        source: the input whose symbols must have rows.
        rebuild: gives, for a symbol, the maker of the table's rows from what is seen since an instant.
        memory: longest past that a row of a sound table needs.
        tail: rows known within it before a cut are compared.

    Returns:
        Lines by column; the first, `rows`, tells of rows that only one side has.
    """
    frame, symbols = evidence.frame, evidence.inputs[source]["symbol"].unique().sort().to_list()
    columns = [name for name in frame.columns if name not in _KEY]
    lines = {name: Line() for name in ("rows", *columns)}
    strange = frame.filter(~pl.col("symbol").is_in(symbols) | pl.col("symbol").is_null())
    for cut in random_cuts(evidence, frame["known_at"], symbols):
        made = rebuild(cut.symbol)
        mine = _tail(frame, cut, tail)
        for future in Future:
            told = _told(mine, _tail(made(cut, future, cut.at - tail - memory), cut, tail), columns)
            if any(n_changed for _, n_changed, _ in told.values()):
                told = _told(mine, _tail(made(cut, future, None), cut, tail), columns)
            for name, one in told.items():
                lines[name].add(cut, future, *one)
    if strange.height:
        lines["rows"].changed[Future.REMOVED] += strange.height
        lines["rows"].example = f"{strange['symbol'][0]} is not a symbol of {source}"
    return lines


def _tail(rows: pl.DataFrame, cut: Cut, tail: timedelta) -> pl.DataFrame:
    known = pl.col("known_at")
    inside = (known <= cut.at) & (known > cut.at - tail) | known.is_null()
    return rows.filter((pl.col("symbol") == cut.symbol) & inside)


def _told(mine: pl.DataFrame, again: pl.DataFrame, columns: Sequence[str]) -> Mapping[str, tuple[int, int, str]]:
    """Return rows, differing rows and the first of them, by column."""
    told = {"rows": (mine.height, 0, "")}
    if not all(mine[name].equals(again[name], null_equal=True) for name in _KEY):
        lost = pl.concat([mine.select(_KEY), again.select(_KEY)]).filter(~pl.struct(_KEY).is_duplicated())
        told["rows"] = (mine.height, max(lost.height, 1), f"{lost['open_at'].min()} is on one side only")
        mine, again = mine.join(again, on=_KEY, how="semi"), again.join(mine, on=_KEY, how="semi")
    for name in columns:
        left, right = mine[name], again[name]
        n_rows = left.len() - left.null_count()
        if left.equals(right, null_equal=True):
            told[name] = (n_rows, 0, "")
            continue
        at = np.flatnonzero(~is_same(left, right))
        text = f"{mine['open_at'][int(at[0])]} has {left[int(at[0])]}, rebuilt {right[int(at[0])]}" if at.size else ""
        told[name] = (max(n_rows, int(at.size)), int(at.size), text)
    return told
