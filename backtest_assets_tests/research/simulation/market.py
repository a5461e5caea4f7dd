"""Little markets for execution: hand-set bars, random bars, events at chosen bars, blueprints with chosen exits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, Entry, Evaluation, Exit, Lineage, Overlay, Sizing, SymbolScope
from backtest_assets.domain.clock import BAR
from backtest_assets.domain.cost import CostModel
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.blueprints import BLUEPRINTS
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets.tables.features import FEATURES
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests.measures import unknown_measures

A, B = "AAAUSDT", "BBBUSDT"
START = datetime(2024, 1, 1, tzinfo=UTC)
SHOCK = EventType.VOL_SHOCK_RELAXATION
FAR = 0.9
"""A stop and a target that no bar of these markets reaches."""


def a_run(n_days: int = 20, *, symbols: str = f"{A},{B}", **settings: Any) -> ResearchRun:  # noqa: ANN401  # any setting
    last = START + timedelta(days=n_days - 1)
    named = {"phase2_delay_grid_bars": "0", "fees_bps": 4.0, "slippage_bps": 2.0, **settings}
    return ResearchRun(
        run_id="t", symbols=symbols, start=f"{START:%Y-%m-%d}", end=f"{last:%Y-%m-%d}", source="synthetic", **named
    )


def bars_of(symbol: str, opens: np.ndarray, highs: np.ndarray, lows: np.ndarray, closes: np.ndarray) -> pl.DataFrame:
    """Bars from START on; NaN opens are gaps."""
    n, is_gap = opens.size, np.isnan(opens)
    values = {
        name: pl.Series(v).fill_nan(None)
        for name, v in zip(("open", "high", "low", "close"), (opens, highs, lows, closes), strict=True)
    }
    frame = pl.DataFrame(values).with_columns(
        symbol=pl.lit(symbol),
        open_at=pl.lit(START) + BAR * pl.int_range(n),
        known_at=pl.lit(START) + BAR * (pl.int_range(n) + 1),
        volume_base=pl.when(~pl.Series(is_gap)).then(1.0),
        volume_quote=pl.lit(None, pl.Float64),
        n_trades=pl.lit(None, pl.Int64),
        taker_buy_base=pl.lit(None, pl.Float64),
        taker_buy_quote=pl.lit(None, pl.Float64),
        is_gap=pl.Series(is_gap),
    )
    return BARS_UM.conform(frame)


def set_bars(
    changes: Mapping[int, Sequence[float] | None], *, n_bars: int = 20 * 96, symbol: str = A, level: float = 100.0
) -> pl.DataFrame:
    """Bars that stand still at `level` but for some: number -> (open, high, low, close), None is a gap."""
    values = np.full((4, n_bars), level)
    for number, ohlc in changes.items():
        values[:, number] = np.nan if ohlc is None else ohlc
    return bars_of(symbol, *values)


def random_bars(
    rng: np.random.Generator, *, n_bars: int = 20 * 96, symbols: Sequence[str] = (A, B), gap_share: float = 0.02
) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, n_bars)))
        opens = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.001, n_bars))
        spread = np.exp(np.abs(rng.normal(0, 0.003, (2, n_bars))))
        values = np.stack([opens, np.maximum(opens, close) * spread[0], np.minimum(opens, close) / spread[1], close])
        values[:, rng.random(n_bars) < gap_share] = np.nan
        values[:, 0] = 100.0  # settlements need a close before the first position
        frames.append(bars_of(symbol, *values))
    return BARS_UM.conform(pl.concat(frames))


def funding_at(rates: Mapping[str, Sequence[float]]) -> pl.DataFrame:
    """Settlements every 8 hours from START on."""
    frames = [
        pl.DataFrame({"funding_rate": list(values)}, schema={"funding_rate": pl.Float64}).with_columns(
            symbol=pl.lit(symbol),
            settled_at=pl.lit(START) + timedelta(hours=8) * pl.int_range(len(values)),
            received_at=pl.lit(START) + timedelta(hours=8) * pl.int_range(len(values)),
            funding_interval_h=pl.lit(8.0),
            source=pl.lit("test"),
        )
        for symbol, values in rates.items()
    ]
    return RAW_UM_FUNDING.conform(pl.concat(frames))


def no_funding(n_days: int = 20, *, symbols: Sequence[str] = (A, B)) -> pl.DataFrame:
    return funding_at({symbol: [0.0] * (3 * n_days + 1) for symbol in symbols})


def events_at(
    known_bars: Sequence[int], *, symbol: str = A, sides: Sequence[int] | None = None, **columns: pl.Expr
) -> pl.DataFrame:
    """Centre events known when the given bars open (that is, at the close of the bar before)."""
    n = len(known_bars)
    frame = pl.DataFrame(
        {
            "known_at": [START + BAR * number for number in known_bars],
            "side": pl.Series(sides if sides is not None else [0] * n, dtype=pl.Int8),
        },
        schema_overrides={"known_at": EVENT_REGISTRY.schema["known_at"]},
    ).with_columns(
        variant=pl.lit("centre"),
        event_id=pl.format("e_{}_{}", pl.lit(symbol), pl.Series(list(known_bars), dtype=pl.Int64)),
        event_type=pl.lit(SHOCK.value),
        symbol=pl.lit(symbol),
        onset_at=pl.col("known_at") - BAR,
        exit_at=pl.lit(None, EVENT_REGISTRY.schema["exit_at"]),
        severity=pl.lit(1.0),
        threshold=pl.lit(1.0),
        measure=pl.lit("volatility"),
        definition_version=pl.lit("1"),
        parameter_digest=pl.lit("d"),
        quality=pl.lit(1.0),
    )
    return EVENT_REGISTRY.conform(frame.with_columns(**columns))


def random_events(
    rng: np.random.Generator, n: int, *, n_bars: int = 20 * 96, symbols: Sequence[str] = (A, B)
) -> pl.DataFrame:
    return EVENT_REGISTRY.conform(
        pl.concat(
            events_at(
                sorted(rng.choice(n_bars, n, replace=False).tolist()), symbol=s, sides=rng.choice([-1, 1], n).tolist()
            )
            for s in symbols
        )
    )


def context_of(bars: pl.DataFrame) -> pl.DataFrame:
    """One context row per bar; the volatility regime changes every day."""
    day = (pl.col("open_at") - START).dt.total_days() % 3
    return MARKET_CONTEXT.conform(
        bars.select(
            "symbol",
            "open_at",
            "known_at",
            vol_regime=pl.when(day == 0)
            .then(pl.lit("low"))
            .when(day == 1)
            .then(pl.lit("mid"))
            .otherwise(pl.lit("high")),
            bull_bear=pl.lit("bull"),
            funding_regime=pl.lit("neutral"),
            compression_state=pl.lit("open"),
            liquidity_regime=pl.lit("usual"),
            session=pl.lit("eu"),
            **unknown_measures(),
        )
    )


def features_of(bars: pl.DataFrame, **columns: pl.Expr | float) -> pl.DataFrame:
    """One feature row per bar; what is not given is unknown."""
    given = {name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in columns.items()}
    known = ("symbol", "open_at", "known_at", "is_gap", "coverage_2880")
    unknown = {n: pl.lit(None, t) for n, t in FEATURES.schema.items() if n not in {*known, *given}}
    rows = bars.with_columns(coverage_2880=pl.lit(1.0), **unknown).with_columns(**given)
    return FEATURES.conform(rows.select(FEATURES.schema.names()))


def blueprint(
    name: str = "bp",
    *,
    side_rule: SideRule = SideRule.LONG,
    stop: float = FAR,
    target: float = FAR,
    time_stop: int = 4,
    delay: int = 0,
    cooldown: int = 0,
    scale: float = 0.5,
    symbol_cap: float = 1.0,
    gross_cap: float = 1.0,
    symbols: Sequence[str] = (A, B),
    conditions: Sequence[str] = ("all",),
    cost: CostModel = CostModel(4.0, 2.0),  # noqa: B008  # frozen
    overlays: Sequence[Overlay] = (),
    entry: Mapping[str, Any] | None = None,
    leave: Mapping[str, Any] | None = None,
    sizing: Mapping[str, Any] | None = None,
) -> Blueprint:
    """A blueprint; `entry`, `leave` and `sizing` give further fields of those parts."""
    direction = {SideRule.LONG: "long", SideRule.SHORT: "short"}.get(side_rule, "conditional")
    return Blueprint(
        name,
        "t",
        SHOCK,
        cast("Any", direction),
        SymbolScope("multi_symbol", tuple(symbols)),
        Entry((SHOCK.value,), tuple(conditions), side_rule, delay, cooldown, **entry or {}),
        replace(Exit(time_stop, "percent", stop, "percent", target), **leave or {}),
        Sizing(
            **{
                "mode": "fixed_fraction",
                "position_scale": scale,
                "max_symbol_exposure": symbol_cap,
                "max_gross_leverage": gross_cap,
                "portfolio_risk_budget": 9.0,
                "symbol_risk_budget": 9.0,
                **(sizing or {}),
            }
        ),
        Evaluation(cost.fees_bps, cost.slippage_bps, funding_included=True),
        Lineage("h", "blueprint_v3", "2024-01-01", "2024-01-10"),
        tuple(overlays),
    )


def blueprints_of(*specs: Blueprint) -> pl.DataFrame:
    """The table, ranked in the order given, all executed."""
    rows = [
        {
            "rank": rank,
            "blueprint_id": spec.blueprint_id,
            "hypothesis_id": "h",
            "event_type": spec.event_type.value,
            "condition": spec.entry.conditions[0],
            "direction": spec.direction,
            "side_rule": spec.entry.side_rule.value,
            "symbols": ",".join(spec.symbol_scope.symbols),
            "delay_bars": spec.entry.delay_bars,
            "time_stop_bars": spec.exit.time_stop_bars,
            "known_at": START,
            "is_fallback": False,
            "exit_quantile": 0.95,
            "n_entries_train": 9,
            "time_exit_train_bps": 9.0,
            "with_exits_train_bps": 9.0,
            "stop_frac": spec.exit.stop_value,
            "target_frac": spec.exit.target_value,
            "t_train": 5.0,
            "is_executed": True,
            "behaviour_digest": spec.behaviour_digest,
            "spec_json": spec.to_json(),
        }
        for rank, spec in enumerate(specs, 1)
    ]
    return BLUEPRINTS.conform(pl.DataFrame(rows, schema=BLUEPRINTS.schema))
