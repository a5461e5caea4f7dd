"""What the executed blueprints did, drawn: from frames to Vega-Lite specifications; drawing itself is in `svg`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import polars as pl
from markupsafe import Markup

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.report.inputs import Execution
from backtest_assets.research.report.performance import PARTS, equity_frame, part_sums
from backtest_assets.research.report.svg import BLUE, FIT, GREY, INK, MUTED, PALE, RED, SHADE, Layer, Spec, draw
from backtest_assets.tables.simulation import TRADES

WIDE: Final = 1000
NARROW: Final = 400
_DIGITS: Final = 12
"""Decimals drawn: below them sums of floats may differ with the number of threads."""
_STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"
_PERCENT: Final = ".1%"


def execution_charts(execution: Execution | None, *, run: ResearchRun) -> Mapping[str, Markup]:
    """Draw what the executed blueprints did; nothing where execution was not run.

    Returns:
        Pictures by name: equity_wide, equity_narrow, splits, costs, months.

    Knows:
        ledger and trades, test included.
    """
    if execution is None or execution.trades.is_empty():
        return {}
    equity = equity_frame(execution)
    title = "Equity and drawdown of all executed blueprints together; the test window is shaded."
    return {
        "equity_wide": draw(_equity(equity, run, WIDE), name="equity-wide", title=title),
        "equity_narrow": draw(_equity(equity, run, NARROW), name="equity-narrow", title=title),
        "splits": draw(_splits(execution.trades), name="splits", title="Net profit by blueprint and split."),
        "costs": draw(_costs(execution), name="costs", title="Gross profit, fees, slippage, funding and net profit."),
        "months": draw(_months(equity, run), name="months", title="Net profit by month."),
    }


def _equity(equity: pl.DataFrame, run: ResearchRun, width: int) -> Spec:
    points = _sampled(equity, run, timedelta(days=1 if width == WIDE else 7))
    stamped = points.with_columns(pl.col("at").dt.strftime(_STAMP), pl.col("equity", "drawdown").round(_DIGITS))
    data = {"values": stamped.to_dicts()}
    x: Layer = {"field": "at", "type": "temporal", "scale": {"type": "utc"}}
    line: Layer = {"type": "line", "color": BLUE, "strokeWidth": 1.4}
    area: Layer = {"type": "area", "color": RED, "opacity": 0.3, "line": {"color": RED, "strokeWidth": 1, "opacity": 1}}

    def panel(field: str, form: str, height: int, mark: Layer) -> Layer:
        y = {
            "field": field,
            "type": "quantitative",
            "scale": {"zero": field == "drawdown"},
            "axis": {"title": field.capitalize(), "format": form, "tickCount": 4},
        }
        is_top = field == "equity"
        bare = {**x, "axis": {"title": None, "labels": not is_top, "tickCount": 6}}
        drawn: Layer = {"data": data, "mark": mark, "encoding": {"x": bare, "y": y}}
        return {"width": width, "height": height, "layer": [*_windows(run, named=is_top), drawn]}

    return {
        "vconcat": [panel("equity", ".2f", 220, line), panel("drawdown", ".0%", 80, area)],
        "spacing": 8,
        "resolve": {"scale": {"x": "shared"}},
    }


def _sampled(equity: pl.DataFrame, run: ResearchRun, every: timedelta) -> pl.DataFrame:
    """Return equity and drawdown at the end of every step of the window, carried where nothing was held."""
    start, end = run.window
    step = (pl.col("open_at") - start).dt.total_seconds() // int(every.total_seconds())
    ends = equity.group_by(step.alias("step"), maintain_order=True).agg(
        pl.col("equity", "drawdown").last(), pl.col("drawdown").min().alias("lowest")
    )
    steps = pl.DataFrame({"step": range(-1, -(-(end - start) // every))}, schema={"step": pl.Int64})
    return steps.join(ends, on="step", how="left", maintain_order="left").select(
        pl.min_horizontal(start + (pl.col("step") + 1) * every, pl.lit(end)).alias("at"),
        pl.col("equity").forward_fill().fill_null(1.0),
        pl.coalesce("lowest", pl.col("drawdown").forward_fill(), 0.0).alias("drawdown"),
    )


def _windows(run: ResearchRun, *, named: bool) -> list[Layer]:
    windows = [
        {"split": w.split.capitalize(), "from": w.start.strftime(_STAMP), "to": w.end.strftime(_STAMP)}
        for w in run.splits.windows
    ]
    x: Layer = {"field": "from", "type": "temporal", "scale": {"type": "utc"}}
    test = [window for window in windows if window["split"] == Split.TEST.capitalize()]
    shade: Layer = {
        "data": {"values": test},
        "mark": {"type": "rect", "color": SHADE, "opacity": 1},
        "encoding": {"x": x, "x2": {"field": "to"}},
    }
    bounds: Layer = {
        "data": {"values": windows[1:]},
        "mark": {"type": "rule", "color": GREY, "strokeDash": [3, 3]},
        "encoding": {"x": x},
    }
    names: Layer = {
        "data": {"values": windows},
        "mark": {"type": "text", "align": "left", "dx": 6, "dy": 10, "color": MUTED, "fontSize": 12},
        "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "split"}},
    }
    return [shade, bounds, names] if named else [shade, bounds]


def _splits(trades: pl.DataFrame) -> Spec:
    shown = [split.value for split in Split]
    own = trades.filter(pl.col("split").is_in(shown)).sort(TRADES.key)
    sums = own.group_by("blueprint_id", "split", maintain_order=True).agg(pl.col("net_pnl").sum().round(_DIGITS))
    x: Layer = {
        "field": "net_pnl",
        "type": "quantitative",
        "axis": {"title": "Net P&L, fraction of equity", "format": _PERCENT, "tickCount": 5, "grid": True},
    }
    header: Layer = {"title": None, "labelOrient": "top", "labelAnchor": "start", "labelColor": INK, "labelLimit": 420}
    return {
        "data": {"values": sums.sort("blueprint_id", "split").to_dicts()},
        "facet": {"row": {"field": "blueprint_id", "header": {**header, "labelFontSize": 10, "labelPadding": 2}}},
        "spacing": 8,
        "spec": {
            "width": 400,
            "height": 36,
            "mark": {"type": "bar", "height": 10},
            "encoding": {
                "x": x,
                "y": {"field": "split", "type": "nominal", "sort": shown, "axis": None},
                "color": {"field": "split", "scale": {"domain": shown, "range": [GREY, PALE, BLUE]}},
            },
        },
    }


def _costs(execution: Execution) -> Spec:
    sums = part_sums(execution, "total")
    parts = {label: sums[name] for name, label in PARTS}
    values = [
        {"part": name, "value": value, "shown": f"{100 * value:+.2f} %".replace("-", "\u2212")}
        for name, value in parts.items()
    ]
    y: Layer = {"field": "part", "type": "nominal", "sort": list(parts), "axis": {"title": None, "grid": False}}
    x: Layer = {
        "field": "value",
        "type": "quantitative",
        "scale": {"padding": 36},
        "axis": {"title": "Fraction of equity, whole run", "format": _PERCENT, "tickCount": 4, "grid": True},
    }
    return {
        **FIT,
        "height": 200,
        "data": {"values": values},
        "encoding": {"y": y, "x": x},
        "layer": [
            {"mark": {"type": "bar", "height": 18}, "encoding": {"color": _by_sign("value")}},
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": INK, "fontSize": 11},
                "encoding": {"text": {"field": "shown"}, "x": {"field": "end", "type": "quantitative"}},
                "transform": [{"calculate": "max(datum.value, 0)", "as": "end"}],
            },
        ],
    }


def _months(equity: pl.DataFrame, run: ResearchRun) -> Spec:
    sums = equity.group_by(pl.col("open_at").dt.truncate("1mo").alias("month"), maintain_order=True).agg(
        pl.col("net_pnl").sum().round(_DIGITS)
    )
    values = sums.sort("month").with_columns(pl.col("month").dt.strftime(_STAMP)).to_dicts()
    start, end = (instant.strftime(_STAMP) for instant in run.window)
    bars: Layer = {
        "data": {"values": values},
        "mark": {"type": "bar", "width": {"band": 0.75}},
        "encoding": {
            "x": {
                "field": "month",
                "type": "temporal",
                "timeUnit": "utcyearmonth",
                "scale": {"type": "utc", "domain": [start, end]},
                "axis": {"title": None, "tickCount": 6},
            },
            "y": {
                "field": "net_pnl",
                "type": "quantitative",
                "axis": {"title": "Net P&L, fraction of equity", "format": _PERCENT, "tickCount": 5},
            },
            "color": _by_sign("net_pnl"),
        },
    }
    return {**FIT, "height": 220, "layer": [*_windows(run, named=False), bars]}


def _by_sign(field: str) -> Layer:
    return {"condition": {"test": f"datum.{field} < 0", "value": RED}, "value": BLUE}
