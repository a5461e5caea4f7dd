"""The study of the promise in small, and that its bounds can fail."""

from dataclasses import asdict

import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets_tests.chain import chain_from, market_frames
from backtest_assets_tests.truth import evidence, promise
from backtest_assets_tests.truth.edges import Edge, events_of, plant
from backtest_assets_tests.truth.evidence import Found, broken_bounds, by_arm, by_strength, write
from backtest_assets_tests.truth.promise import Null, Planted

EDGE = Edge(EventType.FUNDING_ACCELERATION, 16, 12 + 8 * 9.0)


@pytest.fixture(scope="module")
def markets():
    run = promise.run_of(1, years=4)
    without = promise.market_of(1, run)
    return run, without, plant(without, EDGE)


def test_an_edge_follows_the_events_of_the_bent_market_and_nothing_else(markets):
    _, without, bent = markets
    events = events_of(EDGE.family, bent)
    assert events.height > 200
    for name, symbol in bent.items():
        before, after = without[name].klines, symbol.klines
        factor = after["open"] / before["open"]
        steps = (factor.shift(-1) / factor - 1).fill_null(0.0) * 1e4
        at = events.filter(pl.col("symbol") == name).join(
            after.select("open_at", row=pl.int_range(pl.len())), left_on="known_at", right_on="open_at"
        )
        lone = at.filter(pl.col("row").diff().fill_null(100) > 16, pl.col("row").diff().shift(-1).fill_null(100) > 16)
        moved = [float(steps[row : row + 16].sum()) * side for row, side in lone.select("row", "direction").iter_rows()]
        carried = sum(abs(bps - EDGE.bps) < 2 for bps in moved) / len(moved)
        assert carried >= 0.95
        assert (steps.abs() > 1e-9).sum() <= 1.05 * 16 * at.height


def test_a_strong_edge_is_found_where_it_was_planted(markets):
    run, _, bent = markets
    told = promise.judged(chain_from(run, market_frames(bent)), EDGE, strength=8, seed=1)
    assert told.is_found
    assert told.is_oracle_rw
    assert told.n_false == 0
    assert told.strength_true > 6
    assert told.true_bps == pytest.approx(EDGE.bps - 12)


def test_an_edge_of_a_crowded_family_is_no_bias_of_its_placebos():
    run = promise.run_of(70_000, years=4)
    crowded = Edge(EventType.LIQUIDITY_ABSENCE_WINDOW, 16, 12 + 6 * 4.9)
    chain = chain_from(run, market_frames(plant(promise.market_of(70_000, run), crowded)))
    told = chain.frames["phase1_evidence"].filter(pl.col("event_type") == crowded.family.value)
    assert set(told["ground"]) == {"effect"}
    assert promise.judged(chain, crowded, strength=6, seed=70_000).is_found


def null(n_blueprints: int, *, arm: str = "cost 12", n_tested: int = 800) -> Null:
    return Null(arm, 1, n_tested, 0.4, n_blueprints, n_blueprints, "KEEP_RESEARCH")


def planted(strength: int, *, chain: bool, oracle: bool) -> Planted:
    return Planted("vol", 16, strength, 1, float(strength), 90, True, chain, chain, 0, oracle, oracle, 1.0, 1.0, 1.0)


def found(nulls=(), planteds=(), shuffled=()) -> Found:
    frames = [pl.DataFrame([asdict(row) for row in rows]) for rows in (nulls, planteds, shuffled)]
    return Found(*frames, real=None)


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


def test_the_page_shows_what_was_measured(tmp_path):
    told = found([null(0)], [planted(s, chain=True, oracle=True) for s in promise.STRENGTHS], [null(0)])
    page = write(told, tmp_path, "make promise")
    assert "make promise" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "null_markets.csv", "null_markets.svg", "planted_edges.csv", "planted_edges.svg", "promise.md", "shuffled_events.csv",
    ]  # fmt: skip
    assert (tmp_path / "planted_edges.svg").read_text().startswith("<svg")
    assert evidence.LEVELS == tuple(sorted(evidence.LEVELS))
