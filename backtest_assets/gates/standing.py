"""Whether train's data support a family on a symbol, counted again by DuckDB (`gates.sql`); where its candidates went stays out.

Nothing of `research/events/funnel.py` is used: what tells a measure is written a second time, in another language.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.domain.split import Split
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.sql import ask_sql
from backtest_assets.research.events.definition import LEAST_KNOWN, Definition
from backtest_assets.research.events.registry import FAMILIES

_CLOSE: Final = 1e-12
_SAYS: Final = {
    "volume_quote": "volume_measure = 'volume_quote'",
    "base_x_close": "volume_measure = 'base_x_close'",
    "taker_imbalance": "taker_imbalance IS NOT NULL",
    "log_return": "logret_1 IS NOT NULL",
    "range": "range_frac IS NOT NULL",
    "volatility": "rv_12 IS NOT NULL",
    "basis": "basis_z_96 IS NOT NULL",
    "funding_rate": "funding_rate_8h IS NOT NULL",
}
_MEASURED: Final = (
    "volume_measure",
    "taker_imbalance",
    "logret_1",
    "range_frac",
    "rv_12",
    "basis_z_96",
    "funding_rate_8h",
)
_COUNT: Final = """
SELECT '{family}' AS event_type, symbol, CASE WHEN NOT ({needs}) THEN NULL {decided} END AS measure, count(*) AS n_bars
FROM bars GROUP BY ALL
"""


def untrue_standings(evidence: Evidence) -> pl.DataFrame:
    """Return the rows whose share of known bars, measure or status another count does not give.

    Args:
        evidence: rows of `event_families`, with `features`.
    """
    counted: defaultdict[tuple[str, str], dict[str | None, int]] = defaultdict(dict)
    for family, symbol, measure, n_bars in _counted(evidence):
        counted[family, symbol][measure] = n_bars
    wrong = [
        not _is_true(row, counted[row["event_type"], row["symbol"]]) for row in evidence.frame.iter_rows(named=True)
    ]
    return evidence.frame.filter(pl.Series(wrong, dtype=pl.Boolean)).select(
        "event_type", "symbol", "status", "known_frac", "measure", "measure_frac"
    )


def _counted(evidence: Evidence) -> Iterator[tuple[str, str, str | None, int]]:
    families = [FAMILIES[family].definition for family in evidence.settings.event_types]
    train = evidence.settings.splits[Split.TRAIN]
    columns = {*_MEASURED, *(name for family in families for name in family.needs)}
    bars = (
        evidence.inputs["features"]
        .filter(pl.col("known_at").is_between(train.start, train.end, closed="left"))
        .select("symbol", *sorted(columns))
    )
    yield from ask_sql(" UNION ALL ".join(map(_asked, families)), {"bars": bars}).iter_rows()


def _asked(family: Definition) -> str:
    needs = " AND ".join(f"{name} IS NOT NULL" for name in family.needs)
    decided = " ".join(f"WHEN {_SAYS[word.value]} THEN '{word.value}'" for word in family.measures)
    return _COUNT.format(family=family.event_type.value, needs=needs, decided=decided)


def _is_true(row: dict[str, Any], n_by: dict[str | None, int]) -> bool:
    n_bars = sum(n_by.values())
    decided = {word: n for word, n in n_by.items() if word is not None}
    known_frac = sum(decided.values()) / n_bars if n_bars else 0.0
    most = max(decided.values(), default=0)
    words = [word.value for word in FAMILIES[EventType(row["event_type"])].definition.measures]
    measure = next((word for word in words if most and decided.get(word) == most), None)
    return (
        row["known_frac"] is not None
        and row["measure_frac"] is not None
        and math.isclose(row["known_frac"], known_frac, rel_tol=_CLOSE)
        and math.isclose(row["measure_frac"], most / n_bars if n_bars else 0.0, rel_tol=_CLOSE)
        and row["measure"] == measure
        and row["status"] == ("RUN" if known_frac >= LEAST_KNOWN else "NOT_RUN")
    )
