"""Whether every candidate's trigger is true, read again from features, bars and settlements without the families' code.

The numbers are those of the declared definitions, written a second time on purpose.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.gates.ask import broken
from backtest_assets.gates.gate import Evidence

_KEY: Final = ("variant", "event_id")
_CLOSE: Final = 1e-9  # relative: sums in another order differ by some 1e-13
_DUST: Final = 1e-14  # logarithms of prices a tick apart cancel
_DAY, _FIVE_DAYS, _MONTH, _QUARTER = 96, 480, 2_880, 8_640
_CONFIRM: Final = 32
_LAG: Final = 8
_CONFIRMED, _LAGGED = (_CONFIRM + 1) * BAR, (_LAG + 1) * BAR
_HIGH_FOR: Final = (
    2 * _CONFIRM * BAR
)  # from the first to the last of a day's settlements of eight hours, or of shorter ones
_BAR_H: Final = BAR / timedelta(hours=1)
_BACK: Final = 3
_QUIET_RATIO, _WIDE_LAG, _WIDE_VACUUM, _REVERTED_Z, _REVERSAL_SD = 1.25, 1.25, 1.3, 0.5, 4.0
_LEVEL: Final = pl.col("severity") * pl.col("threshold")
_AGAINST: Final = -pl.col("side")


def untrue_triggers(evidence: Evidence) -> pl.DataFrame:
    """Return the candidates whose trigger does not hold at the instants that they name."""
    events = evidence.frame.with_row_index("row")
    joined = (
        events.join(_at_onset(evidence), on=["symbol", "onset_at"], how="left")
        .join(_at_settlement(evidence), on=["symbol", "onset_at"], how="left")
        .join(_when_known(evidence), on=["symbol", "known_at"], how="left")
        .join(_with_a_past(events, evidence.inputs["features"]), on="row", how="left")
        .with_columns(lag=pl.col("known_at") - pl.col("onset_at"))
    )
    holds = pl.any_horizontal(
        (pl.col("event_type") == family.value) & truth.fill_null(value=False) for family, truth in _truths().items()
    )
    return broken(joined, holds).select(
        *_KEY, "event_type", "symbol", "onset_at", "known_at", "side", "severity", "threshold"
    )


def _at_onset(evidence: Evidence) -> pl.DataFrame:
    features = evidence.inputs["features"].sort("symbol", "open_at")
    moved = pl.col("logret_1")
    takers_known = pl.col("taker_imbalance").is_not_null().cast(pl.Int32).rolling_sum(_QUARTER, min_samples=1).shift(1)
    bars = evidence.inputs["bars_um"].sort("symbol", "open_at")
    after = bars.select(
        "symbol",
        onset_at="open_at",
        goes_higher=(pl.col("high").rolling_max(_CONFIRM).shift(-_CONFIRM) > pl.col("high")).over("symbol"),
        goes_lower=(pl.col("low").rolling_min(_CONFIRM).shift(-_CONFIRM) < pl.col("low")).over("symbol"),
    )
    usual_day = pl.col("range_frac").rolling_median(_DAY, min_samples=_DAY * 2 // 3)
    usual_range = pl.col("range_frac").rolling_median(_FIVE_DAYS, min_samples=_FIVE_DAYS // 3)
    narrowest = pl.col("range_frac").rolling_min(_LAG + 1).shift(-_LAG)
    z = pl.col("basis_z_96")
    of_symbol = {
        "flow": pl.when(takers_known >= _MONTH).then("taker_imbalance").otherwise(moved),
        "flow_measure": pl.when(takers_known >= _MONTH).then(pl.lit("taker_imbalance")).otherwise(pl.lit("log_return")),
        "lag_width": narrowest / usual_day.shift(1),
        "width": pl.col("range_frac") / usual_range,
        "width_next": (pl.col("range_frac") / usual_range).shift(-1),
        "compression_before": pl.col("compression_ratio").shift(1),
        "z_least": _nearest_of_runs(z),
        "z_most": -_nearest_of_runs(-z),
        "z_known": z.shift(-_CONFIRM),
    }
    measured = ("rv_ratio_288", "rv_12", "rv_96", "logret_1", "high_prev_96", "low_prev_96", "basis_z_96")
    return features.select(
        "symbol",
        *measured,
        "volume_quote_ratio_2880",
        "volume_measure",
        age_at_onset_h="funding_age_h",
        onset_at="open_at",
        **{name: values.over("symbol") for name, values in of_symbol.items()},
    ).join(after, on=["symbol", "onset_at"])


def _nearest_of_runs(z: pl.Expr) -> pl.Expr:
    """Return the lowest level that z did not exceed for some bars in a row, of those after the onset; null if any lacks."""
    return z.rolling_max(_BACK).rolling_min(_CONFIRM - _BACK + 1).shift(-_CONFIRM)


def _at_settlement(evidence: Evidence) -> pl.DataFrame:
    at_close = evidence.inputs["bars_um"].select("symbol", known_at="known_at", close_then="close")
    beside = evidence.inputs["features"].select("symbol", "known_at", rv_then="rv_96")
    rates = evidence.inputs["settlements_um"].select(
        "symbol",
        "funding_rate",
        onset_at="settled_at",
        size=(pl.col("funding_rate") * 8.0 / pl.col("funding_interval_h")).abs(),
    )
    prices = at_close.join(beside, on=["symbol", "known_at"]).sort("known_at")
    return rates.sort("onset_at").join_asof(
        prices, left_on="onset_at", right_on="known_at", by="symbol", tolerance=BAR, check_sortedness=False
    ).drop("known_at", strict=False)  # fmt: skip


def _when_known(evidence: Evidence) -> pl.DataFrame:
    rates = evidence.inputs["features"].sort("symbol", "open_at")
    rate = pl.col("funding_rate_8h")
    grown = rate.abs() - rate.shift(_CONFIRM).abs().over("symbol")  # eight hours
    before = pl.col("close").shift(1).over("symbol")
    closes = (
        evidence.inputs["bars_um"].sort("symbol", "open_at").select("symbol", "known_at", "close", close_before=before)
    )
    return closes.join(
        rates.select("symbol", "known_at", "funding_age_h", rate_8h=rate, grown=grown), on=["symbol", "known_at"]
    )


def _with_a_past(events: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of candidates that measure something earlier, if it was there: a move, an extreme, a shock's peak."""
    measured = events.select(
        "row", "symbol", "onset_at", against=_AGAINST, level=_LEVEL, family=pl.col("event_type")
    ).filter(pl.col("family").is_in([family.value for family in _OF_THE_DAY_BEFORE] + [_AFTERSHOCK.value]))
    quiet = (pl.col("rv_ratio_288") <= _QUIET_RATIO).fill_null(value=False)
    ends = pl.all_horizontal(quiet, quiet.shift(1), quiet.shift(2)).fill_null(value=False)  # three bars
    past = (
        features.sort("symbol", "open_at")
        .with_columns(move=pl.col("logret_1").abs(), stretch=ends.cum_sum().over("symbol").cast(pl.Int64))
        .select("symbol", "open_at", "move", "rv_ratio_288", "stretch", rate="funding_rate_8h")
    )
    return pl.concat([_seen_the_day_before(measured, past), _peaked(measured, past)]).with_columns(
        has_past=pl.lit(value=True)
    )


def _seen_the_day_before(measured: pl.DataFrame, past: pl.DataFrame) -> pl.DataFrame:
    day = pl.DataFrame({"back": range(1, _DAY + 1)})
    moved = _near(pl.col("move"), pl.col("level")) & (pl.col("family") == EventType.LIQUIDITY_VACUUM.value)
    paid = (
        _near(pl.col("rate").abs(), pl.col("level"))
        & (pl.col("rate").sign() == pl.col("against"))
        & (pl.col("family") == EventType.FUNDING_NORMALIZATION.value)
    )
    return (
        measured.filter(pl.col("family") != _AFTERSHOCK.value)
        .join(day, how="cross")
        .with_columns(open_at=pl.col("onset_at") - pl.col("back") * BAR)
        .join(past, on=["symbol", "open_at"])
        .filter(moved | paid)
        .select("row")
        .unique()
    )


def _peaked(measured: pl.DataFrame, past: pl.DataFrame) -> pl.DataFrame:
    # stretches are what lies between ends of three quiet bars; a shock whose own bar is quiet may hold some of these ends
    of_end = past.select("symbol", "stretch", onset_at="open_at")
    ends = measured.filter(pl.col("family") == _AFTERSHOCK.value).join(of_end, on=["symbol", "onset_at"])
    nearby = ends.join(pl.DataFrame({"back": range(5)}), how="cross").with_columns(
        stretch=pl.col("stretch") - pl.col("back")
    )
    rows = nearby.join(past, on=["symbol", "stretch"]).filter(
        (pl.col("open_at") <= pl.col("onset_at")) & _near(pl.col("rv_ratio_288"), pl.col("level"))
    )
    return rows.select("row").unique()


_AFTERSHOCK: Final = EventType.VOL_AFTERSHOCK_WINDOW
_OF_THE_DAY_BEFORE: Final = (EventType.LIQUIDITY_VACUUM, EventType.FUNDING_NORMALIZATION)


def _truths() -> Mapping[EventType, pl.Expr]:
    severity, threshold, rate, lag = (pl.col(name) for name in ("severity", "threshold", "rate_8h", "lag"))
    has_past, z_least = pl.col("has_past"), pl.col("z_least")
    at_funding_hour = (pl.col("onset_at").dt.hour() % 8 == 0) & (pl.col("onset_at").dt.minute() == 0)
    activity = pl.coalesce("volume_quote_ratio_2880", "rv_12")
    measure, by_volume = pl.col("measure"), pl.col("volume_measure")
    goes_on = pl.when(pl.col("side") < 0).then("goes_higher").otherwise("goes_lower")
    stays_out = pl.when(pl.col("side") < 0).then(z_least).otherwise(-pl.col("z_most")) >= _REVERTED_Z
    is_out = pl.col("z_known") * _AGAINST >= _REVERTED_Z
    turned, turned_before = (
        (pl.col(name) / pl.col("close_then")).log() * pl.col("side") / pl.col("rv_then")
        for name in ("close", "close_before")
    )
    settles = (pl.col("funding_age_h") < _BAR_H) & (pl.col("age_at_onset_h") < _BAR_H)
    up = pl.col("side") > 0
    beyond = pl.col("close") / pl.when(up).then("high_prev_96").otherwise("low_prev_96")
    return {
        EventType.VOL_SHOCK_RELAXATION: _near(pl.col("rv_ratio_288"), _LEVEL) & (severity >= 1) & (lag == BAR),
        EventType.LIQUIDITY_REFILL_LAG_WINDOW: _near(pl.col("logret_1").abs(), _LEVEL)
        & (severity >= 1)
        & (pl.col("lag_width") > _WIDE_LAG)
        & (lag == _LAGGED),
        EventType.LIQUIDITY_ABSENCE_WINDOW: _near(activity * severity, threshold)
        & (severity > 1)
        & at_funding_hour
        & (measure == by_volume.fill_null("volatility"))
        & (lag == BAR),
        EventType.VOL_AFTERSHOCK_WINDOW: has_past
        & (pl.col("rv_ratio_288") <= _QUIET_RATIO)
        & (severity >= 1)
        & (lag == BAR),
        EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: _flows(pl.col("flow"))
        & (severity > 1)
        & ~goes_on
        & (measure == pl.col("flow_measure"))
        & (lag == _CONFIRMED),
        EventType.CROSS_VENUE_DESYNC: _flows(pl.col("basis_z_96"))
        & (severity > 1)
        & stays_out
        & is_out
        & (lag == _CONFIRMED),
        EventType.LIQUIDITY_VACUUM: has_past
        & (severity >= 1)
        & (pl.min_horizontal("width", "width_next") > _WIDE_VACUUM)
        & (measure == by_volume)
        & (lag == 2 * BAR),
        EventType.FUNDING_EXTREME_REVERSAL_WINDOW: _near(pl.col("size"), _LEVEL)
        & (severity > 1)
        & (pl.col("funding_rate").sign() == _AGAINST)
        & (turned >= _REVERSAL_SD * (1 - _CLOSE))
        & (turned_before < _REVERSAL_SD * (1 + _CLOSE)).fill_null(value=True),  # a gap before it turned nothing
        EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: _near(
            beyond.log() * pl.col("side"), severity * pl.col("rv_96"), dust=_DUST
        )
        & (severity > 0)
        & (pl.col("compression_before") <= threshold)
        & (lag == BAR),
        EventType.FUNDING_EXTREME_ONSET: _crowds(rate) & (severity > 1) & (lag == BAR),
        EventType.FUNDING_ACCELERATION: _near(pl.col("grown"), _LEVEL)
        & (severity > 1)
        & (rate.sign() == _AGAINST)
        & (lag == BAR),
        EventType.FUNDING_PERSISTENCE_WINDOW: _crowds(rate) & (severity > 1) & settles & (lag >= _HIGH_FOR),
        EventType.FUNDING_NORMALIZATION: has_past
        & (rate.abs() <= threshold * (1 + _CLOSE))
        & (severity > 1)
        & (lag == BAR),
    }


def _near(value: pl.Expr, expected: pl.Expr, *, dust: float = 0.0) -> pl.Expr:
    return (value - expected).abs() <= _CLOSE * expected.abs() + dust


def _flows(value: pl.Expr) -> pl.Expr:
    """Whether a value stands at severity x threshold, on the side that the event is against."""
    return _near(value.abs(), _LEVEL) & (value.sign() == _AGAINST)


def _crowds(rate: pl.Expr) -> pl.Expr:
    """Whether the rate known with the event stands at severity x threshold, its payers being whom the event is against."""
    return _near(rate.abs(), _LEVEL) & (rate.sign() == _AGAINST)
