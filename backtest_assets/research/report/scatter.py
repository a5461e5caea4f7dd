"""How the hypotheses compare with luck: t-statistics and adjusted p; the executed blueprints are drawn in `charts`."""

from collections.abc import Mapping
from typing import Final

import polars as pl
from markupsafe import Markup

from backtest_assets.research.report.inputs import ReportInputs
from backtest_assets.research.report.svg import BLUE, FIT, GREY, MUTED, Layer, Spec, draw

_P_FLOOR: Final = 5e-4
"""Lowest p drawn: what 2,000 bootstrap draws can tell from zero [probability]."""

_P_LIMIT: Final = 0.05
_P_SHOWN: Final = 60


def hypothesis_charts(inputs: ReportInputs) -> Mapping[str, Markup]:
    """Draw the evidence of all tested hypotheses; nothing where none could be tested.

    Returns:
        Pictures by name: t_statistics, p_values.

    Knows:
        train evidence.
    """
    tested = inputs.hypotheses.filter(pl.col("t_train").is_finite() & pl.col("p_rw").is_finite())
    if tested.is_empty():
        return {}
    return {
        "t_statistics": draw(
            _t_statistics(tested, inputs.inference_summary),
            name="t",
            title="Train t of every tested hypothesis, best first; the selected are marked.",
        ),
        "p_values": draw(
            _p_values(tested), name="p", title="Adjusted p of the best hypotheses against the limit of 0.05."
        ),
    }


def _t_statistics(tested: pl.DataFrame, summary: pl.DataFrame) -> Spec:
    ranked = tested.sort("t_train", "hypothesis_id", descending=[True, False]).with_row_index("rank", offset=1)
    return {
        **FIT,
        "height": 240,
        "layer": [
            *_luck(summary),
            _points(ranked, "t_train", {"title": "t on train"}, "Hypotheses, best first"),
        ],
    }


def _luck(summary: pl.DataFrame) -> list[Layer]:
    (bar,) = summary.filter(statistic="luckiest_null_t")["value"].to_list()
    return [] if bar is None else _limit(float(bar), f"luck alone reaches {float(bar):.1f}")


def _p_values(tested: pl.DataFrame) -> Spec:
    best = tested.sort("p_rw", "t_train", "hypothesis_id", descending=[False, True, False]).head(_P_SHOWN)
    ranked = best.with_row_index("rank", offset=1).with_columns(pl.col("p_rw").clip(_P_FLOOR, 1.0))
    axis = {"title": "Adjusted p (log scale)", "values": [0.001, 0.01, _P_LIMIT, 0.2, 1]}
    scale = {"type": "log", "domain": [_P_FLOOR, 1]}
    return {
        **FIT,
        "height": 240,
        "layer": [
            *_limit(_P_LIMIT, "limit 0.05"),
            _points(ranked, "p_rw", axis, f"Best {ranked.height} hypotheses", scale),
        ],
    }


def _limit(value: float, words: str) -> list[Layer]:
    data = {"values": [{"at": value, "words": words}]}
    y: Layer = {"field": "at", "type": "quantitative"}
    text: Layer = {"type": "text", "align": "right", "dx": -2, "dy": -7, "color": MUTED, "fontSize": 11}
    return [
        {"data": data, "mark": {"type": "rule", "color": MUTED, "strokeDash": [4, 3]}, "encoding": {"y": y}},
        {"data": data, "mark": text, "encoding": {"y": y, "x": {"value": "width"}, "text": {"field": "words"}}},
    ]


def _points(ranked: pl.DataFrame, field: str, axis: Spec, below: str, scale: Spec | None = None) -> Layer:
    values = ranked.select("rank", field, (pl.col("status") == "selected").alias("chosen")).to_dicts()
    return {
        "data": {"values": values},
        "mark": {"type": "circle", "opacity": 1},
        "encoding": {
            "x": {"field": "rank", "type": "quantitative", "axis": {"title": below, "tickCount": 5, "grid": False}},
            "y": {"field": field, "type": "quantitative", "axis": {"tickCount": 5, **axis}, "scale": scale or {}},
            "size": {"condition": {"test": "datum.chosen", "value": 90}, "value": 14},
            "color": {"condition": {"test": "datum.chosen", "value": BLUE}, "value": GREY},
        },
    }
