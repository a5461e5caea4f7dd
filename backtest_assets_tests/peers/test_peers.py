import re
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from backtest_assets_tests.peers import record
from backtest_assets_tests.peers.compare import MOST_UNEXPLAINED, compare, share
from backtest_assets_tests.peers.ours import our_trades
from backtest_assets_tests.peers.page import compared, page_of
from backtest_assets_tests.peers.recorded import FOLDER, Recorded
from backtest_assets_tests.peers.scenarios import CASES, scenarios
from backtest_assets_tests.peers.walk import PROFILES, TEXTS, Rule, walk

ASKED = scenarios()
RECORDED = Recorded.read()
by_name = pytest.mark.parametrize("scenario", ASKED, ids=lambda scenario: scenario.name)


@cache
def rows():
    return compared(RECORDED, ASKED)


@by_name
def test_the_simulator_makes_the_trades_of_a_plain_walk(scenario):
    ours, plain = our_trades(scenario), list(walk(scenario))
    assert len(plain) > 20
    assert [] == [(a, b) for a, b in zip(ours, plain, strict=True) if not a.is_like(b)]


def test_the_recording_answers_the_present_questions():
    assert {one.name: one.digest for one in ASKED} == RECORDED.digests
    wanted = {(e, s.name) for e in PROFILES for s in ASKED if record.may_ask(e, s)}
    assert wanted == set(RECORDED.trades)
    assert {("nautilus", "costs")} == {(e, s.name) for e in PROFILES for s in ASKED} - wanted


@pytest.mark.parametrize("engine", PROFILES)
def test_every_peer_makes_our_trades_but_for_named_differences(engine):
    own = [row for row in rows() if row.engine == engine]
    assert [] == [found for row in own for found in row.unexplained]
    assert share(own) <= MOST_UNEXPLAINED == 0.0004
    assert sum(row.n_entries for row in own) > 5_000
    assert sum(row.n_equal for row in own if row.scenario not in {"fees", "costs"}) > 4_000
    seen = {part for row in own for reason in row.explained for part in reason.split(" + ")} - {"follows"}
    assert {rule.value for rule in PROFILES[engine]} == seen  # no peer has a rule that nothing shows


def test_where_a_peer_has_our_rules_every_trade_is_the_same():
    plain = {"long", "short", "time_stop", "tight", "gaps"}
    for row in rows():
        if row.engine == "vectorbt_two_rows" and row.scenario in plain:
            assert (row.n_ours, {}) == (row.n_equal, row.explained)
        if row.scenario == "time_stop":
            assert (row.n_ours, row.n_ours) == (row.n_equal, row.n_theirs)


def test_the_page_says_what_the_recording_says():
    page = page_of(RECORDED, ASKED, rows())
    assert page == record.PAGE.read_text(), "make peers, and look at the difference"
    assert all(text in page for text, _, _ in CASES)
    assert all(ours in page and theirs in page for ours, theirs in TEXTS.values())
    assert set(Rule) < set(TEXTS)


def test_the_peers_are_pinned_at_what_was_recorded():
    for engine, package in (("vectorbt", "vectorbt"), ("nautilus", "nautilus-trader")):
        pins = (FOLDER.parent / f"{engine}.txt").read_text()
        assert [RECORDED.versions[engine]] == re.findall(rf"^{package}==(.+)$", pins, re.MULTILINE)
        assert all("==" in line for line in pins.splitlines())


LONG = ASKED[1]
OURS = our_trades(LONG)


@pytest.mark.parametrize("engine", PROFILES)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda trades: trades[:50] + trades[51:],
        lambda trades: [*trades, replace(trades[-1], entry_bar=trades[-1].entry_bar + 1)],
        lambda trades: [replace(trades[0], exit_bar=trades[0].exit_bar + 1), *trades[1:]],
        lambda trades: [replace(trades[0], side=-1), *trades[1:]],
        lambda trades: [replace(trades[0], exit_price=trades[0].exit_price * (1 + 1e-6)), *trades[1:]],
        lambda trades: [replace(trades[0], entry_price=trades[0].entry_price * (1 - 1e-6)), *trades[1:]],
        lambda trades: [replace(trades[0], net_frac=trades[0].net_frac + 1e-6), *trades[1:]],
        lambda trades: [replace(trades[0], exit_bar=None, exit_price=None, net_frac=None), *trades[1:]],
    ],
    ids=["lost", "added", "later", "other side", "exit price", "entry price", "net", "left open"],
)
def test_a_trade_that_changed_on_either_side_is_unexplained(engine, wrong):
    theirs = list(RECORDED.trades[engine, "long"])
    assert 1 == len(compare(LONG, engine, wrong(OURS), theirs).unexplained)
    assert len(compare(LONG, engine, OURS, wrong(theirs)).unexplained) >= 1


def test_an_engine_that_enters_twice_at_once_is_refused_and_a_share_of_nothing_too():
    with pytest.raises(ValueError, match="twice"):
        compare(LONG, "vectorbt", [OURS[0], OURS[0]], [])
    with pytest.raises(ZeroDivisionError):
        share([])


@pytest.mark.parametrize(("n_lost", "code"), [(0, 0), (1, 1)])
def test_make_peers_writes_recording_and_page_and_ends_with_1_above_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], n_lost: int, code: int
):
    asked = tuple(one for one in ASKED if one.name in {"by_hand", "time_stop"})

    def told(engine: str, _: object) -> dict[str, Any]:
        names = [name for name in PROFILES if name.startswith(engine)]
        trades = {
            name: {one.name: list(map(astuple, RECORDED.trades[name, one.name])) for one in asked} for name in names
        }
        for by in trades.values():
            by["time_stop"] = by["time_stop"][n_lost:]
        return {name: {"version": RECORDED.versions[name], "trades": by} for name, by in trades.items()}

    monkeypatch.setattr(record, "scenarios", lambda: asked)
    monkeypatch.setattr(record, "ask", told)
    monkeypatch.setattr(record, "PAGE", tmp_path / "evidence" / "peers.md")
    monkeypatch.setattr(record.Recorded.write, "__defaults__", (tmp_path,))
    assert code == record.main()
    assert ("nautilus: 0.00% unexplained" in capsys.readouterr().out) == (n_lost == 0)
    written = Recorded.read(tmp_path)
    assert 3 * n_lost == sum(len(RECORDED.trades[key]) - len(written.trades[key]) for key in written.trades)
    assert page_of(written, asked, compared(written, asked)) == record.PAGE.read_text()


def test_a_peer_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record, "python_of", lambda _: Path("/bin/false"))
    with pytest.raises(record.subprocess.CalledProcessError):
        record.ask("nautilus", ASKED)
