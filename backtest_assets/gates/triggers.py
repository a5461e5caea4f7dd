"""Whether every candidate's trigger is true, read again from features, bars and settlements without the families' code."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.gates.ask import broken
from backtest_assets.gates.gate import Evidence

_KEY: Final = ("variant", "event_id")
_CLOSE: Final = 1e-9  # relative: sums in another order differ by some 1e-13
_LEVEL: Final = pl.col("severity") * pl.col("threshold")
_AGAINST: Final = -pl.col("side")


def untrue_triggers(evidence: Evidence) -> pl.DataFrame:
    """Return the candidates whose trigger does not hold at the instants that they name."""
    joined = (
        evidence.frame.join(_at_onset(evidence), on=["symbol", "onset_at"], how="left")
        .join(_at_settlement(evidence), on=["symbol", "onset_at"], how="left")
        .join(_when_known(evidence), on=["symbol", "known_at"], how="left")
        .join(_parents(evidence.frame), on=["symbol", "variant", "known_at"], how="left")
        .with_columns(lag=(pl.col("known_at") - pl.col("onset_at")) // BAR)
    )
    holds = pl.any_horizontal(
        (pl.col("event_type") == family.value) & truth.fill_null(value=False) for family, truth in _truths().items()
    )
    return broken(joined, holds).select(*_KEY, "onset_at", "side", "severity", "threshold")


def _at_onset(evidence: Evidence) -> pl.DataFrame:
    return (
        evidence.inputs["features"]
        .sort("symbol", "open_at")
        .select(
            "symbol",
            "rv_ratio_288",
            "rv_12",
            "rv_96",
            "logret_1",
            "high_prev_96",
            "low_prev_96",
            "basis_z_96",
            "taker_imbalance",
            "volume_quote_ratio_2880",
            onset_at="open_at",
            compression_before=pl.col("compression_ratio").shift(1).over("symbol"),
        )
    )


def _at_settlement(evidence: Evidence) -> pl.DataFrame:
    return evidence.inputs["settlements_um"].select(
        "symbol",
        "funding_rate",
        onset_at="settled_at",
        size=(pl.col("funding_rate") * 8.0 / pl.col("funding_interval_h")).abs(),
    )


def _when_known(evidence: Evidence) -> pl.DataFrame:
    rates = evidence.inputs["features"].select("symbol", "known_at", rate_8h="funding_rate_8h")
    return evidence.inputs["bars_um"].select("symbol", "known_at", "close").join(rates, on=["symbol", "known_at"])


def _parents(events: pl.DataFrame) -> pl.DataFrame:
    """Return when the volatility shocks ended that may have an aftershock."""
    is_shock = pl.col("event_type") == EventType.VOL_SHOCK_RELAXATION.value
    ended = events.filter(is_shock & pl.col("exit_at").is_not_null())
    return ended.select("symbol", "variant", known_at="exit_at", ends_a_shock=pl.lit(value=True)).unique()


def _truths() -> Mapping[EventType, pl.Expr]:
    severity, threshold, rate = pl.col("severity"), pl.col("threshold"), pl.col("rate_8h")
    beyond = (
        pl.when(pl.col("side") > 0)
        .then(pl.col("close") / pl.col("high_prev_96"))
        .otherwise(pl.col("low_prev_96") / pl.col("close"))
    )
    at_funding_hour = (pl.col("onset_at").dt.hour() % 8 == 0) & (pl.col("onset_at").dt.minute() == 0)
    return {
        EventType.VOL_SHOCK_RELAXATION: _near(pl.col("rv_ratio_288"), _LEVEL) & (severity >= 1),
        EventType.LIQUIDITY_REFILL_LAG_WINDOW: _near(pl.col("logret_1").abs(), _LEVEL)
        & (severity >= 1)
        & (pl.col("lag") == 9),  # noqa: PLR2004  # onset and eight bars of lag, known at the last one's close
        EventType.LIQUIDITY_ABSENCE_WINDOW: (
            _near(pl.col("volume_quote_ratio_2880") * severity, threshold)
            | (pl.col("volume_quote_ratio_2880").is_null() & _near(pl.col("rv_12") * severity, threshold))
        )
        & (severity > 1)
        & at_funding_hour,
        EventType.VOL_AFTERSHOCK_WINDOW: pl.col("ends_a_shock")
        & (pl.col("rv_ratio_288") <= 1.25)  # noqa: PLR2004  # what ends a shock
        & (pl.col("lag") == 1),
        EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: (
            _flows(pl.col("taker_imbalance")) | _flows(pl.col("logret_1"))
        )
        & (severity > 1)
        & (pl.col("lag") == 33),  # noqa: PLR2004  # the anchor and 32 bars without a new extreme
        EventType.CROSS_VENUE_DESYNC: _flows(pl.col("basis_z_96")) & (severity > 1) & (pl.col("lag") == 33),  # noqa: PLR2004  # likewise
        EventType.LIQUIDITY_VACUUM: (pl.col("volume_quote_ratio_2880") < 0.65) & (severity >= 1),  # noqa: PLR2004  # the balanced profile
        EventType.FUNDING_EXTREME_REVERSAL_WINDOW: _near(pl.col("size"), _LEVEL)
        & (severity > 1)
        & (pl.col("funding_rate").sign() == _AGAINST),
        EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: _near(beyond.log() / pl.col("rv_96"), severity)
        & (pl.col("compression_before") <= threshold),
        EventType.FUNDING_EXTREME_ONSET: _crowds(rate) & (severity > 1),
        EventType.FUNDING_ACCELERATION: (severity > 1)
        & (rate.sign() == _AGAINST)
        & (rate.abs() >= _LEVEL * (1 - _CLOSE)),
        EventType.FUNDING_PERSISTENCE_WINDOW: _crowds(rate) & (severity > 1),
        EventType.FUNDING_NORMALIZATION: (rate.abs() <= threshold * (1 + _CLOSE)) & (severity > 1),
    }


def _near(value: pl.Expr, expected: pl.Expr) -> pl.Expr:
    return (value - expected).abs() <= _CLOSE * (1.0 + expected.abs())


def _flows(value: pl.Expr) -> pl.Expr:
    """Whether a value stands at severity x threshold, on the side that the event is against."""
    return _near(value.abs(), _LEVEL) & (value.sign() == _AGAINST)


def _crowds(rate: pl.Expr) -> pl.Expr:
    """Whether the rate known with the event stands at severity x threshold, its payers being whom the event is against."""
    return _near(rate.abs(), _LEVEL) & (rate.sign() == _AGAINST)
