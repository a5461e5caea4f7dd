"""What must be true of the registry: exactly the accepted candidates (X6), and spaced; what makes a candidate true stays out.

The recount is DuckDB's (`gates.sql`): another engine, another language, and the word `accepted` written
once more on purpose. Nothing of how the registry was made is used.
"""

from typing import Final

import polars as pl

from backtest_assets.gates.ask import rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.spacing import too_soon
from backtest_assets.gates.sql import ask_sql

_RECOUNT: Final = """
WITH accepted AS (
    SELECT variant, event_type, symbol, year(known_at) AS year, count(*) AS n_accepted
    FROM candidates WHERE status = 'accepted' GROUP BY ALL
), registered AS (
    SELECT variant, event_type, symbol, year(known_at) AS year, count(*) AS n_registered
    FROM registry GROUP BY ALL
)
SELECT coalesce(a.variant, r.variant) AS variant, coalesce(a.event_type, r.event_type) AS event_type,
    coalesce(a.symbol, r.symbol) AS symbol, coalesce(a.year, r.year) AS year,
    coalesce(n_accepted, 0) AS n_accepted, coalesce(n_registered, 0) AS n_registered
FROM accepted AS a FULL JOIN registered AS r
    ON a.variant IS NOT DISTINCT FROM r.variant AND a.event_type IS NOT DISTINCT FROM r.event_type
    AND a.symbol IS NOT DISTINCT FROM r.symbol AND a.year IS NOT DISTINCT FROM r.year
WHERE n_accepted IS DISTINCT FROM n_registered
ORDER BY ALL
"""
_DIFFERENCE: Final = """
WITH accepted AS (SELECT {columns} FROM candidates WHERE status = 'accepted'),
    registered AS (SELECT {columns} FROM registry),
    lost AS (FROM accepted EXCEPT ALL FROM registered),
    added AS (FROM registered EXCEPT ALL FROM accepted)
SELECT
    CASE WHEN a.event_id IS NULL THEN 'lost' WHEN l.event_id IS NULL THEN 'added' ELSE 'altered' END AS what,
    concat_ws(', ', {altered}) AS altered,
    coalesce(l.variant, a.variant) AS variant, coalesce(l.event_id, a.event_id) AS event_id,
    coalesce(l.event_type, a.event_type) AS event_type, coalesce(l.symbol, a.symbol) AS symbol,
    coalesce(l.known_at, a.known_at) AS known_at
FROM lost AS l FULL JOIN added AS a ON l.variant = a.variant AND l.event_id = a.event_id
ORDER BY what, variant, known_at, event_id
"""


def _asked(evidence: Evidence, sql: str) -> pl.DataFrame:
    return ask_sql(sql, {"candidates": evidence.inputs["event_candidates"], "registry": evidence.frame})


def _miscounted(evidence: Evidence) -> pl.DataFrame:
    return _asked(evidence, _RECOUNT)


def _unlike_candidates(evidence: Evidence) -> pl.DataFrame:
    columns = evidence.table.schema.names()
    altered = ", ".join(
        f"CASE WHEN l.event_id = a.event_id AND l.{name} IS DISTINCT FROM a.{name} "
        f"THEN concat('{name} ', coalesce(l.{name}::VARCHAR, 'null'), ' -> ', coalesce(a.{name}::VARCHAR, 'null')) END"
        for name in columns
    )
    return _asked(evidence, _DIFFERENCE.format(columns=", ".join(columns), altered=altered))


def _nothing_accepted(evidence: Evidence) -> bool:
    """Say whether no candidate was accepted, so that the registry is rightly empty."""
    return not bool((evidence.inputs["event_candidates"]["status"] == "accepted").any())


def _too_soon(evidence: Evidence) -> pl.DataFrame:
    return too_soon(evidence.frame)


GATES_EVENT_REGISTRY: Final[tuple[Gate, ...]] = (
    rows_gate(
        "recounted",
        "Accepted candidates, counted by DuckDB per variant, family, symbol and year, are as many as the events.",
        _miscounted,
        fix="event_candidates changed since: rebuild event_registry",
        may_be_empty=_nothing_accepted,
    ),
    rows_gate(
        "same_events",
        "No event is lost, added or altered against the accepted candidates, in any column.",
        _unlike_candidates,
        fix="event_candidates changed since: rebuild event_registry",
        may_be_empty=_nothing_accepted,
    ),
    rows_gate(
        "spaced",
        "An event of a family and symbol is known only after the exit of the one before, and its rest.",
        _too_soon,
        fix="rebuild event_candidates, then event_registry; overlapping events would count one move twice",
        may_be_empty=_nothing_accepted,
    ),
)
