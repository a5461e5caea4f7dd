"""What must be true of the ledger and of its metrics: everything is recomputed from the inputs; booking stays out.

An empty table is never legal here: execution runs only for executed blueprints, and each of them entered on train.
"""

from collections.abc import Iterator
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.executed import FIX_CODE, FIX_INPUTS, TOLERANCE, acts, bars_of, caps, near
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.measured import Rows, measured_differently, unreconciled
from backtest_assets.gates.metrics import MAYBE_NULL, differing_from, misses, recounted, scopes
from backtest_assets.gates.trades import GATES_TRADES


def _on_bars(evidence: Evidence) -> pl.DataFrame:
    """Join the ledger with its bars, in the order of each trade, with the trade's first entry price."""
    joined = evidence.frame.join(bars_of(evidence), on=["symbol", "open_at"], how="left").sort("trade_id", "open_at")
    return joined.with_columns(
        is_first=pl.int_range(pl.len()).over("trade_id") == 0,
        is_last=pl.int_range(pl.len()).reverse().over("trade_id") == 0,
        entry_price=pl.col("mark_from").first().over("trade_id"),
    )


def _unequal_net(evidence: Evidence) -> pl.DataFrame:
    net = pl.col("gross_pnl") - pl.col("fee") - pl.col("slippage") + pl.col("funding_pnl")
    return broken(evidence.frame, near(pl.col("net_pnl"), net))


def _broken_chains(evidence: Evidence) -> pl.DataFrame:
    rows = _on_bars(evidence)

    def before(name: str) -> pl.Expr:
        return pl.col(name).shift(1).over("trade_id")

    follows = (
        (pl.col("open_at") == before("open_at") + BAR)
        & (pl.col("exposure_before") == before("exposure_after"))
        & (pl.col("mark_from") == before("mark_to"))
    )
    starts, ends = pl.col("exposure_before") == 0, ~pl.col("is_last") | (pl.col("exposure_after") == 0)
    return broken(rows, pl.when("is_first").then(starts).otherwise(follows) & ends)


def _foreign_marks(evidence: Evidence) -> pl.DataFrame:
    entry = ~pl.col("is_first") | (pl.col("mark_from") == pl.col("open"))
    held = (
        pl.when("is_gap").then(pl.col("mark_to") == pl.col("mark_from")).otherwise(pl.col("mark_to") == pl.col("close"))
    )
    return broken(_on_bars(evidence), entry & (pl.col("is_last") | held))


def _gap_entries(evidence: Evidence) -> pl.DataFrame:
    return broken(_on_bars(evidence), ~pl.col("is_first") | ~pl.col("is_gap"))


def _wrong_gross(evidence: Evidence) -> pl.DataFrame:
    signed = pl.when(pl.col("exposure_before") != 0).then("exposure_before").otherwise("exposure_after")
    gross = signed * (pl.col("mark_to") - pl.col("mark_from")) / pl.col("entry_price")
    # a trade of one bar shows no exposure in the ledger; its gross is checked against the fills in `trades`
    one_bar = pl.col("is_first") & pl.col("is_last")
    return broken(_on_bars(evidence), one_bar | near(pl.col("gross_pnl"), gross))


def _wrong_funding(evidence: Evidence) -> pl.DataFrame:
    closes = evidence.inputs["bars_um"].drop_nulls("close").select("symbol", "known_at", "close").sort("known_at")
    settled = (
        evidence.inputs["settlements_um"]
        .sort("settled_at")
        .join_asof(closes, left_on="settled_at", right_on="known_at", by="symbol", check_sortedness=False)
    )
    bar = pl.col("settled_at").dt.truncate("15m")
    paid = (
        settled.with_columns(open_at=pl.when(bar == pl.col("settled_at")).then(bar).otherwise(bar + BAR))
        .group_by("symbol", "open_at")
        .agg(per_unit=(pl.col("funding_rate") * pl.col("close")).sum())
    )
    rows = (
        _on_bars(evidence)
        .join(paid, on=["symbol", "open_at"], how="left")
        .with_columns(pl.col("per_unit").fill_null(0.0))
    )
    booked = -pl.col("exposure_before") * pl.col("per_unit") / pl.col("entry_price")
    return broken(rows, near(pl.col("funding_pnl"), booked))


def _out_of_scope(evidence: Evidence) -> pl.DataFrame:
    return evidence.frame.join(acts(evidence), on=["blueprint_id", "symbol"], how="anti")


def _over_caps(evidence: Evidence) -> pl.DataFrame:
    limits, held = caps(evidence), pl.col("exposure_after")
    size = held.abs()
    rows = evidence.frame.with_columns(
        of_symbol=size.sum().over("open_at", "symbol"),
        of_strategy=size.sum().over("open_at", "blueprint_id"),
        gross=size.sum().over("open_at"),
        longs=held.clip(lower_bound=0).sum().over("open_at"),
        shorts=-held.clip(upper_bound=0).sum().over("open_at"),
    )
    within = {
        "of_symbol": limits.symbol,
        "of_strategy": limits.strategy,
        "gross": limits.gross,
        "longs": limits.side,
        "shorts": limits.side,
    }
    is_known = held.is_not_null() & pl.col("open_at").is_not_null()
    return broken(rows, is_known & pl.all_horizontal(pl.col(n) <= most + TOLERANCE for n, most in within.items()))


GATES_SIMULATION_LEDGER: Final = (
    rows_gate("net_is_the_sum", "Net P&L is gross - fee - slippage + funding in every row.", _unequal_net, fix=FIX_CODE),
    rows_gate(
        "positions_unbroken",
        "Every position starts from nothing, goes on bar by bar from mark to mark, and is closed.",
        _broken_chains,
        fix="an open position means that bars end before the run window does: materialise bars_um to its end",
    ),
    rows_gate("marks_are_prices", "Positions enter at the bar's open and are marked at closes.", _foreign_marks, fix=FIX_CODE),
    rows_gate("no_entry_on_a_gap", "No position is entered on a missing bar.", _gap_entries, fix=FIX_CODE),
    rows_gate("gross_from_marks", "Gross P&L is exposure x price change over the entry price.", _wrong_gross, fix=FIX_CODE),
    rows_gate(
        "funding_once_per_settlement",
        "Funding is booked once per settlement held: exposure x rate x last close over the entry price.",
        _wrong_funding,
        fix="compare with settlements_um of that month; rebuild simulation_ledger if funding was ingested again",
    ),
    rows_gate("inside_scope", "Only executed blueprints trade, and only their symbols.", _out_of_scope, fix=FIX_INPUTS),
    rows_gate("caps_hold_per_bar", "Exposure at every bar's close keeps the caps of symbol, strategy, gross and side.", _over_caps, fix=FIX_CODE),
)  # fmt: skip  # one gate, one line where it fits
"""Inputs: bars_um, settlements_um, blueprints."""


DISCOVERY: Final = "discovery"
_MEASURED: Final = (Split.TRAIN.value, Split.VALIDATION.value, DISCOVERY)


def _metric_set(evidence: Evidence) -> pl.DataFrame:
    keys = [(scope, label) for scope in scopes(evidence) for label in _MEASURED]
    expected = pl.DataFrame(keys, schema={"scope": pl.String, "split": pl.String}, orient="row")
    return misses(evidence, expected, MAYBE_NULL)


def _measured(evidence: Evidence) -> Iterator[tuple[str, Rows]]:
    """Yield each label with what it was measured on: nothing that is known after the test window opens."""
    ledger, trades, plan = evidence.inputs["simulation_ledger"], evidence.inputs["trades"], evidence.settings.splits
    opened = plan[Split.TEST].start
    for label in _MEASURED:
        before_test = trades.filter(pl.col("known_at") <= opened)
        own = before_test if label == DISCOVERY else before_test.filter(split=label)
        rows = ledger.filter(pl.col("trade_id").is_in(own["trade_id"].implode()))
        is_whole = label == DISCOVERY
        start, end = (
            (evidence.settings.window[0], opened) if is_whole else (plan[Split(label)].start, plan[Split(label)].end)
        )
        yield label, Rows(rows, own, evidence.inputs["bars_um"], start, end)


def _not_the_sums(evidence: Evidence) -> pl.DataFrame:
    found: list[pl.DataFrame] = []
    for label, rows in _measured(evidence):
        counted = recounted(rows.ledger, rows.trades, scopes(evidence)).with_columns(split=pl.lit(label))
        found.append(differing_from(evidence.frame, counted, ("scope", "split", "metric")))
    return pl.concat(found)


def _not_measured_so(evidence: Evidence) -> pl.DataFrame:
    run, names = evidence.settings, scopes(evidence)
    found = [
        measured_differently(evidence.frame.filter(split=label), rows, names, run=run).with_columns(split=pl.lit(label))
        for label, rows in _measured(evidence)
    ]
    return pl.concat(found)


GATES_BACKTEST_METRICS: Final = (
    rows_gate(
        "metric_set_complete",
        "Portfolio and every executed blueprint have every metric on train, validation and discovery, and nothing on test.",
        _metric_set,
        fix="rebuild backtest_metrics from the run's blueprints",
    ),
    rows_gate(
        "metrics_equal_ledger",
        "Sums, trade counts and compounded equity are those of the ledger's rows before the test window.",
        _not_the_sums,
        fix="rebuild backtest_metrics from the published ledger",
    ),
    rows_gate(
        "parts_add_up",
        "Net P&L and exposure are the sums of their sides and of their symbols; net at the run's own costs is net (D15).",
        lambda evidence: unreconciled(evidence.frame, ("scope", "split"), run=evidence.settings),
        fix="rebuild backtest_metrics from the published ledger",
    ),
    rows_gate(
        "measured_twice",
        "Ratios, trades, exposure and benchmark, counted once more from ledger, trades and bars before the test window.",
        _not_measured_so,
        fix="rebuild backtest_metrics from the published ledger",
    ),
)
"""Inputs: bars_um, simulation_ledger, trades, blueprints."""

__all__ = ["GATES_BACKTEST_METRICS", "GATES_SIMULATION_LEDGER", "GATES_TRADES"]
