"""The one cost model: what a fill costs in basis points of notional. Funding is not a cost; it is booked apart."""

import math
from dataclasses import dataclass

from backtest_assets.errors import SettingsError

BPS = 1e-4


@dataclass(frozen=True, slots=True)
class CostModel:
    """Costs of one fill, the same in research, simulation and report (R25-R27).

    Attributes:
        fees_bps: exchange fee per side [bps of notional].
        slippage_bps: slippage per fill [bps of notional].
    """

    fees_bps: float
    slippage_bps: float

    def __post_init__(self) -> None:
        for name, value in (("fees_bps", self.fees_bps), ("slippage_bps", self.slippage_bps)):
            if not math.isfinite(value) or value < 0:
                message = f"{name} is {value}; give a finite number >= 0 [bps per side]"
                raise SettingsError(message)

    @property
    def per_side_bps(self) -> float:
        """Fee plus slippage of one fill [bps]."""
        return self.fees_bps + self.slippage_bps

    @property
    def round_trip_bps(self) -> float:
        """Cost of an entry and an exit at the entry's notional [bps]."""
        return 2.0 * self.per_side_bps
