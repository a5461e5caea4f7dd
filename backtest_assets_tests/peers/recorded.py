"""The peers' answers as they were recorded: one parquet of trades, one JSON of versions and of the questions' digests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from backtest_assets_tests.peers.scenarios import Scenario
from backtest_assets_tests.peers.walk import Trade

FOLDER: Final = Path(__file__).parent / "recorded"
SCHEMA: Final = {
    "engine": pl.String,
    "scenario": pl.String,
    "entry_bar": pl.Int32,
    "side": pl.Int8,
    "entry_price": pl.Float64,
    "exit_bar": pl.Int32,
    "exit_price": pl.Float64,
    "net_frac": pl.Float64,
}


@dataclass(frozen=True)
class Recorded:
    """What the peers answered.

    Attributes:
        versions: of each engine.
        digests: of each scenario's question.
        trades: by engine and scenario, in order.
    """

    versions: Mapping[str, str]
    digests: Mapping[str, str]
    trades: Mapping[tuple[str, str], tuple[Trade, ...]]

    @classmethod
    def of(cls, told: Mapping[str, Any], asked: tuple[Scenario, ...]) -> "Recorded":
        """Take the answers of the engines: `version` and `trades` by scenario, of each."""
        return cls(
            {engine: answer["version"] for engine, answer in told.items()},
            {scenario.name: scenario.digest for scenario in asked},
            {
                (engine, name): tuple(sorted((Trade(*row) for row in rows), key=lambda trade: trade.entry_bar))
                for engine, answer in told.items()
                for name, rows in answer["trades"].items()
            },
        )

    @classmethod
    def read(cls, folder: Path = FOLDER) -> "Recorded":
        about = json.loads((folder / "about.json").read_text())
        rows = pl.read_parquet(folder / "trades.parquet")
        made: dict[tuple[str, str], list[Trade]] = {}
        for engine, scenario, *trade in rows.iter_rows():
            made.setdefault((engine, scenario), []).append(Trade(*trade))
        return cls(about["versions"], about["digests"], {key: tuple(trades) for key, trades in made.items()})

    def write(self, folder: Path = FOLDER) -> None:
        folder.mkdir(exist_ok=True)
        about = {"versions": dict(self.versions), "digests": dict(self.digests)}
        (folder / "about.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
        names = [name for name in SCHEMA if name not in {"engine", "scenario"}]
        rows = [
            (*key, *(getattr(trade, name) for name in names))
            for key, trades in sorted(self.trades.items())
            for trade in trades
        ]
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        frame.write_parquet(folder / "trades.parquet", compression="zstd", compression_level=19)
