"""What may be asked of an event at the instant it is known: the one evaluator of research and of execution.

Keep outcomes and enumeration out: which conditions a run tests is declared in `research/hypotheses`.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.errors import SettingsError
from backtest_assets.research.events.asked import ASKED
from backtest_assets.research.events.thresholds import BEFORE, MEASURES, Threshold, threshold_of

SEVERITY_WINDOW: Final = timedelta(days=365)
"""A severity is high against the family's events of the year before: long enough for a median, short enough to adapt."""

SEVERITY_MIN_EVENTS: Final = 20
"""Earlier events below which no severity is called high [events]."""

_REGIMES: Final[dict[str, tuple[str, ...]]] = {
    "vol_regime": ("low", "mid", "high"),
    "funding_regime": ("negative", "neutral", "positive"),
    "bull_bear": ("bull", "bear"),
    "session": ("asia", "eu", "us"),
}
_SIDES: Final = {"event_side_up": 1, "event_side_down": -1}
_REGIME_OF: Final = {f"{column}_{label}": (column, label) for column, labels in _REGIMES.items() for label in labels}


@dataclass(frozen=True, slots=True)
class Condition:
    """A named question about one event, answered from what is known at `known_at`.

    `all` is always true. `event_side_*`, `severity_high`, `vol_regime_*`, `funding_regime_*`, `bull_bear_*`, `session_*`,
    `symbol_<X>` and every threshold (`rv_pct_2880>=0.8`, see `thresholds`) are false wherever they cannot be answered.

    Raises:
        SettingsError: on construction, if no condition has this name, or it is a threshold that cannot be asked.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name in {"all", "severity_high", *_SIDES, *_REGIME_OF} or self.symbol or self.threshold:
            return
        message = (
            f"no condition is called {self.name!r}; there are all, symbol_<X>, severity_high, "
            f"{', '.join((*_SIDES, *_REGIME_OF))}, and thresholds as rv_pct_2880>=0.8 on {', '.join(MEASURES)}"
        )
        raise SettingsError(message)

    @classmethod
    def declared(cls, family: EventType, symbols: tuple[str, ...]) -> tuple["Condition", ...]:
        """Return every condition that can differ for a family, in order of priority.

        First every event, then what the event itself tells, then the thresholds declared for the family, then the regimes of
        the market, last the symbols: they only cut the sample. Symbol conditions need at least two symbols, side
        conditions a family whose events have a side.
        """
        names = (
            "all",
            *(_SIDES if family.is_sided else ()),
            "severity_high",
            *ASKED[family],
            *_REGIME_OF,
            *(f"symbol_{symbol}" for symbol in symbols if len(symbols) > 1),
        )
        return tuple(cls(name) for name in names)

    @property
    def symbol(self) -> str | None:
        """The symbol a `symbol_<X>` condition asks for; None for the others."""
        return self.name.removeprefix("symbol_") or None if self.name.startswith("symbol_") else None

    @property
    def threshold(self) -> Threshold | None:
        """The threshold it asks; None for the others."""
        return threshold_of(self.name)

    @property
    def neighbours(self) -> tuple["Condition", ...]:
        """The same question a tenth stricter and a tenth looser; none for a condition without a number (R13)."""
        return tuple(Condition(near.text) for near in self.threshold.neighbours) if self.threshold else ()

    @property
    def slug(self) -> str:
        """The name in letters, digits and underscores, for names made of it."""
        return self.threshold.slug if self.threshold else self.name

    @property
    def holds(self) -> pl.Expr:
        """Boolean expression over the rows of `attach_conditions`; never null."""
        if self.name == "all":
            return pl.col("has_context").is_not_null()
        if self.threshold:
            answer = self.threshold.holds
        elif self.symbol:
            answer = pl.col("symbol") == self.symbol
        elif self.name in _SIDES:
            answer = pl.col("side") == _SIDES[self.name]
        elif self.name == "severity_high":
            answer = pl.col("is_severity_high")
        else:
            column, label = _REGIME_OF[self.name]
            answer = pl.col(column) == label
        return (pl.col("has_context") & answer).fill_null(value=False)


def attach_conditions(events: pl.DataFrame, context: pl.DataFrame) -> pl.DataFrame:
    """Add to every event what its conditions are asked of.

    Args:
        events: table event_registry, any rows, any order.
        context: table market_context.

    Returns:
        The rows and columns of `events`, in their order, plus `has_context` (a context row of the same symbol became
        known at the event's `known_at`), `session`, `bull_bear`, `vol_regime`, `funding_regime` and every measure of
        `thresholds` (null without context), the measures one bar earlier (`before_*`; null without that bar) and
        `is_severity_high`: severity above the median of the events of the same family and variant in the
        365 days before `known_at`, itself excluded; null below 20 of them.

    Raises:
        polars.exceptions.ComputeError: if `context` has two rows for one symbol and instant.

    Knows:
        the context rows known at `known_at` and one bar before, and events known strictly before it.
    """
    near = context.join(events.select("symbol", "known_at"), on=["symbol", "known_at"], how="semi")
    regimes = near.select("symbol", "known_at", *_REGIMES, *MEASURES, has_context=pl.lit(value=True))
    past = context.select("symbol", pl.col("known_at") + BAR, pl.col(MEASURES).name.prefix(BEFORE))
    past = past.join(near, on=["symbol", "known_at"], how="semi")
    usual = (
        pl.col("severity")
        .rolling_median_by("known_at", window_size=SEVERITY_WINDOW, min_samples=SEVERITY_MIN_EVENTS, closed="left")
        .over("variant", "event_type")
    )
    return (
        events.with_columns(is_severity_high=pl.col("severity") > usual)
        .join(regimes, on=["symbol", "known_at"], how="left", validate="m:1", maintain_order="left")
        .join(past, on=["symbol", "known_at"], how="left", validate="m:1", maintain_order="left")
        .with_columns(pl.col("has_context").fill_null(value=False))
    )
