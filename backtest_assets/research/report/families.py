"""Phase 1 family by family: what was decided and on which number; the decision itself is phase 1's."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.errors import RefusedError
from backtest_assets.research.report.inputs import ReportInputs
from backtest_assets.research.report.row import Grid, Line, Row
from backtest_assets.research.report.words import plain

_ORDER: Final = ("pass", "freeze", "not_run")
_MOVE: Final = r"^move_(\d+)_bars_bps$"
_NUMBERS: Final = (("delta", "bps of notional"), ("ci_low", "bps of notional"), ("ci_high", "bps of notional"))
_HEAD: Final = (
    "Family",
    "Decision",
    "Ground",
    "Clearest move",
    "Delta",
    "95 % from",
    "To",
    "Adjusted p",
    "Train events",
    "Hypotheses tested",
    "Why",
)


def phase1_grid(inputs: ReportInputs) -> Grid:
    """List what phase 1 decided of every family, with the clearest of the moves it may pass on.

    Args:
        inputs: the run's frames.

    Returns:
        One line per family: those that passed, those that were frozen, those that were not run; by adjusted p in each.

    Raises:
        RefusedError: if the rows of a family are of two minds about it.

    Knows:
        train statistics of every family, and how many of its hypotheses were tested.
    """
    tested = dict(inputs.hypotheses.filter("is_eligible")["event_type"].value_counts().iter_rows())
    told = [_told(family) for family in inputs.phase1_evidence.sort("event_type").partition_by("event_type")]
    told.sort(key=lambda row: (_ORDER.index(row["decision"]), row["p_family"] is None, row["p_family"] or 0.0))
    return Grid(_HEAD, tuple(_line(row, tested.get(row["event_type"], 0)) for row in told))


def _told(family: pl.DataFrame) -> Mapping[str, Any]:
    """Return the family's row of its clearest move; no metric and no number of it where none was compared."""
    name = family["event_type"][0]
    if family.select("decision", "ground").unique().height != 1 or family["decision"][0] not in _ORDER:
        message = f"report: phase1_evidence is of two minds about {name}; rebuild phase1_evidence"
        raise RefusedError(message)
    moves = family.with_columns(hold=pl.col("metric").str.extract(_MOVE).cast(pl.Int64)).drop_nulls("hold")
    compared = moves.drop_nulls("p_family").sort("p_family", "hold")
    if not compared.is_empty():
        return compared.row(0, named=True)
    return family.row(0, named=True) | {"metric": "none", **dict.fromkeys((*dict(_NUMBERS), "p_family"))}


def _line(row: Mapping[str, Any], n_tested: int) -> Line:
    name = row["event_type"]
    cells = (
        Row("phase1", f"{name}/decision", row["decision"]),
        Row("phase1", f"{name}/ground", row["ground"]),
        Row("phase1", f"{name}/clearest_metric", row["metric"]),
        *(Row("phase1", f"{name}/{number}", observed=row[number], unit=unit) for number, unit in _NUMBERS),
        Row("phase1", f"{name}/p_family", observed=row["p_family"], unit="probability"),
        Row("phase1", f"{name}/n_events", observed=row["n_events"], unit="events"),
        Row("phase1", f"{name}/n_hypotheses", observed=n_tested, unit="hypotheses"),
        row["reason"],
    )
    return Line(plain(name), cells, is_marked=row["decision"] == "pass")
