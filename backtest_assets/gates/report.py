"""What must be true of a report: it says what the tables say, and its page stands on its own (R101-R107).

Every question is asked of the rows against the tables they were made from, recomputed here on another way.
"""

import re
from collections.abc import Mapping
from typing import Final

import polars as pl

from backtest_assets.domain.cost import BPS
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.split import Split
from backtest_assets.gates.beside import beside_agrees, phase1_agrees, trials_counted
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.said import MAX_DISAGREEMENTS, answer, decision_of, differing, in_section, number_of
from backtest_assets.research.report.page import MAX_BYTES

MIN_PROMOTED: Final = 1
"""Below this there is nothing to trade; a remark, not a fault [blueprints]."""

REQUIRED_METRICS: Final = ("n_trades", "net", "ending_equity", "max_drawdown")
"""Metrics without which there is no report of an executed run (R102, R107)."""

_EXECUTION_SECTIONS: Final = ("expectancy", "walkforward", "performance", "costs")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PORTFOLIO: Final = "portfolio"


def _verdict_agrees(evidence: Evidence) -> Verdict:
    checklist = evidence.inputs["research_checklist"]
    decisions: list[str] = checklist["decision"].unique().to_list()
    promoted: list[str] = []
    executed: list[str] = []
    if decisions == ["PROMOTE"]:
        promotions = evidence.inputs["promotions"]
        executed = promotions["blueprint_id"].unique().sort().to_list()
        promoted = promotions.filter(pl.col("is_promoted"))["blueprint_id"].unique().sort().to_list()
    truth = pl.DataFrame(
        {
            "item": ["decision", "promoted_blueprints", "executed_blueprints"],
            "text": [",".join(decisions), ",".join(promoted), ",".join(executed)],
            "observed": [None, float(len(promoted)), float(len(executed))],
        }
    )
    said = in_section(evidence, "verdict").filter(pl.col("item").is_in(truth["item"].to_list()))
    return answer("verdict_agrees", differing(said, truth, ["observed"], ["text"]), "checklist and promotions")


def _gates_shown(evidence: Evidence) -> Verdict:
    wanted = ("item", "observed", "limit", "is_passed")
    checklist = evidence.inputs["research_checklist"].with_columns(item="research_checklist/" + pl.col("gate"))
    parts = [checklist.select(wanted)]
    if decision_of(evidence) == "PROMOTE":
        promotions = evidence.inputs["promotions"].with_columns(item=pl.col("blueprint_id") + "/" + pl.col("gate"))
        parts.append(promotions.select(wanted))
    wrong = differing(in_section(evidence, "gates"), pl.concat(parts), ["observed", "limit"], ["is_passed"])
    return answer("gates_shown", wrong, "checklist and promotions")


def _not_run(gate: str, evidence: Evidence) -> Verdict:
    invented = in_section(evidence, *_EXECUTION_SECTIONS)
    detail = (
        "execution was not run, and the report says nothing about it"
        if invented.is_empty()
        else (f"execution was not run, but the report has {invented.height} rows about it; rebuild the report")
    )
    return Verdict(gate, invented.height, MAX_DISAGREEMENTS, "rows", passed=invented.is_empty(), detail=detail)


def _metrics_agree(evidence: Evidence) -> Verdict:
    gate = "metrics_agree"
    if decision_of(evidence) != "PROMOTE":
        return _not_run(gate, evidence)
    backtest = evidence.inputs["backtest_metrics"].select("scope", "split", "metric", "value")
    forward = evidence.inputs["walkforward_summary"].select(
        pl.col("blueprint_id").alias("scope"), "split", "metric", "value"
    )
    test = evidence.inputs["walkforward_test"].select(
        pl.col("blueprint_id").alias("scope"), pl.lit(Split.TEST.value).alias("split"), "metric", "value"
    )
    wrong = pl.concat(
        [
            differing(_metric_rows(evidence, "performance"), _metric_truth(backtest), ["observed"]),
            differing(_metric_rows(evidence, "walkforward"), _metric_truth(pl.concat([forward, test])), ["observed"]),
        ]
    )
    if wrong.is_empty():
        for split in (Split.TRAIN, Split.VALIDATION, "discovery"):
            lacking = [
                m for m in REQUIRED_METRICS if number_of(evidence, "performance", f"{_PORTFOLIO}/{split}/{m}") is None
            ]
            if lacking:
                detail = f"backtest_metrics has no {', '.join(lacking)} of the portfolio on {split}; rebuild backtest_metrics"
                return Verdict(gate, len(lacking), MAX_DISAGREEMENTS, "metrics", passed=False, detail=detail)
    return answer(gate, wrong, "backtest_metrics and the walk-forward tables")


def _metric_rows(evidence: Evidence, section: str) -> pl.DataFrame:
    return in_section(evidence, section).filter(pl.col("item").str.starts_with(f"{_PORTFOLIO}/"))


def _metric_truth(metrics: pl.DataFrame) -> pl.DataFrame:
    own = metrics.filter(pl.col("scope") == _PORTFOLIO)
    return own.select(
        pl.concat_str("scope", "split", "metric", separator="/").alias("item"), pl.col("value").alias("observed")
    )


def _equity_agrees(evidence: Evidence) -> Verdict:
    gate = "equity_agrees"
    if decision_of(evidence) != "PROMOTE":
        return _not_run(gate, evidence)
    ledger, trades = evidence.inputs["simulation_ledger"], evidence.inputs["trades"]
    test_start = evidence.settings.splits[Split.TEST].start
    sealed = trades.filter((pl.col("known_at") <= test_start) & (pl.col("split") != Split.TEST.value))
    truths = {
        "equity/ending_equity": _ending_equity(ledger),
        f"{_PORTFOLIO}/discovery/ending_equity": _ending_equity(ledger.join(sealed, on="trade_id", how="semi")),
    }
    return _numbers_agree(gate, evidence, "performance", truths, "the compounded simulation_ledger")


def _ending_equity(ledger: pl.DataFrame) -> float:
    equity = 1.0
    for net in ledger.group_by("open_at").agg(pl.col("net_pnl").sum()).sort("open_at")["net_pnl"]:
        equity *= max(1.0 + net, 0.0)
    return equity


def _trades_agree(evidence: Evidence) -> Verdict:
    gate = "trades_agree"
    if decision_of(evidence) != "PROMOTE":
        return _not_run(gate, evidence)
    ledger, trades = evidence.inputs["simulation_ledger"], evidence.inputs["trades"]
    counts = {str(split): float(trades.filter(pl.col("split") == str(split)).height) for split in Split}
    verdicts = (
        _numbers_agree(
            gate,
            evidence,
            "performance",
            {f"{_PORTFOLIO}/{split}/n_trades": counts[split] for split in (Split.TRAIN, Split.VALIDATION)},
            "the rows of trades",
        ),
        _numbers_agree(
            gate,
            evidence,
            "expectancy",
            {
                f"{_PORTFOLIO}/test/n_trades": counts[Split.TEST],
                f"{_PORTFOLIO}/test/expectancy": _test_expectancy(trades),
            },
            "the rows of trades",
        ),
        _numbers_agree(
            gate,
            evidence,
            "costs",
            {
                "total/net_pnl": float(ledger["net_pnl"].sum()),
                "total/gross_pnl": float(ledger["gross_pnl"].sum()),
                "total/fee": -float(ledger["fee"].sum()),
                "total/slippage": -float(ledger["slippage"].sum()),
                "total/funding_pnl": float(ledger["funding_pnl"].sum()),
            },
            "the sums of simulation_ledger",
        ),
    )
    return next((verdict for verdict in verdicts if not verdict.passed), verdicts[-1])


def _test_expectancy(trades: pl.DataFrame) -> float | None:
    own = trades.filter(pl.col("split") == Split.TEST.value).select("net_pnl", "exposure").rows()
    return sum(net / exposure for net, exposure in own) / len(own) / BPS if own else None


def _numbers_agree(
    gate: str, evidence: Evidence, section: str, truths: Mapping[str, float | None], about: str
) -> Verdict:
    truth = pl.DataFrame(
        {"item": list(truths), "observed": list(truths.values())}, schema={"item": pl.String, "observed": pl.Float64}
    )
    said = in_section(evidence, section).filter(pl.col("item").is_in(list(truths)))
    return answer(gate, differing(said, truth, ["observed"]), about)


def _page_sealed(evidence: Evidence) -> Verdict:
    gate = "page_sealed"
    page = in_section(evidence, "page")
    (digest,) = page.filter(pl.col("item") == "sha256")["text"].to_list()
    n_bytes, n_outside = number_of(evidence, "page", "n_bytes"), number_of(evidence, "page", "external_references")
    faults = [
        words
        for is_fault, words in (
            (_SHA256.fullmatch(str(digest)) is None, f"the page has no SHA-256 but {digest!r}"),
            (
                n_bytes is None or not 0 < n_bytes <= MAX_BYTES,
                f"the page has {n_bytes} bytes, limit {MAX_BYTES}",
            ),
            (n_outside != 0, f"the page loads {n_outside} things from outside"),
        )
        if is_fault
    ]
    detail = (
        "; ".join([*faults, "rebuild the report"])
        if faults
        else f"{n_bytes:,.0f} bytes, self-contained, SHA-256 {digest}"
    )
    return Verdict(gate, len(faults), MAX_DISAGREEMENTS, "faults", passed=not faults, detail=detail)


def _something_promoted(evidence: Evidence) -> Verdict:
    n_promoted = number_of(evidence, "verdict", "promoted_blueprints")
    (sentence,) = in_section(evidence, "verdict").filter(pl.col("item") == "sentence")["text"].to_list()
    if n_promoted is None:
        message = "the report does not say how many blueprints are promoted"
        raise ValueError(message)
    return Verdict(
        "something_promoted",
        n_promoted,
        MIN_PROMOTED,
        "blueprints",
        passed=n_promoted >= MIN_PROMOTED,
        detail=str(sentence),
    )


GATES_REPORT: Final = (
    Gate(
        "verdict_agrees",
        Severity.ERROR,
        "The verdict is that of checklist and promotions; limit: 0 differing rows.",
        _verdict_agrees,
    ),
    Gate("gates_shown", Severity.ERROR, "Every gate is shown with its numbers; limit: 0 differing rows.", _gates_shown),
    Gate(
        "metrics_agree",
        Severity.ERROR,
        "Metrics equal their tables to 1e-9, none is missing; limit: 0 differing rows (R102, R107).",
        _metrics_agree,
    ),
    Gate(
        "equity_agrees",
        Severity.ERROR,
        "Ending equity is the compounded ledger to 1e-9; limit: 0 differing rows (R103).",
        _equity_agrees,
    ),
    Gate(
        "trades_agree",
        Severity.ERROR,
        "Trades are counted and summed to the ledger to 1e-9; limit: 0 differing rows (R104).",
        _trades_agree,
    ),
    Gate(
        "phase1_agrees",
        Severity.ERROR,
        "Every family has its phase-1 decision with the numbers of its clearest move; limit: 0 differing rows.",
        phase1_agrees,
    ),
    Gate(
        "beside_agrees",
        Severity.ERROR,
        "Numbers beside, strategy candidates and capital are those of their tables; limit: 0 differing rows (R50).",
        beside_agrees,
    ),
    Gate(
        "trials_counted",
        Severity.ERROR,
        "Trials of the run and of all runs are those of their tables; limit: 0 differing rows.",
        trials_counted,
    ),
    Gate(
        "page_sealed",
        Severity.ERROR,
        "The page has a digest, a size within 2 MB and loads nothing; limit: 0 faults.",
        _page_sealed,
    ),
    Gate(
        "something_promoted",
        Severity.WARN,
        "At least one blueprint is promoted; limit: 1 blueprint.",
        _something_promoted,
    ),
)
