"""The evidence of a run's best hypotheses, one table per question; listed with the other tables of their stage."""

from typing import Final

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Rule, Table

_F: Final = pl.Float64()
_B: Final = pl.Boolean()
_I: Final = pl.Int64()
_S: Final = pl.String()
_RULE: Final = (
    Column("hypothesis_id", _S, "text", "The hypothesis."),
    Column("event_type", _S, "text", "Event family."),
    Column("condition", _S, "text", "What must be true at known_at."),
    Column("side_rule", _S, "text", "long, short, with_event or against_event."),
    Column("delay_bars", pl.Int32(), "bars", "Bars between known_at and entry.", sample=(0, 0)),
    Column("hold_bars", pl.Int32(), "bars", "Bars between entry and the time exit.", sample=(4, 96)),
)


def _nullable(name: str, unit: str, about: str, sample: tuple[float, float] = (0.0, 1.0)) -> Column:
    return Column(name, _F, unit, about, nullable=True, sample=sample)


NAIVE_ENTRY = Table(
    "naive_entry",
    Stage.HYPOTHESES,
    "research",
    ("hypothesis_id",),
    (
        *_RULE,
        Column(
            "n_run", _I, "trades", "Events of the run window, each one trade; a count, nothing else of test is seen."
        ),
        Column("n_train", _I, "trades", "Trades on train."),
        Column("n_validation", _I, "trades", "Trades on validation."),
        _nullable("net_mean_train_bps", "bps per trade", "Mean after costs and funding on train; null if not run."),
        _nullable("net_mean_validation_bps", "bps per trade", "The same on validation."),
        _nullable("net_mean_bps", "bps per trade", "The same on both together: what is held against the limit."),
        _nullable(
            "sharpe_annual",
            "1",
            "Mean / standard deviation of trades times the root of trades per year, both splits; null without scatter.",
        ),
        _nullable(
            "max_drawdown",
            "fraction of peak",
            "Deepest fall of 1 + the running sum of trades at one notional, both splits, in the order of known_at.",
            (-1.0, 0.0),
        ),
        Column("status", _S, "text", "PASS, FAIL, or NOT_RUN where the run does not evaluate it."),
        Column("is_passed", _B, "bool", "PASS; NOT_RUN is not passed.", sample=(0, 0)),
        Column("fail_reasons", _S, "text", "The limits that are not kept, comma separated; empty if passed."),
    ),
    "Every tested hypothesis traded plainly: next open, fixed hold, real costs once (R74-R77).",
    (
        Rule("reason_unless_passed", pl.col("is_passed") == (pl.col("fail_reasons") == "")),
        Rule("drawdown_is_a_fall", pl.col("max_drawdown").is_between(-1, 0).fill_null(value=True)),
    ),
)
TABLES = (NAIVE_ENTRY,)
