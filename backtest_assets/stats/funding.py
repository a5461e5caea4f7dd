"""What a long position pays in funding between two instants: one definition for research and simulation.

A settlement at s costs a long rate_s * price_s per unit of base. A settlement that its neighbours' intervals demand but
that is not there makes every span over it unknown (NaN); it is never booked as 0. Instants are microseconds.
"""

from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, IntArray

_TOLERANCE_US = 60_000_000  # settlements are on the minute


@dataclass(frozen=True, slots=True)
class FundingPath:
    """The settlements of one instrument, in order, with running sums.

    Attributes:
        settled_us: (n_settlements,) ascending, missing ones included [us].
        interval_us: (n_settlements,) time that each rate covers, up to its settlement [us].
        paid: (n_settlements + 1,) running sum of rate * price of the known settlements [quote per base].
        n_unknown: (n_settlements + 1,) running number of settlements that are missing or lack rate or price.
    """

    settled_us: IntArray
    interval_us: IntArray
    paid: FloatArray
    n_unknown: IntArray

    def between(self, from_us: IntArray, to_us: IntArray) -> FloatArray:
        """Sum what a long of one unit of base pays over the settlements s with from < s <= to.

        Args:
            from_us: (n_spans,) [us].
            to_us: (n_spans,), not before `from_us` [us].

        Returns:
            (n_spans,) [quote per base]; positive: the long pays; NaN where a settlement in the span is unknown.

        Source:
            Binance USD-M contract rules: payment = position value at the settlement x rate.
        """
        if not self.settled_us.size:
            return np.full(from_us.shape, np.nan)
        begin = np.searchsorted(self.settled_us, from_us, side="right")
        end = np.searchsorted(self.settled_us, to_us, side="right")
        unknown = self.n_unknown[end] - self.n_unknown[begin] + self._outside(to_us) - self._outside(from_us)
        return np.where(unknown > 0, np.nan, self.paid[end] - self.paid[begin])

    def _outside(self, at_us: IntArray) -> IntArray:
        """Settlements expected after the last known one up to `at`, or (negative) from `at` to the first known one."""
        after = np.maximum(at_us - self.settled_us[-1], 0) // self.interval_us[-1]
        before = np.maximum(self.settled_us[0] - at_us - 1, 0) // self.interval_us[0]
        return (after - before).astype(np.int64)


def funding_path(settled_us: IntArray, interval_us: IntArray, rate: FloatArray, price: FloatArray) -> FundingPath:
    """Prepare the settlements of one instrument for sums over any span.

    Args:
        settled_us: (n_settlements,) strictly ascending; a settlement's interval reaches back to the one before [us].
        interval_us: (n_settlements,) > 0 [us].
        rate: (n_settlements,) [fraction per interval], NaN = unknown.
        price: (n_settlements,) last close known at the settlement [quote per base], NaN = unknown.

    Returns:
        The path; a settlement that an interval demands and that is not there is put in as unknown.

    Raises:
        ValueError: if shapes differ, instants do not ascend, or an interval is not positive.

    Source:
        Binance USD-M contract rules.
    """
    if not settled_us.shape == interval_us.shape == rate.shape == price.shape:
        message = f"settled_us {settled_us.shape}, interval_us, rate and price must have one shape"
        raise ValueError(message)
    if bool((np.diff(settled_us) <= 0).any()) or bool((interval_us <= 0).any()):
        message = "settled_us must strictly ascend and every interval_us be positive; remove duplicate settlements"
        raise ValueError(message)
    spacing = np.diff(settled_us, prepend=settled_us[:1] - interval_us[:1])
    n_missing = np.maximum((spacing + interval_us - _TOLERANCE_US - 1) // interval_us - 1, 0)
    owner = np.repeat(np.arange(settled_us.size), n_missing)
    steps_back = np.arange(owner.size) - np.repeat(np.cumsum(n_missing) - n_missing, n_missing) + 1
    instants = np.concatenate([settled_us, settled_us[owner] - steps_back * interval_us[owner]])
    order = np.argsort(instants, kind="stable")
    cash = np.concatenate([rate * price, np.full(owner.size, np.nan)])[order]
    return FundingPath(
        instants[order].astype(np.int64),
        np.concatenate([interval_us, interval_us[owner]])[order].astype(np.int64),
        np.concatenate([[0.0], np.cumsum(np.nan_to_num(cash, nan=0.0))]),
        np.concatenate([[0], np.cumsum(np.isnan(cash))]).astype(np.int64),
    )
