"""Every table's gates, static: the guard asks for exactly these, whatever definitions a process has loaded."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from backtest_assets.gates import (
    barriers,
    bars,
    blueprints,
    context,
    coverage,
    events,
    features,
    funding,
    hypotheses,
    liquidations,
    open_interest,
    outcomes,
    parity,
    phase1,
    positioning,
    promotions,
    queue,
    raw,
    report,
    run,
    settlements,
    simulation,
    universe,
    walkforward,
)
from backtest_assets.gates.gate import Gate, contract_gate

GATES: Final[Mapping[str, tuple[Gate, ...]]] = MappingProxyType({
    name: (contract_gate(), *gates)
    for name, gates in {
        "raw_um_ohlcv": raw.GATES_RAW_UM_OHLCV,
        "raw_um_funding": funding.GATES_RAW_UM_FUNDING,
        "raw_spot_ohlcv": raw.GATES_RAW_SPOT_OHLCV,
        "raw_um_open_interest": open_interest.GATES_RAW_UM_OPEN_INTEREST,
        "raw_um_liquidations": liquidations.GATES_RAW_UM_LIQUIDATIONS,
        "bars_um": bars.GATES_BARS_UM,
        "bars_spot": bars.GATES_BARS_SPOT,
        "settlements_um": settlements.GATES_SETTLEMENTS_UM,
        "positioning_um": positioning.GATES_POSITIONING_UM,
        "coverage": coverage.GATES_COVERAGE,
        "research_run": run.GATES_RESEARCH_RUN,
        "features": features.GATES_FEATURES,
        "universe": universe.GATES_UNIVERSE,
        "market_context": context.GATES_MARKET_CONTEXT,
        "event_candidates": events.GATES_EVENT_CANDIDATES,
        "event_families": events.GATES_EVENT_FAMILIES,
        "event_registry": parity.GATES_EVENT_REGISTRY,
        "event_controls": events.GATES_EVENT_CONTROLS,
        "event_outcomes": outcomes.GATES_EVENT_OUTCOMES,
        "event_barriers": barriers.GATES_EVENT_BARRIERS,
        "phase1_hazards": phase1.GATES_PHASE1_HAZARDS,
        "phase1_evidence": phase1.GATES_PHASE1_EVIDENCE,
        "hypothesis_queue": queue.GATES_HYPOTHESIS_QUEUE,
        "hypotheses": hypotheses.GATES_HYPOTHESES,
        "trial_ledger": hypotheses.GATES_TRIAL_LEDGER,
        "research_checklist": hypotheses.GATES_RESEARCH_CHECKLIST,
        "blueprints": blueprints.GATES_BLUEPRINTS,
        "blueprint_rejections": blueprints.GATES_BLUEPRINT_REJECTIONS,
        "simulation_ledger": simulation.GATES_SIMULATION_LEDGER,
        "trades": simulation.GATES_TRADES,
        "backtest_metrics": simulation.GATES_BACKTEST_METRICS,
        "walkforward_splits": walkforward.GATES_WALKFORWARD_SPLITS,
        "walkforward_train": walkforward.GATES_WALKFORWARD_TRAIN,
        "walkforward_validation": walkforward.GATES_WALKFORWARD_VALIDATION,
        "walkforward_summary": walkforward.GATES_WALKFORWARD_SUMMARY,
        "promotions": promotions.GATES_PROMOTIONS,
        "walkforward_test": walkforward.GATES_WALKFORWARD_TEST,
        "report": report.GATES_REPORT,
    }.items()
})  # fmt: skip
