"""What a market partition's manifest says of its instrument's life."""

from collections.abc import Mapping
from datetime import datetime

from backtest_assets.domain.market import Listing


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
