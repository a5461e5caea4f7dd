import hashlib
import math
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from markupsafe import escape
from polars.testing import assert_frame_equal

from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError, TableError
from backtest_assets.research.report.build import Report, build_report
from backtest_assets.research.report.inputs import Execution, inputs_from
from backtest_assets.research.report.page import MAX_BYTES, external_references
from backtest_assets.research.report.scatter import hypothesis_charts
from backtest_assets.tables.report import REPORT
from backtest_assets_tests.research.report.scenes import a_run, execution_of, frames_of, inputs_of, with_source

RUN = a_run()
EDGE_STOPS = ("selected", "naive_entry", "promoted_edge_candidates")
CLEAREST = ("delta", "ci_low", "ci_high", "p_family")
PROMOTED = inputs_of(RUN)
EXECUTION = execution_of(PROMOTED)
NOTHING = inputs_of(RUN, promoted=0)
KEPT = inputs_of(RUN, decision="KEEP_RESEARCH")
SCENES = pytest.mark.parametrize("inputs", [PROMOTED, NOTHING, KEPT], ids=["promoted", "nothing", "kept"])


class Numbers(HTMLParser):
    """Collect every `<data value data-row>` of a page, and the words of every other element with data-row."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.numbers: list[tuple[str, float]] = []
        self.words: dict[str, str] = {}
        self.tags: set[str] = set()
        self._row: str | None = None
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self._row = None
        if tag == "data":
            self.numbers.append((found["data-row"], float(found["value"])))
        elif "data-row" in found:
            self._row = found["data-row"]

    def handle_data(self, data):
        if self._row is not None:
            self.words[self._row] = data


def said(report: Report, section: str, item: str) -> dict[str, Any]:
    return report.rows.row(by_predicate=(pl.col("section") == section) & (pl.col("item") == item), named=True)


def test_the_funnel_says_who_asked_for_the_hypotheses():
    ranked = replace(PROMOTED, hypotheses=PROMOTED.hypotheses.with_columns(queue_rank=pl.lit(1, pl.Int64)))
    told = [said(build_report(inputs, run=RUN), "funnel", "hypotheses")["text"] for inputs in (PROMOTED, ranked)]
    declared = "Families x conditions x sides x delays x holds, declared before any result."
    assert [declared, declared.replace("declared", "asked for by the hypothesis queue")] == told


def test_the_funnel_stops_at_naive_entry_and_at_edge_candidates_and_says_why():
    report = build_report(PROMOTED, run=RUN)
    selected, naive, edges = (said(report, "funnel", stop) for stop in EDGE_STOPS)
    assert (selected["observed"] - 1, naive["observed"] - 1) == (naive["observed"], edges["observed"])
    assert naive["text"] == "1 lost: naive max drawdown 1."
    assert edges["text"] == "1 lost: trap:tails 1."
    order = report.rows.filter(section="funnel")["item"].to_list()
    stops = [*EDGE_STOPS, "blueprints", "executed", "promoted", "strategy_candidates"]
    assert stops == order[-7:]


def test_r74_a_naive_entry_that_was_not_run_is_lost_as_not_run():
    never = PROMOTED.naive_entry.with_columns(status=pl.lit("NOT_RUN"), is_passed=pl.lit(value=False))
    row = said(build_report(replace(PROMOTED, naive_entry=never), run=RUN), "funnel", "naive_entry")
    n = PROMOTED.hypotheses.filter(status="selected").height
    assert (0.0, f"{n} lost: not run {n}.") == (row["observed"], row["text"])


def test_r50_strategy_candidates_are_counted_by_source_and_listed_with_their_command():
    report = build_report(PROMOTED, run=RUN)
    row = said(report, "funnel", "strategy_candidates")
    n = PROMOTED.strategy_candidates.height
    told = f"Promoted blueprints 2, then edge candidates that are none of them {n - 2}."
    assert (float(n), told) == (row["observed"], row["text"])
    text = report.html.decode()
    assert PROMOTED.strategy_candidates.sort("rank")["manual_backtest_command"][0] in text
    assert "not compiled: near copy" in text
    assert said(build_report(KEPT, run=RUN), "funnel", "strategy_candidates")["observed"] == 0.0


@SCENES
def test_every_family_stands_with_what_phase_1_decided_and_with_its_clearest_move(inputs):
    report = build_report(inputs, run=RUN)
    page, evidence = report.html.decode(), inputs.phase1_evidence
    assert set(evidence["decision"]) == ({"pass"} if inputs.execution else {"pass", "freeze", "not_run"})
    for (family,), rows in evidence.group_by("event_type"):
        told = {name: said(report, "phase1", f"{family}/{name}") for name in ("decision", "ground", "clearest_metric")}
        assert (rows["decision"][0], rows["ground"][0]) == (told["decision"]["text"], told["ground"]["text"])
        clearest = told["clearest_metric"]["text"]
        numbers = {name: said(report, "phase1", f"{family}/{name}")["observed"] for name in CLEAREST}
        if rows["decision"][0] == "not_run":
            assert ("none", {None}) == (clearest, set(numbers.values()))
        else:
            assert clearest in rows["reason"][0]  # phase 1 names the clearest move in its own words
            assert rows.filter(metric=clearest).select(CLEAREST).row(0, named=True) == numbers
        assert rows["n_events"][0] == said(report, "phase1", f"{family}/n_events")["observed"]
        assert str(escape(rows["reason"][0])) in page
    n_tested = report.rows.filter((pl.col("section") == "phase1") & pl.col("item").str.ends_with("/n_hypotheses"))
    assert inputs.hypotheses.filter("is_eligible").height == n_tested["observed"].sum()


def test_families_that_passed_come_first_and_equal_p_give_the_shorter_move():
    order = [
        row["text"]
        for row in build_report(KEPT, run=RUN).rows.filter(section="phase1").to_dicts()
        if row["item"].endswith("/decision")
    ]
    assert order == sorted(order, key=["pass", "freeze", "not_run"].index)
    weighed = pl.col("p_family").is_not_null()
    level = KEPT.phase1_evidence.with_columns(p_family=pl.when(weighed).then(0.25))
    report = build_report(replace(KEPT, phase1_evidence=level), run=RUN)
    shown = report.rows.filter(pl.col("item").str.ends_with("/clearest_metric"))["text"]
    assert {"move_4_bars_bps", "none"} == set(shown)


def test_a_family_of_two_minds_is_refused():
    first = pl.int_range(pl.len()) == 0
    torn = KEPT.phase1_evidence.with_columns(decision=pl.when(first).then(pl.lit("pass")).otherwise("decision"))
    assert torn["decision"][0] != KEPT.phase1_evidence["decision"][0]
    with pytest.raises(RefusedError, match=r"of two minds about .*; rebuild phase1_evidence"):
        build_report(replace(KEPT, phase1_evidence=torn), run=RUN)


def test_the_fate_of_a_hypothesis_names_every_gate_it_failed():
    report = build_report(KEPT, run=RUN)
    told = dict(report.rows.filter(pl.col("item").str.ends_with("/status")).select("item", "text").iter_rows())
    for name, reasons in KEPT.hypotheses.filter(status="rejected").select("hypothesis_id", "fail_reasons").iter_rows():
        if f"{name}/status" in told:
            named = reasons.replace("gate_", "").split(",")
            assert "rejected: " + ", ".join(named) == told[f"{name}/status"]
    assert {2, 3} == {text.count(",") + 1 for text in told.values()}


@SCENES
def test_the_numbers_beside_are_all_shown_with_what_they_mean(inputs):
    report = build_report(inputs, run=RUN)
    rows = report.rows.filter(section="inference").sort("item")
    summary = inputs.inference_summary.sort("statistic")
    assert summary["statistic"].to_list() == rows["item"].to_list()
    assert summary["value"].to_list() == rows["observed"].to_list()
    assert all(detail in report.html.decode() for detail in summary["detail"])


@SCENES
def test_the_trials_of_all_runs_stand_beside_the_runs_own_raw_and_effective_with_what_they_mean(inputs):
    report = build_report(inputs, run=RUN)
    own = said(report, "hypotheses", "trials")["observed"]
    counts = inputs.trial_counts.select(
        "n_trials_all", "n_hypotheses_all", "n_trials_same_data", "effective_trials_all"
    ).row(0, named=True)
    shown = report.rows.filter(section="trials")
    assert list(counts.items()) == shown.select("item", "observed").rows()
    assert counts["n_trials_all"] > own == counts["n_trials_same_data"]
    assert 1 < counts["effective_trials_all"] < counts["n_hypotheses_all"]
    assert all(meaning and meaning in report.html.decode() for meaning in shown["text"])
    assert "Effective trials of all runs, at most" in report.html.decode()


def test_where_no_run_ever_tried_anything_the_report_says_so():
    idle = replace(KEPT, trial_ledger=KEPT.trial_ledger.clear(), trial_counts=KEPT.trial_counts.clear())
    report = build_report(idle, run=RUN)
    assert ["none"] == report.rows.filter(section="trials")["item"].to_list()
    assert "No run on this lake ever tried anything: there is nothing to count." in report.html.decode()
    assert "Effective trials of all runs" not in report.html.decode()


def test_trials_of_all_runs_counted_in_two_ways_are_refused():
    torn = KEPT.trial_counts.with_columns(n_trials_all=pl.col("n_trials_all") + pl.int_range(pl.len()))
    with pytest.raises(RefusedError, match="trial_counts counts the trials of all runs in 2 ways"):
        build_report(replace(KEPT, trial_counts=torn), run=RUN)


def test_what_luck_alone_reaches_is_the_luckiest_null_whatever_the_factor_of_the_penalty():
    is_luckiest = pl.col("statistic") == "luckiest_null_t"
    summary = KEPT.inference_summary.with_columns(value=pl.when(is_luckiest).then(3.2).otherwise("value"))
    told = replace(KEPT, inference_summary=summary)
    of_k = [
        replace(
            told, hypotheses=told.hypotheses.with_columns(multiplicity_penalty_bps=k * pl.col("se_train_bps") * 3.2)
        )
        for k in (0.0, 1.0, 2.0)
    ]
    pictures = {str(hypothesis_charts(inputs)["t_statistics"]) for inputs in of_k}
    (picture,) = pictures
    assert "luck alone reaches 3.2" in picture
    other = replace(told, inference_summary=summary.with_columns(value=pl.lit(4.25)))
    assert "luck alone reaches 4.2" in str(hypothesis_charts(other)["t_statistics"])
    unknown = replace(told, inference_summary=summary.with_columns(value=pl.lit(None, pl.Float64)))
    assert "luck alone" not in str(hypothesis_charts(unknown)["t_statistics"])


@SCENES
def test_every_number_on_the_page_is_a_row_and_every_row_with_a_number_is_on_the_page(inputs):
    report = build_report(inputs, run=RUN)
    shown = report.rows.filter((pl.col("section") != "page") & pl.col("observed").is_not_null())
    rows = {f"{s}|{i}": o for s, i, o in shown.select("section", "item", "observed").iter_rows()}
    page = Numbers(report.html)
    assert [(name, value) for name, value in page.numbers if rows[name] != value] == []
    unsaid = set(rows) - {name for name, _ in page.numbers} - set(page.words)
    assert {"verdict|executed_blueprints"} == unsaid


@SCENES
def test_the_rows_keep_their_contract(inputs):
    rows = build_report(inputs, run=RUN).rows
    assert_frame_equal(rows, REPORT.conform(rows))
    assert REPORT.violations(rows).is_empty()


@SCENES
def test_equal_inputs_give_equal_bytes_whatever_the_order_of_their_rows(inputs):
    once = build_report(inputs, run=RUN)
    shuffled = {name: frame.sample(fraction=1.0, shuffle=True, seed=3) for name, frame in frames_of(inputs).items()}
    again = build_report(inputs_from(shuffled, lineage=inputs.lineage.reverse()), run=RUN)
    assert once.html == build_report(inputs, run=RUN).html
    assert_frame_equal(
        once.rows.filter(pl.col("section") != "page"), again.rows.filter(pl.col("section") != "page"), rel_tol=1e-9
    )


@SCENES
def test_the_page_opens_offline_without_script(inputs):
    html = build_report(inputs, run=RUN).html
    assert external_references(html.decode()) == ()
    assert "script" not in Numbers(html).tags
    assert len(html) < MAX_BYTES


def test_the_page_rows_name_the_page_that_was_written():
    report = build_report(PROMOTED, run=RUN)
    assert hashlib.sha256(report.html).hexdigest() == said(report, "page", "sha256")["text"]
    assert len(report.html) == said(report, "page", "n_bytes")["observed"]


def test_a_large_run_takes_at_most_three_cpu_seconds():
    run = a_run(start="2019-01-01", end="2024-12-31", run_id="SIX_YEARS")
    inputs = inputs_of(run)
    start = time.process_time()
    report = build_report(inputs, run=run)
    assert time.process_time() - start < 3.0
    assert len(report.html) < MAX_BYTES


def test_keep_research_says_why_and_shows_no_execution():
    report = build_report(KEPT, run=RUN)
    assert said(report, "verdict", "decision")["text"] == "KEEP_RESEARCH"
    assert report.rows.filter(pl.col("section").is_in(["expectancy", "walkforward", "performance", "costs"])).is_empty()
    text = report.html.decode()
    assert "Execution was not run." in text
    assert "Not run is not failed" in text
    assert "t 2.1 where the luckiest of 121 null hypotheses shows 3.1" in text


def test_nothing_promoted_is_said_in_the_headline():
    report = build_report(NOTHING, run=RUN)
    assert said(report, "verdict", "headline")["text"] == "Nothing promoted"
    assert said(report, "verdict", "promoted_blueprints")["observed"] == 0.0
    assert "<h1>Nothing promoted</h1>" in report.html.decode()


def test_the_test_window_is_read_aloud_beside_a_promotion():
    row = said(build_report(PROMOTED, run=RUN), "verdict", "test_reading")
    trades = EXECUTION.trades
    promoted = EXECUTION.promotions.filter("is_promoted")["blueprint_id"].unique()
    own = trades.filter(pl.col("blueprint_id").is_in(promoted.to_list()) & (pl.col("split") == "test"))
    assert pytest.approx((own["net_pnl"] / own["exposure"] * 1e4).mean(), rel=1e-12) == row["observed"]
    assert (row["margin"] > 0) is row["is_passed"]


def test_costs_of_the_page_sum_to_the_ledger():
    report = build_report(PROMOTED, run=RUN)
    parts = [
        said(report, "costs", f"total/{name}")["observed"] for name in ("gross_pnl", "fee", "slippage", "funding_pnl")
    ]
    net = said(report, "costs", "total/net_pnl")["observed"]
    assert pytest.approx(EXECUTION.simulation_ledger["net_pnl"].sum(), abs=1e-12) == net
    assert pytest.approx(sum(parts), abs=1e-12) == net


def test_coverage_counts_against_the_calendar_and_a_missing_month_is_zero():
    report = build_report(KEPT, run=RUN)
    assert said(report, "coverage", "um/ETHUSDT/2023-02")["observed"] == 0.0
    assert said(report, "coverage", "spot/ETHUSDT/2023-05")["observed"] == 0.0
    real = KEPT.bars_um.filter((pl.col("symbol") == "BTCUSDT") & ~pl.col("is_gap"))
    march = real.filter(pl.col("open_at").dt.month() == 3).height
    assert march / (31 * 96) == said(report, "coverage", "um/BTCUSDT/2023-03")["observed"]
    assert 365 * 96 - real.height == said(report, "quality", "BTCUSDT/n_missing")["observed"]


def test_the_longest_gap_includes_whole_missing_months():
    report = build_report(KEPT, run=RUN)
    assert said(report, "quality", "ETHUSDT/longest_gap")["observed"] >= 28 * 96


def test_a_symbol_without_any_bar_is_all_gap_and_unknown():
    inputs = replace(
        KEPT, bars_um=KEPT.bars_um.filter(symbol="BTCUSDT"), features=KEPT.features.filter(symbol="BTCUSDT")
    )
    report = build_report(inputs, run=RUN)
    assert said(report, "quality", "ETHUSDT/longest_gap")["observed"] == 365 * 96
    assert said(report, "quality", "ETHUSDT/funding_known")["observed"] is None


def test_hostile_words_from_users_stay_words():
    run = a_run(source='files:"><script>alert(1)</script><img src=x onerror=alert(2)>')
    checklist = KEPT.research_checklist.with_columns(detail=pl.lit("<iframe src='https://evil.example'></iframe>"))
    lineage = pl.DataFrame(
        {"table": ["<b>x</b>"], "partition": ["'\"><base href=//evil>"], "digest": ["</style><script>"]}
    )
    inputs = replace(with_source(KEPT, run), research_checklist=checklist, lineage=lineage)
    report = build_report(inputs, run=run)
    page = Numbers(report.html)
    assert set() == page.tags & {"script", "img", "iframe", "base"}
    assert external_references(report.html.decode()) == ()
    assert "files:&#34;&gt;&lt;script&gt;" in report.html.decode()


def test_hostile_blueprint_names_stay_words_in_charts():
    bad = '<script>alert(1)</script>"'

    def renamed(frame: pl.DataFrame) -> pl.DataFrame:
        first = EXECUTION.promotions["blueprint_id"][0]
        return frame.with_columns(pl.col("blueprint_id").replace(first, bad))

    execution = replace(
        EXECUTION,
        trades=renamed(EXECUTION.trades),
        promotions=renamed(EXECUTION.promotions),
        simulation_ledger=renamed(EXECUTION.simulation_ledger),
    )
    report = build_report(replace(PROMOTED, execution=execution), run=RUN)
    assert "script" not in Numbers(report.html).tags
    assert "&lt;script&gt;alert(1)" in report.html.decode()


@pytest.mark.parametrize("decision", [[], ["MAYBE"], ["ERROR", "KEEP_RESEARCH"], ["PROMOTE", "KEEP_RESEARCH"]])
def test_an_unclear_decision_is_refused(decision):
    base = KEPT.research_checklist.head(len(decision))
    checklist = base.with_columns(pl.Series("decision", decision, dtype=pl.String))
    with pytest.raises(RefusedError, match="rebuild research_checklist"):
        build_report(replace(KEPT, research_checklist=checklist), run=RUN)


def test_r86_an_error_is_reported_as_one_with_what_is_unknown_and_nothing_executed():
    is_first = pl.int_range(pl.len()) == 0
    checklist = KEPT.research_checklist.with_columns(
        decision=pl.lit("ERROR"),
        observed=pl.when(is_first).then(None).otherwise("observed"),
        is_passed=pl.col("is_passed") & ~is_first,
    )
    report = build_report(replace(KEPT, research_checklist=checklist), run=RUN)
    assert "ERROR" == said(report, "verdict", "decision")["text"]
    unknown = said(report, "gates", f"research_checklist/{checklist['gate'][0]}")
    assert (None, None, False) == (unknown["observed"], unknown["margin"], unknown["is_passed"])


def test_execution_that_does_not_fit_the_checklist_is_refused():
    with pytest.raises(RefusedError, match="PROMOTE but execution was not run"):
        build_report(replace(PROMOTED, execution=None), run=RUN)
    with pytest.raises(RefusedError, match="KEEP_RESEARCH but execution was run"):
        build_report(replace(KEPT, execution=EXECUTION), run=RUN)


def test_settings_or_splits_of_another_run_are_refused():
    with pytest.raises(RefusedError, match="rebuild research_run"):
        build_report(PROMOTED, run=a_run(fees_bps=5.0))
    plan = EXECUTION.walkforward_splits.with_columns(pl.col("end_at") + pl.duration(days=1))
    execution = replace(EXECUTION, walkforward_splits=plan)
    with pytest.raises(RefusedError, match="rebuild walkforward_splits"):
        build_report(replace(PROMOTED, execution=execution), run=RUN)


def test_an_infinite_number_is_refused():
    checklist = KEPT.research_checklist.with_columns(observed=pl.lit(float("inf")))
    with pytest.raises(TableError, match=r"research_checklist/.* is infinite"):
        build_report(replace(KEPT, research_checklist=checklist), run=RUN)


def test_a_zero_has_no_sign_in_the_rows_or_on_the_page():
    first = pl.int_range(pl.len()) == 0
    checklist = KEPT.research_checklist.with_columns(
        gate=pl.when(first).then(pl.lit("production_run")).otherwise("gate"),
        observed=pl.when(first).then(1.0).otherwise("observed"),
        limit=pl.when(first).then(1.0).otherwise("limit"),
        is_passed=pl.col("is_passed") & ~first,
    )
    report = build_report(replace(KEPT, research_checklist=checklist), run=RUN)
    margin = said(report, "gates", "research_checklist/production_run")["margin"]
    assert (0.0, 1.0) == (margin, math.copysign(1.0, margin))
    assert "<td>\u22120</td>" not in report.html.decode()
    assert 'value="-0.0"' not in report.html.decode()


def test_missing_tables_are_named():
    frames = {name: frame for name, frame in frames_of(PROMOTED).items() if name not in {"trades", "features"}}
    with pytest.raises(TableError, match="features, trades are missing"):
        inputs_from(frames, lineage=PROMOTED.lineage)


def test_inputs_are_gathered_by_table_name():
    assert inputs_from(frames_of(KEPT), lineage=KEPT.lineage).execution is None
    assert isinstance(inputs_from(frames_of(PROMOTED), lineage=PROMOTED.lineage).execution, Execution)


def test_an_execution_without_trades_is_reported_without_charts():
    empty = EXECUTION
    execution = replace(empty, trades=empty.trades.clear(), simulation_ledger=empty.simulation_ledger.clear())
    report = build_report(replace(PROMOTED, execution=execution), run=RUN)
    assert said(report, "expectancy", "portfolio/test/expectancy")["observed"] is None
    assert "No trade was made." in report.html.decode()
    assert "it says nothing" in said(report, "verdict", "test_reading")["text"]


def test_the_penalised_floor_stands_beside_the_expectancy_of_its_blueprint():
    report = build_report(PROMOTED, run=RUN)
    floors = dict(PROMOTED.hypotheses.select("hypothesis_id", "expectancy_after_multiplicity_bps").iter_rows())
    hypothesis_of = dict(PROMOTED.blueprints.select("blueprint_id", "hypothesis_id").iter_rows())
    executed = EXECUTION.promotions["blueprint_id"].unique().to_list()
    told = {name: said(report, "expectancy", f"{name}/train/floor")["observed"] for name in executed}
    assert {name: floors[hypothesis_of[name]] for name in executed} == told
    assert "The floor is what is left" in report.html.decode()


def test_the_split_plan_is_the_runs():
    report = build_report(KEPT, run=RUN)
    for split in Split:
        assert f"{RUN.splits[split].end:%Y-%m-%d %H:%M}" == said(report, "splits", f"{split}/end")["text"]


LIFTED = replace(RUN, strategy_blueprint_ignore_checklist=1, strategy_blueprint_allow_fallback=1)


def lifted(blueprints: pl.DataFrame) -> Report:
    return build_report(replace(with_source(KEPT, LIFTED), blueprints=blueprints), run=LIFTED)


def test_r64_r65_what_was_compiled_under_overrides_is_counted_and_read_aloud_and_nothing_is_called_rejected():
    compiled = PROMOTED.blueprints.with_columns(is_executed=pl.col("rank") <= 3)
    report = lifted(compiled)
    page = report.html.decode()
    row = said(report, "funnel", "blueprints")
    assert (float(compiled.height), "blueprints") == (row["observed"], row["unit"])
    assert row["text"].startswith("Compiled under overrides, not executed")
    assert said(report, "funnel", "executed")["observed"] is None
    told = report.rows.filter(section="blueprints")
    assert compiled.sort("rank")["blueprint_id"].to_list() == told["item"].to_list()
    assert told["is_passed"].is_null().all()
    assert compiled.height == page.count("compiled, not executed</span>")
    assert all(words.split(" event on ")[0] in page for words in told["text"])
    rules = page.split('<section id="rules">')[1].split("</section>")[0]
    assert "rejected" not in rules
    assert "<h1>KEEP_RESEARCH: nothing to trade</h1>" in page


def test_nothing_compiled_under_overrides_is_not_said_to_have_been_forbidden():
    for report, words in ((lifted(KEPT.blueprints), "under overrides"), (build_report(KEPT, run=RUN), "Not compiled")):
        assert words in said(report, "funnel", "blueprints")["text"]
        assert "No blueprint was compiled." in report.html.decode()
    assert 0.0 == said(lifted(KEPT.blueprints), "funnel", "blueprints")["observed"]


def test_r90_a_diagnostic_run_is_marked_on_its_page_and_a_production_run_is_not():
    lifted = replace(RUN, strategy_blueprint_allow_fallback=1)
    page = build_report(inputs_of(lifted), run=lifted).html.decode()
    assert "DIAGNOSTIC RUN, never decision grade: strategy_blueprint_allow_fallback" in page
    assert "DIAGNOSTIC RUN" not in build_report(PROMOTED, run=RUN).html.decode()
