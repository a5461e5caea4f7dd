"""Limits that market data are held against: settings with defaults and reasons; the questions are the gates'."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Final

from backtest_assets.errors import SettingsError


def _limit(default: float, unit: str, about: str) -> float:
    return field(default=default, metadata={"unit": unit, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketLimits:
    """Every limit of the market layer's gates; one that is not the default is recorded with what it let through.

    Raises:
        SettingsError: on construction, if a limit is not a finite number >= 0.
    """

    um_gap_share_max: float = _limit(
        0.01, "share of bars", "Gaps in a month of um bars; 1 % bounds the longest hole at 29 bars or 7 hours."
    )
    spot_gap_share_max: float = _limit(
        0.10, "share of bars", "Gaps in a month of spot bars; spot only feeds the basis, 3 days of maintenance pass."
    )
    um_missing_days_max: float = _limit(
        0, "days", "Whole days without one um bar; the exchange never closed the um market for a day."
    )
    spot_missing_days_max: float = _limit(3, "days", "The same for spot; the basis is unknown on such days.")
    frozen_bars_max: float = _limit(
        96, "bars", "Longest run of bars with one and the same price; a day is a feed that stopped, not a market."
    )
    spike_frac: float = _limit(
        0.10, "fraction", "A close that jumps by this and is taken back by the next bar is shown as a spike."
    )
    spike_reverted_frac: float = _limit(0.80, "fraction", "Share of the jump that the next bar takes back.")
    zero_volume_share_max: float = _limit(
        0.01, "share of bars", "Bars whose price moves on no volume; single hours are real, more is a broken feed."
    )
    odd_value_share_max: float = _limit(
        0.01,
        "share of klines",
        "Klines whose traded value fits no price of theirs; the archive has none, a wrong unit all.",
    )
    basis_abs_max: float = _limit(
        0.05, "fraction", "|um / spot - 1| of a bar that counts as out of line; arbitrage keeps majors within 2 %."
    )
    basis_out_of_line_share_max: float = _limit(
        0.005, "share of bars", "Bars out of line in a month; 15 bars of a crash pass, a wrong series does not."
    )
    funding_rate_max: float = _limit(
        0.03, "fraction per interval", "Largest |rate|; the exchange caps rates at 3 %, more is a unit mistake."
    )
    funding_rate_usual: float = _limit(
        0.005, "fraction per interval", "|rate| above which a month is remarked upon; BTC and ETH stayed below 0.4 %."
    )
    funding_rate_median_max: float = _limit(
        0.002,
        "fraction per interval",
        "Median |rate| of a month; 226 months of BTC, ETH and SOL had 0.002 % to 0.1 %, in percent all of them exceed this.",
    )
    tail_age_max_h: float = _limit(
        36, "h", "Age of the newest row of a month that is still open; the daily archive is a day late."
    )
    open_interest_missing_share_max: float = _limit(
        0.05, "share of snapshots", "Snapshots missing in a month; the archive has many short holes."
    )
    open_interest_age_max_min: float = _limit(
        30, "min", "Oldest snapshot that a bar may use; six missed snapshots are no longer now."
    )

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                message = f"limit {name} is {value}; give a finite number >= 0"
                raise SettingsError(message)

    @property
    def changed(self) -> str:
        """Every limit that is not its default, as `name=value,..`; empty if all are."""
        return ",".join(
            f"{item.name}={getattr(self, item.name):g}"
            for item in fields(self)
            if getattr(self, item.name) != item.default
        )

    @property
    def digest(self) -> str:
        """Content id of every limit with its value: another program's defaults are other limits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


DEFAULT_LIMITS: Final = MarketLimits()


def parse_limits(text: str) -> MarketLimits:
    """Read `name=value,name=value`; what is not named keeps its default.

    >>> parse_limits("um_gap_share_max=0.02").changed
    'um_gap_share_max=0.02'

    Raises:
        SettingsError: if a name is unknown or doubled, or a value is no finite number >= 0.
    """
    known = {item.name for item in fields(MarketLimits)}
    values: dict[str, float] = {}
    for part in (piece.strip() for piece in text.split(",") if piece.strip()):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in known or name in values:
            message = f"limits: {part!r} is unknown or given twice; known are {', '.join(sorted(known))}"
            raise SettingsError(message)
        values[name] = _number(part, number)
    return MarketLimits(**values)


def _number(part: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        message = f"limits: {part!r} is not of the form name=number"
        raise SettingsError(message) from None


def describe_limits() -> Mapping[str, tuple[float, str, str]]:
    """Return default, unit and reason of every limit by name."""
    return {
        item.name: (float(getattr(DEFAULT_LIMITS, item.name)), item.metadata["unit"], item.metadata["about"])
        for item in fields(MarketLimits)
    }
