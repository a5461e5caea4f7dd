"""Two engines' trades of one scenario, trade by trade, and a reason for each difference that has one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from backtest_assets_tests.peers.scenarios import Scenario
from backtest_assets_tests.peers.walk import FOLLOWS, PROFILES, Trade, walk, walk_one

MOST_UNEXPLAINED = 0.0004
"""Share of the trades of a peer that may differ without a reason [fraction]."""


@dataclass(frozen=True)
class Compared:
    """What came of one scenario and peer.

    Attributes:
        scenario: its name.
        engine: the peer's.
        n_ours: trades of ours.
        n_theirs: trades of the peer.
        n_equal: entries that both make, alike in bars, prices and net.
        explained: other entries by reason.
        unexplained: entries (bar, ours, theirs) without one.
    """

    scenario: str
    engine: str
    n_ours: int
    n_theirs: int
    n_equal: int
    explained: Mapping[str, int]
    unexplained: Sequence[tuple[int, Trade | None, Trade | None]]

    @property
    def n_entries(self) -> int:
        """Entries that either makes."""
        return self.n_equal + sum(self.explained.values()) + len(self.unexplained)


def compare(scenario: Scenario, engine: str, ours: Iterable[Trade], theirs: Iterable[Trade]) -> Compared:
    """Match trades by entry bar and find the reason of every difference.

    A difference is explained if the plain walk makes exactly what we did at that bar, and the walk by the peer's whole
    profile what the peer did. Its reason is the smallest set of exchanged rules that does it from that entry; `follows`
    where only one side entered.
    """
    mine, other = _by_bar(ours), _by_bar(theirs)
    plain, exchanged = _by_bar(walk(scenario)), _by_bar(walk(scenario, frozenset(PROFILES[engine])))
    explained, unexplained, n_equal = Counter[str](), [], 0
    for bar in sorted({*mine, *other}):
        a, b = mine.get(bar), other.get(bar)
        if a is not None and b is not None and a.is_like(b):
            n_equal += 1
        elif not (_is_same(a, plain.get(bar)) and _is_same(b, exchanged.get(bar))):
            unexplained.append((bar, a, b))
        elif a is None or b is None:
            explained[FOLLOWS] += 1
        else:
            explained[_reason(scenario, engine, b)] += 1
    return Compared(scenario.name, engine, len(mine), len(other), n_equal, dict(explained), unexplained)


def _is_same(made: Trade | None, said: Trade | None) -> bool:
    return made is said is None or (made is not None and said is not None and made.is_like(said))


def _by_bar(trades: Iterable[Trade]) -> dict[int, Trade]:
    made = list(trades)
    found = {trade.entry_bar: trade for trade in made}
    if len(found) != len(made):
        message = "an engine entered twice in one bar of one scenario"
        raise ValueError(message)
    return found


def _reason(scenario: Scenario, engine: str, theirs: Trade) -> str:
    profile = PROFILES[engine]
    sets = (chosen for n in range(1, len(profile) + 1) for chosen in combinations(profile, n))
    like = (c for c in sets if walk_one(scenario, theirs.entry_bar, theirs.side, frozenset(c)).is_like(theirs))
    return " + ".join(next(like))


def share(rows: Iterable[Compared]) -> float:
    """The share of entries that differ without a reason [fraction]; of no entries it is unknown and refused."""
    some = list(rows)
    return sum(len(row.unexplained) for row in some) / sum(row.n_entries for row in some)
