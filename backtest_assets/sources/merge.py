"""What a source gave now, laid over what is there: nothing good is lost, whatever part of a month is asked for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from backtest_assets.sources.base import Delivery, Origin, Slice


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of a month after a delivery.

    Attributes:
        frame: kept and given rows in key order; rows that repeat each other exactly count once.
        origins: what they came from, in time order.
        n_repeated: given rows that repeated another exactly.
        n_kept: rows inside the slice that the source did not give this time.
    """

    frame: pl.DataFrame
    origins: tuple[Origin, ...]
    n_repeated: int
    n_kept: int


def merge_delivery(kept: pl.DataFrame | None, kept_origins: Sequence[Origin], given: Delivery, wanted: Slice) -> Merged:
    """Lay a delivery over the rows that a partition holds.

    Where both have a key the delivery wins; what only one of them has is taken from it. So the rows do not depend on the
    order in which the parts of a month are ingested, and a delivery of nothing changes nothing. Rows of the delivery that
    contradict each other all stay, for a gate to find.

    Args:
        kept: published rows of the partition; None if there are none.
        kept_origins: what they came from.
        given: rows of the slice.
        wanted: the slice.
    """
    table = wanted.dataset.table
    fresh = table.conform(given.frame).unique(maintain_order=True)
    old = table.empty() if kept is None else kept.join(fresh, on=table.key, how="anti", maintain_order="left")
    inside = pl.col(wanted.dataset.instant).is_between(wanted.start, wanted.end, closed="left")
    frame = table.conform(pl.concat([old, fresh]))
    return Merged(
        frame,
        _merge_origins(kept_origins, given.origins),
        n_repeated=given.frame.height - fresh.height,
        n_kept=old.filter(inside).height,
    )


def origins_to_text(origins: Sequence[Origin]) -> str:
    """Return origins as compact JSON, for a manifest."""
    return json.dumps([[one.name, one.sha256, one.start.isoformat(), one.end.isoformat()] for one in origins])


def origins_from_text(text: str) -> tuple[Origin, ...]:
    """Read what `origins_to_text` wrote; nothing from an empty text."""
    return tuple(
        Origin(name, sha256, datetime.fromisoformat(start), datetime.fromisoformat(end))
        for name, sha256, start, end in json.loads(text or "[]")
    )


def _merge_origins(kept: Sequence[Origin], given: Sequence[Origin]) -> tuple[Origin, ...]:
    """Keep of the old what the new does not cover with a file; an absence never hides a file."""
    served = [one for one in given if one.sha256 is not None]
    old = [one for one in kept if one.sha256 is not None and not _covered(one, served)]
    absent = [one for one in (*kept, *given) if one.sha256 is None and not _covered(one, [*old, *served])]
    return tuple(sorted({*old, *served, *absent}, key=lambda one: (one.start, one.end, one.name)))


def _covered(one: Origin, by: Sequence[Origin]) -> bool:
    return any(other.start <= one.start and one.end <= other.end for other in by)
