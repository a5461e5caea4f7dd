"""The hypothesis queue, hypotheses, the trial ledger and its count over all runs, and the checklist."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import DECISION_TAG, Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.hypotheses.candidates import list_candidates
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.research.hypotheses.expectancy import measure_expectancy
from backtest_assets.research.hypotheses.naive_entry import enter_naively
from backtest_assets.research.hypotheses.queue.build import build_queue, describe_queue
from backtest_assets.research.hypotheses.study import score_hypotheses
from backtest_assets.research.hypotheses.summary import summarise_inference
from backtest_assets.research.hypotheses.told import (
    answers_by_trap,
    describe_candidates,
    describe_checklist,
    describe_expectancy,
    describe_hypotheses,
    describe_naive_entry,
    hypotheses_by_family,
)
from backtest_assets.research.hypotheses.traps import judge_traps
from backtest_assets.research.hypotheses.trials import count_trials, list_trials


@table_asset("hypothesis_queue")
def hypothesis_queue(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """What the run's data can show and its placebos do not contradict, best first."""
    desk = Desk(context, lake, "hypothesis_queue")
    queue = build_queue(desk["features"], desk["phase1_evidence"], run=desk.run)
    yield from desk.publish(queue, notes=describe_queue(queue, run=desk.run))


@table_asset("hypotheses")
def hypotheses(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every hypothesis with its evidence."""
    desk = Desk(context, lake, "hypotheses")
    inputs = (desk[n] for n in ("event_outcomes", "event_registry", "market_context", "bars_um", "phase1_evidence"))
    scored = score_hypotheses(*inputs, run=desk.run, queue=desk["hypothesis_queue"])
    shown = {"families": hypotheses_by_family(scored)}
    yield from desk.publish(scored, shown=shown, notes=describe_hypotheses(scored))


@table_asset("inference_summary")
def inference_summary(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """What the inference over all tested hypotheses rests on."""
    desk = Desk(context, lake, "inference_summary")
    inputs = (desk[n] for n in ("event_outcomes", "event_registry", "market_context", "bars_um", "hypotheses"))
    summary = summarise_inference(*inputs, run=desk.run, queue=desk["hypothesis_queue"])
    yield from desk.publish(summary, shown={"statistics": summary})


@table_asset("trial_ledger")
def trial_ledger(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every trial ever made by the run; grows only."""
    desk = Desk(context, lake, "trial_ledger")
    yield from desk.publish(
        list_trials(desk["hypotheses"], desk.digest_of("event_outcomes"), run=desk.run, previous=desk.previous())
    )


@table_asset("trial_counts")
def trial_counts(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every trial ever made on the lake, counted over all runs."""
    desk = Desk(context, lake, "trial_counts")
    yield from desk.publish(count_trials(desk["trial_ledger"], desk.digest_of("event_outcomes")))


@table_asset("naive_entry")
def naive_entry(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every tested hypothesis, traded plainly."""
    desk = Desk(context, lake, "naive_entry")
    inputs = (desk["hypotheses"], desk["event_outcomes"], desk["event_registry"], desk["market_context"])
    entered = enter_naively(*inputs, run=desk.run)
    yield from desk.publish(entered, notes=describe_naive_entry(entered))


@table_asset("expectancy")
def expectancy(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """What the best hypotheses earn."""
    desk = Desk(context, lake, "expectancy")
    inputs = (desk[n] for n in ("hypotheses", "event_outcomes", "event_registry", "market_context", "bars_um"))
    measured = measure_expectancy(*inputs, run=desk.run)
    yield from desk.publish(measured, notes=describe_expectancy(measured))


@table_asset("expectancy_traps")
def expectancy_traps(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Ways in which what they earn may be no edge."""
    desk = Desk(context, lake, "expectancy_traps")
    inputs = (desk[n] for n in ("hypotheses", "event_outcomes", "event_registry", "market_context", "bars_um"))
    judged = judge_traps(*inputs, run=desk.run)
    yield from desk.publish(judged, shown={"traps": answers_by_trap(judged)})


@table_asset("edge_candidates")
def edge_candidates(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """The survivors with all that is known of them."""
    desk = Desk(context, lake, "edge_candidates")
    inputs = (desk[n] for n in ("hypotheses", "naive_entry", "expectancy", "expectancy_traps"))
    candidates = list_candidates(*inputs, run=desk.run)
    yield from desk.publish(candidates, notes=describe_candidates(candidates))


@table_asset("research_checklist")
def research_checklist(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """PROMOTE, KEEP_RESEARCH or ERROR, with reasons; tagged on the Dagster run too, once it is published (R79, R86)."""
    desk = Desk(context, lake, "research_checklist")
    checklist = decide(desk["hypotheses"], desk["edge_candidates"], run=desk.run)
    told = describe_checklist(checklist)
    yield from desk.publish(checklist, shown={"gates": checklist.drop("decision")}, notes=told)
    context.instance.add_run_tags(context.run_id, {DECISION_TAG: told["decision"]})
