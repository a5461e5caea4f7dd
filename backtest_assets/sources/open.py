"""From the text a user gives to a source; what each kind does is its own room's affair."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backtest_assets.domain.source import KNOWN
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.source import ArchiveSource
from backtest_assets.sources.base import Source
from backtest_assets.sources.binance.urls import BinanceUrls
from backtest_assets.sources.files.source import FilesSource
from backtest_assets.sources.synthetic.source import parse_synthetic


@dataclass(frozen=True, slots=True)
class Network:
    """What a source on the network needs to know.

    Attributes:
        archive_url: base of the public archive.
        spot_api_url: base of the spot REST interface.
        um_api_url: base of the USD-M REST interface.
        data_root: what is downloaded is kept below it, as received.
        as_of: when it is asked.
        is_forced: ask for everything again, however lately it was asked for.
    """

    archive_url: str
    spot_api_url: str
    um_api_url: str
    data_root: Path
    as_of: datetime
    is_forced: bool = False


def source_identity(spec: str) -> str:
    """Return the canonical spec of a source without opening it; the folder may be gone.

    Raises:
        SourceError: if the kind is unknown or the rest of the spec cannot be used.
    """
    kind, _, rest = spec.strip().partition(":")
    match kind:
        case "files":
            return f"files:{Path(rest).expanduser().resolve()}"
        case "archive_dir":
            return ArchiveSource.identify(rest)
        case "binance":
            return _interval_identity(kind, rest)
        case _:
            return open_source(spec).identity


def open_source(spec: str, network: Network | None = None) -> Source:
    """Open `binance[:INTERVAL]`, `archive_dir:DIR[:INTERVAL]`, `files:DIR` or `synthetic[:SEED[:EDGE=BPS[,..]]]`.

    Args:
        spec: what the user gave.
        network: needed by `binance` only.

    Raises:
        SourceError: if the kind is unknown or the rest of the spec cannot be used.
    """
    kind, _, rest = spec.strip().partition(":")
    match kind:
        case "":
            message = (
                "no source is named: give --source, the config field `source` in the launchpad, or BACKTEST_SOURCE before "
                f"starting the UI; known are {KNOWN}"
            )
            raise SourceError(message)
        case "files":
            return FilesSource(rest)
        case "archive_dir":
            return ArchiveSource(rest)
        case "binance":
            return _open_binance(rest, network)
        case "synthetic":
            return parse_synthetic(rest.split(":") if rest else ())
        case _:
            message = f"source {spec!r}: unknown kind {kind!r}; known are {KNOWN}"
            raise SourceError(message)


def _open_binance(rest: str, network: Network | None) -> Source:
    from backtest_assets.sources.binance.source import BinanceSource  # noqa: PLC0415  # the HTTP client takes 0.3 s to import; only this kind needs it

    identity = _interval_identity("binance", rest)
    if network is None:
        message = f"source {identity}: no URLs were given to open it with"
        raise SourceError(message)
    urls = BinanceUrls(network.archive_url, network.spot_api_url, network.um_api_url)
    return BinanceSource(urls, network.data_root, rest or "15m", as_of=network.as_of, force=network.is_forced)


def _interval_identity(kind: str, interval: str) -> str:
    if interval not in {"", "15m", "5m", "1m"}:
        message = f"source {kind}:{interval}: unknown interval {interval!r}; give 1m, 5m, 15m or nothing"
        raise SourceError(message)
    return kind if interval in {"", "15m"} else f"{kind}:{interval}"
