"""The page of the comparison with other engines, from what they answered; making the answers stays out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from backtest_assets_tests.peers.compare import MOST_UNEXPLAINED, Compared, compare, share
from backtest_assets_tests.peers.ours import our_trades
from backtest_assets_tests.peers.recorded import Recorded
from backtest_assets_tests.peers.scenarios import APART, CASES, Scenario
from backtest_assets_tests.peers.walk import PROFILES, TEXTS, Trade

HEAD: Final = """# Trade parity with other engines

`make peers` makes the same scenarios' trades with our simulator, vectorbt {vectorbt} and nautilus_trader {nautilus}, each peer in
an environment of its own, compares them trade by trade and writes this page and `backtest_assets_tests/peers/recorded`. CI holds our
present trades against the recording.

Two trades are equal if entry bar, side, exit bar, both prices and the net result (fraction of the entry notional) agree to 1e-9. A
difference counts as explained only if a plain walk, with the named rules exchanged for the peer's, makes exactly the peer's
trade. At most {bar:.2%} may be unexplained.

How the peers are asked: they see the bars that exist, not the gaps. `vectorbt` has one row per bar, entry price the open, stops
from the entry price, and an exit signal at the first bar from the due one on in place of a time stop. `vectorbt_two_rows` has a
row for the open before each bar's row, so that the entry bar is watched. `nautilus` gets a quote at each open, at which the
strategy enters and leaves, and then the bar, which the engine itself walks open, high, low, close; stop and target are a
bracket. It knows slippage in ticks only, so the scenario with slippage is not asked of it. Funding is in no scenario:
neither peer books it (conservation and a recount of it are tested against our own ledger).
"""


def compared(recorded: Recorded, asked: Iterable[Scenario]) -> list[Compared]:
    """Compare our present trades with everything recorded, scenario by scenario."""
    found: list[Compared] = []
    for scenario in asked:
        ours = our_trades(scenario)
        engines = [engine for engine in PROFILES if (engine, scenario.name) in recorded.trades]
        found += [compare(scenario, engine, ours, recorded.trades[engine, scenario.name]) for engine in engines]
    return found


def page_of(recorded: Recorded, asked: Sequence[Scenario], rows: Sequence[Compared]) -> str:
    """Write the page; `rows` are those of `compared`."""
    head = HEAD.format(**recorded.versions, bar=MOST_UNEXPLAINED)
    parts = [head, _totals(rows), _reasons(rows), _scenarios(rows, asked), _cases(recorded, asked)]
    return "\n".join(parts)


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (names, ["---"] * len(names), *rows)]
    return "\n".join(lines) + "\n"


def _totals(rows: Sequence[Compared]) -> str:
    names = ("peer", "trades", "equal", "explained", "unexplained", "unexplained share")
    made: list[tuple[object, ...]] = []
    for engine in PROFILES:
        own = [row for row in rows if row.engine == engine]
        counts = [sum(values) for values in zip(*((r.n_entries, r.n_equal, sum(r.explained.values()), len(r.unexplained)) for r in own), strict=True)]  # fmt: skip
        made.append((engine, *(f"{n:,}" for n in counts), f"{share(own):.2%}"))
    return "## In one table\n\n" + _table(names, made)


def _reasons(rows: Sequence[Compared]) -> str:
    seen: dict[str, Counter[str]] = {}
    for row in rows:
        for reason, n in row.explained.items():
            for part in reason.split(" + "):
                seen.setdefault(part, Counter())[row.engine] += n
    told = [
        (name, ours, theirs, ", ".join(f"{engine} {n:,}" for engine, n in seen[name].items()))
        for name, (ours, theirs) in TEXTS.items()
        if name in seen
    ]
    return "## The differences\n\n" + _table(("reason", "our rule", "the peer's", "trades"), told)


def _scenarios(rows: Sequence[Compared], asked: Sequence[Scenario]) -> str:
    texts = {scenario.name: scenario.text for scenario in asked}
    told = [
        (
            row.scenario, row.engine, row.n_ours, row.n_theirs, row.n_equal,
            ", ".join(f"{reason} {n}" for reason, n in sorted(row.explained.items())), len(row.unexplained),
        )
        for row in rows
    ]  # fmt: skip
    legend = "".join(f"- `{name}`: {text}.\n" for name, text in texts.items())
    names = ("scenario", "peer", "our trades", "theirs", "equal", "explained", "unexplained")
    return "## Every scenario\n\n" + legend + "\n" + _table(names, told)


def _cases(recorded: Recorded, asked: Sequence[Scenario]) -> str:
    scenario = next(one for one in asked if one.name == "by_hand")
    engines: Mapping[str, Iterable[Trade]] = {
        "ours": our_trades(scenario),
        **{engine: recorded.trades[engine, scenario.name] for engine in PROFILES},
    }
    by_bar = {engine: {trade.entry_bar: trade for trade in trades} for engine, trades in engines.items()}
    told: list[tuple[object, ...]] = []
    for number, (text, side, _) in enumerate(CASES, start=1):
        made = [trades.get(number * APART) for trades in by_bar.values()]
        told.append((text, "long" if side > 0 else "short", *(_exit(trade) for trade in made)))
    intro = "## Every rule once\n\nEntry at 100, stop and target 5 %, time stop 3 bars: bars held and exit price.\n\n"
    return intro + _table(("case", "side", *by_bar), told)


def _exit(trade: Trade | None) -> str:
    if trade is None:
        return "no trade"
    return "open" if trade.exit_bar is None else f"{trade.exit_bar - trade.entry_bar}: {trade.exit_price:g}"
