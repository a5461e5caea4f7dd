import json
from dataclasses import fields
from io import BytesIO

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.research.report.build import build_report
from backtest_assets.research.report.exports import EXECUTED, SUMMARY, r_multiple, walkforward_json
from backtest_assets.research.report.inputs import Execution
from backtest_assets_tests.research.report.scenes import a_run, execution_of, inputs_of
from backtest_assets_tests.research.simulation.results import random_results

RUN = a_run()
PROMOTED = inputs_of(RUN)
EXECUTION = execution_of(PROMOTED)
DONE = random_results()
MADE = build_report(PROMOTED, run=RUN)


def told(name):
    return json.loads(MADE.exports[name], parse_constant=pytest.fail)


def table(name):
    return pl.read_csv(BytesIO(MADE.exports[name]), try_parse_dates=True)


def test_a_run_that_was_kept_in_research_has_its_summary_alone():
    kept = build_report(inputs_of(RUN, decision="KEEP_RESEARCH"), run=RUN)
    assert list(kept.exports) == [SUMMARY]
    assert json.loads(kept.exports[SUMMARY])["decision"] == "KEEP_RESEARCH"


def test_x10_equal_inputs_give_equal_bytes_and_the_report_has_their_digests():
    assert MADE.exports == build_report(inputs_of(RUN), run=RUN).exports
    assert set(MADE.exports) == {SUMMARY, *EXECUTED, "trades_BTCUSDT.csv", "trades_ETHUSDT.csv"}
    listed = MADE.rows.filter(pl.col("item").str.starts_with("export/")).select("item", "observed").rows()
    assert listed == [(f"export/{name}", len(content)) for name, content in MADE.exports.items()]


def test_the_summary_is_the_reports_rows():
    rows = MADE.rows.filter(pl.col("section") != "page")
    sections = told(SUMMARY)["sections"]
    assert sum(map(len, sections.values())) == rows.height
    for row in rows.to_dicts():
        assert sections[row["section"]][row["item"]]["observed"] == row["observed"]


def test_r102_r107_metrics_are_those_of_the_whole_ledger():
    metrics, ledger = told("metrics.json"), EXECUTION.simulation_ledger
    assert metrics["total_trades"] == EXECUTION.trades.height
    assert metrics["cost_decomposition"]["net_alpha"] == pytest.approx(ledger["net_pnl"].sum(), abs=1e-12)
    parts = metrics["cost_decomposition"]
    net = parts["gross_alpha"] - parts["fees"] - parts["slippage"] + parts["funding_pnl"]
    assert net == pytest.approx(parts["net_alpha"], abs=1e-9)
    for name, item in (("ending_equity", "equity/ending_equity"), ("max_drawdown", "equity/max_drawdown")):
        (shown,) = MADE.rows.filter(item=item)["observed"]
        assert abs(metrics[name]) == pytest.approx(abs(shown), abs=1e-12)


def test_d15_the_fee_sensitivity_starts_from_the_headline():
    fees, metrics = told("fee_sensitivity.json"), told("metrics.json")
    net = fees["net_at_multiple_of_costs"]
    assert list(net) == ["0", "0.5", "1", "1.5", "2", "3"]
    assert net["1"] == pytest.approx(metrics["cost_decomposition"]["net_alpha"], abs=1e-12)
    cost = metrics["cost_decomposition"]["fees"] + metrics["cost_decomposition"]["slippage"]
    assert net["3"] == pytest.approx(net["1"] - 2 * cost, abs=1e-12)


def test_r103_the_equity_curve_ends_where_the_metrics_do():
    equity = table("equity_curve.csv")
    assert equity.columns == ["timestamp", "equity"]
    assert equity["equity"][-1] == pytest.approx(told("metrics.json")["ending_equity"], abs=1e-12)
    assert equity["timestamp"].is_sorted()


def test_r104_every_trade_is_in_the_file_of_its_symbol():
    listed = pl.concat([table("trades_BTCUSDT.csv"), table("trades_ETHUSDT.csv")])
    assert listed.height == told("metrics.json")["total_trades"]
    both = [frame.select("trade_id", "net_pnl").sort("trade_id") for frame in (listed, EXECUTION.trades)]
    assert_frame_equal(both[0], both[1])


def test_r_is_the_net_over_what_the_first_stop_would_have_lost():
    trades = DONE.frames["trades"]
    risked = trades["exposure"] * (trades["entry_price"] - trades["stop_price"]).abs() / trades["entry_price"]
    assert (trades["net_pnl"] / risked).to_list() == pytest.approx(trades.select(r_multiple()).to_series().to_list())
    assert trades.with_columns(stop_price="entry_price").select(r_multiple()).to_series().null_count() == trades.height


def test_r61_r62_the_walk_forward_names_regimes_and_loss_clusters_of_every_strategy_and_split():
    execution = Execution(**{item.name: DONE.frames[item.name] for item in fields(Execution)})
    summary = json.loads(walkforward_json(execution, run=DONE.run))
    executed = set(execution.promotions["blueprint_id"])
    assert [split["label"] for split in summary["splits"]] == ["train", "validation", "test"]
    assert (summary["expected_strategy_count"], summary["unexpected_strategy_ids"]) == (len(executed), [])
    assert summary["final_test_metrics"] == summary["per_split_metrics"]["test"]
    for part, metric in (
        ("per_strategy_regime_metrics", "max_regime_share"),
        ("per_strategy_drawdown_cluster_metrics", "max_loss_cluster_len"),
    ):
        assert set(summary[part]) == executed
        for name, splits in summary[part].items():
            assert set(splits) == {"train", "validation", "test"}
            for split in splits:
                (value,) = DONE.frames[f"walkforward_{split}"].filter(blueprint_id=name, metric=metric)["value"]
                assert splits[split][metric] == value


def test_r51_promotions_name_every_gate_with_what_it_saw():
    said = told("promotion_report.json")
    assert said["tested_count"] == EXECUTION.promotions["blueprint_id"].n_unique()
    assert said["survivors"] == sorted(EXECUTION.promotions.filter("is_promoted")["blueprint_id"].unique())
    for row in EXECUTION.promotions.to_dicts():
        shown = said["tested"][row["blueprint_id"]]["gates"][row["gate"]]
        assert (shown["observed"], shown["limit"], shown["is_passed"]) == (
            row["observed"],
            row["limit"],
            row["is_passed"],
        )
