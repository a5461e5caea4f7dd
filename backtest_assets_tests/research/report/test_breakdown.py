from dataclasses import fields, replace
from typing import Any

import polars as pl
import pytest

from backtest_assets.research.report import breakdown
from backtest_assets.research.report.breakdown import MAX_TRADES, breakdown_charts
from backtest_assets.research.report.inputs import Execution
from backtest_assets.research.report.study import event_study
from backtest_assets_tests.research.report.scenes import a_run, execution_of, inputs_of
from backtest_assets_tests.research.simulation.results import random_results

PROMOTED = inputs_of(a_run())
EXECUTION = execution_of(PROMOTED)
DONE = random_results()
TRADED = Execution(**{item.name: DONE.frames[item.name] for item in fields(Execution)})


def test_what_was_not_executed_has_no_pictures():
    assert breakdown_charts(None) == {}


def points(spec: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # a specification is any JSON
    layers = [spec, *spec.get("layer", ())]
    return max((layer["data"]["values"] for layer in layers if "data" in layer), key=len)


def test_the_calendar_adds_up_to_the_ledger():
    cells = points(breakdown._calendar(EXECUTION))
    assert sum(cell["percent"] for cell in cells) == pytest.approx(100 * EXECUTION.simulation_ledger["net_pnl"].sum())
    assert {cell["year"] for cell in cells} == {"2023"}


def test_every_trade_is_drawn_and_of_too_many_an_even_sample():
    trades = TRADED.trades
    few = points(breakdown._excursions(trades.head(MAX_TRADES)))
    assert len(few) == MAX_TRADES < trades.height
    assert max(point["against"] for point in few) <= 0
    assert len(points(breakdown._excursions(trades))) == -(-trades.height // 2)


def test_regimes_are_the_known_shares_of_the_walk_forward():
    shares = breakdown._shares(TRADED)
    assert shares.height > 0
    for row in shares.to_dicts():
        (value,) = DONE.frames[f"walkforward_{row['split']}"].filter(
            blueprint_id=row["blueprint_id"], metric=f"regime_share_vol_{row['regime']}"
        )["value"]
        assert row["percent"] == pytest.approx(100 * value)
    assert "regimes" in breakdown_charts(TRADED)
    assert "regimes" not in breakdown_charts(EXECUTION)  # nothing of these scenes is known by regime


def test_every_family_that_was_compared_has_its_curve_and_without_any_there_is_no_picture():
    (picture,) = event_study(PROMOTED).values()
    for family in PROMOTED.phase1_evidence["event_type"].unique():
        assert family.replace("_", " ") in picture
    nothing = PROMOTED.phase1_evidence.with_columns(delta=pl.lit(None, pl.Float64))
    assert event_study(replace(PROMOTED, phase1_evidence=nothing)) == {}
