"""Where the exchange or a mirror of it answers; asking it stays out."""

from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from backtest_assets.errors import SettingsError


@dataclass(frozen=True, slots=True)
class BinanceUrls:
    """Base URLs of the public archive and of the two REST interfaces; a path in them is kept.

    A mirror of files alone may stand in for all three: a 404 from a REST interface means that it has nothing.

    Raises:
        SettingsError: on construction, if one is not a plain http or https URL.
    """

    archive: str = "https://data.binance.vision"
    spot_api: str = "https://api.binance.com"
    um_api: str = "https://fapi.binance.com"

    def __post_init__(self) -> None:
        for item in fields(self):
            given = str(getattr(self, item.name))
            object.__setattr__(self, item.name, _checked(f"BACKTEST_BINANCE_{item.name.upper()}_URL", given))


def _checked(setting: str, given: str) -> str:
    try:
        parts = urlsplit(given.strip())
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable, parts = False, urlsplit("")
    # Every record in the inbox shows its URL, so it may hold no password; a query could not be extended by a path.
    if not usable or parts.username or parts.password or parts.query or parts.fragment or len(given.split()) != 1:
        message = f"{setting} {given!r} is not a base URL; give http:// or https:// with a host and no user, query or fragment, for example {BinanceUrls.__dataclass_fields__['archive'].default}"
        raise SettingsError(message)
    return given.strip().rstrip("/")
