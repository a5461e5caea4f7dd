"""Frames of a finished run, random but consistent: trades are sums of their ledger rows, metrics are sums of trades."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, replace
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import (
    Blueprint,
    Entry,
    Evaluation,
    Exit,
    Lineage,
    Sizing,
    SymbolScope,
)
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun, settings_fields
from backtest_assets.domain.split import Split
from backtest_assets.research.events.accepted import register_events
from backtest_assets.research.hypotheses.summary import SUMMARY
from backtest_assets.research.hypotheses.trials import count_trials
from backtest_assets.research.phase1.criteria import METRICS, MetricNumbers, decide_family, why_not_run
from backtest_assets.research.report.inputs import Execution, ReportInputs
from backtest_assets.tables.blueprints import BLUEPRINTS
from backtest_assets.tables.candidates import EDGE_CANDIDATES, NAIVE_ENTRY
from backtest_assets.tables.events import EVENT_CANDIDATES
from backtest_assets.tables.hypotheses import HYPOTHESES, INFERENCE_SUMMARY, RESEARCH_CHECKLIST, TRIAL_LEDGER
from backtest_assets.tables.phase1 import PHASE1_EVIDENCE
from backtest_assets.tables.promotions import CAPITAL_ALLOCATION, PROMOTIONS, STRATEGY_CANDIDATES
from backtest_assets.tables.run import RESEARCH_RUN
from backtest_assets.tables.simulation import BACKTEST_METRICS, SIMULATION_LEDGER, TRADES
from backtest_assets.tables.walkforward import WALKFORWARD_SPLITS, WALKFORWARD_SUMMARY, WALKFORWARD_TEST

BAR = timedelta(minutes=15)
HOLD = 16
CONDITIONS = ("all", "session_us", "session_asia", "vol_regime_high", "bull_bear_bull", "funding_regime_positive")
GATES = (
    ("stressed_net_train", ">", 0.0, "fraction of equity"),
    ("stressed_net_validation", ">", 0.0, "fraction of equity"),
    ("max_regime_share", "<=", 0.80, "fraction"),
    ("max_loss_cluster_len", "<=", 64.0, "days"),
    ("cluster_loss_concentration", "<=", 0.50, "fraction"),
    ("tail_conditional_drawdown", ">=", -0.20, "fraction"),
    ("cost_ratio_validation", "<=", 0.60, "fraction"),
)


def a_run(**settings: object) -> ResearchRun:
    values = {"run_id": "BTC_ETH_2023", "symbols": "BTCUSDT,ETHUSDT", "start": "2023-01-01", "end": "2023-12-31"}
    return ResearchRun(**{**values, "source": "synthetic:7", **settings})


def inputs_of(run: ResearchRun, *, promoted: int = 2, decision: str = "PROMOTE", seed: int = 5) -> ReportInputs:
    """Build every frame of a run; `promoted` of its five executed blueprints keep all gates."""
    rng = np.random.default_rng(seed)
    found = decision == "PROMOTE"
    phase1 = _phase1(found=found)
    hypotheses = _hypotheses(rng, phase1, found=found)
    blueprints = _blueprints(run, hypotheses) if found else BLUEPRINTS.empty()
    um = _bars(run, rng)
    ledger = _trials(hypotheses)
    candidates = _candidates(run, rng)
    return ReportInputs(
        research_run=_settings(run),
        phase1_evidence=phase1,
        hypotheses=hypotheses,
        inference_summary=_summary(rng),
        naive_entry=_naive(hypotheses),
        edge_candidates=_edges(run, hypotheses),
        trial_ledger=ledger,
        trial_counts=_counts(ledger),
        research_checklist=_checklist(decision),
        event_candidates=candidates,
        event_registry=register_events(candidates),
        blueprints=blueprints,
        strategy_candidates=_strategies(blueprints, promoted) if found else STRATEGY_CANDIDATES.empty(),
        features=_features(um, rng),
        bars_um=um,
        bars_spot=um.filter(pl.col("symbol") == "BTCUSDT"),
        lineage=_lineage(run),
        execution=_execution(run, blueprints, rng, promoted) if found else None,
    )


def frames_of(inputs: ReportInputs) -> Mapping[str, pl.DataFrame]:
    """Give the inputs by table name, as a gate gets them."""
    names = [name for name in ReportInputs.__slots__ if name not in {"execution", "lineage"}]
    executed = {} if inputs.execution is None else {n: getattr(inputs.execution, n) for n in Execution.__slots__}
    return {**{name: getattr(inputs, name) for name in names}, **executed}


def execution_of(inputs: ReportInputs) -> Execution:
    assert inputs.execution is not None
    return inputs.execution


def with_source(inputs: ReportInputs, run: ResearchRun) -> ReportInputs:
    return replace(inputs, research_run=_settings(run))


def _settings(run: ResearchRun) -> pl.DataFrame:
    rows = [
        (
            f.name,
            json.dumps(run.to_dict()[f.name]),
            _default(f),
            f.name in run.non_production_overrides,
            f.metadata["about"],
            run.digest,
        )
        for f in settings_fields()
    ]
    return RESEARCH_RUN.conform(pl.DataFrame(rows, schema=list(RESEARCH_RUN.schema), orient="row"))


def _default(item: Field[object]) -> str | None:
    return None if item.default is MISSING else json.dumps(item.default)


def _phase1(*, found: bool) -> pl.DataFrame:
    """Decide on every family as phase 1 does: with an edge all pass, without one some do, and the first is not run."""
    rng = np.random.default_rng(9)
    rows = []
    for number, family in enumerate(EventType):
        p = rng.uniform(0.0005, 0.1 if found else 0.9, len(METRICS))
        n = 12 if number == 0 and not found else int(rng.integers(40, 400))
        known = {m: MetricNumbers(n, p[i], 0.5, 0, 0) for i, m in enumerate(METRICS)}
        decided = why_not_run([("READY", "")], dict.fromkeys(METRICS, n)) or decide_family(known, n_placebos=8)
        for i, metric in enumerate(METRICS):
            delta = float(rng.normal(0.0, 9.0))
            numbers = {"delta": delta, "ci_low": delta - 4.0, "ci_high": delta + 4.0, "p_family": p[i]}
            row = {"event_type": family, "metric": metric, "n_events": n + 5, "n_matched": n, "n_placebos": 8}
            why = {"decision": decided.decision, "ground": decided.ground, "reason": decided.reason}
            rows.append(row | why | (dict.fromkeys(numbers) if decided.decision == "not_run" else numbers))
    blank = pl.DataFrame(rows, schema_overrides=dict.fromkeys(("delta", "ci_low", "ci_high", "p_family"), pl.Float64))
    missing = [pl.lit(None, t).alias(name) for name, t in PHASE1_EVIDENCE.schema.items() if name not in blank.columns]
    return PHASE1_EVIDENCE.conform(blank.with_columns(missing))


def _hypotheses(rng: np.random.Generator, phase1: pl.DataFrame, *, found: bool) -> pl.DataFrame:
    rows = [
        {"event_type": family, "condition": condition, "side_rule": side, "hold_bars": hold}
        for family, condition, side, hold in product(EventType, CONDITIONS, ("long", "short"), (4, 16, 48, 96))
    ]
    n = len(rows)
    frame = HYPOTHESES.sample(1, n).drop("event_type", "condition", "side_rule", "hold_bars")
    t = rng.normal(-0.4, 1.0, n)
    best = rng.permutation(n)[:5]
    if found:
        t[best] = rng.uniform(4.5, 6.5, 5)
    eligible = rng.random(n) < 0.85
    eligible[best] = True
    se = rng.uniform(2.0, 9.0, n)
    p_rw = np.clip(np.exp(-(np.maximum(t, 0) ** 2) / 2) * 60, 1 / 2001, 1.0)
    survives = eligible & (p_rw <= 0.05)
    selected = survives if found else np.zeros(n, bool)
    decisions = dict(phase1.select("event_type", "decision").unique().iter_rows())
    passed = np.array([decisions[row["event_type"]] == "pass" for row in rows])
    late = rng.normal(4.0 if found else -1.0, 2.0, n)

    def where(values: np.ndarray) -> pl.Series:
        return pl.Series(np.where(eligible, values, np.nan)).fill_nan(None)

    reasons = [
        ""
        if s or not e
        else "gate_multiplicity,gate_validation"
        if p
        else "gate_phase1,gate_multiplicity,gate_validation"
        for s, e, p in zip(selected, eligible, passed, strict=True)
    ]
    status = [
        "selected" if s else "rejected" if e else "insufficient_evidence"
        for s, e in zip(selected, eligible, strict=True)
    ]
    given = pl.DataFrame(rows).with_columns(pl.all().name.keep())
    counts = rng.integers(40, 900, n)
    return HYPOTHESES.conform(
        pl.concat([frame, given], how="horizontal").with_columns(
            hypothesis_id=pl.Series([f"h{i:03d}{'a' * 8}" for i in range(n)]),
            queue_rank=pl.lit(None, pl.Int64),
            n_train=pl.Series(counts),
            n_days_train=pl.Series(counts // 2),
            is_eligible=pl.Series(eligible),
            t_train=where(t),
            se_train_bps=where(se),
            net_mean_train_bps=where(t * se),
            multiplicity_penalty_bps=where(3.1 * se),
            p_train=where(np.exp(-(np.maximum(t, 0) ** 2) / 2)),
            p_rw=where(p_rw),
            net_mean_validation_bps=where(late),
            p_validation=where(np.where(survives, 0.03, 0.5)),
            phase1_decision=pl.Series([decisions[row["event_type"]] for row in rows]),
            gate_phase1=pl.Series(eligible & passed),
            gate_multiplicity=pl.Series(survives),
            gate_validation=pl.Series(survives),
            status=pl.Series(status),
            fail_reasons=pl.Series(reasons),
        )
    )


def _summary(rng: np.random.Generator) -> pl.DataFrame:
    values = [None, *rng.uniform(0.1, 3, len(SUMMARY) - 1).tolist()]
    rows = [(name, value, SUMMARY[name], f"about {name}") for name, value in zip(SUMMARY, values, strict=True)]
    return INFERENCE_SUMMARY.conform(pl.DataFrame(rows, schema=INFERENCE_SUMMARY.schema, orient="row"))


def _naive(hypotheses: pl.DataFrame) -> pl.DataFrame:
    """Give every tested hypothesis a plain entry that earns, but the best."""
    tested = hypotheses.filter("is_eligible").sort("t_train", descending=True)
    rule = ("hypothesis_id", "event_type", "condition", "side_rule", "delay_bars", "hold_bars")
    best = pl.int_range(pl.len()) == 0
    made = (
        NAIVE_ENTRY.sample(3, tested.height)
        .drop(rule)
        .with_columns(
            status=pl.when(best).then(pl.lit("FAIL")).otherwise(pl.lit("PASS")),
            is_passed=~best,
            fail_reasons=pl.when(best).then(pl.lit("naive_max_drawdown")).otherwise(pl.lit("")),
        )
    )
    return NAIVE_ENTRY.conform(pl.concat([tested.select(rule), made], how="horizontal"))


def _edges(run: ResearchRun, hypotheses: pl.DataFrame) -> pl.DataFrame:
    """Make every survivor of multiplicity an edge candidate, of which the second best by t is a DRAFT."""
    survivors = hypotheses.filter("is_eligible", "gate_multiplicity").sort("t_train", descending=True)
    is_draft = pl.int_range(pl.len()) == 1
    rule = ("condition", "side_rule", "delay_bars", "hold_bars")
    own = survivors.select(*rule, candidate_id="hypothesis_id", event="event_type", edge_score="t_train")
    made = (
        EDGE_CANDIDATES.sample(4, survivors.height)
        .drop(own.columns)
        .with_columns(
            status=pl.when(is_draft).then(pl.lit("DRAFT")).otherwise(pl.lit("PROMOTED")),
            fail_reasons=pl.when(is_draft).then(pl.lit("trap:tails")).otherwise(pl.lit("")),
            run_id=pl.lit(run.run_id),
        )
    )
    return EDGE_CANDIDATES.conform(pl.concat([own, made], how="horizontal"))


def _strategies(blueprints: pl.DataFrame, promoted: int) -> pl.DataFrame:
    """Make every blueprint a strategy candidate: the promoted as such, the others as edge candidates."""
    own = blueprints.sort("rank")
    is_won = pl.col("rank") <= promoted
    named = pl.concat_str(pl.when(is_won).then(pl.lit("blueprint/")).otherwise(pl.lit("edge/")), "blueprint_id")
    given = own.select(
        "hypothesis_id", "blueprint_id", "condition", "side_rule", pl.col("rank").cast(pl.Int64),
        event="event_type", strategy_candidate_id=named, hold_bars="time_stop_bars", deployment_symbols="symbols",
        source=pl.when(is_won).then(pl.lit("promoted_blueprint")).otherwise(pl.lit("edge_candidate")),
        score_unit=pl.when(is_won).then(pl.lit("fraction of equity")).otherwise(pl.lit("bps per calendar day")),
        not_ready_reason=pl.when(is_won).then(pl.lit("")).otherwise(pl.lit("not_compiled: near_copy")),
        is_backtest_ready=is_won, is_blocked=~is_won, size_scale=is_won.cast(pl.Float64),
    )  # fmt: skip
    rest = STRATEGY_CANDIDATES.sample(5, own.height).drop(given.columns)
    return STRATEGY_CANDIDATES.conform(pl.concat([given, rest], how="horizontal"))


def _trials(hypotheses: pl.DataFrame) -> pl.DataFrame:
    kinds = ("hypothesis", "delay", "delay", "neighbour", "neighbour")
    rows = [
        (f"{name}-{i}", name, kind, family, "detail", "s" * 64, "i" * 64, 1.0, None, None, 2.0)
        for name, family in hypotheses.select("hypothesis_id", "event_type").rows()
        for i, kind in enumerate(kinds)
    ]
    return TRIAL_LEDGER.conform(pl.DataFrame(rows, schema=list(TRIAL_LEDGER.schema), orient="row"))


def _counts(ledger: pl.DataFrame) -> pl.DataFrame:
    """Count the run's trials beside those of another run, a third as many, on other outcomes."""
    other = ledger.head(ledger.height // 3).with_columns(
        trial_id="other-" + pl.col("trial_id"), inputs_digest=pl.lit("j" * 64), luckiest_t=pl.lit(2.5)
    )
    ledgers = [
        frame.with_columns(of_run_id=pl.lit(name), ledger_digest=pl.lit(f"digest of {name}"))
        for name, frame in (("own", ledger), ("other", other))
    ]
    return count_trials(pl.concat(ledgers), "i" * 64)


def _checklist(decision: str) -> pl.DataFrame:
    found = decision == "PROMOTE"
    rows = [
        ("hypotheses_enumerated", 144.0, 1.0, "hypotheses", True, "every declared hypothesis is listed"),
        ("eligible_hypotheses", 121.0, 1.0, "hypotheses", True, "enough events and days to be tested"),
        (
            "multiplicity_survivors",
            5.0 if found else 0.0,
            1.0,
            "hypotheses",
            found,
            "5 survive"
            if found
            else "no hypothesis survives; the best, vol_shock_relaxation in session_us held 16 bars, has t 2.1 where the luckiest of 121 null hypotheses shows 3.1",
        ),
        (
            "selected_hypotheses",
            5.0 if found else 0.0,
            1.0,
            "hypotheses",
            found,
            "5 selected" if found else "none is left to select",
        ),
    ]
    frame = pl.DataFrame(rows, schema=list(RESEARCH_CHECKLIST.schema)[:-1], orient="row")
    return RESEARCH_CHECKLIST.conform(frame.with_columns(pl.lit(decision).alias("decision")))


def _candidates(run: ResearchRun, rng: np.random.Generator) -> pl.DataFrame:
    n = 3000
    frame = EVENT_CANDIDATES.sample(2, n)
    status = rng.choice(["accepted", "cooldown", "low_quality"], n, p=[0.7, 0.25, 0.05])
    return frame.with_columns(
        pl.Series("status", status),
        pl.Series("variant", rng.choice(["centre", "rate_minus", "rate_plus"], n)),
        pl.lit(run.symbol_list[0]).alias("symbol"),
    )


def _bars(run: ResearchRun, rng: np.random.Generator) -> pl.DataFrame:
    start, end = run.window
    times = pl.datetime_range(start, end, BAR, closed="left", eager=True, time_unit="us").alias("open_at")
    frames = []
    for symbol in run.symbol_list:
        gap = np.zeros(times.len(), bool)
        for first in rng.integers(0, times.len(), 5):
            gap[first : first + int(rng.integers(1, 40))] = True
        price = pl.when(~pl.col("is_gap")).then(100.0 + pl.int_range(pl.len()) * 1e-3)
        frames.append(
            pl.DataFrame({"open_at": times, "is_gap": gap}).select(
                pl.lit(symbol).alias("symbol"), "open_at", price.alias("open"), price.alias("close"), "is_gap"
            )
        )
    bars = pl.concat(frames)
    hole = (pl.col("symbol") == "ETHUSDT") & (
        pl.col("open_at").dt.strftime("%m-%d").is_between(pl.lit("06-10"), pl.lit("06-21"))
    )
    return bars.filter(~hole & ~((pl.col("symbol") == "ETHUSDT") & (pl.col("open_at").dt.month() == 2)))


def _features(bars: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    n = bars.height
    return bars.with_columns(
        pl.Series("funding_rate", np.where(rng.random(n) < 0.99, 1e-4, np.nan)).fill_nan(None),
        pl.when(pl.col("symbol") == "BTCUSDT").then(3.0).alias("basis_bps"),
    )


def _lineage(run: ResearchRun) -> pl.DataFrame:
    rows = [(table, run.run_id, f"{i:064x}") for i, table in enumerate(("hypotheses", "promotions", "trades"))]
    rows += [("bars_um", f"2023-{m:02d}|{s}", f"{m:064x}") for s in run.symbol_list for m in range(1, 13)]
    return pl.DataFrame(rows, schema=["table", "partition", "digest"], orient="row")


def _blueprints(run: ResearchRun, hypotheses: pl.DataFrame) -> pl.DataFrame:
    chosen = hypotheses.filter(pl.col("status") == "selected").sort("t_train", descending=True)
    rows = []
    for rank, row in enumerate(chosen.to_dicts(), start=1):
        name = f"bp_{row['event_type']}_{row['condition']}_{row['side_rule']}_h{row['hold_bars']}"
        blueprint = Blueprint(
            name,
            run.run_id,
            EventType(row["event_type"]),
            row["side_rule"] if row["side_rule"] in {"long", "short"} else "conditional",
            SymbolScope("multi_symbol", run.symbol_list),
            Entry((row["event_type"],), (row["condition"],), SideRule(row["side_rule"]), 0, 0),
            Exit(row["hold_bars"], "percent", 0.031, "percent", 0.044),
            Sizing("fixed_fraction", 0.5, 1.0, 1.0),
            Evaluation(run.fees_bps, run.slippage_bps, funding_included=True),
            Lineage(row["hypothesis_id"], "blueprint_v3", "2023-01-01", "2023-08-07"),
        )
        rows.append(
            {
                "rank": rank,
                "blueprint_id": name,
                "hypothesis_id": row["hypothesis_id"],
                "event_type": row["event_type"],
                "condition": row["condition"],
                "direction": row["side_rule"],
                "side_rule": row["side_rule"],
                "symbols": run.symbols,
                "delay_bars": 0,
                "time_stop_bars": row["hold_bars"],
                "known_at": run.splits[Split.VALIDATION].end,
                "is_fallback": False,
                "exit_quantile": 0.95,
                "n_entries_train": 9,
                "time_exit_train_bps": 9.0,
                "with_exits_train_bps": 9.0,
                "stop_frac": 0.031,
                "target_frac": 0.044,
                "t_train": row["t_train"],
                "is_executed": True,
                "behaviour_digest": blueprint.behaviour_digest,
                "spec_json": blueprint.to_json(),
            }
        )
    return BLUEPRINTS.conform(pl.DataFrame(rows))


def _execution(run: ResearchRun, blueprints: pl.DataFrame, rng: np.random.Generator, promoted: int) -> Execution:
    ledger = _ledger(run, blueprints, rng)
    trades = _trades(run, ledger)
    plan = [
        (w.split.value, w.start, w.last_entry, w.end, w.n_days, run.splits.purge_bars, 0) for w in run.splits.windows
    ]
    ids = blueprints["blueprint_id"].to_list()
    slices = {split: _metrics(run, ledger, trades, ids, split) for split in (*Split, "discovery")}
    summary = pl.concat(
        [slices[s].select(pl.lit(s.value).alias("split"), pl.all()) for s in (Split.TRAIN, Split.VALIDATION)]
    )
    backtest = pl.concat(
        [
            slices[s].select(pl.lit(str(s)).alias("split"), pl.all())
            for s in (Split.TRAIN, Split.VALIDATION, "discovery")
        ]
    ).rename({"blueprint_id": "scope"})
    return Execution(
        simulation_ledger=ledger,
        trades=trades,
        backtest_metrics=BACKTEST_METRICS.conform(backtest.select(list(BACKTEST_METRICS.schema))),
        walkforward_splits=WALKFORWARD_SPLITS.conform(
            pl.DataFrame(plan, schema=WALKFORWARD_SPLITS.schema, orient="row")
        ),
        walkforward_summary=WALKFORWARD_SUMMARY.conform(summary),
        walkforward_test=WALKFORWARD_TEST.conform(slices[Split.TEST]),
        promotions=_promotions(ids, rng, promoted),
        capital_allocation=_allocation(ids[:promoted]),
    )


def _ledger(run: ResearchRun, blueprints: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    start, end = run.window
    n_bars = int((end - start) / BAR)
    frames = []
    for name in blueprints["blueprint_id"]:
        for symbol in run.symbol_list:
            entries = np.sort(rng.choice(n_bars // (HOLD + 4), 110, replace=False)) * (HOLD + 4)
            drift = rng.uniform(-1e-5, 6e-5)
            for first in entries:
                at = start + int(first) * BAR
                gross = 0.25 * rng.normal(drift, 1.2e-3, HOLD)
                cost = np.zeros(HOLD)
                cost[[0, -1]] = 0.25 * 1e-4
                funding = np.where(np.arange(HOLD) == HOLD // 2, rng.normal(-1e-6, 5e-6), 0.0)
                frames.append(
                    pl.DataFrame(
                        {
                            "open_at": [at + i * BAR for i in range(HOLD)],
                            "symbol": symbol,
                            "blueprint_id": name,
                            "trade_id": f"{name}:{symbol}:{first}",
                            "gross_pnl": gross,
                            "fee": 4 * cost,
                            "slippage": 2 * cost,
                            "funding_pnl": funding,
                        }
                    )
                )
    rows = pl.concat(frames).with_columns(
        known_at=pl.col("open_at") + BAR,
        exposure_before=pl.lit(0.25),
        exposure_after=pl.lit(0.25),
        mark_from=pl.lit(100.0),
        mark_to=pl.lit(100.0),
        net_pnl=pl.col("gross_pnl") - pl.col("fee") - pl.col("slippage") + pl.col("funding_pnl"),
    )
    return SIMULATION_LEDGER.conform(rows)


def _trades(run: ResearchRun, ledger: pl.DataFrame) -> pl.DataFrame:
    money = ("gross_pnl", "fee", "slippage", "funding_pnl", "net_pnl")
    rows = ledger.group_by("trade_id", "blueprint_id", "symbol", maintain_order=True).agg(
        pl.col("open_at").first().alias("entered_at"),
        pl.col("open_at").last().alias("exited_at"),
        pl.col("known_at").last(),
        pl.col(money).sum(),
    )
    labels = [str(run.splits.split_of(at) or "purged") for at in rows["entered_at"]]
    rows = rows.with_columns(pl.Series("split", labels, pl.String))
    flat = {c.name: 0.01 for c in TRADES.columns if c.name not in rows.columns and c.dtype.is_float()}
    return TRADES.conform(
        rows.with_columns(
            **{name: pl.lit(value) for name, value in flat.items()},
        ).with_columns(
            exposure=pl.lit(0.25),
            event_id=pl.col("trade_id"),
            side=pl.lit(1),
            triggered_at=pl.col("entered_at"),
            exit_reason=pl.lit("time"),
            n_bars_held=pl.lit(HOLD),
        )
    )


def _metrics(run: ResearchRun, ledger: pl.DataFrame, trades: pl.DataFrame, ids: list[str], split: str) -> pl.DataFrame:
    """Give the metrics of one slice; discovery is what is over when the test window starts."""
    test = run.splits[Split.TEST].start
    own = trades.filter(
        (pl.col("known_at") <= test) & (pl.col("split") != "test") if split == "discovery" else pl.col("split") == split
    )
    rows = []
    for scope in ("portfolio", *ids):
        mine = own.filter((pl.col("blueprint_id") == scope) | (scope == "portfolio"))
        booked = ledger.join(mine.select("trade_id"), on="trade_id", how="semi")
        bars = booked.group_by("open_at").agg(pl.col("net_pnl").sum()).sort("open_at")["net_pnl"].to_numpy()
        equity = np.concatenate([[1.0], np.cumprod(1 + bars)])
        eq = "fraction of equity"
        numbers = (
            ("n_trades", mine.height, "trades"),
            ("win_rate", (mine["net_pnl"] > 0).mean(), "fraction"),
            ("gross", mine["gross_pnl"].sum(), eq),
            ("fees", mine["fee"].sum(), eq),
            ("slippage", mine["slippage"].sum(), eq),
            ("funding", mine["funding_pnl"].sum(), eq),
            ("net", mine["net_pnl"].sum(), eq),
            ("ending_equity", equity[-1], "times the start"),
            ("max_drawdown", (equity / np.maximum.accumulate(equity) - 1).min(), "fraction"),
            ("sharpe_daily_annualised", bars.mean() / bars.std() * 20, "per sqrt(year)"),
            ("cost_ratio", None if mine["gross_pnl"].sum() <= 0 else 0.4, "fraction"),
        )
        rows += [(scope, m, v, u, mine.height, run.window[0], run.window[1]) for m, v, u in numbers]
    return pl.DataFrame(rows, schema=WALKFORWARD_TEST.schema, orient="row", strict=False)


def _promotions(ids: list[str], rng: np.random.Generator, promoted: int) -> pl.DataFrame:
    rows = []
    for i, name in enumerate(ids):
        for j, (gate, comparator, limit, unit) in enumerate(GATES):
            passed = i < promoted or j != (4 + i) % len(GATES)
            distance = float(rng.uniform(0.01, 0.09)) * (1 if unit != "days" else 100)
            direction = -1 if comparator == "<=" else 1
            unknown = not passed and i == promoted
            observed = None if unknown else limit + direction * distance * (1 if passed else -1)
            margin = None if unknown else distance * (1 if passed else -1)
            detail = "insufficient evidence: 3 loss clusters, 10 needed" if unknown else "worse of train and validation"
            source = "walkforward_summary"
            rows.append((name, gate, observed, limit, comparator, unit, margin, passed, detail, source, i < promoted))
    return PROMOTIONS.conform(pl.DataFrame(rows, schema=PROMOTIONS.schema, orient="row"))


def _allocation(promoted: list[str]) -> pl.DataFrame:
    share = 0.9 / max(len(promoted), 1)
    rows: list[dict[str, object]] = [
        {
            "blueprint_id": name, "rank": rank, "weight": min(share, 0.45), "parity_weight": 1 / len(promoted), "kelly_weight": 1.2,
            "bound_by": "max_weight", "reason": "allocation_max_weight allows no more", "volatility_annual": 0.1,
            "expected_return_annual": 0.05, "risk_share": 1 / len(promoted), "n_active_days": 90,
        }
        for rank, name in enumerate(promoted, start=1)
    ]  # fmt: skip
    cash = {
        "blueprint_id": "cash",
        "weight": 1 - min(share, 0.45) * len(promoted),
        "bound_by": "",
        "reason": "the rest",
    }
    return CAPITAL_ALLOCATION.conform(pl.DataFrame([*rows, cash], schema=CAPITAL_ALLOCATION.schema))


AS_OF = datetime(2024, 1, 1, tzinfo=UTC)
