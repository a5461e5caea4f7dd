"""A run that obeys a queue in which nothing can be queued: research is kept, nothing crashes, and the lake says why."""

import json
import re
from pathlib import Path

import pytest

from backtest_assets.defs.desk import DECISION_TAG
from backtest_assets.domain import run as domain_run
from backtest_assets.domain.run import settings_fields
from backtest_assets.lake.store import Lake
from backtest_assets_tests.cli.terminal import call, told_in_dagster

FLAGS = {
    "--run_id": "R7",
    "--symbols": "SYNAUSDT",
    "--start": "2023-08-01",
    "--end": "2023-12-31",
    "--source": "synthetic:5",
    "--run-hypothesis-generator": "1",
    "--hypothesis_datasets": "event_calendar",
    "--naive_min_trades": "1",
    "--require_capacity_pass": "0",
}
ARGUMENTS = [part for flag in FLAGS.items() for part in flag]
CLASS = "diagnostic; overrides: require_capacity_pass, naive_min_trades"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("r7")
    return root, call(root, "run", *ARGUMENTS, code=1)


def test_r7_a_queue_without_anything_queued_keeps_research_and_the_report_is_written(kept: tuple[Path, str]):
    _, said = kept
    assert "KEEP_RESEARCH  run R7" in said
    assert "the hypothesis queue of run R7 asks for 0 hypotheses over 13 families" in said
    assert "no hypothesis was asked for; the remarks on hypothesis_queue say why" in said
    assert Path(said.split("Report: ")[1].strip()).read_bytes().startswith(b"<!doctype html>")


def test_r63_r84_whatever_says_a_decision_says_the_class_of_the_run_and_its_overrides(kept: tuple[Path, str]):
    root, said = kept
    assert f"KEEP_RESEARCH  run R7 ({CLASS}): execution stays closed" in said
    assert f"run R7 ({CLASS})" in call(root, "gates", "R7")
    (run,) = json.loads(call(root, "runs", "--json"))["runs"]
    assert ("KEEP_RESEARCH", "diagnostic") == (run["decision"], run["run_class"])
    assert "require_capacity_pass,naive_min_trades" == run["non_production_overrides"]
    (line,) = [line for line in call(root, "runs").splitlines() if " R7 " in line]
    assert re.search(r"KEEP_RESEARCH\W+diagnostic\W+require_capacity_pass,naive_min_trades", line)


def test_a_run_that_another_version_froze_is_said_to_be_one_and_hides_no_other(kept: tuple[Path, str], monkeypatch):
    """That version knew a setting less."""
    fewer = tuple(item for item in settings_fields() if item.name != "naive_min_trades")
    monkeypatch.setattr(domain_run, "settings_fields", lambda: fewer)
    said = call(kept[0], "gates", "R7", code=1)
    assert "run R7 was frozen by another version of this program" in said
    assert "unknown settings naive_min_trades" in said
    assert "use a new run_id" in said
    listed = call(kept[0], "runs")
    assert "not shown: run R7 was frozen by another version" in listed
    assert "0 distinct" in listed


def test_discover_says_what_it_found_and_of_which_class_it_is(kept: tuple[Path, str]):
    said = call(kept[0], "discover", *ARGUMENTS)
    assert "Nothing to do" in said
    assert f"KEEP_RESEARCH  run R7 ({CLASS}): discovery is complete." in said
    assert "Hypotheses: 0 asked for, 0 tested, 0 selected" in said
    assert "Edge candidates: 0, 0 of them PROMOTED\nBlueprints: 0\n" in said
    assert "Trials over all runs: 0 distinct, 0 of them hypotheses, worth at most 0.0 independent ones" in said


def test_r7_every_family_is_a_recorded_skip_with_a_remark(kept: tuple[Path, str]):
    root, _ = kept
    rows = json.loads(call(root, "sql", "from hypothesis_queue where source_kind = 'family'", "--json"))
    assert 13 == len(rows)
    assert {("SKIPPED", False)} == {(row["status"], row["is_tested"]) for row in rows}
    gates = [row for row in json.loads(call(root, "gates", "R7", "--json")) if row["table"] == "hypothesis_queue"]
    assert [("every_family_queued", "WARN")] == [(g["gate"], g["severity"]) for g in gates if not g["passed"]]


def test_r86_a_kept_run_names_the_gates_in_its_way_and_is_tagged(kept: tuple[Path, str]):
    told, tags = told_in_dagster(kept[0], "research_checklist")
    assert "KEEP_RESEARCH" == told["decision"] == tags[DECISION_TAG]
    assert "hypotheses_enumerated 0 (limit 1 hypotheses)" in str(told["failed_gates"]).split("; ")


def test_the_manifest_says_what_is_queued_and_that_it_is_obeyed(kept: tuple[Path, str]):
    lake = Lake(kept[0])
    (partition,) = lake.partitions("hypothesis_queue")
    published = lake.current("hypothesis_queue", partition)
    assert published is not None
    assert "yes: run_hypothesis_generator 1" == published.notes["obeyed"]
    assert published.notes["by_status"].startswith("QUEUED 0, REJECTED 0")
    assert "nothing is queued" == published.notes["top"]


def test_r50_r85_a_kept_run_has_no_strategy_candidates_and_only_a_remark_says_so(kept: tuple[Path, str]):
    root, _ = kept
    assert [{"n": 0}] == json.loads(call(root, "sql", "select count(*) as n from strategy_candidates", "--json"))
    gates = [row for row in json.loads(call(root, "gates", "R7", "--json")) if row["table"] == "strategy_candidates"]
    assert [("candidates_nonzero", "WARN")] == [(g["gate"], g["severity"]) for g in gates if not g["passed"]]
    published = Lake(root).current("strategy_candidates", Lake(root).partitions("strategy_candidates")[0])
    assert published is not None
    assert ("0", "0") == tuple(published.notes[f"{one}_seen"] for one in ("promoted_blueprints", "edge_rows"))
    assert {"promotions", "walkforward_summary"}.isdisjoint(one.table for one in published.inputs)
