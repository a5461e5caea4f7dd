"""What a mechanism may not say before it is tested (reference_1 section 6.4). Keep its judgement out (`judge`)."""

import re
from collections.abc import Mapping
from typing import Final

from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.sensor import SensorDataset
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.queue.mechanism import Mechanism

LEAST_CONTROLS: Final = 2
"""Negative controls of a mechanism [controls]: one alone may be blind to what biases the comparison."""

OUTCOME_WORDS: Final = frozenset({
    "return", "returns", "pnl", "profit", "profits", "profitable", "sharpe", "sortino", "alpha", "drawdown", "drawdowns",
    "gain", "gains", "loss", "losses",
})  # fmt: skip
"""Words of an outcome; asked word by word, so that neither an alphabet nor a pointless sentence offends."""


def find_leaks(mechanism: Mechanism, family: EventType, *, run: ResearchRun) -> tuple[str, ...]:
    """Return why a mechanism may not be tested on a family; empty if it may.

    Args:
        mechanism: what is claimed.
        family: of which events.
        run: gives the symbols that conditions may name.

    Returns:
        One reason per broken rule: an outcome's word or a data set's name in the text, too few different negative
        controls, a condition that is not one of the family's, all of which are known at `known_at`.

    Knows:
        its arguments.
    """
    text = f"{mechanism.sentence} {mechanism.consequence}".lower()
    outcomes = sorted(OUTCOME_WORDS & set(re.findall(r"[a-z]+", text)))
    named = sorted(name for name in SensorDataset if name in text)
    declared = {condition.name for condition in Condition.declared(family, run.symbol_list)}
    broken: Mapping[str, bool] = {
        f"it speaks of an outcome ({', '.join(outcomes)})": bool(outcomes),
        f"it names a data set ({', '.join(named)})": bool(named),
        f"it has fewer than {LEAST_CONTROLS} negative controls": len(set(mechanism.controls)) < LEAST_CONTROLS,
        f"its condition {mechanism.condition} is none of {family}": mechanism.condition not in {None, *declared},
    }
    return tuple(reason for reason, is_broken in broken.items() if is_broken)
