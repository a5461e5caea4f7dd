"""Which tables each table is made from: the lineage, the reading and the staleness of every asset, said once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Read:
    """One input of a table.

    Attributes:
        table: the input's name.
        is_optional: partitions that are absent or red are left out, and said so, instead of refusing.
        is_alternative: optional, but of a table's alternatives at least one is required.
        only_if_promoted: read only when the checklist says PROMOTE; otherwise it was rightly never made.
        is_of_all_runs: not the run's own partition, but that of every run there ever was: a chronicle, which only grows. What
            one was made from may have changed since; none may be missing.
    """

    table: str
    is_optional: bool = False
    is_alternative: bool = False
    only_if_promoted: bool = False
    is_of_all_runs: bool = False


def _one_of(*tables: str) -> tuple[Read, ...]:
    return tuple(Read(table, is_optional=True, is_alternative=True) for table in tables)


ALL_LEDGERS: Final = Read("trial_ledger", is_of_all_runs=True)
"""The trial ledgers of all runs of the lake."""

_CHECKLIST = Read("research_checklist")
_EXAMINED = (
    Read("research_run"),
    Read("bars_um"),
    Read("event_outcomes"),
    Read("event_registry"),
    Read("market_context"),
    Read("hypotheses"),
)
_EXECUTION = (
    "walkforward_splits",
    "simulation_ledger",
    "trades",
    "backtest_metrics",
    "walkforward_summary",
    "walkforward_test",
    "promotions",
    "capital_allocation",
)

READS: Final[Mapping[str, tuple[Read, ...]]] = MappingProxyType({
    "raw_um_ohlcv": (),
    "raw_um_funding": (),
    "raw_spot_ohlcv": (),
    "raw_um_open_interest": (),
    "raw_um_liquidations": (),
    "bars_um": (Read("raw_um_ohlcv"),),
    "settlements_um": (Read("raw_um_funding"),),
    "bars_spot": (Read("raw_spot_ohlcv"), Read("bars_um", is_optional=True)),
    "positioning_um": (
        Read("bars_um"),
        *_one_of("raw_um_open_interest", "raw_um_liquidations"),
    ),
    "coverage": _one_of(
        "raw_um_ohlcv", "raw_um_funding", "raw_spot_ohlcv", "raw_um_open_interest", "raw_um_liquidations"
    ),
    "research_run": (),
    "walkforward_splits": (Read("research_run"),),
    "features": (
        Read("research_run"),
        Read("bars_um"),
        Read("bars_spot", is_optional=True),
        Read("settlements_um"),
        Read("positioning_um", is_optional=True),
    ),
    "universe": (Read("research_run"), Read("bars_um")),
    "market_context": (Read("research_run"), Read("features")),
    "event_candidates": (
        Read("research_run"), Read("bars_um"), Read("features"), Read("settlements_um"), Read("universe"),
    ),
    "event_families": (Read("research_run"), Read("features"), Read("event_candidates")),
    "event_registry": (Read("research_run"), Read("event_candidates")),
    "event_controls": (Read("research_run"), Read("bars_um"), Read("features"), Read("event_registry")),
    "event_outcomes": (
        Read("research_run"), Read("walkforward_splits"),
        Read("bars_um"),
        Read("settlements_um"),
        Read("event_registry"),
        Read("event_controls"),
    ),
    "event_barriers": (
        Read("research_run"), Read("walkforward_splits"),
        Read("bars_um"),
        Read("features"),
        Read("event_registry"),
        Read("event_controls"),
        Read("event_outcomes"),
    ),
    "phase1_hazards": (Read("research_run"), Read("event_barriers")),
    "phase1_evidence": (
        Read("research_run"), Read("walkforward_splits"),
        Read("bars_um"),
        Read("settlements_um"),
        Read("features"),
        Read("event_registry"),
        Read("event_families"),
        Read("event_controls"),
        Read("event_outcomes"),
        Read("event_barriers"),
    ),
    "hypothesis_queue": (Read("research_run"), Read("features"), Read("phase1_evidence")),
    "hypotheses": (
        Read("research_run"), Read("walkforward_splits"),
        Read("bars_um"),
        Read("event_outcomes"),
        Read("event_registry"),
        Read("market_context"),
        Read("phase1_evidence"),
        Read("hypothesis_queue"),
    ),
    "inference_summary": (
        Read("research_run"), Read("walkforward_splits"),
        Read("bars_um"),
        Read("event_outcomes"),
        Read("event_registry"),
        Read("market_context"),
        Read("hypothesis_queue"),
        Read("hypotheses"),
    ),
    "trial_ledger": (Read("research_run"), Read("hypotheses"), Read("event_outcomes")),
    "naive_entry": (
        Read("research_run"),
        Read("event_outcomes"),
        Read("event_registry"),
        Read("market_context"),
        Read("hypotheses"),
    ),
    "expectancy": _EXAMINED,
    "expectancy_traps": _EXAMINED,
    "edge_candidates": (
        Read("research_run"),
        Read("hypotheses"),
        Read("naive_entry"),
        Read("expectancy"),
        Read("expectancy_traps"),
    ),
    "research_checklist": (
        Read("research_run"), Read("hypotheses"), Read("trial_ledger"), Read("edge_candidates"),
    ),
    **dict.fromkeys(
        ("blueprints", "blueprint_rejections"),
        (
            Read("research_run"),
            Read("hypotheses"),
            Read("naive_entry"),
            Read("edge_candidates"),
            _CHECKLIST,
            Read("event_registry"),
            Read("market_context"),
            Read("bars_um"),
            Read("features"),
        ),
    ),
    # Last of discovery: another run's trials make it out of date, and nothing before promotions.
    "trial_counts": (Read("research_run"), Read("event_outcomes"), Read("hypotheses"), ALL_LEDGERS),
    "simulation_ledger": (
        Read("research_run"),
        _CHECKLIST,
        Read("bars_um"),
        Read("settlements_um"),
        Read("event_registry"),
        Read("market_context"),
        Read("features"),
        Read("blueprints"),
    ),
    "trades": (
        Read("research_run"),
        _CHECKLIST,
        Read("bars_um"),
        Read("settlements_um"),
        Read("event_registry"),
        Read("market_context"),
        Read("features"),
        Read("blueprints"),
        Read("simulation_ledger"),
    ),
    "backtest_metrics": (
        Read("research_run"),
        _CHECKLIST,
        Read("bars_um"),
        Read("simulation_ledger"),
        Read("trades"),
        Read("blueprints"),
    ),
    **{
        f"walkforward_{split}": (
            Read("research_run"),
            _CHECKLIST,
            Read("walkforward_splits"),
            Read("bars_um"),
            Read("simulation_ledger"),
            Read("trades"),
            Read("market_context"),
            Read("blueprints"),
        )
        for split in ("train", "validation")
    },
    "walkforward_summary": (Read("research_run"), _CHECKLIST, Read("walkforward_train"), Read("walkforward_validation"), Read("blueprints")),
    "blueprint_neighbours": (
        Read("research_run"),
        _CHECKLIST,
        Read("bars_um"),
        Read("settlements_um"),
        Read("event_registry"),
        Read("market_context"),
        Read("features"),
        Read("blueprints"),
    ),
    "promotions": (
        Read("research_run"),
        _CHECKLIST,
        Read("bars_um"),
        Read("event_outcomes"),
        Read("event_registry"),
        Read("market_context"),
        Read("hypotheses"),
        Read("simulation_ledger"),
        Read("trades"),
        Read("walkforward_summary"),
        Read("blueprints"),
        Read("blueprint_neighbours"),
        Read("trial_counts"),
        ALL_LEDGERS,
    ),
    "capital_allocation": (
        Read("research_run"),
        _CHECKLIST,
        Read("promotions"),
        Read("blueprints"),
        Read("hypotheses"),
        Read("simulation_ledger"),
        Read("trades"),
    ),
    # Completed after promotion, and without it where the checklist keeps the run in research (docs/adr/0009).
    "strategy_candidates": (
        Read("research_run"),
        _CHECKLIST,
        Read("hypotheses"),
        Read("expectancy"),
        Read("edge_candidates"),
        Read("blueprints"),
        Read("blueprint_rejections"),
        Read("walkforward_summary", only_if_promoted=True),
        Read("promotions", only_if_promoted=True),
    ),
    # The test slice reads promotions first: it stays sealed until promotion has decided.
    "walkforward_test": (
        Read("research_run"),
        _CHECKLIST,
        Read("promotions"),
        Read("walkforward_splits"),
        Read("bars_um"),
        Read("simulation_ledger"),
        Read("trades"),
        Read("market_context"),
        Read("blueprints"),
    ),
    "report": (
        Read("research_run"),
        _CHECKLIST,
        Read("bars_um"),
        Read("bars_spot", is_optional=True),
        Read("features"),
        Read("event_candidates"),
        Read("event_registry"),
        Read("phase1_evidence"),
        Read("hypotheses"),
        Read("inference_summary"),
        Read("naive_entry"),
        Read("edge_candidates"),
        Read("trial_ledger"),
        Read("trial_counts"),
        Read("blueprints"),
        Read("strategy_candidates"),
        *(Read(name, only_if_promoted=True) for name in _EXECUTION),
    ),
})  # fmt: skip
CLOSING: Final = ("strategy_candidates", "report")
"""Tables that end every run, whatever its checklist says, in their order."""

EXECUTION_TABLES: Final = frozenset(
    name
    for name, reads in READS.items()
    if _CHECKLIST in reads and name not in {"blueprints", "blueprint_rejections", *CLOSING}
)
"""Tables that exist only for a run whose checklist says PROMOTE (R80)."""


CHRONICLES: Final = frozenset(read.table for reads in READS.values() for read in reads if read.is_of_all_runs)
"""Tables that only grow, of which all runs are read at once."""


def is_chronicle(reader: str, table: str) -> bool:
    """Return whether a table reads another one of all runs, as a chronicle."""
    return any(read.table == table and read.is_of_all_runs for read in READS[reader])


def lacking(table: str, is_there: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the inputs without which a partition may not be made: required ones that are not there, or all alternatives.

    Args:
        table: what is to be made.
        is_there: tells of an input, by name, whether it is there.
    """
    required = [read.table for read in READS[table] if not read.is_optional and not is_there(read.table)]
    alternatives = [read.table for read in READS[table] if read.is_alternative]
    return (*required, *(() if any(map(is_there, alternatives)) else alternatives))
