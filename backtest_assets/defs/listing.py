"""What a market partition's manifest says beside its rows: its instrument's life, and what the rows came from."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from backtest_assets.domain.market import Listing

LIFE: Final = ("listed_at", "delisted_at")
"""Facts of a manifest that tell when the instrument traded."""
_READS_ORIGINS: Final = frozenset({"positioning_um", "coverage"})


def listing_notes(listing: Listing | None, *, before: datetime) -> Mapping[str, str]:
    """Return what a partition may know of its instrument's life: a delisting counts only once it has happened."""
    if listing is None:
        return {}
    gone = listing.delisted_at is not None and listing.delisted_at <= before
    return {
        "listed_at": listing.listed_at.isoformat(),
        **({"delisted_at": listing.delisted_at.isoformat()} if gone and listing.delisted_at else {}),
    }


def listing_of(notes: Mapping[str, str]) -> Listing | None:
    """Read what `listing_notes` wrote; None if nothing is known."""
    if "listed_at" not in notes:
        return None
    gone = notes.get("delisted_at")
    return Listing(datetime.fromisoformat(notes["listed_at"]), datetime.fromisoformat(gone) if gone else None)


def facts_of(notes: Mapping[str, str], reader: str) -> str:
    """Return the digest of what a table uses of an input's manifest beside the rows; empty if it says nothing of it.

    Rows alone do not tell whether a table is up to date: a listing that moved, or a file that came late and was empty, change
    what is made of the same rows.

    Args:
        notes: of the input's manifest.
        reader: the table that is made from it.
    """
    names = (*LIFE, "origins") if reader in _READS_ORIGINS else LIFE
    told = {name: notes[name] for name in names if name in notes}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest() if told else ""
