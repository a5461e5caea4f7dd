"""What must be true of barriers: test stays sealed, sigmas are of before the onset, the bars give the same ages."""

from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, BARS_PER_DAY
from backtest_assets.domain.event import Variant
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.outcomes.measure import instants_to_measure

UNWATCHED_REMARK: Final = 0.05
"""Share of events and controls without a barrier that deserves a remark [fraction]: gaps at the entry are rare, so more
means that volatility is unknown for many of them."""

_KEY: Final = ("event_id", "control_no")
_BPS: Final = 1e4
_TOLERANCE: Final = 1e-9  # relative


def _unsealed(evidence: Evidence) -> pl.DataFrame:
    splits = evidence.settings.splits
    train, validation, test = (splits[name] for name in Split)
    until = pl.col("entered_at") + pl.col("bars_watched") * BAR
    in_train = (pl.col("known_at") >= train.start) & (until <= train.end)
    in_validation = (pl.col("known_at") >= validation.start) & (until <= validation.end)
    # a control of a validation event may itself lie in train: its label is the event's
    of_train = (pl.col("split") == Split.TRAIN.value) & in_train
    of_validation = (pl.col("split") == Split.VALIDATION.value) & (
        in_validation | ((pl.col("control_no") > 0) & in_train)
    )
    sealed = (of_train | of_validation) & (until <= test.start)
    return broken(evidence.frame, sealed).select(*_KEY, "known_at", "bars_watched", "split")


def _unasked(evidence: Evidence) -> pl.DataFrame:
    asked = _asked(evidence)
    same = ("event_type", "symbol", "known_at", "split", "side")
    known = evidence.frame.join(asked, on=_KEY, how="left", suffix="_asked")
    right = pl.all_horizontal(pl.col(name) == pl.col(f"{name}_asked") for name in same)
    return broken(known, right & (pl.col("entered_at") == pl.col("known_at"))).select(_KEY)


def _wrong_sigmas(evidence: Evidence) -> pl.DataFrame:
    both = _with_sigma(evidence, evidence.frame)
    again = pl.col("sigma") * _BPS
    holds = ((pl.col("barrier_bps") - again).abs() <= _TOLERANCE * again) & (pl.col("before") <= pl.col("known_at"))
    return broken(both, holds).select(*_KEY, "barrier_bps", again)


def _with_sigma(evidence: Evidence, rows: pl.DataFrame) -> pl.DataFrame:
    """Look the daily sigma up by time, not by row: `before`, when it was known, and `sigma` [fraction]."""
    events = evidence.inputs["event_registry"].filter(pl.col("variant") == Variant.CENTRE.value)
    onsets = events.select("event_id", "onset_at", event_known_at="known_at")
    # known by the onset: of an onset off the grid the bar before it, so times are floored to the bar
    before = pl.col("known_at") - (pl.col("event_known_at") - pl.col("onset_at").dt.truncate("15m"))
    sigma = evidence.inputs["features"].select("symbol", before="known_at", sigma=pl.col("rv_96") * BARS_PER_DAY**0.5)
    placed = rows.join(onsets, on="event_id", how="left").with_columns(before=before)
    return placed.join(sigma, on=["symbol", "before"], how="left")


def _wrong_ages(evidence: Evidence) -> pl.DataFrame:
    """Join every watched bar to its row and take the first that is beyond a barrier."""
    bars = evidence.inputs["bars_um"].select("symbol", "open_at", "open", "high", "low", "is_gap")
    prices = (
        pl.col("entry_price") * (1.0 + pl.col("barrier_bps") / _BPS),
        pl.col("entry_price") * (1.0 - pl.col("barrier_bps") / _BPS),
    )
    watched = (
        evidence.frame.select(*_KEY, "symbol", "entered_at", "bars_watched", ceiling=prices[0], floor=prices[1])
        .with_columns(age=pl.int_ranges(1, pl.col("bars_watched") + 1))
        .explode("age", empty_as_null=True, keep_nulls=True)
        .with_columns(open_at=pl.col("entered_at") + (pl.col("age") - 1) * BAR)
        .join(bars, on=["symbol", "open_at"], how="left")
        .group_by(_KEY)
        .agg(
            up=pl.col("age").filter(pl.col("high") > pl.col("ceiling")).min(),
            down=pl.col("age").filter(pl.col("low") < pl.col("floor")).min(),
            n_real=(~pl.col("is_gap")).sum(),
            first=pl.col("open").filter(pl.col("age") == 1).first(),
        )
    )
    both = evidence.frame.join(watched, on=_KEY, how="left")
    holds = (
        pl.col("up").eq_missing(pl.col("up_bars"))
        & pl.col("down").eq_missing(pl.col("down_bars"))
        & (pl.col("first") == pl.col("entry_price"))
        & (pl.col("n_real") == pl.col("bars_watched"))
    )
    return broken(both, holds).select(*_KEY, "up_bars", "up", "down_bars", "down", "bars_watched", "n_real")


def _early_without_reason(evidence: Evidence) -> pl.DataFrame:
    """Return rows that were given up although the next bar was there and inside their split."""
    ends = pl.DataFrame(
        [(window.start, window.end) for window in evidence.settings.splits.windows],
        schema=["start", "end"],
        orient="row",
    ).cast(evidence.frame.schema["known_at"])
    early = evidence.frame.filter(pl.col("bars_watched").fill_null(0) < BARS_PER_DAY).with_columns(
        next_at=pl.col("entered_at") + pl.col("bars_watched") * BAR
    )
    real = evidence.inputs["bars_um"].filter(~pl.col("is_gap")).select("symbol", next_at="open_at")
    next_is_real = early.join(real, on=["symbol", "next_at"], how="semi")
    inside = next_is_real.join_where(ends, pl.col("known_at") >= pl.col("start"), pl.col("next_at") < pl.col("end"))
    unknown = early.filter(pl.col("next_at").is_null())
    return pl.concat([inside.select(*_KEY, "bars_watched"), unknown.select(*_KEY, "bars_watched")])


def _left_out(evidence: Evidence) -> pl.DataFrame:
    """Return events and controls that are missing although their bar is real and their sigma known."""
    missing = _asked(evidence).join(evidence.frame, on=_KEY, how="anti")
    real = evidence.inputs["bars_um"].filter(~pl.col("is_gap")).select("symbol", known_at="open_at")
    entered = missing.join(real, on=["symbol", "known_at"], how="semi")
    return _with_sigma(evidence, entered).filter(pl.col("sigma") > 0).select(*_KEY, "event_type", "symbol", "known_at")


def _unwatched(evidence: Evidence) -> tuple[float, str]:
    asked = _asked(evidence)
    missing = asked.join(evidence.frame, on=_KEY, how="anti")
    share = missing.height / asked.height if asked.height else float("nan")
    return share, f"{missing.height} of {asked.height} missing"


def _asked(evidence: Evidence) -> pl.DataFrame:
    centre = evidence.inputs["event_registry"].filter(pl.col("variant") == Variant.CENTRE.value)
    return instants_to_measure(centre, evidence.inputs["event_controls"], run=evidence.settings)


def _nothing_asked(evidence: Evidence) -> bool:
    return _asked(evidence).is_empty()


_AGAIN: Final = "rebuild event_barriers"

GATES_EVENT_BARRIERS: Final[tuple[Gate, ...]] = (
    rows_gate(
        "no_test_rows",
        "Rows are of train or validation, labelled so, and watched inside their own split; test stays sealed.",
        _unsealed,
        fix="the split plan changed after measuring: rebuild event_barriers",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "asked_for",
        "Every row answers to an accepted centre event or its control and enters at the open after known_at.",
        _unasked,
        fix="events or controls changed after measuring: rebuild event_barriers",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "sigma_before_onset",
        "The barrier is the daily sigma known one bar before the onset, for a control as long before it.",
        _wrong_sigmas,
        fix="features changed after measuring: rebuild event_barriers",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "ages_recounted",
        "The bars watched, joined one by one, are real and give the same first ages.",
        _wrong_ages,
        fix=_AGAIN,
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "censored_with_reason",
        "A row watched for less than a day meets a gap, the end of its split or of the data.",
        _early_without_reason,
        fix=_AGAIN,
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "left_out_with_reason",
        "An accepted centre event or its control is missing only where its bar is a gap or volatility before the onset unknown.",
        _left_out,
        fix="rows were lost after measuring: rebuild event_barriers",
        may_be_empty=_nothing_asked,
    ),
    limit_gate(
        "all_watched",
        "Hardly any event or control has no barrier (gap at the entry, volatility unknown before the onset).",
        _unwatched,
        limit=UNWATCHED_REMARK,
        unit="fraction",
        fix="look at the gaps of bars_um and at a longer history before start",
        severity=Severity.WARN,
        may_be_empty=_nothing_asked,
    ),
)
