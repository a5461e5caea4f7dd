"""Questions about raw settlements, asked before they are published: their grid, their unit, their completeness."""

from typing import Final

import numpy as np

from backtest_assets.domain.clock import HOUR_US
from backtest_assets.domain.exchange import FUNDING_INTERVALS_H
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, breaking, limited_gate, rows_gate
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.listed import listing_gates
from backtest_assets.gates.rows import inside_partition, market_gates, no_duplicates, over_by_now, tail_age
from backtest_assets.gates.settlements import changes_confirmed, settlements_complete

_TELLING_H: Final = 240.0  # no 10 days of BTC, ETH or SOL had a median |rate| above 0.17 %; shorter storms had 2 %


def _largest_rate(evidence: Evidence) -> Measured:
    rows = evidence.frame.select("settled_at", "funding_rate", "funding_interval_h")
    rates = np.abs(rows["funding_rate"].to_numpy())  # null becomes NaN
    worst = rows[[int(np.argmax(rates))]]  # NaN counts as the largest
    return float(rates.max()), f"the largest |rate| of {rows.height} is at {worst['settled_at'][0]}", worst


def _median_rate(evidence: Evidence) -> Measured:
    rates, hours = evidence.frame["funding_rate"], evidence.frame["funding_interval_h"]
    if rates.null_count() or hours.null_count():
        return float("nan"), "some settlements have no rate or no interval"
    if (days := hours.sum() / 24) < _TELLING_H / 24:
        return 0.0, f"{days:g} days of settlements are too few to tell, it takes {_TELLING_H / 24:g}"
    median = rates.abs().median()
    return (median if isinstance(median, float) else float("nan")), f"half of {rates.len()} rates are below"


GATES_RAW_UM_FUNDING: Final = market_gates(
    inside_partition("settled_at"),
    *listing_gates("settled_at"),
    rows_gate(
        "interval_known",
        f"The interval is one of {', '.join(f'{hours:g}' for hours in FUNDING_INTERVALS_H)} h.",
        breaking(
            lambda evidence: evidence.frame["funding_interval_h"].is_in([*map(float, FUNDING_INTERVALS_H)]),
            ("settled_at", "funding_interval_h"),
        ),
        fix="without its interval a rate cannot be booked: mend the source's interval column and ingest again",
    ),
    rows_gate(
        "on_grid",
        "Every settlement is on the exact hour of its interval's UTC grid.",
        breaking(
            lambda evidence: (
                evidence.frame["settled_at"].to_physical() % (evidence.frame["funding_interval_h"] * HOUR_US) == 0
            ),
            ("settled_at", "received_at", "funding_interval_h"),
        ),
        fix="the stamps are more than 5 s off, or the interval is wrong: mend the source's file and ingest again",
    ),
    rows_gate(
        "only_settled",
        "No settlement lies after the moment of asking.",
        breaking(over_by_now("settled_at"), ("settled_at", "funding_rate")),
        fix="a rate that is not settled yet will still change: leave it out of the source and ingest again later",
    ),
    no_duplicates("settled_at"),
    limited_gate(
        "rate_bounded",
        "|rate| is finite and no unit mistake.",
        _largest_rate,
        setting="funding_rate_max",
        fix="the rate is not a fraction per interval: check the source's unit (0.0001 is 1 bp) and ingest again",
    ),
    limited_gate(
        "median_rate_bounded",
        "The median |rate| is that of a fraction, not of a percentage: quiet months in percent stay below the largest rate.",
        _median_rate,
        setting="funding_rate_median_max",
        fix="the rates look like percent: check the source's unit (0.0001 is 1 bp) and ingest again",
    ),
    limited_gate(
        "rate_usual",
        "|rate| is not unusual; a remark, because extreme markets do pay such rates.",
        _largest_rate,
        setting="funding_rate_usual",
        fix="such a rate is rare: look at the exchange's announcement before trusting it",
        severity=Severity.WARN,
    ),
    settlements_complete(Severity.WARN),
    changes_confirmed(),
    tail_age("settled_at"),
)
