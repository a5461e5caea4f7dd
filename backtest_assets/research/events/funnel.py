"""What became of every family: whether the data support it, and where its candidates went; detection stays out."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.events.definition import IS_ACCEPTED, Status
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.tables.events import EVENT_FAMILIES

_DROPS: Final = (Status.COOLDOWN, Status.LOW_QUALITY, Status.OUTSIDE_WINDOW, Status.NOT_IN_UNIVERSE)


def summarise_families(candidates: pl.DataFrame, features: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Count the candidates of every family and symbol by their fate, and say which families the data cannot support.

    Args:
        candidates: rows of `event_candidates`.
        features: rows of `features`.
        run: families, symbols and window.

    Returns:
        Rows of `event_families`, one per family and symbol of the run, of the declared definitions alone.

    Raises:
        TableError: if a symbol's features leave out an instant of the grid.

    Knows:
        the whole run: it is a summary, and nothing that decides reads it.
    """
    start, end = run.window
    needs = sorted({name for family in run.event_types for name in FAMILIES[family].definition.needs})
    inside = pl.col("known_at").is_between(start, end, closed="left")
    known = {
        grid.symbol: grid.frame.select((pl.col(name).is_not_null() & inside).sum() for name in needs).row(0, named=True)
        for grid in SymbolGrid.each(features, "features")
    }
    centre = candidates.filter(pl.col("variant") == Variant.CENTRE.value).sort("known_at")
    cells = centre.group_by("event_type", "symbol").agg(
        n_candidates=pl.len(),
        n_accepted=_of(Status.ACCEPTED),
        **{f"n_{status.value}": _of(status) for status in _DROPS},
        first_known_at=pl.col("known_at").filter(IS_ACCEPTED).min(),
        last_known_at=pl.col("known_at").filter(IS_ACCEPTED).max(),
        threshold=pl.col("threshold").last(),
    )
    told = pl.DataFrame(
        [_standing(family, symbol, known.get(symbol, {})) for family in run.event_types for symbol in run.symbol_list],
        schema={name: EVENT_FAMILIES.schema[name] for name in ("event_type", "symbol", "status", "reason")},
        orient="row",
    )
    joined = told.join(cells, on=["event_type", "symbol"], how="left")
    return EVENT_FAMILIES.conform(joined.with_columns(pl.col("^n_.*$").fill_null(0)))


def _of(status: Status) -> pl.Expr:
    return (pl.col("status") == status.value).sum()


def _standing(event_type: EventType, symbol: str, known: dict[str, int]) -> tuple[str, str, str, str]:
    lacking = _lacking(FAMILIES[event_type].definition.needs, known)
    reason = f"{', '.join(lacking)} unknown throughout the window" if lacking else ""
    return event_type.value, symbol, "NOT_RUN" if lacking else "RUN", reason


def _lacking(needs: Sequence[str], known: dict[str, int]) -> list[str]:
    return [name for name in needs if not known.get(name)]
