"""The trial ledger: every question ever put to the data, by run and over all runs. Keep what follows from it out."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.stats.trials import equivalent_trials
from backtest_assets.tables.hypotheses import TRIAL_COUNTS, TRIAL_LEDGER

_LUCKIEST_DIGITS: Final = 9
"""Digits to which `luckiest_null` is given: dividing it out of a penalty errs in the sixteenth."""


def list_trials(
    hypotheses: pl.DataFrame, outcomes_digest: str, *, run: ResearchRun, previous: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Add the trials of one materialisation to those made before.

    Args:
        hypotheses: table hypotheses; only the tested (eligible) ones are trials.
        outcomes_digest: content digest of the outcomes they were tested on.
        run: gives the settings' digest, and the factor of the multiplicity penalty.
        previous: table trial_ledger so far; None if there is none.

    Returns:
        Table trial_ledger: one row per hypothesis, per delay it was re-priced at and per neighbour. The same rule,
        settings and outcomes give the same `trial_id`, so repeating a materialisation adds nothing; a trial keeps the
        numbers that it was first listed with.

    Knows:
        train statistics of the tested hypotheses.
    """
    settings, luckiest = run.digest, _luckiest(hypotheses, run)
    rows = [
        {
            "trial_id": _trial_id(kind, detail, hypothesis, settings, outcomes_digest),
            "hypothesis_id": hypothesis["hypothesis_id"],
            "kind": kind,
            "event_type": hypothesis["event_type"],
            "detail": detail,
            "settings_digest": settings,
            "inputs_digest": outcomes_digest,
            "net_mean_bps": mean,
            "t": hypothesis["t_train"] if kind == "hypothesis" else None,
            "p": hypothesis["p_train"] if kind == "hypothesis" else None,
            "luckiest_t": luckiest,
        }
        for hypothesis in hypotheses.filter(pl.col("is_eligible")).sort("hypothesis_id").to_dicts()
        for kind, detail, mean in _trials_of(hypothesis)
    ]
    made = pl.DataFrame(rows, schema=TRIAL_LEDGER.schema)
    ledger = made if previous is None else pl.concat([TRIAL_LEDGER.conform(TRIAL_LEDGER.widen(previous)), made])
    return TRIAL_LEDGER.conform(ledger.unique("trial_id", keep="first", maintain_order=True))


def count_trials(ledgers: pl.DataFrame, outcomes_digest: str) -> pl.DataFrame:
    """Count the trials of all runs: what was ever tried, and how many independent trials that is worth.

    A search of dependent trials is worth the number of independent ones whose luckiest shows as much: the shared bootstrap
    of a run measured what its luckiest shows. Searches are added up: on the same outcomes only with the hypotheses that
    no larger search tried there (tried there once more, by other settings, a rule makes the luckiest no luckier), on other outcomes
    in full, though windows may overlap. A search of which the luckiest is unknown counts each hypothesis. Delays and
    neighbours can only reject what was selected: they are trials, and never the luckiest. The sum is an upper bound.

    Args:
        ledgers: rows of table trial_ledger of every run, with `of_run_id` and `ledger_digest`.
        outcomes_digest: content digest of the outcomes of the run that counts.

    Returns:
        Table trial_counts, one row per run and outcomes that it tried something on; empty if nothing was ever tried.

    Knows:
        trials of all runs of the lake.
    """
    distinct = ledgers.sort("trial_id", "of_run_id").unique("trial_id", keep="first", maintain_order=True)
    tested = distinct.filter(pl.col("kind") == "hypothesis")
    same = pl.col("inputs_digest") == outcomes_digest
    rows = ledgers.group_by("of_run_id", "inputs_digest", "ledger_digest").agg(
        n_trials=pl.len(), n_hypotheses=(pl.col("kind") == "hypothesis").sum()
    )
    return TRIAL_COUNTS.conform(
        rows.with_columns(
            is_same_data=same,
            n_trials_all=pl.lit(distinct.height, pl.Int64),
            n_hypotheses_all=pl.lit(tested.height, pl.Int64),
            n_trials_same_data=pl.lit(distinct.filter(same).height, pl.Int64),
            effective_trials_all=pl.lit(_effective(ledgers.filter(pl.col("kind") == "hypothesis")), pl.Float64),
        )
    )


def _effective(tested: pl.DataFrame) -> float:
    searches = tested.group_by("inputs_digest", "settings_digest").agg(
        ids=pl.col("hypothesis_id").unique().sort(),
        luckiest=pl.when(pl.col("luckiest_t").null_count() == 0).then(pl.col("luckiest_t").max()),
    )
    sized = [
        (min(len(ids), math.inf if luckiest is None else equivalent_trials(luckiest)), data, settings, ids)
        for data, settings, ids, luckiest in searches.iter_rows()
    ]
    seen: set[tuple[str, str]] = set()
    parts: list[float] = []
    for size, data, _, ids in sorted(sized, key=lambda search: (-search[0], *search[1:3])):
        fresh = {(data, one) for one in ids} - seen
        seen |= fresh
        parts.append(min(size, len(fresh)))
    return math.fsum(parts)


def _luckiest(hypotheses: pl.DataFrame, run: ResearchRun) -> float | None:
    """Return what the luckiest null of the run shows [standard errors]; it is the factor in each one's penalty."""
    unit = run.phase2_multiplicity_k * pl.col("se_train_bps")
    known = hypotheses.filter(pl.col("is_eligible"), unit > 0, pl.col("multiplicity_penalty_bps").is_not_null())
    found = known.sort("hypothesis_id").select(pl.col("multiplicity_penalty_bps") / unit).to_series()
    return None if found.is_empty() else round(float(found[0]), _LUCKIEST_DIGITS)


def _trials_of(hypothesis: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None]]:
    rule = f"{hypothesis['condition']} {hypothesis['side_rule']} hold={hypothesis['hold_bars']}"
    own_delay = hypothesis["delay_bars"]
    yield "hypothesis", f"{rule} delay={own_delay}", hypothesis["net_mean_train_bps"]
    for delay, shown in json.loads(hypothesis["delay_means_json"]).items():
        if int(delay) != own_delay:
            yield "delay", f"{rule} delay={delay}", shown["mean_bps"]
    for neighbour, mean in json.loads(hypothesis["curvature_means_json"]).items():
        if neighbour != Variant.CENTRE:
            yield "neighbour", f"{rule} delay={own_delay} {neighbour}", mean


def _trial_id(kind: str, detail: str, hypothesis: Mapping[str, Any], settings: str, outcomes: str) -> str:
    parts = (kind, detail, hypothesis["hypothesis_id"], settings, outcomes)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
