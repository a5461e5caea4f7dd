"""The study of the promise in small, and that its bounds can fail."""

from dataclasses import asdict
from datetime import UTC, datetime

import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets_tests.chain import chain_from, market_frames
from backtest_assets_tests.truth import evidence, promise
from backtest_assets_tests.truth.edges import Edge, events_of, plant, true_means
from backtest_assets_tests.truth.evidence import Found, broken_bounds, by_arm, by_strength, losses, read, write
from backtest_assets_tests.truth.promise import Null, Planted

EDGE = Edge(EventType.FUNDING_ACCELERATION, 16, 12 + 8 * 9.0)


@pytest.fixture(scope="module")
def markets():
    run = promise.run_of(1, years=4)
    without = promise.market_of(1, run)
    return run, without, plant(without, EDGE)


def test_an_edge_follows_the_events_of_the_bent_market_and_nothing_else(markets):
    _, without, planted = markets
    bent = planted.market
    events = events_of(EDGE.family, bent)
    assert events.height > 200
    for name, symbol in bent.items():
        before, after = without[name].klines, symbol.klines
        factor = after["open"] / before["open"]
        steps = (factor.shift(-1) / factor - 1).fill_null(0.0) * 1e4
        told = planted.drift.filter(pl.col("symbol") == name)["factor"]
        assert told.to_list() == pytest.approx(factor.to_list())
        at = events.filter(pl.col("symbol") == name).join(
            after.select("open_at", row=pl.int_range(pl.len())), left_on="known_at", right_on="open_at"
        )
        lone = at.filter(pl.col("row").diff().fill_null(100) > 16, pl.col("row").diff().shift(-1).fill_null(100) > 16)
        moved = [float(steps[row : row + 16].sum()) * side for row, side in lone.select("row", "direction").iter_rows()]
        carried = sum(abs(bps - EDGE.bps) < 2 for bps in moved) / len(moved)
        assert carried >= 0.95
        assert (steps.abs() > 1e-9).sum() <= 1.05 * 16 * at.height


def test_a_strong_edge_is_found_where_it_was_planted(markets):
    run, without, _ = markets
    told = promise.planted_market(run, without, EDGE, strength=8, seed=1)
    assert told.is_found
    assert told.lost_to in {"", "near_copy"}
    assert told.is_oracle_rw
    assert told.n_false == 0
    assert told.strength_true > 6
    assert told.true_bps == pytest.approx(EDGE.bps - 12, rel=0.1)  # events that lie close share bars
    assert told.shrunken_bps < told.reported_bps


def test_what_trades_truly_earn_is_the_planted_move_over_their_bars():
    at = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in range(4)]
    drift = pl.DataFrame({"symbol": "A", "open_at": at, "factor": [1.0, 1.0, 1.01, 1.02]})
    trades = pl.DataFrame({
        "hypothesis_id": ["up", "up", "down"], "sign": [1, 1, -1], "direction": [1, -1, 1], "symbol": "A",
        "entered_at": [at[1], at[0], at[1]], "exited_at": [at[2], at[1], at[2]],
    })  # fmt: skip
    told = true_means(trades, drift, cost_bps=12.0)
    assert told == pytest.approx({"up": 50.0 - 12.0, "down": -112.0})


@pytest.mark.slow
def test_an_edge_of_a_crowded_family_is_no_bias_of_its_placebos():
    run = promise.run_of(70_000, years=4)
    crowded = Edge(EventType.LIQUIDITY_ABSENCE_WINDOW, 16, 12 + 6 * 4.9)
    bent = plant(promise.market_of(70_000, run), crowded)
    chain = chain_from(run, market_frames(bent.market))
    told = chain.frames["phase1_evidence"].filter(pl.col("event_type") == crowded.family.value)
    assert set(told["ground"]) == {"effect"}
    assert promise.judged(chain, bent.drift, crowded, strength=6, seed=70_000).is_found


def null(n_blueprints: int, *, arm: str = "cost 12", n_tested: int = 800) -> Null:
    return Null(arm, 1, n_tested, 0.4, n_blueprints, n_blueprints, "KEEP_RESEARCH")


def planted(strength: int, *, chain: bool, oracle: bool) -> Planted:
    lost = "" if chain else "multiplicity,ess"
    return Planted(
        "vol",
        16,
        strength,
        1,
        float(strength),
        90,
        True,
        chain,
        chain,
        chain,
        0,
        lost,
        oracle,
        oracle,
        1.0,
        1.0,
        1.0,
        1.0,
    )


def found(nulls=(), planteds=(), shuffled=()) -> Found:
    frames = [pl.DataFrame([asdict(row) for row in rows]) for rows in (nulls, planteds, shuffled)]
    return Found(
        *frames, real=pl.DataFrame({"decision": "KEEP_RESEARCH", "gate": "g", "detail": "why", "n_blueprints": [0]})
    )


def test_the_bounds_are_kept_by_a_sound_chain():
    nulls = [null(0)] * 19 + [null(1)]
    assert [] == broken_bounds(found(nulls, [planted(6, chain=True, oracle=True)], [null(0)]))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (found([null(0)] * 18 + [null(1)] * 2), "2 of 20"),
        (found([null(0, n_tested=0)]), "0 of 1"),
        (found([], [], [null(1)]), "1 of 1"),
        (found([], [planted(6, chain=False, oracle=False)]), "at least 80%"),
        (found([], [planted(4, chain=False, oracle=True)]), "the oracle 100%"),
    ],
)
def test_a_broken_promise_is_said(what, said):
    (line,) = broken_bounds(what)
    assert said in line


def test_shares_and_intervals_are_those_of_clopper_and_pearson():
    (row,) = by_arm(found([null(0)] * 200).null).to_dicts()
    assert (row["share"], row["low"]) == (0.0, 0.0)
    assert row["high"] == pytest.approx(0.0183, abs=1e-4)  # stat_recipe.md, table 3: 0 of 200
    (row,) = by_strength(found([], [planted(4, chain=i < 20, oracle=True) for i in range(40)]).planted).to_dicts()
    assert (row["low"], row["high"]) == pytest.approx((0.338, 0.662), abs=1e-3)  # table 3: .50 of 40


def test_losses_name_every_reason_of_markets_where_nothing_was_found():
    told = losses(found([], [planted(4, chain=c, oracle=True) for c in (True, False, False)]).planted)
    assert told.rows() == [(4, "ess", 2), (4, "multiplicity", 2)]


def test_the_page_shows_what_was_measured(tmp_path):
    told = found([null(0)], [planted(s, chain=True, oracle=True) for s in promise.STRENGTHS], [null(0)])
    page = write(told, tmp_path)
    assert "make promise ARGS='--null 1 --planted 1 --shuffles 1'" in page
    assert "- g: why" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "null_markets.csv", "null_markets.svg", "planted_edges.csv", "planted_edges.svg", "promise.md", "real_market.csv",
        "shuffled_events.csv",
    ]  # fmt: skip
    assert (tmp_path / "planted_edges.svg").read_text().startswith("<svg")
    assert evidence.LEVELS == tuple(sorted(evidence.LEVELS))


def test_the_page_is_made_from_the_rows_beside_it(tmp_path):
    told = found([null(0)], [planted(s, chain=s > 2, oracle=True) for s in promise.STRENGTHS], [null(0)])
    page = write(told, tmp_path / "first")
    assert write(read(tmp_path / "first"), tmp_path / "second") == page
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_the_committed_page_is_made_from_its_rows_and_breaks_no_bound(tmp_path):
    kept = read(promise.EVIDENCE)
    assert [] == broken_bounds(kept)
    assert (promise.EVIDENCE / "promise.md").read_text() == write(kept, tmp_path)
    for path in tmp_path.iterdir():
        assert (promise.EVIDENCE / path.name).exists(), path.name
