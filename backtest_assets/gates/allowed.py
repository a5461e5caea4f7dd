"""What a blueprint's guards, confirmations and sizing ask at an entry, said once more by the gates' own arithmetic.

Nothing of `research/blueprints/entries` is used: a gate that asks the code it judges says nothing.
"""

import math
from datetime import timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, Overlay
from backtest_assets.domain.clock import BAR
from backtest_assets.gates.executed import bars_of
from backtest_assets.gates.gate import Evidence

_ATR_BARS: Final = 14
_WINDOW, _MIN, _QUANTILE = 96, 64, 0.75
_FEATURES: Final = (
    "range_96_frac", "rv_96", "spread_est_96_bps", "funding_rate_8h", "basis_bps", "volume_quote_ratio_2880", "logret_1",
    "usual_move", "range_z",
)  # fmt: skip
_PER_YEAR: Final = timedelta(days=365) / BAR
_THEN: Final = "_then"


def entry_facts(rows: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """Add to trades what was known at `entered_at`, and with suffix `_then` what was known at `triggered_at`."""
    features = _features(evidence.inputs["features"])
    market = _market(evidence)
    context = evidence.inputs["market_context"].select("symbol", "known_at", "session")
    for at, suffix in (("entered_at", ""), ("triggered_at", _THEN)):
        for facts in (features, market, context):
            named = facts.rename({n: f"{n}{suffix}" for n in facts.columns if n not in {"symbol", "known_at"}})
            rows = rows.join(named.rename({"known_at": at}), on=["symbol", at], how="left")
    return rows


def _features(features: pl.DataFrame) -> pl.DataFrame:
    ordered = features.sort("symbol", "open_at")
    move, ratio = pl.col("logret_1").abs(), pl.col("compression_ratio")
    usual = move.rolling_quantile(_QUANTILE, "linear", window_size=_WINDOW, min_samples=_MIN).over("symbol")
    mean = ratio.rolling_mean(_WINDOW, min_samples=_MIN).over("symbol")
    spread = ratio.rolling_std(_WINDOW, min_samples=_MIN).over("symbol")
    return ordered.with_columns(usual_move=usual, range_z=(ratio - mean) / spread).select(
        "symbol", "known_at", *_FEATURES
    )


def _market(evidence: Evidence) -> pl.DataFrame:
    """Return the average true range and the traded value of every bar, known at its close."""
    before = pl.col("close").shift(1).over("symbol")
    span = pl.max_horizontal(
        pl.col("high") - pl.col("low"), (pl.col("high") - before).abs(), (pl.col("low") - before).abs()
    )
    whole = pl.when(pl.col("close").is_not_null() & before.is_not_null()).then(span)
    value = evidence.inputs["bars_um"].select("symbol", "open_at", "volume_quote")
    return (
        bars_of(evidence)
        .filter(pl.col("open_at") >= evidence.settings.window[0])
        .sort("symbol", "open_at")
        .with_columns(span=whole)
        .with_columns(atr=pl.col("span").rolling_mean(_ATR_BARS, min_samples=_ATR_BARS).over("symbol"))
        .join(value, on=["symbol", "open_at"], how="left")
        .select("symbol", "atr", "volume_quote", known_at=pl.col("open_at") + BAR)
    )


def _guard(overlay: Overlay, suffix: str = "") -> pl.Expr:
    limits = dict(overlay.params)
    if overlay.name == "session_guard":
        return (pl.col(f"session{suffix}") == limits["session"]) | pl.lit(limits["session"] == "all")
    if overlay.name == "liquidity_guard":
        return pl.col(f"volume_quote{suffix}") >= limits["min_notional"]
    asked = {
        "spread_guard": (pl.col(f"spread_est_96_bps{suffix}"), "max_spread_bps"),
        "funding_guard": (1e4 * pl.col(f"funding_rate_8h{suffix}").abs(), "max_abs_funding_bps"),
        "cross_venue_guard": (pl.col(f"basis_bps{suffix}").abs(), "max_desync_bps"),
    }
    if overlay.name in asked:
        number, limit = asked[overlay.name]
        return number <= limits[limit]
    return pl.lit(overlay.name == "risk_throttle" and float(limits["size_scale"]) > 0)


_CONFIRMED_BY: Final = {
    "spread_guard_pass": "spread_guard",
    "cross_venue_consensus_pass": "cross_venue_guard",
    "funding_normalization_pass": "funding_guard",
}


def allowed(spec: Blueprint) -> pl.Expr:
    """Return whether a blueprint's guards and confirmations hold, over rows of `entry_facts`; null is no."""
    asked = [_guard(overlay) for overlay in spec.overlays]
    overlays = {overlay.name: overlay for overlay in spec.overlays}
    for one in spec.entry.confirmations:
        suffix = "" if one.at == "entry" else _THEN
        if one.name in _CONFIRMED_BY:
            asked.append(_guard(overlays[_CONFIRMED_BY[one.name]], suffix))
        elif one.name == "breakout_confirmation":
            asked.append(pl.col(f"logret_1{suffix}").abs() >= pl.col(f"usual_move{suffix}") * (1 - 1e-12))
        elif one.name == "regime_stability_pass":
            asked.append(pl.col(f"range_z{suffix}").abs() <= 1 + 1e-9)
        else:
            asked.append(pl.col(f"volume_quote_ratio_2880{suffix}") >= 1)
    return pl.all_horizontal([pl.lit(value=True), *(one.fill_null(value=False) for one in asked)])


def asked_exposure(spec: Blueprint) -> pl.Expr:
    """Return the exposure a blueprint asks for, over rows with `stop_frac` and those of `entry_facts`; null is none."""
    size = spec.sizing
    wanted = {
        "fixed_fraction": pl.lit(size.position_scale, pl.Float64),
        "fixed_risk": size.risk_per_trade / pl.col("stop_frac") if size.risk_per_trade else pl.lit(None, pl.Float64),
        "vol_target": (size.target_vol or math.nan) / (pl.col("rv_96") * math.sqrt(_PER_YEAR)),
    }[size.mode]
    throttle = math.prod(float(dict(one.params)["size_scale"]) for one in spec.overlays if one.name == "risk_throttle")
    return pl.when(wanted > size.max_position_scale).then(size.max_position_scale).otherwise(wanted) * throttle


def holds(operator: str, metric: pl.Expr, value: float) -> pl.Expr:
    """Return whether a metric is beyond a value; null where it is unknown."""
    return {">": metric > value, ">=": metric >= value, "<": metric < value, "<=": metric <= value}[operator]
