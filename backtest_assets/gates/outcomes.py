"""What must be true of outcomes: test stays sealed, entries are late enough, prices are the bars', sums add up."""

from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.split import Split
from backtest_assets.gates.accrued import Payments, wrong_accruals, wrong_funding
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.outcomes.measure import LEAST_REAL_SHARE, requests

SUM_TOLERANCE_BPS: Final = 1e-9
"""Rounding allowed between a sum and its parts [bps]; measured: 2e-12."""
UNKNOWN_FUNDING_LIMIT: Final = 0.01
"""Largest share of outcomes lost to missing settlements [fraction]: more, and what is left may not be typical."""
UNMEASURED_REMARK: Final = 0.01
"""Share of outcomes not measured for any reason that deserves a remark [fraction]."""

_SAMPLE: Final = 200  # rows whose volatility is measured again by hand; each costs its bars
_KEY: Final = ("variant", "event_id", "control_no", "delay_bars", "hold_bars")
_BPS: Final = 1e4
_PRICES: Final = ("entry_price", "exit_price", "gross_bps", "lowest_bps", "highest_bps")


def _unsealed(evidence: Evidence) -> pl.DataFrame:
    splits = evidence.settings.splits
    train, validation, test = (splits[name] for name in Split)
    label = (
        pl.when(pl.col("known_at").is_between(train.start, train.last_entry, closed="left"))
        .then(pl.lit(train.split.value))
        .when(pl.col("known_at").is_between(validation.start, validation.last_entry, closed="left"))
        .then(pl.lit(validation.split.value))
    )
    end = pl.when(label == train.split.value).then(pl.lit(train.end)).otherwise(pl.lit(validation.end))
    # a control of a validation event may itself lie in train: its label is the event's
    labelled = (pl.col("split") == label) | ((pl.col("control_no") > 0) & (pl.col("split") == validation.split.value))
    sealed = (pl.col("exited_at") < end) & (pl.col("exited_at") < test.start) & label.is_not_null()
    return broken(evidence.frame, labelled & sealed).select(*_KEY, "known_at", "exited_at", "split")


def _unasked(evidence: Evidence) -> pl.DataFrame:
    asked = _requests(evidence)
    same = ("event_type", "symbol", "known_at", "split", "side")
    known = evidence.frame.join(asked, on=_KEY, how="left", suffix="_asked")
    return broken(known, pl.all_horizontal(pl.col(name) == pl.col(f"{name}_asked") for name in same)).select(_KEY)


def _early(evidence: Evidence) -> pl.DataFrame:
    entered = pl.col("entered_at") == pl.col("known_at") + pl.col("delay_bars") * BAR
    held = pl.col("exited_at") >= pl.col("entered_at") + pl.col("hold_bars") * BAR
    return broken(evidence.frame, entered & held).select(*_KEY, "known_at", "entered_at", "exited_at")


def _unlike_bars(evidence: Evidence) -> pl.DataFrame:
    opens = evidence.inputs["bars_um"].select("symbol", "open_at", "open")
    priced = evidence.frame.join(
        opens.rename({"open_at": "entered_at", "open": "open_in"}), on=["symbol", "entered_at"], how="left"
    ).join(opens.rename({"open_at": "exited_at", "open": "open_out"}), on=["symbol", "exited_at"], how="left")
    gross = (pl.col("open_out") / pl.col("open_in") - 1.0) * _BPS
    holds = (
        (pl.col("entry_price") == pl.col("open_in"))
        & (pl.col("exit_price") == pl.col("open_out"))
        & ((pl.col("gross_bps") - gross).abs() <= SUM_TOLERANCE_BPS)
        & (pl.col("lowest_bps") <= 0)
        & (pl.col("highest_bps") >= 0)
    )
    return broken(priced, holds).select(*_KEY, *_PRICES)


def _worst_sum(evidence: Evidence) -> tuple[float, str]:
    net = pl.col("gross_bps") - pl.col("funding_bps")
    errors = evidence.frame.select(
        days=(pl.col("accrual_bps").list.sum() - net).abs(),
        shares=(pl.col("accrual_share").list.sum() - 1.0).abs(),
        lengths=(pl.col("accrual_day").list.len().cast(pl.Int64) - pl.col("accrual_bps").list.len())
        .abs()
        .cast(pl.Float64),
    )
    if sum(errors.null_count().row(0)):
        return float("nan"), "accruals or sums are missing"
    worst = errors.max().row(0, named=True)
    name = max(worst, key=lambda column: worst[column])
    return worst[name], f"worst: {name}"


def _wrong_vol(evidence: Evidence) -> pl.DataFrame:
    """Return rows that know their volatility where too few bars are real, or do not; and sampled ones that know another."""
    is_real = pl.col("open").is_not_null() & pl.col("close").is_not_null()
    bars = (
        evidence.inputs["bars_um"]
        .select("symbol", "open_at", "open", "close", is_real=is_real)
        .sort("symbol", "open_at")
    )
    before = bars.select("symbol", "open_at", n=pl.col("is_real").cum_sum().over("symbol") - pl.col("is_real"))
    counted = evidence.frame.join(
        before.rename({"open_at": "entered_at", "n": "n_in"}), on=["symbol", "entered_at"], how="left"
    ).join(before.rename({"open_at": "exited_at", "n": "n_out"}), on=["symbol", "exited_at"], how="left")
    n_bars = (pl.col("exited_at") - pl.col("entered_at")) / BAR
    is_enough = (pl.col("n_out").cast(pl.Int64) - pl.col("n_in").cast(pl.Int64)) >= LEAST_REAL_SHARE * n_bars
    wrongly_known = broken(counted, is_enough == pl.col("realized_vol_bps").is_not_null())
    sample = evidence.frame.filter(pl.col("realized_vol_bps").is_not_null()).sort(_KEY)
    sample = sample.gather_every(max(1, sample.height // _SAMPLE))
    again = (
        sample.select(*_KEY, "symbol", open_at=pl.datetime_ranges("entered_at", "exited_at", "15m", closed="left"))
        .explode("open_at", empty_as_null=True, keep_nulls=True)
        .join(bars, on=["symbol", "open_at"], how="left")
        .group_by(_KEY)
        .agg(again=((pl.col("close") / pl.col("open")).log() ** 2).mean().sqrt() * _BPS)
    )
    near = (pl.col("realized_vol_bps") - pl.col("again")).abs() <= SUM_TOLERANCE_BPS * (1.0 + pl.col("again").abs())
    unlike = broken(sample.join(again, on=_KEY, how="left"), near)
    return pl.concat([rows.select(*_KEY, "realized_vol_bps") for rows in (wrongly_known, unlike)])


def _unmeasured(evidence: Evidence) -> tuple[float, str]:
    asked = _requests(evidence)
    missing = asked.join(evidence.frame, on=_KEY, how="anti")
    return missing.height / asked.height if asked.height else float(
        "nan"
    ), f"{missing.height} of {asked.height} missing"


def _unknown_funding(evidence: Evidence) -> tuple[float, str]:
    n_asked, n_lost = _requests(evidence).height, _priced_but_missing(evidence).height
    return n_lost / n_asked if n_asked else float("nan"), f"{n_lost} of {n_asked} lost"


def _left_out(evidence: Evidence) -> pl.DataFrame:
    """Return holds that are missing although both their prices and every settlement between them are known."""
    lost = _priced_but_missing(evidence)
    told = [lost.clear()]
    for (symbol,), rows in lost.partition_by("symbol", as_dict=True).items():
        span = (rows[name].dt.epoch("us").to_numpy() for name in ("entered_at", "exited_at"))
        told.append(rows.filter(~pl.Series(Payments.of(evidence, str(symbol)).is_unknown(*span))))
    return pl.concat(told).select(*_KEY, "event_type", "symbol", "entered_at", "exited_at")


def _priced_but_missing(evidence: Evidence) -> pl.DataFrame:
    # a hold that has both its prices and is not in the table can only be lost to a missing settlement
    missing = _requests(evidence).join(evidence.frame, on=_KEY, how="anti")
    entered = pl.col("known_at") + pl.col("delay_bars") * BAR
    opens = evidence.inputs["bars_um"].filter(pl.col("open").is_not_null()).select("symbol", "open_at").sort("open_at")
    return (
        missing.with_columns(entered_at=entered, planned_at=entered + pl.col("hold_bars") * BAR)
        .join(opens, left_on=["symbol", "entered_at"], right_on=["symbol", "open_at"], how="semi")
        .sort("planned_at")
        .join_asof(
            opens, left_on="planned_at", right_on="open_at", by="symbol", strategy="forward", check_sortedness=False
        )
        .filter(pl.col("open_at") < pl.col("window_end"))
        .rename({"open_at": "exited_at"})
    )


def _requests(evidence: Evidence) -> pl.DataFrame:
    return requests(evidence.inputs["event_registry"], evidence.inputs["event_controls"], run=evidence.settings)


def _nothing_asked(evidence: Evidence) -> bool:
    return _requests(evidence).is_empty()


GATES_EVENT_OUTCOMES: Final[tuple[Gate, ...]] = (
    rows_gate(
        "no_test_rows",
        "Rows are of train or validation, labelled so, and exit inside their own split; test stays sealed.",
        _unsealed,
        fix="the split plan changed after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "asked_for",
        "Every row answers to an event or its control, with its symbol, side, time and split.",
        _unasked,
        fix="events or controls changed after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "entry_not_early",
        "Entry is the bar at known_at + delay, exit not before entry + hold.",
        _early,
        fix="rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "prices_are_opens",
        "Entry and exit prices are the bars' opens, gross follows from them, excursions enclose the entry.",
        _unlike_bars,
        fix="bars_um changed after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    limit_gate(
        "accruals_add_up",
        "Daily accruals sum to gross minus funding, shares to 1, lists have one length.",
        _worst_sum,
        limit=SUM_TOLERANCE_BPS,
        unit="bps",
        fix="rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "accruals_recounted",
        "Days are those from entry to exit, ascending; profit and share of each, counted again from opens and settlements, are "
        "the stored ones, and no settlement in a hold is missing.",
        wrong_accruals,
        fix="bars_um or settlements_um changed after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "funding_recounted",
        "Funding of every row, summed again from rates and the last closes before them, is the stored one.",
        wrong_funding,
        fix="settlements_um changed after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "volatility_recounted",
        f"Volatility is known where enough bars are real; that of {_SAMPLE} rows, from their bars one by one, is the stored one.",
        _wrong_vol,
        fix="bars_um changed after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    rows_gate(
        "left_out_with_reason",
        "A hold that was asked for is missing only where its entry is a gap, its exit beyond its split, or a settlement missing.",
        _left_out,
        fix="rows were lost after measuring: rebuild event_outcomes",
        may_be_empty=_nothing_asked,
    ),
    limit_gate(
        "funding_known",
        "Hardly any outcome is lost because a settlement in its hold is missing.",
        _unknown_funding,
        limit=UNKNOWN_FUNDING_LIMIT,
        unit="fraction",
        fix="ingest the missing months of settlements_um",
        may_be_empty=_nothing_asked,
    ),
    limit_gate(
        "all_measured",
        "Hardly any outcome that was asked for is missing (gap at the entry, exit beyond the split, funding unknown).",
        _unmeasured,
        limit=UNMEASURED_REMARK,
        unit="fraction",
        fix="look at the gaps of bars_um around the events",
        severity=Severity.WARN,
        may_be_empty=_nothing_asked,
    ),
)
