"""What happened after events and controls: the only table that looks ahead; train and validation only, test is sealed."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Table

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
TABLES = (EVENT_OUTCOMES,)
