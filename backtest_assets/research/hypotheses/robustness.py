"""A rule entered later, held a little shorter or longer, on rarer events, under a stricter threshold. Keep limits out."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.cells import NOTHING, Cell, CellKey
from backtest_assets.research.hypotheses.rules import HypothesisRule, hold_neighbours
from backtest_assets.stats.robustness import Curvature, DelayRobustness, curvature_penalty, delay_robustness


@dataclass(frozen=True, slots=True)
class RuleCells:
    """The cells of one rule, signed and net of costs.

    Attributes:
        rule: the rule.
        cells: cells of the run.
        cost_bps: cost of a round trip [bps of notional].
    """

    rule: HypothesisRule
    cells: Mapping[CellKey, Cell]
    cost_bps: float

    def cell(
        self,
        split: Split,
        *,
        variant: Variant = Variant.CENTRE,
        delay: int | None = None,
        hold: int | None = None,
        condition: str | None = None,
    ) -> Cell:
        """Return a cell of the rule, by default its own; `NOTHING` where nothing was traded."""
        rule = self.rule
        delay, hold = rule.delay_bars if delay is None else delay, hold or rule.hold_bars
        key = (rule.event_type.value, condition or rule.condition.name, variant.value, delay, hold, split.value)
        return self.cells.get(key, NOTHING)

    def net(self, cell: Cell) -> float:
        """Return the rule's mean in a cell net of costs and funding [bps of notional]; NaN without trades."""
        return self.rule.sign * cell.pnl - self.cost_bps

    @property
    def train_net(self) -> float:
        """The rule's own mean on train net of costs and funding [bps of notional]."""
        return self.net(self.cell(Split.TRAIN))

    def delays(self, run: ResearchRun) -> tuple[DelayRobustness, str]:
        """Re-price the rule at every delay of the run; delays past half the hold are shown, not counted.

        Returns:
            Robustness over the delays that count, and all means as JSON.
        """
        counts = self.rule.delays(run)
        means = {delay: self.net(self.cell(Split.TRAIN, delay=delay)) for delay in counts}
        shown = {str(d): {"mean_bps": _known(means[d]), "is_applicable": counts[d]} for d in counts}
        counted = np.array([means[delay] for delay in counts if counts[delay]], dtype=np.float64)
        return delay_robustness(counted), json.dumps(shown, allow_nan=False)

    def curvature(self) -> tuple[Curvature, str]:
        """Compare the rule with its neighbours: rate and hold, and the threshold of its condition where it has one (R13).

        Returns:
            Curvature, its penalty NaN if a neighbour was never traded, and all means as JSON.
        """
        shorter, longer = hold_neighbours(self.rule.hold_bars)
        cells = {
            Variant.CENTRE.value: self.cell(Split.TRAIN),
            Variant.RATE_MINUS.value: self.cell(Split.TRAIN, variant=Variant.RATE_MINUS),
            Variant.RATE_PLUS.value: self.cell(Split.TRAIN, variant=Variant.RATE_PLUS),
            f"hold_{shorter}": self.cell(Split.TRAIN, hold=shorter),
            f"hold_{longer}": self.cell(Split.TRAIN, hold=longer),
            **{near.name: self.cell(Split.TRAIN, condition=near.name) for near in self.rule.condition.neighbours},
        }
        means = {name: self.net(cell) for name, cell in cells.items()}
        centre, *neighbours = means.values()
        shown = json.dumps({name: _known(mean) for name, mean in means.items()}, allow_nan=False)
        return curvature_penalty(centre, np.array(neighbours, dtype=np.float64)), shown


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
