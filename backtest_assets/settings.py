"""The environment, read once; the only reader of `os.environ`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backtest_assets.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things lie on this machine.

    Attributes:
        data_root: root of the lake (`BACKTEST_DATA_ROOT`, default `./data`) (R2).
        dagster_home: Dagster's instance (`DAGSTER_HOME`, default `<data_root>/dagster`).
        source: source of market backfills that name none (`BACKTEST_SOURCE`, default none).
    """

    data_root: Path
    dagster_home: Path
    source: str | None

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process see the same settings."""
        named = {"BACKTEST_DATA_ROOT": str(self.data_root), "DAGSTER_HOME": str(self.dagster_home)}
        return {**os.environ, **named, **({"BACKTEST_SOURCE": self.source} if self.source else {})}


def settings_from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; nothing is created or checked on disk.

    Args:
        environment: variables to read; the process's own if None.
    """
    variables = os.environ if environment is None else environment
    data_root = Path(variables.get("BACKTEST_DATA_ROOT") or "data").expanduser().absolute()
    home = variables.get("DAGSTER_HOME")
    return Settings(
        data_root=data_root,
        dagster_home=Path(home).expanduser().absolute() if home else data_root / "dagster",
        source=variables.get("BACKTEST_SOURCE") or None,
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
