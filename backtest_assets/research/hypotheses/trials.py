"""The trial ledger: every question ever put to the data of a run, over all its materialisations. Keep answers out."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.tables.hypotheses import TRIAL_LEDGER


def list_trials(
    hypotheses: pl.DataFrame, outcomes_digest: str, *, run: ResearchRun, previous: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Add the trials of one materialisation to those made before.

    Args:
        hypotheses: table hypotheses; only the tested (eligible) ones are trials.
        outcomes_digest: content digest of the outcomes they were tested on.
        run: gives the settings' digest.
        previous: table trial_ledger so far; None if there is none.

    Returns:
        Table trial_ledger: one row per hypothesis, per delay it was re-priced at and per neighbour. The same rule,
        settings and outcomes give the same `trial_id`, so repeating a materialisation adds nothing.

    Knows:
        which hypotheses were tested, not how they fared.
    """
    settings = run.digest
    rows = [
        {
            "trial_id": _trial_id(kind, detail, hypothesis, settings, outcomes_digest),
            "hypothesis_id": hypothesis["hypothesis_id"],
            "kind": kind,
            "event_type": hypothesis["event_type"],
            "detail": detail,
            "settings_digest": settings,
            "inputs_digest": outcomes_digest,
        }
        for hypothesis in hypotheses.filter(pl.col("is_eligible")).sort("hypothesis_id").to_dicts()
        for kind, detail in _trials_of(hypothesis)
    ]
    made = pl.DataFrame(rows, schema=TRIAL_LEDGER.schema)
    ledger = made if previous is None else pl.concat([TRIAL_LEDGER.conform(previous), made])
    return TRIAL_LEDGER.conform(ledger.unique("trial_id", keep="first", maintain_order=True))


def _trials_of(hypothesis: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rule = f"{hypothesis['condition']} {hypothesis['side_rule']} hold={hypothesis['hold_bars']}"
    own_delay = hypothesis["delay_bars"]
    yield "hypothesis", f"{rule} delay={own_delay}"
    for delay in json.loads(hypothesis["delay_means_json"]):
        if int(delay) != own_delay:
            yield "delay", f"{rule} delay={delay}"
    for neighbour in json.loads(hypothesis["curvature_means_json"]):
        if neighbour != Variant.CENTRE:
            yield "neighbour", f"{rule} delay={own_delay} {neighbour}"


def _trial_id(kind: str, detail: str, hypothesis: Mapping[str, Any], settings: str, outcomes: str) -> str:
    parts = (kind, detail, hypothesis["hypothesis_id"], settings, outcomes)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
