from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.trials import GATES_TRIAL_COUNTS, GATES_TRIAL_LEDGER
from backtest_assets.research.hypotheses.trials import count_trials, list_trials
from backtest_assets.tables.hypotheses import TRIAL_COUNTS, TRIAL_LEDGER
from backtest_assets_tests.research.hypotheses.listed import eligible_of, ledger_of, run_of

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [f"h{i:02}" for i in range(12)]
RUN = run_of("w")
HYPOTHESES = eligible_of(IDS)
UNTESTED = HYPOTHESES.with_columns(is_eligible=pl.lit(value=False))


def red(gates, asked):
    answers = [a for a in ask_all(gates, asked) if not a.verdict.passed]
    assert all(a.severity is Severity.ERROR for a in answers)
    return {a.verdict.gate for a in answers}


def names(gates):
    return {gate.name for gate in gates}


def nulls(frame):
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in frame.schema.items())


def ledger_evidence(frame, *, hypotheses=HYPOTHESES, previous=None, run=RUN, data="d1"):
    inputs, digests = {"hypotheses": hypotheses}, {("event_outcomes", "w"): data}
    where = (TRIAL_LEDGER, Partition.of_run("w"))
    return Evidence(*where, frame, AS_OF, run=run, inputs=inputs, previous=previous, digests=digests)


@cache
def listed(data="d1"):
    return list_trials(HYPOTHESES, data, run=RUN)


def test_a_complete_ledger_keeps_every_gate_and_may_only_grow():
    grown = list_trials(HYPOTHESES, "d2", run=RUN, previous=listed())
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(listed())) == set()
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(grown, previous=listed(), data="d2")) == set()
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(grown, previous=grown)) == set()
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(listed(), previous=grown)) == {"grows_only"}
    for name, value in {"detail": "x", "t": 1.0, "luckiest_t": 1.0}.items():
        changed = grown.with_columns(pl.lit(value).alias(name))
        assert "grows_only" in red(GATES_TRIAL_LEDGER, ledger_evidence(changed, previous=listed()))


def test_a_ledger_stored_before_trials_had_numbers_may_grow_and_loses_nothing():
    old = listed("d0").drop("net_mean_bps", "t", "p", "luckiest_t")
    grown = list_trials(HYPOTHESES, "d1", run=RUN, previous=old)
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(grown, previous=old)) == set()
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(listed(), previous=old)) == {"grows_only"}


IS_TEST = pl.col("kind") == "hypothesis"


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.filter(pl.col("hypothesis_id") != IDS[0]), "counts_every_test"),
        (lambda f: f.filter(IS_TEST), "counts_every_test"),
        (lambda f: f.filter(pl.col("kind") != "neighbour"), "counts_every_test"),
        (lambda f: f.filter(~pl.col("detail").str.ends_with("delay=4")), "counts_every_test"),
        (lambda f: f.with_columns(settings_digest=pl.lit("other")), "counts_every_test"),
        (lambda f: f.with_columns(kind=pl.lit("idea")), "kinds_known"),
        (lambda f: f.with_columns(t=pl.when(IS_TEST).then(pl.col("t") + 1e-9)), "numbers_are_the_tests"),
        (lambda f: f.with_columns(t=pl.lit(0.1)), "numbers_are_the_tests"),
        (lambda f: f.with_columns(p=pl.lit(None, pl.Float64)), "numbers_are_the_tests"),
        (lambda f: f.with_columns(net_mean_bps=pl.lit(99.0)), "numbers_are_the_tests"),
        (lambda f: f.with_columns(luckiest_t=pl.col("luckiest_t") - 0.1), "numbers_are_the_tests"),
        (lambda f: f.with_columns(luckiest_t=pl.lit(None, pl.Float64)), "numbers_are_the_tests"),
        (lambda f: f.with_columns(event_type=pl.lit("liquidity_vacuum")), "numbers_are_the_tests"),
        (lambda f: f.with_columns(settings_digest=pl.lit("other")), "numbers_are_the_tests"),
        (lambda f: f.with_columns(hypothesis_id=pl.lit("nobody")), "numbers_are_the_tests"),
        (lambda f: f.with_columns(inputs_digest=pl.lit("foreign")), "numbers_are_the_tests"),
        (lambda f: f.with_columns(inputs_digest=pl.lit("foreign")), "counts_every_test"),
        (lambda f: f.with_columns(trial_id=pl.lit("other ") + pl.col("trial_id")), "numbers_are_the_tests"),
        (lambda _: list_trials(HYPOTHESES, "foreign", run=RUN), "numbers_are_the_tests"),
        (lambda _: list_trials(HYPOTHESES, "foreign", run=RUN), "counts_every_test"),
    ],
)
def test_every_corruption_of_a_ledger_is_caught(change, gate):
    assert gate in red(GATES_TRIAL_LEDGER, ledger_evidence(change(listed())))


def test_trials_must_be_of_the_outcomes_that_lineage_says_were_read():
    grown = list_trials(HYPOTHESES, "d2", run=RUN, previous=listed())
    foreign = ledger_evidence(grown, previous=listed(), data="d3")
    assert red(GATES_TRIAL_LEDGER, foreign) == {"counts_every_test", "numbers_are_the_tests"}
    not_listed = ledger_evidence(listed(), previous=listed(), data="d2")
    assert red(GATES_TRIAL_LEDGER, not_listed) == {"counts_every_test"}
    unsaid = replace(ledger_evidence(listed()), digests={("event_outcomes", "another run"): "d1"})
    assert red(GATES_TRIAL_LEDGER, unsaid) == {"counts_every_test", "numbers_are_the_tests"}


def test_trials_of_hypotheses_that_were_not_tested_are_caught():
    half = HYPOTHESES.with_columns(is_eligible=pl.col("hypothesis_id") > IDS[3])
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(listed(), hypotheses=half)) == {"numbers_are_the_tests"}


def test_what_the_luckiest_shows_must_be_one_number_and_unknown_without_a_penalty():
    torn = HYPOTHESES.with_columns(multiplicity_penalty_bps=pl.col("multiplicity_penalty_bps") ** 2)
    asked = ledger_evidence(list_trials(torn, "d1", run=RUN), hypotheses=torn)
    assert red(GATES_TRIAL_LEDGER, asked) == {"numbers_are_the_tests"}
    free, run = eligible_of(IDS, k=0.0), run_of("w", phase2_multiplicity_k=0.0)
    unknown = list_trials(free, "d1", run=run)
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(unknown, hypotheses=free, run=run)) == set()
    made_up = unknown.with_columns(luckiest_t=pl.lit(1.0))
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(made_up, hypotheses=free, run=run)) == {"numbers_are_the_tests"}


def test_an_empty_ledger_is_legal_only_where_nothing_was_ever_tested():
    empty = TRIAL_LEDGER.empty()
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(empty)) == names(GATES_TRIAL_LEDGER)
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(empty, hypotheses=UNTESTED)) == set()
    asked = ledger_evidence(empty, hypotheses=UNTESTED, previous=listed())
    assert red(GATES_TRIAL_LEDGER, asked) == names(GATES_TRIAL_LEDGER)


@cache
def ledgers():
    parts = [
        ledger_of("w", IDS),
        ledger_of("narrow", IDS[:5], phase2_event_type="vol_shock_relaxation", luckiest=1.0),
        ledger_of("again", IDS),
        ledger_of("later", [*IDS[:2], "new"], "d2"),
    ]
    return pl.concat(parts)


def counts_evidence(frame, *, seen=None, previous=None, hypotheses=HYPOTHESES):
    inputs = {"trial_ledger": ledgers() if seen is None else seen, "hypotheses": hypotheses}
    return Evidence(TRIAL_COUNTS, Partition.of_run("w"), frame, AS_OF, run=RUN, inputs=inputs, previous=previous)


@cache
def counted():
    return count_trials(ledgers(), "d1")


def test_true_counts_keep_every_gate_and_never_fall():
    assert red(GATES_TRIAL_COUNTS, counts_evidence(counted())) == set()
    assert red(GATES_TRIAL_COUNTS, counts_evidence(counted(), previous=counted())) == set()
    fewer = ledgers().filter(pl.col("of_run_id") != "later")
    asked = counts_evidence(count_trials(fewer, "d1"), seen=fewer, previous=counted())
    assert red(GATES_TRIAL_COUNTS, asked) == {"counts_never_fall"}


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.tail(-1), "counts_recomputed"),
        (lambda f: f.with_columns(n_trials=pl.col("n_trials") - 1), "counts_recomputed"),
        (lambda f: f.with_columns(n_hypotheses=pl.col("n_hypotheses") - 1), "counts_recomputed"),
        (lambda f: f.with_columns(n_trials_all=pl.col("n_trials_all") - 1), "counts_recomputed"),
        (lambda f: f.with_columns(n_hypotheses_all=pl.col("n_hypotheses_all") + 1), "counts_recomputed"),
        (lambda f: f.with_columns(n_trials_same_data=pl.lit(1, pl.Int64)), "counts_recomputed"),
        (lambda f: f.with_columns(ledger_digest=pl.lit("x")), "counts_recomputed"),
        (lambda f: f.with_columns(of_run_id=pl.lit("x")), "counts_recomputed"),
        (lambda f: f.with_columns(is_same_data=pl.lit(value=False)), "same_data_is_the_runs"),
        (lambda f: f.with_columns(is_same_data=pl.lit(value=True)), "same_data_is_the_runs"),
        (lambda f: f.with_columns(is_same_data=~pl.col("is_same_data")), "same_data_is_the_runs"),
        (lambda f: f.with_columns(is_same_data=pl.col("of_run_id") == "w"), "same_data_is_the_runs"),
        (lambda f: f.with_columns(effective_trials_all=pl.col("effective_trials_all") * 0.99), "effective_recomputed"),
        (lambda f: f.with_columns(effective_trials_all=pl.lit(None, pl.Float64)), "effective_recomputed"),
        (
            lambda f: f.with_columns(effective_trials_all=pl.int_range(pl.len()).cast(pl.Float64)),
            "effective_recomputed",
        ),
    ],
)
def test_every_corruption_of_the_counts_is_caught(change, gate):
    assert gate in red(GATES_TRIAL_COUNTS, counts_evidence(change(counted())))


def test_counts_of_other_ledgers_are_caught():
    more = pl.concat([ledgers(), ledger_of("x", ["one more"])])
    assert red(GATES_TRIAL_COUNTS, counts_evidence(counted(), seen=more)) == {
        "counts_recomputed",
        "effective_recomputed",
    }


def test_a_run_that_tested_nothing_may_count_what_others_tried_on_its_data_or_none():
    others = ledgers().filter(pl.col("of_run_id") != "w")
    for data in ("d1", "nobody's"):
        asked = counts_evidence(count_trials(others, data), seen=others, hypotheses=UNTESTED)
        assert red(GATES_TRIAL_COUNTS, asked) == set()
        tested = replace(asked, inputs={**asked.inputs, "hypotheses": HYPOTHESES})
        assert red(GATES_TRIAL_COUNTS, tested) == {"same_data_is_the_runs"}


def test_no_counts_are_legal_only_where_nothing_was_ever_tried():
    nothing = ledgers().clear()
    empty = TRIAL_COUNTS.empty()
    assert red(GATES_TRIAL_COUNTS, counts_evidence(empty, seen=nothing)) == set()
    assert red(GATES_TRIAL_COUNTS, counts_evidence(empty)) == names(GATES_TRIAL_COUNTS)
    assert red(GATES_TRIAL_COUNTS, counts_evidence(empty, seen=nothing, previous=counted())) == names(
        GATES_TRIAL_COUNTS
    )


def test_unknown_rows_and_missing_inputs_are_red_at_every_gate():
    assert red(GATES_TRIAL_LEDGER, ledger_evidence(nulls(listed()))) >= {"counts_every_test", "kinds_known"}
    assert red(GATES_TRIAL_COUNTS, counts_evidence(nulls(counted()), previous=counted())) == names(GATES_TRIAL_COUNTS)
    blind = replace(counts_evidence(counted()), inputs={})
    assert red(GATES_TRIAL_COUNTS, blind) >= {"counts_recomputed", "same_data_is_the_runs", "effective_recomputed"}
