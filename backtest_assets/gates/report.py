"""What must be true of a report: it says what the tables say, and its page stands on its own (R101-R107).

Every question is asked of the rows against the tables they were made from, recomputed here on another way.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.domain.cost import BPS
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.split import Split
from backtest_assets.gates.gate import Evidence, Gate, examples_of
from backtest_assets.research.report.page import MAX_BYTES

TOLERANCE: Final = 1e-9
"""Largest difference between a number of the report and its table [the number's unit]; sums of floats, nothing more."""

MAX_DISAGREEMENTS: Final = 0
"""A report that says anything its tables do not say must not be published [rows]."""

MIN_PROMOTED: Final = 1
"""Below this there is nothing to trade; a remark, not a fault [blueprints]."""

REQUIRED_METRICS: Final = ("n_trades", "net", "ending_equity", "max_drawdown")
"""Metrics without which there is no report of an executed run (R102, R107)."""

_EXECUTION_SECTIONS: Final = ("expectancy", "walkforward", "performance", "costs")
_ALLOCATED: Final = {
    "fraction of capital": ("weight", "parity_weight", "kelly_weight", "volatility_annual", "expected_return_annual"),
    "fraction of variance": ("risk_share",),
}
_TRIALS_OF_ALL: Final = ("n_trials_all", "n_hypotheses_all", "n_trials_same_data", "effective_trials_all")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PORTFOLIO: Final = "portfolio"
_MOVE = re.compile(r"move_[0-9]+_bars_bps")
_PHASE1_NUMBERS: Final = ("delta", "ci_low", "ci_high", "p_family")


def _decision(evidence: Evidence) -> str:
    """Return the decision the report and the checklist agree on; anything else has no answer and crashes the gate."""
    (decided,) = evidence.inputs["research_checklist"]["decision"].unique().to_list()
    (said,) = _section(evidence, "verdict").filter(pl.col("item") == "decision")["text"].to_list()
    if said != decided:
        message = f"the report says {said}, research_checklist {decided}; rebuild the report"
        raise ValueError(message)
    return str(decided)


def _section(evidence: Evidence, *names: str) -> pl.DataFrame:
    return evidence.frame.filter(pl.col("section").is_in(names))


def _observed(evidence: Evidence, section: str, item: str) -> float | None:
    (value,) = _section(evidence, section).filter(pl.col("item") == item)["observed"].to_list()
    return value


def _answer(gate: str, wrong: pl.DataFrame, about: str) -> Verdict:
    detail = (
        f"{wrong.height} of the report's rows differ from {about}; rebuild the report"
        if wrong.height
        else f"agrees with {about}"
    )
    examples = examples_of(wrong, wrong.columns)
    return Verdict(
        gate, wrong.height, MAX_DISAGREEMENTS, "rows", passed=wrong.height == 0, detail=detail, examples=examples
    )


def _differing(
    said: pl.DataFrame, truth: pl.DataFrame, numbers: Iterable[str], words: Iterable[str] = ()
) -> pl.DataFrame:
    """Return the items that only one side has, or whose numbers or words differ; null equals null only."""
    both = (
        said.select(truth.columns)
        .join(truth, on="item", how="full", suffix="_true", coalesce=True)
        .with_columns(
            is_said=pl.col("item").is_in(said["item"].to_list()), is_true=pl.col("item").is_in(truth["item"].to_list())
        )
    )
    same = pl.col("is_said") & pl.col("is_true")
    for name in numbers:
        one, other = pl.col(name), pl.col(f"{name}_true")
        same &= (one.is_null() & other.is_null()) | ((one - other).abs() <= TOLERANCE).fill_null(value=False)
    for name in words:
        same &= pl.col(name).eq_missing(pl.col(f"{name}_true"))
    return both.filter(~same.fill_null(value=False)).drop("is_said", "is_true")


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
    said = _section(evidence, "verdict").filter(pl.col("item").is_in(truth["item"].to_list()))
    return _answer("verdict_agrees", _differing(said, truth, ["observed"], ["text"]), "checklist and promotions")


def _gates_shown(evidence: Evidence) -> Verdict:
    wanted = ("item", "observed", "limit", "is_passed")
    checklist = evidence.inputs["research_checklist"].with_columns(item="research_checklist/" + pl.col("gate"))
    parts = [checklist.select(wanted)]
    if _decision(evidence) == "PROMOTE":
        promotions = evidence.inputs["promotions"].with_columns(item=pl.col("blueprint_id") + "/" + pl.col("gate"))
        parts.append(promotions.select(wanted))
    wrong = _differing(_section(evidence, "gates"), pl.concat(parts), ["observed", "limit"], ["is_passed"])
    return _answer("gates_shown", wrong, "checklist and promotions")


def _not_run(gate: str, evidence: Evidence) -> Verdict:
    invented = _section(evidence, *_EXECUTION_SECTIONS)
    detail = (
        "execution was not run, and the report says nothing about it"
        if invented.is_empty()
        else (f"execution was not run, but the report has {invented.height} rows about it; rebuild the report")
    )
    return Verdict(gate, invented.height, MAX_DISAGREEMENTS, "rows", passed=invented.is_empty(), detail=detail)


def _metrics_agree(evidence: Evidence) -> Verdict:
    gate = "metrics_agree"
    if _decision(evidence) != "PROMOTE":
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
            _differing(_metric_rows(evidence, "performance"), _metric_truth(backtest), ["observed"]),
            _differing(_metric_rows(evidence, "walkforward"), _metric_truth(pl.concat([forward, test])), ["observed"]),
        ]
    )
    if wrong.is_empty():
        for split in (Split.TRAIN, Split.VALIDATION, "discovery"):
            lacking = [
                m for m in REQUIRED_METRICS if _observed(evidence, "performance", f"{_PORTFOLIO}/{split}/{m}") is None
            ]
            if lacking:
                detail = f"backtest_metrics has no {', '.join(lacking)} of the portfolio on {split}; rebuild backtest_metrics"
                return Verdict(gate, len(lacking), MAX_DISAGREEMENTS, "metrics", passed=False, detail=detail)
    return _answer(gate, wrong, "backtest_metrics and the walk-forward tables")


def _metric_rows(evidence: Evidence, section: str) -> pl.DataFrame:
    return _section(evidence, section).filter(pl.col("item").str.starts_with(f"{_PORTFOLIO}/"))


def _metric_truth(metrics: pl.DataFrame) -> pl.DataFrame:
    own = metrics.filter(pl.col("scope") == _PORTFOLIO)
    return own.select(
        pl.concat_str("scope", "split", "metric", separator="/").alias("item"), pl.col("value").alias("observed")
    )


def _equity_agrees(evidence: Evidence) -> Verdict:
    gate = "equity_agrees"
    if _decision(evidence) != "PROMOTE":
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
    if _decision(evidence) != "PROMOTE":
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
    said = _section(evidence, section).filter(pl.col("item").is_in(list(truths)))
    return _answer(gate, _differing(said, truth, ["observed"]), about)


def _phase1_agrees(evidence: Evidence) -> Verdict:
    tested = evidence.inputs["hypotheses"].filter(pl.col("is_eligible"))
    families: dict[str, list[dict[str, Any]]] = {}
    for row in evidence.inputs["phase1_evidence"].to_dicts():
        families.setdefault(row["event_type"], []).append(row)
    truth: list[tuple[str, float | None, str]] = []
    for name, rows in families.items():
        moves = [row for row in rows if _MOVE.fullmatch(row["metric"]) and row["p_family"] is not None]
        clearest = min(moves, key=lambda row: (row["p_family"], _hold(row["metric"])), default=None)
        truth += [(f"{name}/{item}", None, text) for item in ("decision", "ground") for text in {r[item] for r in rows}]
        truth.append((f"{name}/clearest_metric", None, "none" if clearest is None else clearest["metric"]))
        truth += [(f"{name}/{item}", None if clearest is None else clearest[item], "") for item in _PHASE1_NUMBERS]
        truth += [(f"{name}/n_events", float(n), "") for n in {row["n_events"] for row in rows}]
        truth.append((f"{name}/n_hypotheses", float(tested.filter(pl.col("event_type") == name).height), ""))
    schema = {"item": pl.String, "observed": pl.Float64, "text": pl.String}
    stated = pl.DataFrame(truth, schema=schema, orient="row")
    wrong = _differing(_section(evidence, "phase1"), stated, ["observed"], ["text"])
    return _answer("phase1_agrees", wrong, "phase1_evidence and hypotheses")


def _hold(metric: str) -> int:
    return int(metric.split("_")[1])


def _beside_agrees(evidence: Evidence) -> Verdict:
    inference = evidence.inputs["inference_summary"].select(item="statistic", observed="value", unit="unit")
    strategies = evidence.inputs["strategy_candidates"].select(
        item="strategy_candidate_id", observed="score", unit="score_unit"
    )
    wrong = pl.concat(
        [
            _differing(_section(evidence, section), truth, ["observed"], ["unit"])
            for section, truth in (
                ("inference", inference),
                ("strategies", strategies),
                ("allocation", _allocated(evidence)),
            )
        ]
    )
    return _answer("beside_agrees", wrong, "inference_summary, strategy_candidates and capital_allocation")


def _allocated(evidence: Evidence) -> pl.DataFrame:
    """Return what capital_allocation says, item by item; nothing where execution was not run."""
    if _decision(evidence) != "PROMOTE":
        return pl.DataFrame(schema={"item": pl.String, "observed": pl.Float64, "unit": pl.String})
    numbers = evidence.inputs["capital_allocation"].select(
        "blueprint_id", *(name for names in _ALLOCATED.values() for name in names)
    )
    units = {name: unit for unit, names in _ALLOCATED.items() for name in names}
    return numbers.unpivot(index="blueprint_id", variable_name="name", value_name="observed").select(
        item=pl.col("blueprint_id") + "/" + pl.col("name"),
        observed="observed",
        unit=pl.col("name").replace_strict(units, return_dtype=pl.String),
    )


def _trials_counted(evidence: Evidence) -> Verdict:
    counts, ledger = evidence.inputs["trial_counts"], evidence.inputs["trial_ledger"]
    of_all = (
        counts.select(pl.col(_TRIALS_OF_ALL).cast(pl.Float64))
        .unique()
        .unpivot(variable_name="item", value_name="observed")
    )
    none = pl.DataFrame({"item": ["none"], "observed": [None]}, schema={"item": pl.String, "observed": pl.Float64})
    kinds: list[str] = ledger["kind"].unique().sort().to_list()
    own = {
        "trials": float(ledger.height),
        **{f"trials/{kind}": float(ledger.filter(kind=kind).height) for kind in kinds},
    }
    mine = pl.DataFrame({"item": list(own), "observed": list(own.values())})
    is_count = (pl.col("item") == "trials") | pl.col("item").str.starts_with("trials/")
    wrong = pl.concat(
        [
            _differing(_section(evidence, "trials"), none if of_all.is_empty() else of_all, ["observed"]),
            _differing(_section(evidence, "hypotheses").filter(is_count), mine, ["observed"]),
        ]
    )
    return _answer("trials_counted", wrong, "trial_counts and trial_ledger")


def _page_sealed(evidence: Evidence) -> Verdict:
    gate = "page_sealed"
    page = _section(evidence, "page")
    (digest,) = page.filter(pl.col("item") == "sha256")["text"].to_list()
    n_bytes, n_outside = _observed(evidence, "page", "n_bytes"), _observed(evidence, "page", "external_references")
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
    n_promoted = _observed(evidence, "verdict", "promoted_blueprints")
    (sentence,) = _section(evidence, "verdict").filter(pl.col("item") == "sentence")["text"].to_list()
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
        _phase1_agrees,
    ),
    Gate(
        "beside_agrees",
        Severity.ERROR,
        "Numbers beside, strategy candidates and capital are those of their tables; limit: 0 differing rows (R50).",
        _beside_agrees,
    ),
    Gate(
        "trials_counted",
        Severity.ERROR,
        "Trials of the run and of all runs are those of their tables; limit: 0 differing rows.",
        _trials_counted,
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
