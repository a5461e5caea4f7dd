"""What happened after events and controls: the only tables that look ahead; train and validation only, test is sealed."""

import polars as pl

from backtest_assets.domain.clock import BARS_PER_DAY
from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

EVENT_OUTCOMES = Table(
    "event_outcomes",
    Stage.OUTCOMES,
    "research",
    ("variant", "event_id", "control_no", "delay_bars", "hold_bars"),
    (
        Column("variant", pl.String(), "text", "Variant of the event."),
        Column("event_id", pl.String(), "text", "The event."),
        Column("control_no", pl.Int16(), "1", "0 is the event itself, 1.. its matched controls."),
        Column("event_type", pl.String(), "text", "Event family."),
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("known_at", INSTANT, "UTC", "When the event (or control) was known."),
        Column("split", pl.String(), "text", "train or validation."),
        Column("side", pl.Int8(), "sign", "The event's side; 0 for none.", sample=(-1, 1)),
        Column("delay_bars", pl.Int32(), "bars", "Bars between known_at and the entry.", sample=(0, 8)),
        Column("hold_bars", pl.Int32(), "bars", "Bars between entry and exit.", sample=(1, 9)),
        Column("entered_at", INSTANT, "UTC", "Open time of the entry bar."),
        Column("exited_at", INSTANT, "UTC", "Open time of the exit bar."),
        Column("entry_price", pl.Float64(), "quote per base", "Open of the entry bar.", sample=(90, 100)),
        Column("exit_price", pl.Float64(), "quote per base", "Open of the exit bar.", sample=(90, 100)),
        Column("gross_bps", pl.Float64(), "bps of notional", "Return of a long position, before costs and funding."),
        Column(
            "funding_bps",
            pl.Float64(),
            "bps of notional",
            "Funding a long position pays over the hold (negative: receives).",
        ),
        Column(
            "lowest_bps", pl.Float64(), "bps of notional", "Lowest price of the hold against the entry.", sample=(-9, 0)
        ),
        Column(
            "highest_bps",
            pl.Float64(),
            "bps of notional",
            "Highest price of the hold against the entry.",
            sample=(0, 9),
        ),
        Column(
            "realized_vol_bps",
            pl.Float64(),
            "bps per bar",
            "Root mean square of the log returns of the hold's real bars, each from its own open; null where fewer than 80 % "
            "of its bars are real.",
            nullable=True,
        ),
        Column("accrual_day", pl.List(pl.Date()), "UTC day", "Days the hold touches."),
        Column(
            "accrual_bps",
            pl.List(pl.Float64()),
            "bps of notional",
            "Long gross minus funding accrued on each day; sums to gross_bps - funding_bps.",
        ),
        Column("accrual_share", pl.List(pl.Float64()), "fraction", "Share of the hold on each day; sums to 1."),
    ),
    "Outcomes of events and controls on train and validation.",
)


def _touched(bars: pl.Expr) -> pl.Expr:
    return bars.is_null() | bars.is_between(1, pl.col("bars_watched"))


EVENT_BARRIERS = Table(
    "event_barriers",
    Stage.OUTCOMES,
    "research",
    ("event_id", "control_no"),
    (
        Column("event_id", pl.String(), "text", "The centre event."),
        Column("control_no", pl.Int16(), "1", "0 is the event itself, 1.. its matched controls."),
        Column("event_type", pl.String(), "text", "Event family."),
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("known_at", INSTANT, "UTC", "When the event (or control) was known."),
        Column("split", pl.String(), "text", "train or validation, of the event."),
        Column("side", pl.Int8(), "sign", "The event's side; 0 for none.", sample=(-1, 1)),
        Column("entered_at", INSTANT, "UTC", "Open time of the first bar watched."),
        Column("entry_price", pl.Float64(), "quote per base", "Its open.", sample=(90, 100)),
        Column(
            "barrier_bps",
            pl.Float64(),
            "bps of entry_price",
            "One daily sigma known before the onset: rv_96 one bar before it (for a control: as long before it), times the "
            "root of 96.",
            sample=(100, 300),
        ),
        Column(
            "bars_watched",
            pl.Int32(),
            "bars",
            "Bars from entered_at on: 96, or until the first gap, the end of the split or of the data.",
            sample=(96, 96),
        ),
        Column(
            "up_bars",
            pl.Int32(),
            "bars",
            "Age at which the high first was beyond the barrier, 1 is the entry bar; null if not while watched.",
            nullable=True,
            sample=(1, 96),
        ),
        Column("down_bars", pl.Int32(), "bars", "The same for the low.", nullable=True, sample=(1, 96)),
        Column("ends_early", pl.Boolean(), "bool", "Watched for fewer than 96 bars: right censored.", sample=(0, 0)),
    ),
    "When events and controls first moved by a daily sigma, on train and validation, with censoring.",
    (
        Rule("watched_a_day_at_most", pl.col("bars_watched").is_between(1, BARS_PER_DAY)),
        Rule("early_means_fewer", pl.col("ends_early") == (pl.col("bars_watched") < BARS_PER_DAY)),
        Rule("touched_while_watched", _touched(pl.col("up_bars")) & _touched(pl.col("down_bars"))),
        Rule("barrier_is_positive", pl.col("barrier_bps") > 0),
    ),
)
TABLES = (EVENT_OUTCOMES, EVENT_BARRIERS)
