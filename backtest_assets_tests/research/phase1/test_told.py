import polars as pl

from backtest_assets.research.phase1.told import decisions_by_family
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of


def test_every_family_is_shown_with_its_decision_and_its_clearest_metric():
    evidence = phase1_of(("a", "b"), {"b": {"decision": "freeze", "reason": "no move differs"}}).with_columns(
        p_family=pl.when(event_type="a", metric="move_48_bars_bps").then(0.01).otherwise("p_family"),
        delta=pl.when(event_type="a", metric="move_48_bars_bps").then(-7.0).otherwise("delta"),
        z=pl.when(event_type="b", metric="range_sigmas").then(-9.0).otherwise(1.0),
    )
    a, b = decisions_by_family(evidence).to_dicts()
    assert ("a", "pass", "move_48_bars_bps", 0.01, -7.0) == tuple(
        a[name] for name in ("event_type", "decision", "metric", "p_family", "delta")
    )
    assert ("b", "freeze", "range_sigmas", "no move differs") == tuple(
        b[name] for name in ("event_type", "decision", "metric", "reason")
    )


def test_a_family_that_was_not_run_has_no_clearest_metric_and_keeps_its_reason():
    untested = phase1_of(("a",), {"a": {"p_family": None, "decision": "not_run", "reason": "too few"}})
    (row,) = decisions_by_family(untested).to_dicts()
    assert ("not_run", "too few") == (row["decision"], row["reason"])
    assert [None] * 6 == [row[name] for name in ("metric", "n_matched", "delta", "ci_low", "ci_high", "p_family")]
