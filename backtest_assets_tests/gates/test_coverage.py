from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Listing
from backtest_assets.gates.coverage import DATASETS, GATES_COVERAGE
from backtest_assets.research.bars.coverage import cover
from backtest_assets.sources.base import Origin
from backtest_assets_tests.gates.evidence import (
    RAW_MONTHS,
    change,
    covered,
    market_evidence,
    raw_month,
    red,
    verdict,
    whole_origin,
    without,
)
from backtest_assets_tests.scenario import MONTH, SYMBOL

WHOLE = market_evidence("coverage")
HALF = datetime(2024, 1, 16, tzinfo=UTC)


def ledger(**frames: pl.DataFrame):
    """A ledger of all datasets, some with other rows; its evidence has the same rows."""
    months = {**RAW_MONTHS, **frames}
    rows = pl.concat([covered(name, frame) for name, frame in months.items()])
    return replace(WHOLE, frame=rows, inputs=months)


def red_of(evidence):
    return red(GATES_COVERAGE, evidence)


def verdict_of(gate, evidence):
    return verdict(GATES_COVERAGE, evidence, gate)


def row_of(evidence, dataset, state="present"):
    hits = (evidence.frame["dataset"] == dataset) & (evidence.frame["state"] == state)
    return int(hits.arg_true()[0])


def test_what_is_missing_is_a_remark_and_a_wrong_ledger_is_not():
    remarks = {gate.name for gate in GATES_COVERAGE if gate.severity is Severity.WARN}
    assert {"nothing_missing", "all_ingested", "present_is_traced"} == remarks
    assert set(RAW_MONTHS) == set(DATASETS)


@pytest.mark.parametrize(
    ("lost", "n_lost"),
    [
        ({"raw_um_ohlcv": without(raw_month(), [5, 6, 2000])}, 3),
        ({"raw_um_ohlcv": without(raw_month(1), range(10, 40))}, 30),
        ({"raw_spot_ohlcv": raw_month(5).head(100)}, 8828),
        ({"raw_um_funding": without(RAW_MONTHS["raw_um_funding"], [0, 40, 41])}, 3),
        ({"raw_um_open_interest": without(RAW_MONTHS["raw_um_open_interest"], [7])}, 1),
    ],
)
def test_a_ledger_with_holes_is_right_and_the_holes_are_remarked(lost, n_lost):
    evidence = ledger(**lost)
    assert {"nothing_missing"} == red_of(evidence)
    seen = verdict_of("nothing_missing", evidence)
    assert n_lost == seen.observed
    assert {"outage"} == {row["state"] for row in seen.examples}
    assert f"{n_lost} (outage)" in seen.detail


def test_the_worst_stretch_of_each_dataset_and_class_is_shown():
    evidence = ledger(
        raw_um_ohlcv=without(raw_month(), [5, *range(100, 120)]), raw_um_funding=RAW_MONTHS["raw_um_funding"].head(80)
    )
    shown = verdict_of("nothing_missing", evidence).examples
    assert [("raw_um_ohlcv", 20), ("raw_um_funding", 13)] == [(row["dataset"], row["n_instants"]) for row in shown]
    assert "2024-01-02T01:00:00+00:00" == shown[0]["first_at"]


def test_a_ledger_of_an_open_month_a_listing_and_a_missing_file_is_right():
    as_of, listing = datetime(2024, 1, 20, 12, tzinfo=UTC), Listing(datetime(2024, 1, 3, 8, tzinfo=UTC))
    at = {"raw_um_funding": "settled_at", "raw_um_open_interest": "snapshot_at", "raw_um_liquidations": "liquidated_at"}
    months = {
        name: frame.filter(pl.col(at.get(name, "open_at")).is_between(listing.listed_at, HALF, closed="left"))
        for name, frame in RAW_MONTHS.items()
    }
    origins = [replace(whole_origin(), end=HALF), Origin("later.zip", None, HALF, whole_origin().end)]
    rows = [
        cover(name, frame, symbol=SYMBOL, month=MONTH, as_of=when, listing=listing, origins=origins, is_ingested=True)
        for when in (as_of, WHOLE.as_of)
        for name, frame in months.items()
    ]
    open_month, closed_month = pl.concat(rows[:5]), pl.concat(rows[5:])
    assert {"not_listed", "present", "not_yet"} == set(open_month["state"])
    assert set() == red_of(replace(WHOLE, frame=open_month, inputs=months, as_of=as_of))
    assert {"nothing_missing"} == red_of(replace(WHOLE, frame=closed_month, inputs=months))
    assert "(source_missing)" in verdict_of("nothing_missing", replace(WHOLE, frame=closed_month)).detail


def test_what_was_never_ingested_is_remarked_by_name():
    months = {name: frame for name, frame in RAW_MONTHS.items() if name != "raw_um_liquidations"}
    never = covered("raw_um_liquidations", RAW_MONTHS["raw_um_liquidations"].clear(), is_ingested=False)
    rows = pl.concat([*(covered(name, frame) for name, frame in months.items()), never])
    evidence = replace(WHOLE, frame=rows, inputs=months)
    assert {"all_ingested"} == red_of(evidence)
    seen = verdict_of("all_ingested", evidence)
    assert 1 == seen.observed
    assert "raw_um_liquidations" in seen.detail
    # Rows of a dataset that the ledger says was never ingested.
    assert {"all_ingested", "counts_agree_with_raw"} == red_of(replace(evidence, inputs=RAW_MONTHS))


def test_a_quiet_day_of_liquidations_is_known():
    assert {31} == set(WHOLE.frame.filter(dataset="raw_um_liquidations")["n_instants"])
    assert set() == red_of(WHOLE)


@pytest.mark.parametrize("dataset", RAW_MONTHS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"n_instants": 0}, {"counts_agree_with_raw"}),
        ({"first_at": datetime(2024, 1, 1, 8, tzinfo=UTC)}, {"tiles_the_month", "counts_agree_with_raw"}),
        ({"until_at": datetime(2024, 1, 31, tzinfo=UTC)}, {"tiles_the_month", "counts_agree_with_raw"}),
        ({"state": "here"}, {"states_have_their_origin"}),
        ({"state": "outage"}, {"counts_agree_with_raw", "nothing_missing"}),
        ({"state": "source_missing"}, {"counts_agree_with_raw", "states_have_their_origin", "nothing_missing"}),
        ({"sha256": None}, {"present_is_traced"}),
        ({"symbol": "BTCUSDT"}, {"rows_inside_partition"}),
    ],
)
def test_one_wrong_stretch_is_named_by_its_gate(dataset, values, expected):
    spoilt = replace(WHOLE, frame=change(WHOLE.frame, row_of(WHOLE, dataset), **values))
    found = red_of(spoilt)
    assert expected == found
    assert all(verdict_of(gate, spoilt).examples for gate in found)


@pytest.mark.parametrize("dataset", RAW_MONTHS)
def test_rows_that_the_ledger_does_not_know_of_are_counted(dataset):
    fewer = {**RAW_MONTHS, dataset: without(RAW_MONTHS[dataset], range(40, 60))}
    rightly = set() if dataset == "raw_um_liquidations" else {"counts_agree_with_raw"}
    assert rightly == red_of(replace(WHOLE, inputs=fewer))
    holed = pl.concat([covered(name, frame) for name, frame in fewer.items()])
    assert rightly == red_of(replace(WHOLE, frame=holed)) - {"nothing_missing"}


def test_a_dataset_without_a_stretch_and_an_unknown_one_are_named():
    less = WHOLE.frame.filter(pl.col("dataset") != "raw_um_funding")
    assert {"tiles_the_month"} == red_of(replace(WHOLE, frame=less))
    assert "raw_um_funding" in verdict_of("tiles_the_month", replace(WHOLE, frame=less)).detail
    strange = WHOLE.frame.with_columns(dataset=pl.lit("raw_um_trades"))
    assert {"tiles_the_month", "counts_agree_with_raw"} == red_of(replace(WHOLE, frame=strange))


def test_overlap_and_hole_between_stretches_are_shown():
    evidence = ledger(raw_um_ohlcv=without(raw_month(), [5, 6, 7]))
    row = row_of(evidence, "raw_um_ohlcv", "outage")
    until_at = evidence.frame["until_at"][row] + timedelta(minutes=15)
    torn = replace(evidence, frame=change(evidence.frame, row, until_at=until_at, n_instants=4))
    assert {"tiles_the_month", "counts_agree_with_raw", "nothing_missing"} == red_of(torn)
    assert 2 == verdict_of("tiles_the_month", torn).observed
    longer = verdict_of("counts_agree_with_raw", torn).examples
    assert [("outage", 4, 1)] == [(row["state"], row["n_instants"], row["n_raw"]) for row in longer]


@pytest.mark.parametrize("column", ["symbol", "dataset", "first_at", "until_at", "n_instants", "state"])
def test_a_column_that_is_all_null_is_seen(column):
    assert red_of(
        replace(WHOLE, frame=WHOLE.frame.with_columns(pl.lit(None, WHOLE.frame.schema[column]).alias(column)))
    )
