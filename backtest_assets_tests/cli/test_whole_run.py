"""The demo from nothing to a report: what README promises, what operators then look at, and that every sum reconciles."""

import json
from pathlib import Path

import dagster as dg
import pytest

from backtest_assets.cli.run import DEMO
from backtest_assets.defs.desk import DECISION_TAG
from backtest_assets.defs.instance import open_instance
from backtest_assets.domain.event import EventType
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets.tables.features import FEATURES
from backtest_assets.tables.registry import TABLES
from backtest_assets_tests.cli.terminal import call, told_in_dagster

OPTIONAL = {"raw_um_open_interest", "raw_um_liquidations", "positioning_um"}
"""What the synthetic exchange does not have; every consumer works without."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("demo")
    return root, call(root, "demo")


def ask(root: Path, statement: str) -> list[dict[str, object]]:
    return json.loads(call(root, "sql", statement, "--json"))


def test_the_demo_prints_verdict_gates_and_where_the_report_lies(demo: tuple[Path, str]):
    _, said = demo
    assert "PROMOTE  run DEMO (production): " in said
    assert "Checklist" in said
    assert "stressed_net" in said
    page = Path(said.split("Report: ")[1].strip())
    assert page.read_bytes().startswith(b"<!doctype html>")


def test_r36_a_second_run_does_no_work_and_says_so(demo: tuple[Path, str]):
    root, _ = demo
    again = call(root, "demo")
    assert "Nothing to do" in again
    assert "PROMOTE  run DEMO" in again


def test_r4_r52_the_run_id_is_frozen_with_a_readable_difference(demo: tuple[Path, str]):
    root, _ = demo
    spec = {
        row["setting"]: json.loads(str(row["value_json"]))
        for row in ask(root, "select setting, value_json from research_run")
    }
    changed = {name: str(value) for name, value in spec.items() if name != "cost_bps"} | {"fees_bps": "5"}
    flags = [part for name, value in changed.items() for part in (f"--{name}", value)]
    said = call(root, "run", *flags, code=1)
    assert "fees_bps: 4.0 -> 5.0" in said


def test_every_gate_of_the_run_is_green(demo: tuple[Path, str]):
    root, _ = demo
    rows = json.loads(call(root, "gates", "DEMO", "--json"))
    assert {row["table"] for row in rows} == set(TABLES) - OPTIONAL
    assert [row for row in rows if not row["passed"] and row["severity"] == "ERROR"] == []


@pytest.mark.parametrize(
    ("table", "subject", "expected"),
    [
        ("features", "column", {"rows", *FEATURES.schema.names()} - {"symbol", "open_at"}),
        ("market_context", "column", {"rows", *MARKET_CONTEXT.schema.names()} - {"symbol", "open_at"}),
        ("event_candidates", "family", {family.value for family in EventType}),
    ],
)
def test_a_green_check_shows_in_dagster_what_was_compared_by_column_and_family(
    demo: tuple[Path, str], table: str, subject: str, expected: set[str]
):
    root, _ = demo
    with open_instance(Settings(root, root / "dagster", None)) as instance:
        key = dg.AssetCheckKey(dg.AssetKey(table), "prefix_invariant")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
        assert record.event is not None
        told = record.event.asset_check_evaluation
    assert told is not None
    compared = told.metadata["compared"]
    assert isinstance(compared, dg.TableMetadataValue)
    rows = {str(row.data[subject]): row.data for row in compared.records}
    assert told.passed
    assert expected == set(rows)
    for row in rows.values():
        assert (8, 0, 0, "") == tuple(
            row[name] for name in ("cuts", "differ_if_removed", "differ_if_replaced", "example")
        )


@pytest.mark.parametrize(
    ("table", "texts", "tables"),
    [
        ("phase1_evidence", set(), {"families"}),
        ("hypotheses", {"by_status", "first_lost_at", "not_tested", "best"}, {"families"}),
        ("inference_summary", set(), {"statistics"}),
        ("naive_entry", {"by_status", "failed_by_limit"}, set()),
        ("expectancy", {"examined", "survive_multiplicity", "with_evidence"}, set()),
        ("expectancy_traps", set(), {"traps"}),
        ("edge_candidates", {"by_status", "lost_to"}, set()),
        ("research_checklist", {"decision", "failed_gates"}, {"gates"}),
        ("blueprints", {"compiled", "by_family", "checklist"}, set()),
        ("blueprint_rejections", {"by_reason", "selected_by_reason"}, set()),
    ],
)
def test_the_materialisation_of_every_stage_of_research_says_what_came_of_it(
    demo: tuple[Path, str], table: str, texts: set[str], tables: set[str]
):
    told, _ = told_in_dagster(demo[0], table)
    assert all(isinstance(told[name], str) and told[name] for name in texts)
    for name in tables:
        shown = told[name]
        assert isinstance(shown, dg.TableMetadataValue)
        assert shown.records


def test_r86_the_decision_stands_on_the_gate_asset_and_on_the_dagster_run_that_made_it(demo: tuple[Path, str]):
    told, tags = told_in_dagster(demo[0], "research_checklist")
    assert ("PROMOTE", "none") == (told["decision"], told["failed_gates"])
    assert "PROMOTE" == tags[DECISION_TAG]


def test_runs_shows_the_run_with_its_decision_and_the_trials_that_promotions_counted(demo: tuple[Path, str]):
    root, _ = demo
    told = json.loads(call(root, "runs", "--json"))
    (run,) = told["runs"]
    assert ("DEMO", "PROMOTE") == (run["run_id"], run["decision"])
    assert ("production", "") == (run["run_class"], run["non_production_overrides"])
    (ledger,) = ask(root, "select count(*) as n, count(t) as tested from trial_ledger")
    (counts,) = ask(root, "select n_trials_all, n_hypotheses_all, effective_trials_all from trial_counts")
    assert counts == told["totals"]
    assert (run["n_trials"], run["n_hypotheses"]) == (ledger["n"], ledger["tested"])
    assert ledger["n"] == counts["n_trials_all"]
    assert 1 < float(str(counts["effective_trials_all"])) < float(str(counts["n_hypotheses_all"]))


def test_discover_over_the_demo_does_no_work_and_says_what_the_tables_hold(demo: tuple[Path, str]):
    root, _ = demo
    said = call(root, "discover", *(part for name, value in DEMO.items() for part in (f"--{name}", str(value))))
    (tested,) = ask(
        root,
        "select count(*) as n, sum(is_eligible::int) as tested, sum((status = 'selected')::int) as selected from hypotheses",
    )
    (edges,) = ask(root, "select count(*) as n, sum((status = 'PROMOTED')::int) as promoted from edge_candidates")
    (blueprints,) = ask(root, "select count(*) as n from blueprints")
    (counts,) = ask(root, "select distinct n_trials_all, n_hypotheses_all from trial_counts")
    assert "Nothing to do" in said
    assert "PROMOTE  run DEMO (production): discovery is complete." in said
    assert f"Hypotheses: {tested['n']} asked for, {tested['tested']} tested, {tested['selected']} selected" in said
    assert f"Edge candidates: {edges['n']}, {edges['promoted']} of them PROMOTED" in said
    assert f"Blueprints: {blueprints['n']}" in said
    trials = f"{counts['n_trials_all']} distinct, {counts['n_hypotheses_all']} of them hypotheses"
    assert f"Trials over all runs: {trials}, worth at most " in said


def test_r47_the_report_is_found_again(demo: tuple[Path, str]):
    root, said = demo
    assert call(root, "report", "DEMO").strip() == said.split("Report: ")[1].strip()


def test_r48_r51_the_triage_files_are_exported_with_the_numbers_of_the_tables(demo: tuple[Path, str], tmp_path: Path):
    root, _ = demo
    folder = tmp_path / "triage"
    page = call(root, "report", "DEMO", "--export", str(folder)).strip()
    names = {path.name for path in folder.iterdir()}
    assert page == str(folder / "report.html")
    assert names == {
        "report.html", "summary.json", "metrics.json", "fee_sensitivity.json", "walkforward_summary.json", "promotion_report.json",
        "equity_curve.csv", "allocation_weights.csv", "trades_SYNAUSDT.csv", "trades_SYNBUSDT.csv",
    }  # fmt: skip
    (row,) = ask(root, "select count(*) as n, count(distinct blueprint_id) as tested from trades")
    assert json.loads((folder / "metrics.json").read_text())["total_trades"] == row["n"]
    assert json.loads((folder / "summary.json").read_text())["decision"] == "PROMOTE"
    assert "give a new folder" in call(root, "report", "DEMO", "--export", str(folder), code=2)


def test_every_table_is_a_view(demo: tuple[Path, str]):
    root, _ = demo
    counts = ask(
        root, " union all ".join(f"(from {table} select '{table}' as name, count(*) as n)" for table in TABLES)
    )
    assert {str(row["name"]) for row in counts if not row["n"]} == set(OPTIONAL)
    assert len(counts) == len(TABLES)


def test_r104_trades_ledger_metrics_and_equity_reconcile(demo: tuple[Path, str]):
    root, _ = demo
    (row,) = ask(
        root,
        "select (select sum(net_pnl) from simulation_ledger) as ledger, (select sum(net_pnl) from trades) as trades, "
        "(select sum(gross_pnl - fee - slippage + funding_pnl) from simulation_ledger) as parts",
    )
    assert row["ledger"] == pytest.approx(row["trades"], abs=1e-9) == pytest.approx(row["parts"], abs=1e-9)
    (split,) = ask(
        root,
        "select sum(net_pnl) as n from simulation_ledger semi join (from trades where split = 'train') using (trade_id)",
    )
    (metric,) = ask(root, "select value from walkforward_train where blueprint_id = 'portfolio' and metric = 'net'")
    assert split["n"] == pytest.approx(metric["value"], abs=1e-9)


def test_research_and_execution_price_the_same_trades(demo: tuple[Path, str]):
    root, _ = demo
    rows = ask(
        root,
        "select 1e4 * t.net_pnl / t.exposure as executed, t.side * (o.gross_bps - o.funding_bps) - 12 as researched "
        "from trades t join event_outcomes o on t.event_id = o.event_id and o.control_no = 0 and o.variant = 'centre' "
        "and o.delay_bars = 0 and o.hold_bars = t.n_bars_held where t.exit_reason = 'time' and t.split <> 'test'",
    )
    assert len(rows) > 100
    assert all(row["executed"] == pytest.approx(row["researched"], abs=1e-6) for row in rows)


def test_the_test_window_is_opened_only_by_its_own_slice(demo: tuple[Path, str]):
    root, _ = demo
    (sealed,) = ask(
        root,
        "select max(exited_at) < (select start_at from walkforward_splits where split = 'test') as before from event_outcomes",
    )
    assert sealed["before"] is True
    assert ask(root, "select distinct split from walkforward_summary order by 1") == [
        {"split": "train"},
        {"split": "validation"},
    ]


def test_every_research_table_records_what_it_was_made_from(demo: tuple[Path, str]):
    root, _ = demo
    lake = Lake(root)
    for name, table in TABLES.items():
        if table.layer == "research" and name != "research_run":
            (partition,) = lake.partitions(name)
            published = lake.current(name, partition)
            assert published is not None
            assert published.inputs, name
            assert all(len(one.digest) == 64 and one.materialization_id > 0 for one in published.inputs)


def test_a_tampered_input_stops_the_next_run_by_name(demo: tuple[Path, str]):
    root, _ = demo
    victim = next((root / "lake" / "features").rglob("*.parquet"))
    saved = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(saved[:-4] + b"XXXX")
    try:
        said = call(root, "gates", "DEMO", code=1)
        assert "FAIL features[DEMO] may_be_read: " in said
        repaired = call(root, "demo")
        assert "PROMOTE  run DEMO" in repaired
        assert "Nothing to do" not in repaired
    finally:
        if victim.exists():
            victim.write_bytes(saved)
