"""What a source gave now, laid over what is there: nothing good is lost, whatever part of a month is asked for."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
        n_kept: rows inside the slice that no delivered file is about.
        n_withdrawn: rows that were there, and a delivered file that covers their instant no longer has.
    """

    frame: pl.DataFrame
    origins: tuple[Origin, ...]
    n_repeated: int
    n_kept: int
    n_withdrawn: int


def merge_delivery(kept: pl.DataFrame | None, kept_origins: Sequence[Origin], given: Delivery, wanted: Slice) -> Merged:
    """Lay a delivery over the rows that a partition holds.

    Where a delivered file covers an instant it decides: its rows replace those that are there, and what it no longer has is
    withdrawn. Everything else stays. So the rows do not depend on the order in which the parts of a month are ingested, a
    correction corrects, and a delivery of nothing changes nothing, files without a row among it. Rows of the delivery that contradict each other all
    stay, for a gate to find.

    Args:
        kept: published rows of the partition; None if there are none.
        kept_origins: what they came from.
        given: rows of the slice.
        wanted: the slice.
    """
    table, instant = wanted.dataset.table, pl.col(wanted.dataset.instant)
    fresh = table.conform(given.frame).unique(maintain_order=True)
    there = table.empty() if kept is None else kept
    if fresh.is_empty() and not there.is_empty():
        given = replace(given, origins=())  # rows stay, and so does what they came from
    others = there.join(fresh, on=table.key, how="anti", maintain_order="left")
    covered = pl.any_horizontal(
        pl.lit(value=False),
        *(
            instant.is_between(one.start, one.end, closed="left")
            for one in _stretches(one for one in given.origins if one.sha256 is not None)
        ),
    )
    old = others.filter(~covered)
    inside = instant.is_between(wanted.start, wanted.end, closed="left")
    return Merged(
        table.conform(pl.concat([old, fresh])),
        _merge_origins(kept_origins, given.origins),
        n_repeated=given.frame.height - fresh.height,
        n_kept=old.filter(inside).height,
        n_withdrawn=others.height - old.height,
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
    """Keep of the old what the new does not cover with files; an absence never hides a file."""
    served = [one for one in given if one.sha256 is not None]
    old = [one for one in kept if one.sha256 is not None and not _covered(one, served)]
    absent = [one for one in (*kept, *given) if one.sha256 is None and not _covered(one, [*old, *served])]
    return tuple(sorted({*old, *served, *absent}, key=lambda one: (one.start, one.end, one.name)))


def _covered(one: Origin, by: Sequence[Origin]) -> bool:
    return any(other.start <= one.start and one.end <= other.end for other in _stretches(by))


def _stretches(origins: Iterable[Origin]) -> list[Origin]:
    """Join origins that touch or overlap into the stretches that they cover together."""
    joined: list[Origin] = []
    for one in sorted(origins, key=lambda one: one.start):
        if joined and one.start <= joined[-1].end:
            joined[-1] = replace(joined[-1], end=max(joined[-1].end, one.end))
        else:
            joined.append(one)
    return joined
