"""The environment, read once; the only reader of `os.environ`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backtest_assets.domain.limits import DEFAULT_LIMITS, MarketLimits, parse_limits
from backtest_assets.errors import SettingsError

_URLS: Final = ("binance_archive_url", "binance_spot_api_url", "binance_um_api_url")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things lie on this machine.

    Attributes:
        data_root: root of the lake (`BACKTEST_DATA_ROOT`, default `./data`) (R2).
        dagster_home: Dagster's instance (`DAGSTER_HOME`, default `<data_root>/dagster`).
        source: source of market backfills that name none (`BACKTEST_SOURCE`, default none).
        limits: limits of the market gates (`BACKTEST_MARKET_LIMITS`, `name=value,..`, default `domain/limits.py`).
        binance_archive_url: base of the public archive or a mirror (`BACKTEST_BINANCE_ARCHIVE_URL`).
        binance_spot_api_url: base of the spot REST interface (`BACKTEST_BINANCE_SPOT_API_URL`).
        binance_um_api_url: base of the USD-M REST interface (`BACKTEST_BINANCE_UM_API_URL`).
    """

    data_root: Path
    dagster_home: Path
    source: str | None
    limits: MarketLimits = DEFAULT_LIMITS
    binance_archive_url: str = "https://data.binance.vision"
    binance_spot_api_url: str = "https://api.binance.com"
    binance_um_api_url: str = "https://fapi.binance.com"

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process see the same settings."""
        named = {
            "BACKTEST_DATA_ROOT": str(self.data_root),
            "DAGSTER_HOME": str(self.dagster_home),
            "BACKTEST_SOURCE": self.source or "",
            "BACKTEST_MARKET_LIMITS": self.limits.changed,
            **{f"BACKTEST_{name.upper()}": getattr(self, name) for name in _URLS},
        }
        return {**os.environ, **named}


def settings_from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; nothing is created or checked on disk.

    Args:
        environment: variables to read; the process's own if None.

    Raises:
        SettingsError: if a limit is unknown or no number.
    """
    variables = os.environ if environment is None else environment
    data_root = Path(variables.get("BACKTEST_DATA_ROOT") or "data").expanduser().absolute()
    home = variables.get("DAGSTER_HOME")
    return Settings(
        data_root=data_root,
        dagster_home=Path(home).expanduser().absolute() if home else data_root / "dagster",
        source=variables.get("BACKTEST_SOURCE") or None,
        limits=parse_limits(variables.get("BACKTEST_MARKET_LIMITS", "")),
        **{name: variables[f"BACKTEST_{name.upper()}"] for name in _URLS if variables.get(f"BACKTEST_{name.upper()}")},
    )


def check_data_root(settings: Settings) -> None:
    """Refuse a data root that cannot be used, before anything is written.

    Raises:
        SettingsError: if it does not exist, is not a folder or is not writable.
    """
    root = settings.data_root
    strange = sorted(set(str(root)) & set('=*?[]"\n'))
    if strange:
        message = f"data root {root}: {' '.join(strange)} would be read as part of a pattern; choose another BACKTEST_DATA_ROOT"
        raise SettingsError(message)
    if not root.is_dir():
        message = f"data root {root} is not a folder; create it (mkdir -p {root}) or set BACKTEST_DATA_ROOT to one that exists"
        raise SettingsError(message)
    if not os.access(root, os.W_OK | os.X_OK):
        message = f"data root {root} is not writable by this user; change its owner or set BACKTEST_DATA_ROOT elsewhere"
        raise SettingsError(message)
