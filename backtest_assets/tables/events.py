"""Candidates, the events among them and their matched controls; what happened next stays out (see outcomes)."""

from typing import Final

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

_KEY: Final = ("variant", "known_at", "symbol", "event_type", "event_id")
_EVENT: Final = (
    Column(
        "variant",
        pl.String(),
        "text",
        "centre, or the exceedance rate 10 % lower or higher (rate_minus, rate_plus).",
    ),
    Column("event_id", pl.String(), "text", "Content id: type, definition, parameters, symbol, onset."),
    Column("event_type", pl.String(), "text", "Event family."),
    Column("symbol", pl.String(), "text", "Instrument."),
    Column(
        "onset_at",
        INSTANT,
        "UTC",
        "Open time of the bar on which the event set in; for funding the extreme settlement.",
    ),
    Column("known_at", INSTANT, "UTC", "When its last ingredient is known.", sample=(1, 1)),
    Column(
        "exit_at",
        INSTANT,
        "UTC",
        "When the event was known to be over; null if not yet.",
        nullable=True,
        sample=(2, 2),
    ),
    Column("side", pl.Int8(), "sign", "+1, -1, or 0 for a family without a side.", sample=(-1, 1)),
    Column(
        "severity",
        pl.Float64(),
        "1",
        "How far beyond the trigger: value over threshold; for a breakout, log distance beyond the range over rv_96.",
    ),
    Column("threshold", pl.Float64(), "trigger's unit", "Trailing threshold in force at the onset."),
    Column(
        "measure",
        pl.String(),
        "text",
        "What it was decided by, one of its family's: volume_quote, base_x_close (where bars lack the former), "
        "taker_imbalance, log_return, range, volatility, basis, funding_rate.",
    ),
    Column("definition_version", pl.String(), "text", "Version of the family's definition."),
    Column("parameter_digest", pl.String(), "sha256", "Digest of the parameters used."),
    Column("quality", pl.Float64(), "fraction", "Share of real bars in the 30 days before it is known."),
)
_EVENT_RULES: Final = (
    Rule("known_after_onset", pl.col("known_at") > pl.col("onset_at")),
    Rule("side_is_sign", pl.col("side").is_in([-1, 0, 1])),
)

EVENT_CANDIDATES = Table(
    "event_candidates",
    Stage.EVENTS,
    "research",
    _KEY,
    (
        *_EVENT,
        Column(
            "status",
            pl.String(),
            "text",
            "accepted, or why it was dropped (cooldown, outside_window, low_quality, not_in_universe).",
        ),
    ),
    "Every detected event candidate with its fate.",
    _EVENT_RULES,
)
EVENT_REGISTRY = Table(
    "event_registry",
    Stage.EVENTS,
    "research",
    _KEY,
    _EVENT,
    "The events: every accepted candidate of every variant, and nothing else.",
    _EVENT_RULES,
)
EVENT_CONTROLS = Table(
    "event_controls",
    Stage.EVENTS,
    "research",
    ("event_id", "control_no"),
    (
        Column("event_id", pl.String(), "text", "The matched event."),
        Column(
            "control_no",
            pl.Int16(),
            "1",
            "1, or 2 and 3 where some are near and unused: nearest first, same weekday preferred.",
            sample=(1, 5),
        ),
        Column("event_type", pl.String(), "text", "Family of the event."),
        Column("symbol", pl.String(), "text", "Instrument, the same as the event's."),
        Column("event_known_at", INSTANT, "UTC", "When the event was known.", sample=(9, 9)),
        Column("known_at", INSTANT, "UTC", "The control instant, before the event's, outside every event window."),
        Column("side", pl.Int8(), "sign", "The event's side.", sample=(-1, 1)),
        Column("event_rv_pct", pl.Float64(), "fraction", "Volatility rank one bar before the onset."),
        Column("control_rv_pct", pl.Float64(), "fraction", "Volatility rank as long before the control."),
    ),
    "Matched controls of the accepted events, at most three sets of a family from one day.",
    (Rule("control_before_event", pl.col("known_at") < pl.col("event_known_at")),),
)
EVENT_FAMILIES = Table(
    "event_families",
    Stage.EVENTS,
    "research",
    ("event_type", "symbol"),
    (
        Column("event_type", pl.String(), "text", "Event family."),
        Column("symbol", pl.String(), "text", "Instrument."),
        Column(
            "status",
            pl.String(),
            "text",
            "RUN, or NOT_RUN where too few bars of train have what the family needs; phase 1 obeys it.",
        ),
        Column("reason", pl.String(), "text", "Why it is NOT_RUN; empty otherwise."),
        Column(
            "known_frac",
            pl.Float64(),
            "fraction of bars",
            "Share of the symbol's bars in train, gaps included, on which all that the family needs is known.",
            sample=(0.8, 0.9),
        ),
        Column(
            "measure",
            pl.String(),
            "text",
            "What most of these bars can be decided by, one of the family's measures; null where none is known.",
            nullable=True,
        ),
        Column(
            "measure_frac",
            pl.Float64(),
            "fraction of bars",
            "Share of the bars in train that this measure decides; the family's other measures have the known rest.",
            sample=(0.1, 0.7),
        ),
        Column(
            "n_candidates",
            pl.Int64(),
            "1",
            "Candidates of the declared definition, of the whole run, as all counts below.",
            sample=(10, 20),
        ),
        Column("n_accepted", pl.Int64(), "1", "Of them accepted.", sample=(1, 2)),
        Column("n_cooldown", pl.Int64(), "1", "Dropped: too soon after the one before.", sample=(1, 2)),
        Column("n_low_quality", pl.Int64(), "1", "Dropped: too many gaps before.", sample=(1, 2)),
        Column("n_outside_window", pl.Int64(), "1", "Dropped: outside the run's window.", sample=(1, 2)),
        Column("n_not_in_universe", pl.Int64(), "1", "Dropped: the symbol may not be traded then.", sample=(1, 2)),
        Column("first_known_at", INSTANT, "UTC", "First accepted event; null without any.", nullable=True),
        Column("last_known_at", INSTANT, "UTC", "Last accepted event; null without any.", nullable=True, sample=(1, 1)),
        Column(
            "threshold",
            pl.Float64(),
            "trigger's unit",
            "Threshold of the last candidate; null without any.",
            nullable=True,
        ),
    ),
    "What became of every family and symbol: run or not, by what train has, and where the whole run's candidates went.",
    (
        Rule("reason_if_not_run", (pl.col("status") == "RUN") == (pl.col("reason") == "")),
        Rule("known_is_share", pl.col("known_frac").is_between(0, 1)),
        Rule("measure_is_part", pl.col("measure_frac").is_between(0, pl.col("known_frac"))),
        Rule("measure_if_known", pl.col("measure").is_null() == (pl.col("known_frac") == 0)),
    ),
)
TABLES = (EVENT_CANDIDATES, EVENT_FAMILIES, EVENT_REGISTRY, EVENT_CONTROLS)
