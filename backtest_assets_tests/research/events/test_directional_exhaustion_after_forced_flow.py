import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.families.directional_exhaustion_after_forced_flow import ForcedFlow, detect
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import random_market
from backtest_assets_tests.research.events.evidence import (
    bars_of,
    changed_pasts,
    driftless_view,
    fates,
    recall_and_precision,
    view_of,
)

MARKET = random_market(28, n_days=120)
N = 3_400
FALL = 3_000


def flat(*moves: tuple[int, float]) -> np.ndarray:
    """Closes that alternate around 100 by a thousandth; from a bar on they are lower or higher by a share."""
    close = 100.0 * np.where(np.arange(N) % 2, 1.001, 1.0)
    for at, share in moves:
        close[at:] *= 1.0 + share
    return close


def numbers(found: pl.DataFrame) -> list[tuple[int, int, int]]:
    """(anchor, known, side) as bar numbers."""
    return [
        ((onset - scenario.MONDAY) // BAR, (known - scenario.MONDAY) // BAR - 1, side)
        for onset, known, side in found.select("onset_at", "known_at", "side").iter_rows()
    ]


def of_closes(close: np.ndarray, gaps: tuple[int, ...] = ()) -> pl.DataFrame:
    return detect(view_of(bars_of(close, gaps=gaps)), params=ForcedFlow())


def test_a_fall_that_goes_no_further_is_known_32_bars_later_and_points_up():
    found = of_closes(flat((FALL, -0.02)))
    assert [(FALL, FALL + 32, 1)] == numbers(found)
    assert [pytest.approx(-np.log(0.98 / 1.001) / np.log(1.001))] == found["severity"].to_list()
    assert [pytest.approx(np.log(1.001))] == found["threshold"].to_list()
    assert [64 * BAR] == (found["exit_at"] - found["onset_at"] - BAR).to_list()


def test_a_rise_that_goes_no_further_points_down():
    assert [(FALL + 1, FALL + 33, -1)] == numbers(of_closes(flat((FALL + 1, 0.02))))


@pytest.mark.parametrize(("lower_at", "expected"), [(1, 0), (20, 0), (32, 0), (33, 1)])
def test_a_new_low_within_32_bars_is_no_exhaustion(lower_at, expected):
    found = of_closes(flat((FALL, -0.02), (FALL + lower_at, -0.0015)))
    assert expected == len([known for anchor, known, _ in numbers(found) if anchor == FALL])


def test_a_cascade_counts_once_at_its_last_bar():
    found = of_closes(flat((FALL, -0.02), (FALL + 1, -0.02), (FALL + 2, -0.02)))
    assert [(FALL + 2, FALL + 34, 1)] == numbers(found)


@pytest.mark.parametrize("gap", [FALL + 1, FALL + 15, FALL + 32])
def test_a_gap_among_the_quiet_bars_confirms_nothing(gap):
    close = flat((FALL, -0.02))
    assert [] == numbers(of_closes(close, gaps=(gap,)))
    assert 1 == of_closes(close, gaps=(FALL + 33, FALL - 40)).height


def test_takers_decide_once_thirty_days_of_them_are_known():
    rng = np.random.default_rng(1)
    quiet, imbalance = flat((FALL, -0.02)), np.clip(0.05 * rng.standard_normal(N), -0.15, 0.15)
    imbalance[3_200] = 0.9
    by_takers = detect(view_of(bars_of(quiet, imbalance=imbalance)), params=ForcedFlow())
    (event,) = by_takers.filter(pl.col("severity") > 2).to_dicts()
    assert (-1, scenario.MONDAY + 3_200 * BAR) == (event["side"], event["onset_at"])
    assert 0.9 == pytest.approx(event["severity"] * event["threshold"])
    imbalance[2_000:] = np.nan  # takers become unknown before the thirty days are full
    bars = bars_of(quiet, imbalance=imbalance).with_columns(pl.col("taker_buy_base").fill_nan(None))
    by_moves = detect(view_of(bars), params=ForcedFlow())
    assert [(FALL, FALL + 32, 1)] == numbers(by_moves)


@pytest.mark.parametrize("imbalance", [None, np.zeros(N), np.full(N, 0.5)])
def test_a_market_that_stands_still_has_no_flow(imbalance):
    assert 0 == detect(view_of(bars_of(np.full(N, 100.0), imbalance=imbalance)), params=ForcedFlow()).height


def slow_threshold(size: np.ndarray) -> np.ndarray:
    result = np.full(size.size, np.nan)
    for t in range(1, size.size):
        window = size[max(t - 8640, 0) : t]
        window = window[~np.isnan(window)]
        if window.size >= 2880:
            result[t] = np.quantile(window, 0.99)
    return result


@pytest.mark.parametrize("with_takers", [False, True])
def test_the_slow_reader_finds_the_same_on_a_random_market(with_takers):
    rng = np.random.default_rng(5)
    bought = pl.Series(rng.beta(20, 20, MARKET.bars.height))
    bars = MARKET.bars.with_columns(
        taker_buy_base=pl.col("volume_base") * bought if with_takers else pl.lit(None, dtype=pl.Float64)
    )
    features = build_features(bars, MARKET.spot_bars, MARKET.funding, MARKET.positioning)
    found = detect(MarketView(bars, features, MARKET.funding), params=ForcedFlow())
    n_found = 0
    for symbol in ("SYNAUSDT", "SYNBUSDT"):
        mine = bars.filter(pl.col("symbol") == symbol)
        moved, quality = features.filter(pl.col("symbol") == symbol).select("logret_1", "coverage_2880")
        bought_share = mine.select(
            pl.when(pl.col("volume_base") > 0).then(pl.col("taker_buy_base") / pl.col("volume_base"))
        )
        flow = ((2 * bought_share.to_series() - 1) if with_takers else moved).to_numpy()
        high, low, threshold = mine["high"].to_numpy(), mine["low"].to_numpy(), slow_threshold(np.abs(flow))
        if with_takers:
            move = moved.to_numpy()
            early = np.isnan(threshold)
            flow, threshold = np.where(early, move, flow), np.where(early, slow_threshold(np.abs(move)), threshold)
        sign = [int(np.sign(f)) if abs(f) > q else 0 for f, q in zip(flow, threshold, strict=True)]
        rows: list[tuple[int, int]] = []
        for t in range(len(sign) - 32):
            if sign[t] == 0 or sign[t + 1] == sign[t]:
                continue
            after = slice(t + 1, t + 33)
            beyond = high[after] - high[t] if sign[t] > 0 else low[t] - low[after]
            if not np.isnan(beyond).any() and beyond.max() <= 0:
                rows.append((t, -sign[t]))
        statuses = fates([(t + 32, t + 64, quality[t + 32]) for t, _ in rows])
        opens, known = mine["open_at"], mine["known_at"]
        expected = [
            (opens[t], known[t + 32], known[t + 64] if t + 64 < len(sign) else None, side, status)
            for (t, side), status in zip(rows, statuses, strict=True)
        ]
        n_found += len(expected)
        assert (
            expected
            == found.filter(pl.col("symbol") == symbol)
            .select("onset_at", "known_at", "exit_at", "side", "status")
            .rows()
        )
    assert n_found >= 8


def test_the_past_does_not_change():
    assert [] == changed_pasts(detect, ForcedFlow(), MARKET.view)
    assert [] == changed_pasts(detect, ForcedFlow(), driftless_view(300, 200))


def test_planted_exhaustions_are_found_and_flow_that_goes_on_is_not():
    planted, found = set(), []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        n = 9_000
        steps, imbalance = 0.0005 * rng.standard_normal(n), np.clip(0.05 * rng.standard_normal(n), -0.12, 0.12)
        for at in range(3_000, n - 200, 150):
            sign = 1 if rng.random() < 0.5 else -1
            imbalance[at], steps[at] = 0.7 * sign, 0.003 * sign
            goes_on = rng.random() < 0.5
            steps[at + 1] = 0.003 * sign * (1 if goes_on else -1)
            steps[at + 2 : at + 34] += sign * 0.0004 * (1 if goes_on else -1)
            if not goes_on:
                planted.add(10_000 * seed + at)
        view = view_of(bars_of(100.0 * np.exp(np.cumsum(steps)), imbalance=imbalance))
        found += [10_000 * seed + anchor for anchor, _, _ in numbers(detect(view, params=ForcedFlow()))]
    recall, precision = recall_and_precision(planted, found)
    print(f"recall {recall:.3f}, precision {precision:.3f}, {len(found)} found")  # noqa: T201  # seen with pytest -s
    assert recall >= 0.9
    assert precision >= 0.9
