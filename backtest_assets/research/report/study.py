"""What followed the events of each family, drawn from phase 1's evidence; the decision stands in `families`."""

from collections.abc import Mapping
from typing import Final

import polars as pl
from markupsafe import Markup

from backtest_assets.domain.clock import BAR
from backtest_assets.research.report.inputs import ReportInputs
from backtest_assets.research.report.svg import BLUE, GREY, INK, Layer, Spec, draw
from backtest_assets.research.report.words import plain

_MOVE: Final = r"^move_(\d+)_bars_bps$"
_COLUMNS: Final = 3
_BARS_PER_HOUR: Final = 3_600 / BAR.total_seconds()


def event_study(inputs: ReportInputs) -> Mapping[str, Markup]:
    """Draw, family by family, how far prices moved after train events beyond their controls; nothing where none was compared.

    Args:
        inputs: the run's frames.

    Returns:
        One picture, event_study.

    Knows:
        train statistics of every family.
    """
    moves = (
        inputs.phase1_evidence.with_columns(bars=pl.col("metric").str.extract(_MOVE).cast(pl.Float64))
        .drop_nulls(["bars", "delta", "ci_low", "ci_high"])
        .sort("event_type", "bars")
    )
    if moves.is_empty():
        return {}
    title = "Move after the events beyond that of their controls, with 95 % intervals, by family and hours."
    return {"event_study": draw(_curves(moves), name="study", title=title)}


def _curves(moves: pl.DataFrame) -> Spec:
    points = moves.select(
        family=pl.Series([plain(name) for name in moves["event_type"]], dtype=pl.String),
        hours=pl.col("bars") / _BARS_PER_HOUR,
        delta=pl.col("delta").round(6),
        low=pl.col("ci_low").round(6),
        high=pl.col("ci_high").round(6),
        decision="decision",
    )
    x: Layer = {
        "field": "hours",
        "type": "quantitative",
        "axis": {"title": "Hours after the event is known", "titleFontSize": 10, "tickCount": 5},
    }
    y: Layer = {
        "field": "delta",
        "type": "quantitative",
        "axis": {"title": "bps", "titleFontSize": 10, "tickCount": 4},
    }
    color = {"condition": {"test": "datum.decision == 'pass'", "value": BLUE}, "value": GREY}
    band: Layer = {**y, "field": "low"}
    header: Layer = {"title": None, "labelColor": INK, "labelFontSize": 11}
    return {
        "data": {"values": points.to_dicts()},
        "facet": {"field": "family", "type": "nominal", "header": header},
        "columns": _COLUMNS,
        "resolve": {"scale": {"y": "independent"}},
        "spacing": 18,
        "spec": {
            "width": 250,
            "height": 110,
            "layer": [
                {"mark": {"type": "rule", "color": GREY}, "encoding": {"y": {"datum": 0, "type": "quantitative"}}},
                {
                    "mark": {"type": "area", "opacity": 0.25},
                    "encoding": {"x": x, "y": band, "y2": {"field": "high"}, "color": color},
                },
                {
                    "mark": {"type": "line", "strokeWidth": 1.5, "point": {"size": 14}},
                    "encoding": {"x": x, "y": y, "color": color},
                },
            ],
        },
    }
