"""The form of a gate and how gates are asked; the questions themselves live in one module per stage."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Scalar, Severity, Verdict
from backtest_assets.domain.limits import DEFAULT_LIMITS, MarketLimits
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.tables.contract import Table

MAX_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a gate may look at.

    Attributes:
        table: contract of the staged frame.
        partition: its partition.
        frame: the staged rows, conformed if they could be.
        as_of: when the question is asked.
        run: settings of the run; None in the market layer.
        inputs: the frames the table was made from, by table name.
        previous: the partition's published rows before this attempt, of a chronicle those of all its versions; None if
            there were none.
        listing: when the instrument traded, where the source knows; None holds the whole month against the calendar.
        listings: the same by symbol, for a table of many symbols.
        limits: what market data are held against.
        digests: the content digests of what the table was made from, as lineage records them, by table and partition.
    """

    table: Table
    partition: Partition
    frame: pl.DataFrame
    as_of: datetime
    run: ResearchRun | None = None
    inputs: Mapping[str, pl.DataFrame] = field(default_factory=dict[str, pl.DataFrame])
    previous: pl.DataFrame | None = None
    listing: Listing | None = None
    listings: Mapping[str, Listing] = field(default_factory=dict[str, Listing])
    limits: MarketLimits = DEFAULT_LIMITS
    digests: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    @property
    def settings(self) -> ResearchRun:
        """The run's settings.

        Raises:
            ValueError: in the market layer, which has none.
        """
        if self.run is None:
            message = f"{self.table.name} {self.partition}: a gate asked for run settings in the market layer"
            raise ValueError(message)
        return self.run

    def digest_of(self, table: str) -> str:
        """The content digest of a table's partition of the same name, as it was read.

        Raises:
            ValueError: if lineage has none.
        """
        found = self.digests.get((table, self.partition.label))
        if found is None:
            message = f"{self.table.name} {self.partition}: lineage does not say which {table} was read"
            raise ValueError(message)
        return found


@dataclass(frozen=True, slots=True)
class Gate:
    """One question about one table.

    Attributes:
        name: unique among the table's gates; the name of the Dagster check.
        severity: ERROR blocks publication, WARN is a remark.
        about: the question, one line, with its limit.
        ask: gives the verdict.
    """

    name: str
    severity: Severity
    about: str
    ask: Callable[[Evidence], Verdict]


@dataclass(frozen=True, slots=True)
class Answer:
    """A gate's verdict with the severity it counts with: a gate that crashed is always an ERROR."""

    verdict: Verdict
    severity: Severity

    @property
    def blocks(self) -> bool:
        """Whether this answer forbids publication."""
        return self.severity is Severity.ERROR and not self.verdict.passed


def ask_all(gates: Sequence[Gate], evidence: Evidence) -> tuple[Answer, ...]:
    """Ask every gate; an exception inside a gate is a red verdict with the error's text, never a missing one."""
    return tuple(_ask(gate, evidence) for gate in gates)


def _ask(gate: Gate, evidence: Evidence) -> Answer:
    try:
        verdict = gate.ask(evidence)
    except Exception as error:  # noqa: BLE001  # whatever went wrong inside a gate must become a red verdict
        text = f"the gate crashed: {type(error).__name__}: {error}; nothing is published until it can answer"
        return Answer(Verdict(gate.name, math.nan, math.nan, "1", passed=False, detail=text), Severity.ERROR)
    if verdict.gate != gate.name:
        text = f"the gate answered as {verdict.gate!r}; its verdict cannot be trusted"
        return Answer(Verdict(gate.name, math.nan, math.nan, "1", passed=False, detail=text), Severity.ERROR)
    return Answer(verdict, gate.severity)


def examples_of(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[Mapping[str, Scalar], ...]:
    """Return the first few rows as plain values for a verdict; instants become ISO text."""
    head = frame.select(columns).head(MAX_EXAMPLES)
    return tuple(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in head.to_dicts()
    )


def contract_gate() -> Gate:
    """Return the gate every table has: rows keep the table's contract."""

    def ask(evidence: Evidence) -> Verdict:
        table, frame = evidence.table, evidence.frame
        broken = table.violations(frame if frame.schema == table.schema else table.conform(frame))
        n_broken = int(broken["n_rows"].sum())
        listed = "; ".join(f"{rule}: {n} rows, first at row {first}" for rule, n, first in broken.iter_rows())
        detail = f"broken rules: {listed}" if n_broken else "every row keeps the contract"
        return Verdict(
            "contract", n_broken, 0, "rows", passed=n_broken == 0, detail=detail, examples=tuple(broken.to_dicts())
        )

    return Gate(
        "contract", Severity.ERROR, "Columns, types, keys and row rules of the table hold; limit: 0 broken rows.", ask
    )
