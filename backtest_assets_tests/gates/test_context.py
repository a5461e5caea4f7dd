from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from backtest_assets.gates.context import COPIED, GATES_MARKET_CONTEXT, RANKED
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, verdict

EVIDENCE = honest("market_context", market().context)
MIDDLE = market().run.window[0] + timedelta(days=30)


def changed(**columns: pl.Expr):
    return replace(EVIDENCE, frame=EVIDENCE.frame.with_columns(**columns))


def test_every_gate_is_green_on_honest_context():
    assert set() == red(GATES_MARKET_CONTEXT, EVIDENCE)


@pytest.mark.parametrize("gate", GATES_MARKET_CONTEXT, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(EVIDENCE)[case]).verdict.passed


def test_a_word_outside_the_vocabulary_is_found():
    strange = changed(session=pl.when(pl.col("open_at") == MIDDLE).then(pl.lit("lunch")).otherwise("session"))
    assert {"words_known"} == red(GATES_MARKET_CONTEXT, strange) - {
        "prefix_invariant"
    }  # one row is foresight only near a cut


def test_a_lost_row_is_missed():
    lost = replace(EVIDENCE, frame=EVIDENCE.frame.filter(pl.col("open_at") != MIDDLE))
    assert {"covers_features"} == red(GATES_MARKET_CONTEXT, lost) - {
        "prefix_invariant"
    }  # one row is foresight only near a cut


@pytest.mark.parametrize(("days", "expected"), [(20, {"unknown_remark"}), (80, {"unknown_remark", "unknown_share"})])
def test_unknown_regimes_are_first_a_remark_and_then_an_error(days, expected):
    until = market().run.window[0] + timedelta(days=days)
    unknown = changed(vol_regime=pl.when(pl.col("open_at") < until).then(pl.lit("unknown")).otherwise("vol_regime"))
    assert expected | {"prefix_invariant"} == red(GATES_MARKET_CONTEXT, unknown)


def test_a_regime_that_saw_the_future_is_found():
    assert {"prefix_invariant"} == red(
        GATES_MARKET_CONTEXT, changed(bull_bear=pl.col("bull_bear").shift(-1).over("symbol").fill_null("bull"))
    )


@pytest.mark.parametrize("name", COPIED)
def test_a_measure_that_is_not_its_feature_is_found(name):
    assert "measures_copied" in red(GATES_MARKET_CONTEXT, changed(**{name: pl.col(name) + 1e-3}))
    assert "measures_copied" in red(GATES_MARKET_CONTEXT, changed(**{name: pl.col(name).fill_null(0.5)}))


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("wrong", ["moved", "unknown", "invented"])
def test_a_rank_that_is_not_what_counting_gives_is_found(name, wrong):
    column = {
        "moved": pl.col(name) + 1e-6,
        "unknown": pl.lit(None, pl.Float64),
        "invented": pl.col(name).fill_null(0.5),
    }[wrong]
    told = verdict(GATES_MARKET_CONTEXT, changed(**{name: column}), "ranks_recounted")
    assert not told.passed
    assert f"{name} of " in told.detail


def test_a_red_check_names_the_regime_and_both_words():
    strange = changed(session=pl.lit("lunch"))
    (line,) = verdict(GATES_MARKET_CONTEXT, strange, "prefix_invariant").examples
    assert "session" == line["column"]
    assert "lunch" in str(line["example"])


def test_an_optional_regime_that_is_unknown_throughout_is_a_remark_only():
    unknown = changed(liquidity_regime=pl.lit("unknown"))
    assert {"unknown_remark", "prefix_invariant"} == red(GATES_MARKET_CONTEXT, unknown)
    assert "unknown_share" in red(GATES_MARKET_CONTEXT, changed(compression_state=pl.lit("unknown")))
