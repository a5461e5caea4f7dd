"""Prices that a market does not make: frozen, moving on no volume, out of line, spiking and back.

Each is measured on bars that have a price; a month without one cannot be judged and is red.
"""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, limit_gate, limited_gate
from backtest_assets.gates.gate import Evidence

_NO_BAR: Final = "no bar of the month has a price"
_OTHER_SOURCE: Final = "compare with another source, and ingest the month again"


def gaps_of(bars: pl.DataFrame) -> pl.Series:
    """Return which bars are gaps: one without a close is a gap whatever its flag says, and so is an unknown flag."""
    return bars["is_gap"].fill_null(value=True) | bars["close"].is_null()


def _real(evidence: Evidence) -> pl.DataFrame:
    gaps = gaps_of(evidence.frame)
    return evidence.frame.filter(~gaps) if gaps.any() else evidence.frame


def _frozen(evidence: Evidence) -> Measured:
    real = _real(evidence)
    if real.is_empty():
        return float("nan"), _NO_BAR
    close = real["close"]
    flat = (real["open"] == close) & (real["high"] == close) & (real["low"] == close)
    if not flat.any():
        return 0, f"none of {real.height} bars has one price only"
    runs = real.select(pl.when(flat).then("close").rle()).unnest("close").with_columns(end=pl.col("len").cum_sum())
    n_bars, _, end = runs.drop_nulls("value").sort("len", descending=True, maintain_order=True).row(0)
    shown = real.slice(end - n_bars, 1).select("symbol", "open_at", "close", n_bars=pl.lit(n_bars))
    return n_bars, f"{n_bars} bars at {shown['close'][0]:g} from {shown['open_at'][0]:%Y-%m-%d %H:%M} UTC", shown


def _moved_on_nothing(real: pl.DataFrame) -> pl.DataFrame:
    volume, close = real["volume_base"], real["close"]
    untraded = ~(volume > 0)
    if volume.null_count() == 0 and not untraded.any():
        return real.select("symbol", "open_at").clear()
    before = close.shift(1)
    moved = (real["high"] > real["low"]) | (close != before).fill_null(value=False)
    shown = real.select("symbol", "open_at", "low", "high", "close", "volume_base", close_before=before)
    return shown.filter(untraded.fill_null(value=True) & moved)


def _zero_volume_share(evidence: Evidence) -> Measured:
    real = _real(evidence)
    if real.is_empty():
        return float("nan"), _NO_BAR
    moved = _moved_on_nothing(real)
    return moved.height / real.height, f"{moved.height} of {real.height} bars", moved


def _zero_volume_bars(evidence: Evidence) -> Measured:
    real = _real(evidence)
    moved = _moved_on_nothing(real)
    return (moved.height if real.height else float("nan")), f"{moved.height} of {real.height} bars", moved


def _spikes(evidence: Evidence) -> Measured:
    real, limits = _real(evidence), evidence.limits
    if real.is_empty():
        return float("nan"), _NO_BAR
    close = real["close"].to_numpy()
    # The month's first and last bar have no neighbour to be judged by.
    before, spike, after = close[:-2], close[1:-1], close[2:]
    jump, back = np.abs(spike - before), np.sign(spike - before) * (spike - after)
    at = 1 + np.flatnonzero(
        (jump > 0) & (jump >= limits.spike_frac * before) & (back >= limits.spike_reverted_frac * jump)
    )
    taken = (
        f"closes jumped by {limits.spike_frac:g}, the next bar took back {limits.spike_reverted_frac:g} of it or more"
    )
    if not at.size:
        return 0, f"no {taken}"
    around = {"close_before": close[at - 1], "close_after": close[at + 1]}
    return at.size, f"{at.size} {taken}", real[at].select("symbol", "open_at", "close").with_columns(**around)


def _out_of_line(evidence: Evidence) -> Measured:
    spot, um = _real(evidence), evidence.inputs.get("bars_um")
    if spot.is_empty():
        return float("nan"), _NO_BAR
    if um is None or um["close"].null_count() == um.height:
        return 0.0, "no um bars to compare with, so nobody uses a basis either"
    at, at_um = spot["open_at"].to_physical().to_numpy(), um["open_at"].to_physical().to_numpy()
    _, i, i_um = np.intersect1d(at, at_um, assume_unique=True, return_indices=True)
    basis = um["close"].to_numpy()[i_um] / spot["close"].to_numpy()[i] - 1
    both = ~np.isnan(basis)
    n_both, out = int(both.sum()), np.flatnonzero(both & (np.abs(basis) > evidence.limits.basis_abs_max))
    if not n_both:
        return float("nan"), "um bars are there, but none at an instant of these"
    text = f"{out.size} of {n_both} bars are more than {evidence.limits.basis_abs_max:g} off the um price"
    if not out.size:
        return 0.0, text
    out = out[np.argsort(-np.abs(basis[out]), kind="stable")]
    worst = {"um_close": um["close"].to_numpy()[i_um[out]], "basis": basis[out]}
    return out.size / n_both, text, spot[i[out]].select("symbol", "open_at", "close").with_columns(**worst)


PRICE_GATES: Final = (
    limited_gate(
        "frozen_price",
        "Longest run of bars that open, trade and close at one and the same price; an ERROR, because nobody could trade there.",
        _frozen,
        setting="frozen_bars_max",
        fix=f"the feed stopped and was filled: {_OTHER_SOURCE}",
    ),
    limited_gate(
        "zero_volume_moves",
        "Share of bars whose price moves on no volume; an ERROR, because prices without trades are made up.",
        _zero_volume_share,
        setting="zero_volume_share_max",
        fix=f"prices or volumes are broken: {_OTHER_SOURCE}",
    ),
    limit_gate(
        "no_zero_volume_moves",
        "No bar's price moves on no volume; a remark, because the exchange did publish single hours like that.",
        _zero_volume_bars,
        limit=0,
        unit="bars",
        fix="a fill on such a bar is not evidence; compare with the trades of that hour",
        severity=Severity.WARN,
    ),
    limit_gate(
        "spike_reverted",
        "No close jumps and is taken back by the next bar; a remark, because real crashes do that too.",
        _spikes,
        limit=0,
        unit="bars",
        fix="compare with spot, with the 1-minute klines and with another exchange before believing in it (settings "
        "spike_frac, spike_reverted_frac)",
        severity=Severity.WARN,
    ),
)
IN_LINE_WITH_UM: Final = limited_gate(
    "in_line_with_um",
    "Share of spot bars that are out of line with um; an ERROR on spot, because nothing says which is wrong, and the basis "
    "of both is.",
    _out_of_line,
    setting="basis_out_of_line_share_max",
    fix="one of the two is another instrument or unit: compare both with another source (setting basis_abs_max)",
)
