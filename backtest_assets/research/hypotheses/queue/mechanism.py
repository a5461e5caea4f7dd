"""What a mechanism is: why something should follow an event, what it can be seen in, and what must not show it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from backtest_assets.domain.event import EventType
from backtest_assets.domain.sensor import Bucket, SensorDataset

BUCKET_HOLDS: Final = {Bucket.SHORT: (4, 16), Bucket.MEDIUM: (48, 96)}
"""Holds a bucket asks for [bars]: up to four hours, and half a day or a day."""

_ID_LENGTH: Final = 16


class SourceKind(StrEnum):
    """Where a row of the queue comes from; `family` records that a family has nothing queued."""

    TEMPLATE = "template"
    FUSION = "fusion"
    FAMILY = "family"


class NegativeControl(StrEnum):
    """A comparison in which no effect may be seen; both are run by phase 1.

    `time_shifted`: the same events moved back by whole weeks. `label_shuffled`: which member of a matched set is called
    the event is drawn at random, and phase 1's test may reject no more often than its level says.
    """

    TIME_SHIFTED = "time_shifted"
    LABEL_SHUFFLED = "label_shuffled"


BOTH: Final = (NegativeControl.TIME_SHIFTED, NegativeControl.LABEL_SHUFFLED)


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One claim: what sets it off, what it is seen in, what follows and how soon.

    Attributes:
        source_kind: a declared template, or a fusion of two or three data sets.
        name: the template (T1, ...) or the operator (F1, ...).
        sentence: the mechanism in words; no outcome word, no data set's name.
        needs: data sets it must be seen in; of each group one suffices.
        consequence: what follows.
        bucket: how soon.
        families: event families it speaks of.
        condition: what must hold at `known_at`; None for every condition of the family.
        controls: negative controls it must pass.
    """

    source_kind: SourceKind
    name: str
    sentence: str
    needs: tuple[tuple[SensorDataset, ...], ...]
    consequence: str
    bucket: Bucket
    families: tuple[EventType, ...]
    condition: str | None = None
    controls: tuple[NegativeControl, ...] = BOTH

    @property
    def id(self) -> str:
        """Content id: it names the same mechanism in every run."""
        content = json.dumps(asdict(self), sort_keys=True, allow_nan=False)
        return hashlib.sha256(content.encode()).hexdigest()[:_ID_LENGTH]
