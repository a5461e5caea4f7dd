"""What an array argument of this room must be: shapes, finiteness, window sizes.

Keep computation out. A refusal is a `ValueError` that names the argument and the fix.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def series_with_gaps(values: FloatArray, name: str) -> FloatArray:
    """Return a contiguous float64 series in which NaN means missing.

    Args:
        values: (n_observations,), NaN allowed.
        name: the argument's name, for the message.

    Returns:
        (n_observations,), C-contiguous float64; the same memory where possible.

    Raises:
        ValueError: if it is not one-dimensional or holds an infinity.

    Source:
        This room's convention: NaN is the only missing value.
    """
    series = np.ascontiguousarray(values, dtype=np.float64)
    if np.ndim(values) != 1:
        message = f"{name} has {np.ndim(values)} dimensions; give one series (n_observations,)"
        raise ValueError(message)
    if bool(np.isinf(series).any()):
        message = f"{name} holds an infinity; make it NaN if it means missing"
        raise ValueError(message)
    return series


def complete_series(values: FloatArray, name: str) -> FloatArray:
    """Return a contiguous float64 series without any missing value.

    Args:
        values: (n_observations,), finite.
        name: the argument's name, for the message.

    Returns:
        (n_observations,), C-contiguous float64.

    Raises:
        ValueError: if it is not one-dimensional or holds a NaN or an infinity.

    Source:
        This room's convention: where a gap has no meaning it is refused, not skipped.
    """
    series = series_with_gaps(values, name)
    if bool(np.isnan(series).any()):
        message = f"{name} holds NaN; a missing observation has no meaning here, drop or fill it where it arises"
        raise ValueError(message)
    return series


def same_shape(first: FloatArray, second: FloatArray, names: tuple[str, str], *, n_dimensions: int) -> None:
    """Check that two finite arrays have one shape.

    Args:
        first: an array of `n_dimensions`.
        second: an array of the same shape.
        names: the names of both, for the message.
        n_dimensions: dimensions both must have.

    Raises:
        ValueError: if dimensions or shapes differ, or either holds a NaN or an infinity.

    Source:
        This room's convention.
    """
    if first.ndim != n_dimensions or first.shape != second.shape:
        message = f"{names[0]} {first.shape} and {names[1]} {second.shape} must be {n_dimensions}-D of one shape"
        raise ValueError(message)
    for array, name in zip((first, second), names, strict=True):
        if not bool(np.isfinite(array).all()):
            message = f"{name} holds NaN or infinity; book 0 where nothing was held"
            raise ValueError(message)


def check_window(window: int, min_count: int, *, least: int = 1) -> None:
    """Check the size of a trailing window and its least number of present values.

    Args:
        window: observations in the window [observations].
        min_count: present values below which the answer is NaN [observations].
        least: smallest `min_count` that has a meaning.

    Raises:
        ValueError: unless `least` <= `min_count` <= `window` and `window` >= 1.

    Source:
        This room's convention; as pandas' `window` and `min_periods`.
    """
    if window < 1 or not least <= min_count <= window:
        message = (
            f"window {window} and min_count {min_count} must satisfy {least} <= min_count <= window and window >= 1"
        )
        raise ValueError(message)
