import math
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.research.outcomes.measure import holds_asked, measure_outcomes, requests
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.events import EVENT_CONTROLS, EVENT_REGISTRY
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import a_run, random_market

MARKET = random_market(7)
START = scenario.MONDAY
RUN = a_run(START, START + timedelta(days=30))
NO_CONTROLS = EVENT_CONTROLS.empty()


def an_event(known_at: datetime, *, variant: str = "centre") -> pl.DataFrame:
    row = EVENT_REGISTRY.sample(1, n_rows=1).with_columns(
        event_id=pl.lit(f"e{known_at:%d%H%M}"), variant=pl.lit(variant), symbol=pl.lit(scenario.SYMBOL),
        known_at=pl.lit(known_at).cast(EVENT_REGISTRY.schema["known_at"]),
    )  # fmt: skip
    return EVENT_REGISTRY.conform(row)


def steps(changes: dict[int, float | None], n_bars: int = 30 * 96) -> pl.DataFrame:
    """Bars that stand still at 100 until a change; None is a gap of one bar."""
    price, level, gap = [], 100.0, []
    for i in range(n_bars):
        level = changes.get(i) or level
        price.append(level)
        gap.append(i in changes and changes[i] is None)
    flat = pl.Series(price)
    bars = scenario.bars(n_bars, gaps=[i for i, g in enumerate(gap) if g])
    return BARS_UM.conform(
        bars.with_columns(pl.when(~pl.col("is_gap")).then(flat).alias(n) for n in ("open", "high", "low", "close"))
    )


def one(outcomes: pl.DataFrame, hold: int, delay: int = 0) -> dict[str, object]:
    (row,) = outcomes.filter((pl.col("hold_bars") == hold) & (pl.col("delay_bars") == delay)).to_dicts()
    return row


def test_entry_exit_funding_and_days_of_a_hold_worked_out_on_paper():
    # known at 22:00 on day 2; 100 until midnight, then 102, from 01:00 on 101; a settlement of 1 % at 00:00
    known = START + timedelta(days=2, hours=22)
    midnight = 3 * 96
    bars = steps({midnight: 102.0, midnight + 4: 101.0})
    funding = scenario.settlements([0.0] * 9 + [0.01] + [0.0] * 90)
    row = one(measure_outcomes(bars, funding, an_event(known), NO_CONTROLS, run=RUN), 16)
    assert (known, known + 16 * BAR) == (row["entered_at"], row["exited_at"])
    assert (100.0, 101.0) == (row["entry_price"], row["exit_price"])
    # the settlement at midnight is priced at the last close before it, 100, and belongs to the new day
    expected = {"gross_bps": 100.0, "funding_bps": 100.0, "lowest_bps": 0.0, "highest_bps": 200.0}
    assert pytest.approx(expected) == {name: row[name] for name in expected}
    assert [date(2024, 1, 3), date(2024, 1, 4)] == row["accrual_day"]
    assert pytest.approx([200.0, 100.0 - 200.0 - 100.0]) == row["accrual_bps"]
    assert [0.5, 0.5] == row["accrual_share"]


def test_volatility_is_the_root_mean_square_of_the_holds_own_bars_and_unknown_over_too_many_gaps():
    known, funding, at = START + timedelta(days=2), scenario.settlements([0.0] * 99), 2 * 96
    bars = steps({}).with_columns(
        # a bar of the hold that rises by 1 %, one just before it and one at its exit that do not count
        close=pl.when(pl.int_range(pl.len()).is_in([at - 1, at + 2, at + 16]))
        .then(pl.col("open") * 1.01)
        .otherwise("close")
    )
    row = one(measure_outcomes(bars, funding, an_event(known), NO_CONTROLS, run=RUN), 16)
    assert pytest.approx(math.log(1.01) / 4 * 1e4) == row["realized_vol_bps"]
    for n_gaps, is_known in ((3, True), (4, False)):
        holed = steps(dict.fromkeys(range(at + 1, at + 1 + n_gaps)))
        row = one(measure_outcomes(holed, funding, an_event(known), NO_CONTROLS, run=RUN), 16)
        assert is_known == (row["realized_vol_bps"] is not None)


def test_a_settlement_at_a_midnight_exit_is_paid_on_the_new_day_with_no_share_of_the_hold():
    known = START + timedelta(days=2, hours=20)
    funding = scenario.settlements([0.0] * 9 + [0.01] + [0.0] * 90)
    row = one(measure_outcomes(steps({}), funding, an_event(known), NO_CONTROLS, run=RUN), 16)
    assert ([date(2024, 1, 3), date(2024, 1, 4)], [1.0, 0.0]) == (row["accrual_day"], row["accrual_share"])
    assert pytest.approx([0.0, -100.0]) == row["accrual_bps"]
    unpaid = one(
        measure_outcomes(steps({}), scenario.settlements([0.0] * 99), an_event(known), NO_CONTROLS, run=RUN), 16
    )
    assert [date(2024, 1, 3)] == unpaid["accrual_day"]


def test_a_settlement_at_the_entry_is_not_paid():
    known = START + timedelta(days=3)
    funding = scenario.settlements([0.0] * 9 + [0.01] + [0.0] * 90)
    assert 0.0 == one(measure_outcomes(steps({}), funding, an_event(known), NO_CONTROLS, run=RUN), 16)["funding_bps"]


def test_an_exit_on_a_gap_waits_for_the_next_real_bar_and_an_entry_on_a_gap_is_no_trade():
    known, funding = START + timedelta(days=2), scenario.settlements([0.0] * 99)
    at = 2 * 96
    bars = steps({at + 16: None, at + 17: None, at + 18: 105.0, at + 1: None})
    outcomes = measure_outcomes(bars, funding, an_event(known), NO_CONTROLS, run=RUN)
    row = one(outcomes, 16)
    assert (known + 18 * BAR, 105.0) == (row["exited_at"], row["exit_price"])
    assert [] == outcomes.filter(pl.col("delay_bars") == 1).rows()


def test_a_missing_settlement_drops_the_holds_over_it_and_keeps_the_others():
    known = START + timedelta(days=2, hours=1)
    funding = scenario.settlements([0.0] * 99).filter(pl.col("settled_at") != START + timedelta(days=2, hours=8))
    outcomes = measure_outcomes(steps({}), funding, an_event(known), NO_CONTROLS, run=RUN)
    assert {3, 4, 5, 14, 16, 18} == set(outcomes.filter(pl.col("delay_bars") == 0)["hold_bars"])


def test_every_delay_hold_and_neighbour_is_asked_for_once():
    asked = holds_asked(run=RUN)
    centre = asked.filter(pl.col("kind") == "centre")
    assert {(0, h) for h in (3, 4, 5, 14, 16, 18, 43, 48, 53, 86, 96, 106)} == set(
        centre.filter(pl.col("delay_bars") == 0).select("delay_bars", "hold_bars").iter_rows()
    )
    assert {0, 1, 4} == set(centre["delay_bars"])
    assert asked.height == asked.n_unique()
    for kind in ("rate", "control"):
        assert [(0, 4), (0, 16), (0, 48), (0, 96)] == sorted(
            asked.filter(pl.col("kind") == kind).drop("kind").iter_rows()
        )


def test_r14_every_entry_delay_has_its_own_delays_neighbours_rates_and_controls():
    plain, delayed = (set(holds_asked(run=run).rows()) for run in (RUN, replace(RUN, phase2_entry_delays_bars="8")))
    shifted = {(kind, delay + 8, hold) for kind, delay, hold in plain}
    assert plain | shifted == delayed


def test_no_outcome_touches_the_test_window_or_leaves_its_own_split():
    plan = MARKET.run.splits
    assert {"train", "validation"} == set(MARKET.outcomes["split"])
    for split in (Split.TRAIN, Split.VALIDATION):
        rows = MARKET.outcomes.filter((pl.col("split") == split.value) & (pl.col("control_no") == 0))
        assert plan[split].start <= rows.select(pl.col("known_at").min()).item()
        assert rows.select(pl.col("exited_at").max()).item() < plan[split].end
    assert MARKET.outcomes.select(pl.col("exited_at").max()).item() < plan[Split.TEST].start


def test_bars_of_the_test_window_are_never_read():
    cut = MARKET.run.splits[Split.TEST].start
    sealed = MARKET.bars.filter(pl.col("open_at") < cut)
    funding = MARKET.funding.filter(pl.col("settled_at") < cut)
    assert_frame_equal(
        MARKET.outcomes, measure_outcomes(sealed, funding, MARKET.events, MARKET.controls, run=MARKET.run)
    )


def test_outcomes_agree_with_a_slow_reader():
    bars = {s: f.sort("open_at") for (s,), f in MARKET.bars.partition_by("symbol", as_dict=True).items()}
    wanted = requests(MARKET.events, MARKET.controls, run=MARKET.run)
    key = ("variant", "event_id", "control_no", "delay_bars", "hold_bars")
    rows = {tuple(r[k] for k in key): r for r in MARKET.outcomes.iter_rows(named=True)}
    assert len(rows) > 1000
    for ask in wanted.sample(400, seed=1).iter_rows(named=True):
        frame = bars[ask["symbol"]]
        first = frame["open_at"][0]
        entry = (ask["known_at"] - first) // BAR + ask["delay_bars"]
        opens = frame["open"]
        exits = [t for t in range(entry + ask["hold_bars"], frame.height) if opens[t] is not None]
        is_traded = opens[entry] is not None and bool(exits) and first + exits[0] * BAR < ask["window_end"]
        row = rows.get(tuple(ask[k] for k in key))
        assert is_traded == (row is not None)
        if row is None:
            continue
        held = frame[entry : exits[0]]
        bps = (np.array([opens[exits[0]], held["low"].min(), held["high"].max()]) / opens[entry] - 1) * 1e4
        assert pytest.approx(bps.tolist()) == [row["gross_bps"], row["lowest_bps"], row["highest_bps"]]
        moves = [math.log(c / o) for o, c in held.select("open", "close").iter_rows() if o is not None]
        vol = math.sqrt(sum(x * x for x in moves) / len(moves)) * 1e4 if len(moves) >= 0.8 * held.height else None
        assert pytest.approx(vol) == row["realized_vol_bps"]
        paid = 0.0
        due = MARKET.funding.filter(
            (pl.col("symbol") == ask["symbol"])
            & (pl.col("settled_at") > row["entered_at"])
            & (pl.col("settled_at") <= row["exited_at"])
        )
        for settlement in due.iter_rows(named=True):
            known = frame.filter((pl.col("known_at") <= settlement["settled_at"]) & ~pl.col("is_gap"))
            paid += settlement["funding_rate"] * known["close"][-1] / opens[entry] * 1e4
        assert pytest.approx(paid, abs=1e-9) == row["funding_bps"]


def test_days_sum_to_the_whole_and_lie_within_the_hold():
    sums = MARKET.outcomes.select(
        error=(pl.col("accrual_bps").list.sum() - pl.col("gross_bps") + pl.col("funding_bps")).abs(),
        share=(pl.col("accrual_share").list.sum() - 1.0).abs(),
        first=pl.col("accrual_day").list.first() == pl.col("entered_at").dt.date(),
        last=pl.col("accrual_day").list.last() <= pl.col("exited_at").dt.date(),
    )
    assert sums.select(pl.max_horizontal(pl.col("error").max(), pl.col("share").max())).item() < 1e-9
    assert (True, True) == sums.select(pl.col("first", "last").all()).row(0)
