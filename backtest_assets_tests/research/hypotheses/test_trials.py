import polars as pl
import pytest

from backtest_assets.research.hypotheses.trials import count_trials, list_trials
from backtest_assets.stats.trials import equivalent_trials
from backtest_assets.tables.hypotheses import TRIAL_LEDGER
from backtest_assets_tests.research.hypotheses.listed import eligible_of, ledger_of, run_of

MANY = [f"h{i:03}" for i in range(50)]
WORTH_2 = equivalent_trials(2.0)


def totals(*ledgers: pl.DataFrame, data: str = "d1") -> tuple[int, int, int, float]:
    counted = count_trials(pl.concat(ledgers), data)
    names = ("n_trials_all", "n_hypotheses_all", "n_trials_same_data", "effective_trials_all")
    (row,) = counted.select(names).unique().rows()
    return row


def test_a_trial_has_the_numbers_it_was_tested_with():
    hypotheses = eligible_of(MANY[:2], luckiest=2.5)
    ledger = list_trials(hypotheses, "d1", run=run_of("a"))
    own = hypotheses.row(0, named=True)
    rows = {row["detail"].split("delay=")[1]: row for row in ledger.filter(hypothesis_id=MANY[0]).to_dicts()}
    assert {"0", "1", "4", "0 rate_minus", "0 hold_3"} == set(rows)
    assert (own["t_train"], own["p_train"], own["net_mean_train_bps"]) == tuple(
        rows["0"][name] for name in ("t", "p", "net_mean_bps")
    )
    assert {"1": 4.0, "4": 1.0, "0 rate_minus": 4.0, "0 hold_3": None} == {
        name: row["net_mean_bps"] for name, row in rows.items() if name != "0"
    }
    assert [None] * 8 == [v for name, row in rows.items() if name != "0" for v in (row["t"], row["p"])]
    assert {2.5} == set(ledger["luckiest_t"])


def test_what_the_luckiest_shows_is_unknown_without_a_penalty():
    ledger = list_trials(eligible_of(MANY, k=0.0), "d1", run=run_of("a", phase2_multiplicity_k=0.0))
    assert ledger["luckiest_t"].is_null().all()
    assert 50.0 == totals(ledger.with_columns(of_run_id=pl.lit("a"), ledger_digest=pl.lit("x")))[-1]


def test_a_ledger_that_was_stored_before_trials_had_numbers_still_grows():
    old = list_trials(eligible_of(MANY[:3]), "d0", run=run_of("a")).drop("net_mean_bps", "t", "p", "luckiest_t")
    grown = list_trials(eligible_of(MANY[:3]), "d1", run=run_of("a"), previous=old)
    assert 2 * old.height == grown.height
    assert grown.filter(inputs_digest="d0")["luckiest_t"].is_null().all()
    assert old.join(grown, on=old.columns, how="anti").is_empty()


def test_the_same_test_by_another_run_is_one_trial():
    assert totals(ledger_of("a", MANY)) == totals(ledger_of("a", MANY), ledger_of("b", MANY))


def test_narrowing_and_other_settings_only_ever_add():
    whole = ledger_of("a", MANY)
    narrowed = ledger_of("b", MANY[:10], phase2_event_type="vol_shock_relaxation")
    cheap = ledger_of("c", MANY, fees_bps=1.0)
    assert (250, 50, 250) == totals(whole)[:3]
    assert (300, 60, 300) == totals(whole, narrowed)[:3]
    assert (550, 110, 550) == totals(whole, narrowed, cheap)[:3]


def test_searches_of_the_same_rules_on_the_same_data_are_worth_one_and_on_other_data_more():
    assert totals(ledger_of("a", MANY))[-1] == pytest.approx(WORTH_2)
    assert totals(ledger_of("a", MANY), ledger_of("c", MANY, fees_bps=1.0))[-1] == pytest.approx(WORTH_2)
    other = ledger_of("c", MANY, "d2")
    assert totals(ledger_of("a", MANY), other)[-1] == pytest.approx(2 * WORTH_2)
    assert totals(ledger_of("a", MANY), other)[2] == 250


def test_a_search_is_never_worth_more_than_the_rules_that_no_larger_one_tried():
    luckier = ledger_of("c", [*MANY[:3], "new"], fees_bps=1.0, luckiest=1.9)
    assert totals(ledger_of("a", MANY), luckier)[-1] == pytest.approx(WORTH_2 + 1)
    assert 3.0 == totals(ledger_of("a", MANY[:3], luckiest=9.0))[-1]


def test_rows_say_which_run_tried_how_much_on_which_data():
    ledgers = pl.concat([ledger_of("a", MANY), ledger_of("b", MANY[:4], "d2")])
    counted = count_trials(ledgers, "d2").select(
        "of_run_id", "inputs_digest", "is_same_data", "n_trials", "n_hypotheses"
    )
    assert [("a", "d1", False, 250, 50), ("b", "d2", True, 20, 4)] == counted.rows()


def test_nothing_tried_is_nothing_counted():
    nothing = TRIAL_LEDGER.empty().with_columns(of_run_id=pl.lit("a"), ledger_digest=pl.lit("x"))
    assert count_trials(nothing, "d1").is_empty()


def test_the_order_of_runs_changes_nothing():
    parts = [ledger_of("a", MANY), ledger_of("c", MANY[:7], fees_bps=1.0, luckiest=1.0), ledger_of("b", MANY, "d2")]
    mixed = pl.concat(reversed(parts)).sample(fraction=1, shuffle=True, seed=1)
    assert count_trials(pl.concat(parts), "d1").equals(count_trials(mixed, "d1"))
