"""Data that no market makes, from the exchange's files to verdicts, under the usual limits, under wider ones, and back.

Each symbol has its own fault in January; the last one has a tail that stopped coming in the open month of March.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from backtest_assets.defs.driver import Work
from backtest_assets.defs.judgements import Judged, judgements
from backtest_assets.domain.clock import utc
from backtest_assets.domain.limits import DEFAULT_LIMITS, MarketLimits
from backtest_assets.domain.market import Partition
from backtest_assets.lake.publication import Publication
from backtest_assets_tests.defs.market import Project, open_project
from backtest_assets_tests.exchange import exchange
from backtest_assets_tests.exchange_faults import Fault, OtherRows, Status, without

WEEK = utc(date(2024, 1, 7))
DAY = timedelta(days=1)
STOP = utc(date(2024, 3, 3))
PRICES = ("open", "high", "low", "close")
VALUES = ("volume_quote", "taker_buy_quote")
FLOWS = ("volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")


def files(symbol: str, *, market: str = "futures/um") -> str:
    return f"/{market}/monthly/klines/{symbol}/"


def bars(first: int, n_bars: int) -> pl.Expr:
    return pl.int_range(pl.len()).is_between(first, first + n_bars, closed="left")


def changed(where: str, at: pl.Expr, **values: pl.Expr | float) -> OtherRows:
    columns = {name: pl.when(at).then(value).otherwise(pl.col(name)) for name, value in values.items()}
    return OtherRows(where, lambda rows: rows.with_columns(**columns))


def at_price(price: float) -> dict[str, pl.Expr]:
    return {"volume_quote": price * pl.col("volume_base"), "taker_buy_quote": price * pl.col("taker_buy_base")}


FAULTS: dict[str, list[Fault]] = {
    "DAYUSDT": [
        without(files("DAYUSDT"), WEEK, WEEK + DAY),
        Status("/daily/klines/DAYUSDT/15m/DAYUSDT-15m-2024-01-07.zip", 404),
    ],
    "FLATUSDT": [changed(files("FLATUSDT"), bars(500, 100), **dict.fromkeys(PRICES, 1000.0), **at_price(1000.0))],
    "SPIKEUSDT": [
        changed(files("SPIKEUSDT"), bars(700, 1), close=pl.col("close") * 1.2, high=pl.col("high") * 1.2),
    ],
    "VOIDUSDT": [changed(files("VOIDUSDT"), bars(900, 60), **dict.fromkeys(FLOWS, 0))],
    "LINEUSDT": [
        changed(
            files("LINEUSDT", market="spot"), bars(100, 30), **{name: pl.col(name) * 1.1 for name in (*PRICES, *VALUES)}
        ),
    ],
    "RATEUSDT": [changed("/fundingRate/RATEUSDT/", bars(40, 1), funding_rate=0.05)],
    "TAILUSDT": [
        Status("/futures/um/daily/klines/TAILUSDT/15m/TAILUSDT-15m-2024-03-03.zip", 404),
        Status("/futures/um/daily/klines/TAILUSDT/15m/TAILUSDT-15m-2024-03-04.zip", 404),
        OtherRows("/fapi/v1/klines", lambda rows: rows.filter(pl.col("open_at") < STOP)),
    ],
    "FINEUSDT": [],
}
MONTH = {symbol: Partition.of_month(symbol, "2024-03" if symbol == "TAILUSDT" else "2024-01") for symbol in FAULTS}
WIDER = MarketLimits(
    um_missing_days_max=1,
    um_gap_share_max=0.05,
    frozen_bars_max=100,
    spike_frac=0.5,
    zero_volume_share_max=0.05,
    basis_out_of_line_share_max=0.02,
    funding_rate_max=0.06,
    tail_age_max_h=100,
)

ERRORS = {
    "DAYUSDT": ("bars_um", "missing_days", "um_missing_days_max", 1.0, 0.0),
    "FLATUSDT": ("bars_um", "frozen_price", "frozen_bars_max", 100.0, 96.0),
    "VOIDUSDT": ("bars_um", "zero_volume_moves", "zero_volume_share_max", 60 / 2976, 0.01),
    "LINEUSDT": ("bars_spot", "in_line_with_um", "basis_out_of_line_share_max", 30 / 2976, 0.005),
    "RATEUSDT": ("raw_um_funding", "rate_bounded", "funding_rate_max", 0.05, 0.03),
}
"""Table, gate, setting, observed number and its usual limit of what refuses."""
REMARKS = {
    "SPIKEUSDT": ("bars_um", "spike_reverted", 1.0, 0.0),
    "TAILUSDT": ("raw_um_ohlcv", "tail_age", 58 + 22 / 60, 36.0),
}
"""Table, gate, observed number and its usual limit of what is only remarked upon."""


@dataclass
class Call:
    work: Work
    held: dict[tuple[str, Partition], Publication]
    judged: dict[tuple[str, str], Judged]
    examples: dict[str, list[Mapping[str, Any]]]

    @property
    def said(self) -> str:
        return "\n".join(self.work.refusals)


def call(project: Project) -> Call:
    work = project.drive(list(MONTH.values()))
    told = [one for t in ("raw_um_ohlcv", "raw_um_funding", "bars_um", "bars_spot") for one in _judged(project, t)]
    judged = {(one.partition, one.gate): one for one in told if one.table == _table(one)}
    return Call(work, project.current(), judged, {symbol: _examples(project, symbol) for symbol in ERRORS})


def _judged(project: Project, table: str) -> tuple[Judged, ...]:
    return judgements(project.session.instance, table, MONTH.values())


def _table(one: Judged) -> str:
    return ({**ERRORS, **REMARKS}.get(one.partition.split("|")[1]) or ("bars_um",))[0]


def _examples(project: Project, symbol: str) -> list[Mapping[str, Any]]:
    table, gate, *_ = ERRORS[symbol]
    key = dg.AssetCheckKey(dg.AssetKey(table), gate)
    storage = project.session.instance.event_log_storage
    for record in storage.get_asset_check_execution_history(key, limit=50):
        assert record.event is not None
        told = record.event.asset_check_evaluation
        if told is not None and told.partition == MONTH[symbol].label:
            shown = told.metadata.get("examples")
            return [row.data for row in shown.records] if isinstance(shown, dg.TableMetadataValue) else []
    return []


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Call, Call, Call]:
    """The same call under the usual limits, under wider ones, and under the usual ones again."""
    root = tmp_path_factory.mktemp("data_faults") / "data"
    faults = [fault for group in FAULTS.values() for fault in group]
    made: list[Call] = []
    with exchange(symbols=tuple(FAULTS), faults=faults) as ex:
        for limits in (DEFAULT_LIMITS, WIDER, DEFAULT_LIMITS):
            with open_project(root, ex, limits=limits) as project:
                made.append(call(project))
    usual, wider, again = made
    return usual, wider, again


@pytest.mark.parametrize("symbol", ERRORS)
def test_a_fault_is_refused_with_number_limit_setting_and_example_rows(calls: tuple[Call, Call, Call], symbol: str):
    usual, _, _ = calls
    table, gate, setting, observed, limit = ERRORS[symbol]
    one = usual.judged[MONTH[symbol].label, gate]
    assert ("ERROR", False) == (one.severity, one.passed)
    assert (pytest.approx(observed), limit) == (float(one.observed), float(one.limit))
    (line,) = [text for text in usual.said.splitlines() if f"{table}[{MONTH[symbol].label}]" in text]
    assert f"{gate}: " in line
    assert f"setting {setting})" in line
    assert (table, MONTH[symbol]) not in usual.held
    assert usual.examples[symbol]


@pytest.mark.parametrize("symbol", REMARKS)
def test_what_real_markets_do_too_is_published_with_a_remark(calls: tuple[Call, Call, Call], symbol: str):
    usual, wider, _ = calls
    table, gate, observed, limit = REMARKS[symbol]
    one = usual.judged[MONTH[symbol].label, gate]
    assert ("WARN", False) == (one.severity, one.passed)
    assert (pytest.approx(observed), limit) == (float(one.observed), float(one.limit))
    assert (table, MONTH[symbol]) in usual.held
    assert ("bars_um", MONTH[symbol]) in usual.held
    assert wider.judged[MONTH[symbol].label, gate].passed


def test_only_the_faulty_months_are_refused(calls: tuple[Call, Call, Call]):
    usual, _, _ = calls
    assert len(ERRORS) == sum(text.startswith("- ") for text in usual.said.splitlines())
    assert "limits" not in usual.held["bars_um", MONTH["FINEUSDT"]].notes


def test_wider_limits_judge_everything_again_let_it_through_and_are_recorded_with_it(calls: tuple[Call, Call, Call]):
    usual, wider, _ = calls
    assert () == wider.work.refusals
    assert 0 == wider.work.n_fresh
    assert {WIDER.changed} == {one.notes.get("limits") for one in wider.held.values()}
    fine = ("bars_um", MONTH["FINEUSDT"])
    assert usual.held[fine].digest == wider.held[fine].digest


@pytest.mark.parametrize("symbol", ERRORS)
def test_back_under_the_usual_limits_what_they_forbid_is_closed_again(calls: tuple[Call, Call, Call], symbol: str):
    _, wider, again = calls
    table, gate, *_ = ERRORS[symbol]
    assert f"{table}[{MONTH[symbol].label}]: {gate}" in again.said
    assert not again.judged[MONTH[symbol].label, gate].passed
    held = again.held[table, MONTH[symbol]]
    assert wider.held[table, MONTH[symbol]].publication_id == held.publication_id


def test_back_under_the_usual_limits_nothing_bears_the_wider_ones_but_what_is_closed(calls: tuple[Call, Call, Call]):
    _, _, again = calls
    closed = {(ERRORS[symbol][0], MONTH[symbol]) for symbol in ERRORS}
    beyond = {key for key, one in again.held.items() if "limits" in one.notes}
    assert closed <= beyond
    assert {symbol for symbol in FAULTS if symbol not in ERRORS}.isdisjoint(p["symbol"] for _, p in beyond)
