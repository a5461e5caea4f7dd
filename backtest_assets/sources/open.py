"""From the text a user gives to a source; what each kind does is its own room's affair."""

from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Source
from backtest_assets.sources.files.source import FilesSource
from backtest_assets.sources.synthetic.source import DEMO_SPEC, parse_synthetic


def open_source(spec: str) -> Source:
    """Open `files:DIR` or `synthetic[:SEED[:EDGE=BPS[,..]]]`.

    Raises:
        SourceError: if the kind is unknown or the rest of the spec cannot be used.
    """
    kind, *parts = spec.strip().split(":")
    if kind == "files":
        return FilesSource(":".join(parts))
    if kind == "synthetic":
        return parse_synthetic(parts)
    message = f"source {spec!r}: unknown kind {kind!r}; known are files:DIR and synthetic[:SEED[:EDGE=BPS]], for example {DEMO_SPEC}"
    raise SourceError(message)
