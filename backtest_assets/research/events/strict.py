"""When a value counts as beyond a threshold: strictly, and by more than rounding; what is compared is its family's."""

from typing import Final

BEYOND: Final = 1.0 + 1e-9
"""Times the threshold: what swings as usual ties with its own quantile, and a last digit must not make it an event."""
