"""What the best hypotheses of a run earn, trade by trade, on train and on validation. Keep traps and decisions out."""

import json
import math
from typing import Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.members import RULE, members_of
from backtest_assets.tables.candidates import EXPECTANCY

N_BEST: Final = 20
"""Hypotheses with the largest t that are examined whether they survive or not [hypotheses]: a run that finds nothing shows
what came closest."""

TOP_SHARES: Final = {"top_1pct_share_train": 0.01, "top_5pct_share_train": 0.05}
"""The best trades whose part of the total is shown [fraction of trades], at least one trade."""

QUANTILES: Final = {"p05_train_bps": 0.05, "p25_train_bps": 0.25, "p75_train_bps": 0.75, "p95_train_bps": 0.95}

PARTICIPATION: Final = 0.01
"""Share of the entry bar's quote volume that one trade may take [fraction]: its impact stays near the slippage booked."""

STATED: Final = (
    "n_run", "n_train", "n_validation", "net_mean_train_bps", "se_train_bps", "t_train", "multiplicity_penalty_bps",
    "expectancy_after_multiplicity_bps", "net_mean_validation_bps", "p_validation",
)  # fmt: skip
"""What is said of a hypothesis as it was tested, and not measured again."""


def examined(hypotheses: pl.DataFrame) -> pl.DataFrame:
    """Return the tested hypotheses that are examined: the survivors of multiplicity, and the best by t.

    Args:
        hypotheses: table hypotheses.

    Returns:
        Its rows, in key order.

    Knows:
        train statistics.
    """
    tested = hypotheses.filter(pl.col("is_eligible"), pl.col("t_train").is_not_null())
    best = tested.sort("t_train", "hypothesis_id", descending=[True, False]).head(N_BEST)["hypothesis_id"]
    return tested.filter(pl.col("gate_multiplicity") | pl.col("hypothesis_id").is_in(best.to_list())).sort(
        "hypothesis_id"
    )


def measure_expectancy(
    hypotheses: pl.DataFrame,
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    run: ResearchRun,
) -> pl.DataFrame:
    """Describe the trades of the examined hypotheses.

    Args:
        hypotheses: table hypotheses.
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um; gives the volume of the bars that are entered.
        run: gives symbols and costs.

    Returns:
        Table expectancy, one row per examined hypothesis.

    Raises:
        TableError: if outcomes and events do not belong together (see `trades`).

    Knows:
        outcomes of train and validation; the volume of bars that were entered there.
    """
    rows = examined(hypotheses)
    if rows.is_empty():
        return EXPECTANCY.empty()
    volume = bars.select("symbol", entered_at="open_at", volume="volume_quote")
    trades = (
        members_of(rows, outcomes, events, context, run=run)
        .joined("entered_at")
        .join(volume, on=["symbol", "entered_at"], how="left", maintain_order="left")
    )
    train = trades.filter(pl.col("split") == Split.TRAIN)
    stated = rows.select("hypothesis_id", *RULE, *STATED, is_survivor="gate_multiplicity")
    evident = (
        pl.col("is_survivor")
        & (pl.col("expectancy_after_multiplicity_bps") > 0)
        & (pl.col("net_mean_validation_bps") > 0)
    )
    capacity = trades.group_by("hypothesis_id").agg(capacity_quote=PARTICIPATION * pl.col("volume").median())
    measured = (
        stated.join(train.group_by("hypothesis_id").agg(**_distribution()), on="hypothesis_id", how="left")
        .join(capacity, on="hypothesis_id", how="left")
        .join(_by_symbol(train, run), on="hypothesis_id", how="left")
    )
    return EXPECTANCY.conform(measured.with_columns(is_evidence=evident.fill_null(value=False)))


def _distribution() -> dict[str, pl.Expr]:
    net = pl.col("net")
    best = net.sort(descending=True)
    return {
        "median_train_bps": net.median(),
        "sd_train_bps": net.std(),
        "win_rate_train": (net > 0).mean(),
        **{name: net.quantile(q, "linear") for name, q in QUANTILES.items()},
        **{
            name: pl.when(net.sum() > 0).then(best.head((share * pl.len()).ceil().cast(pl.Int64)).sum() / net.sum())
            for name, share in TOP_SHARES.items()
        },
    }


def _by_symbol(train: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    """Return every hypothesis' means by symbol as JSON: all symbols of the run, null where nothing was traded."""
    means = train.group_by("hypothesis_id", "symbol", maintain_order=True).agg(n=pl.len(), mean=pl.col("net").mean())
    by_rule: dict[str, dict[str, dict[str, float | None]]] = {}
    for rule, symbol, n, mean in means.iter_rows():
        scores = by_rule.setdefault(rule, {s: {"n": 0, "net_mean_train_bps": None} for s in sorted(run.symbol_list)})
        scores[symbol] = {"n": n, "net_mean_train_bps": mean if math.isfinite(mean) else None}
    texts = [json.dumps(scores, allow_nan=False) for scores in by_rule.values()]
    return pl.DataFrame(
        {"hypothesis_id": list(by_rule), "symbol_scores_json": texts},
        schema={"hypothesis_id": pl.String, "symbol_scores_json": pl.String},
    )
