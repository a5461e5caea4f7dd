"""How the executed blueprints earn, drawn: by calendar month, by regime, trade by trade; equity and costs are in `charts`."""

from collections.abc import Mapping
from typing import Final

import polars as pl
from markupsafe import Markup

from backtest_assets.domain.cost import BPS
from backtest_assets.domain.split import Split
from backtest_assets.research.report.inputs import Execution
from backtest_assets.research.report.performance import equity_frame
from backtest_assets.research.report.svg import BLUE, FIT, GREY, INK, PALE, RED, Layer, Spec, draw
from backtest_assets.tables.simulation import TRADES

MAX_TRADES: Final = 600
"""Trades drawn; of more every k-th in time, so that the page stays small."""

_REGIMES: Final = ("low", "mid", "high", "unknown")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DIGITS: Final = 12
_CELL: Final = 26
_DARK: Final = 0.6
"""Depth from which a number in a cell is white."""


def breakdown_charts(execution: Execution | None) -> Mapping[str, Markup]:
    """Draw where the profit of the executed blueprints comes from; nothing where nothing was traded.

    Args:
        execution: the frames of an executed run, or None.

    Returns:
        Pictures by name: calendar, excursions, regimes (left out where no blueprint has a profit to share).

    Knows:
        ledger and trades, test included.
    """
    if execution is None or execution.trades.is_empty():
        return {}
    drawn = {
        "calendar": draw(_calendar(execution), name="calendar", title="Net profit by year and month."),
        "excursions": draw(
            _excursions(execution.trades),
            name="excursions",
            title="Every trade: what it went against the position before its exit, and what it earned.",
        ),
    }
    shares = _shares(execution)
    if shares.is_empty():
        return drawn
    title = "Share of profit by volatility regime, blueprint and split."
    return drawn | {"regimes": draw(_regimes(shares), name="regimes", title=title)}


def _calendar(execution: Execution) -> Spec:
    at = pl.col("open_at").dt
    sums = (
        equity_frame(execution)
        .group_by(at.year().cast(pl.String).alias("year"), at.month().alias("month"), maintain_order=True)
        .agg((100 * pl.col("net_pnl").sum()).round(_DIGITS).alias("percent"))
        .with_columns(
            month=pl.col("month").replace_strict(range(1, 13), _MONTHS, return_dtype=pl.String),
            size=pl.col("percent").abs(),
        )
    )
    x: Layer = {"field": "month", "type": "ordinal", "sort": list(_MONTHS), "scale": {"domain": list(_MONTHS)}}
    y: Layer = {"field": "year", "type": "ordinal"}
    most = max(float(sums.select(pl.col("size").max()).item()), 1e-9)
    return {
        **FIT,
        "height": _CELL * sums["year"].n_unique() + 30,
        "data": {"values": sums.to_dicts()},
        "encoding": {
            "x": {**x, "axis": {"title": None, "labelAngle": 0, "orient": "top"}},
            "y": {**y, "axis": {"title": None, "grid": False}},
        },
        "layer": [
            {
                "mark": {"type": "rect"},
                "encoding": {
                    "color": {"condition": {"test": "datum.percent < 0", "value": RED}, "value": BLUE},
                    "opacity": _depth("size", most),
                },
            },
            _numbers("percent", ".1f", f"datum.size > {_DARK * most}"),
        ],
    }


def _depth(field: str, most: float) -> Layer:
    """Opacity from nothing to the most: one colour each for profit and loss, so that the page's dark mode fits."""
    scale = {"domain": [0, most], "range": [0.06, 1]}
    return {"field": field, "type": "quantitative", "scale": scale, "legend": None}


def _numbers(field: str, form: str, is_dark: str) -> Layer:
    return {
        "mark": {"type": "text", "fontSize": 10},
        "encoding": {
            "text": {"field": field, "type": "quantitative", "format": form},
            "color": {"condition": {"test": is_dark, "value": "white"}, "value": INK},
        },
    }


def _excursions(trades: pl.DataFrame) -> Spec:
    shown = trades.sort(TRADES.key).gather_every(-(-trades.height // MAX_TRADES))
    points = shown.select(
        (-pl.col("mae_frac") / BPS).round(2).alias("against"),
        (pl.col("net_pnl") / pl.col("exposure") / BPS).round(2).alias("net"),
        pl.when(pl.col("split") == Split.TEST.value).then(pl.lit("test")).otherwise(pl.lit("before")).alias("when"),
    )
    axis = {"tickCount": 5, "grid": True}
    order = ["before", "test"]
    return {
        **FIT,
        "height": 240,
        "layer": [
            {
                "data": {"values": [{"at": 0}]},
                "mark": {"type": "rule", "color": GREY},
                "encoding": {"y": {"field": "at", "type": "quantitative"}},
            },
            {
                "data": {"values": points.to_dicts()},
                "mark": {"type": "circle", "size": 16, "opacity": 0.7},
                "encoding": {
                    "x": {
                        "field": "against",
                        "type": "quantitative",
                        "axis": {**axis, "title": "Largest adverse move, bps"},
                    },
                    "y": {
                        "field": "net",
                        "type": "quantitative",
                        "axis": {**axis, "title": "Net per unit of exposure, bps"},
                    },
                    "color": {
                        "field": "when",
                        "type": "nominal",
                        "scale": {"domain": order, "range": [PALE, BLUE]},
                        "legend": {"symbolType": "circle"},
                    },
                },
            },
        ],
    }


def _shares(execution: Execution) -> pl.DataFrame:
    """Return the known shares of profit: `blueprint_id`, `split`, `regime`, `percent`."""
    test = execution.walkforward_test.with_columns(split=pl.lit(Split.TEST.value))
    metric = pl.col("metric").str.strip_prefix("regime_share_vol_")
    executed = execution.promotions["blueprint_id"].unique()
    return (
        pl.concat([execution.walkforward_summary, test], how="diagonal")
        .filter(
            pl.col("metric").str.starts_with("regime_share_vol_"),
            pl.col("value").is_not_null(),
            pl.col("blueprint_id").is_in(executed.implode()),
        )
        .select("blueprint_id", "split", regime=metric, percent=(100 * pl.col("value")).round(_DIGITS))
        .sort("blueprint_id", "split", "regime")
    )


def _regimes(shares: pl.DataFrame) -> Spec:
    splits = [split.value for split in Split]
    x: Layer = {"field": "regime", "type": "ordinal", "sort": list(_REGIMES), "scale": {"domain": list(_REGIMES)}}
    header: Layer = {"title": None, "labelColor": INK}
    return {
        "data": {"values": shares.to_dicts()},
        "facet": {"column": {"field": "split", "sort": splits, "header": header}},
        "spacing": 10,
        "spec": {
            "width": 130,
            "height": {"step": _CELL},
            "encoding": {
                "x": {
                    **x,
                    "axis": {
                        "title": None,
                        "labelAngle": 0,
                        "labelExpr": "datum.value == 'unknown' ? '?' : datum.value",
                    },
                },
                "y": {
                    "field": "blueprint_id",
                    "type": "nominal",
                    "axis": {"title": None, "labelLimit": 150, "grid": False},
                },
            },
            "layer": [
                {"mark": {"type": "rect", "color": BLUE}, "encoding": {"opacity": _depth("percent", 100)}},
                _numbers("percent", ".0f", f"datum.percent > {100 * _DARK}"),
            ],
        },
    }
