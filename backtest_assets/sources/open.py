"""From the text a user gives to a source; what each kind does is its own room's affair."""

from pathlib import Path

from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Source
from backtest_assets.sources.files.source import FilesSource
from backtest_assets.sources.synthetic.source import DEMO_SPEC, parse_synthetic


def source_identity(spec: str) -> str:
    """Return the canonical spec of a source without opening it; the folder may be gone.

    Raises:
        SourceError: if the kind is unknown or the rest of the spec cannot be used.
    """
    kind, _, rest = spec.strip().partition(":")
    return f"files:{Path(rest).expanduser().resolve()}" if kind == "files" else open_source(spec).identity


def open_source(spec: str) -> Source:
    """Open `files:DIR` or `synthetic[:SEED[:EDGE=BPS[,..]]]`.

    Raises:
        SourceError: if the kind is unknown or the rest of the spec cannot be used.
    """
    kind, *parts = spec.strip().split(":")
    if not kind:
        message = (
            "no source is named: give --source, the config field `source` in the launchpad, or BACKTEST_SOURCE before "
            f"starting the UI; known are files:DIR and synthetic[:SEED[:EDGE=BPS]], for example {DEMO_SPEC}"
        )
        raise SourceError(message)
    if kind == "files":
        return FilesSource(":".join(parts))
    if kind == "synthetic":
        return parse_synthetic(parts)
    message = f"source {spec!r}: unknown kind {kind!r}; known are files:DIR and synthetic[:SEED[:EDGE=BPS]], for example {DEMO_SPEC}"
    raise SourceError(message)
