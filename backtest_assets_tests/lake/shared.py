"""What the lake's tests publish and how they look at the disk."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from backtest_assets.domain.market import Partition
from backtest_assets.lake.publication import Input, Publication
from backtest_assets.lake.staging import Staged
from backtest_assets.lake.store import Lake
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.run import RESEARCH_RUN

AS_OF = datetime(2025, 6, 1, 12, tzinfo=UTC)
RUN = Partition.of_run("123")
MONTH = Partition.of_month("BTCUSDT", "2024-01")


def settings_frame(version: int) -> pl.DataFrame:
    """Return rows that say which version they are in every row, so that a mixture would show."""
    return RESEARCH_RUN.sample(1, 50).with_columns(value_json=pl.lit(f"v{version}"))


def stage_run(lake: Lake, version: int, partition: Partition = RUN) -> Staged:
    """Stage a version of a run with an attachment that says the same."""
    return lake.stage(
        RESEARCH_RUN, partition, settings_frame(version), attachments={"report.html": f"v{version}".encode() * 200}
    )


def publish(lake: Lake, staged: Staged, version: int = 1, writer: str = "dagster-run") -> Publication:
    """Publish what is staged."""
    return lake.publish(
        staged,
        code_version="abc123",
        inputs=(Input("bars_um", "2024-01|BTCUSDT", "d" * 64, 7),),
        notes={"why": f"version {version}"},
        writer=writer,
        as_of=AS_OF + timedelta(minutes=version),
    )


def publish_run(lake: Lake, version: int, partition: Partition = RUN) -> Publication:
    """Stage and publish a version of a run."""
    return publish(lake, stage_run(lake, version, partition), version)


def publish_month(lake: Lake, symbol: str, month: str, frame: pl.DataFrame | None = None) -> Publication:
    """Stage and publish bars of a symbol and month."""
    rows = BARS_UM.sample(1, 20) if frame is None else frame
    staged = lake.stage(BARS_UM, Partition.of_month(symbol, month), rows.with_columns(symbol=pl.lit(symbol)))
    return publish(lake, staged)


def version_read(lake: Lake, partition: Partition = RUN) -> int | None:
    """Return the version a careful reader sees whole: verified, rows and attachment agreeing; None if there is none."""
    publication = lake.current("research_run", partition)
    if publication is None:
        return None
    lake.verify(publication)
    (said,) = lake.scan([publication]).collect()["value_json"].unique().to_list()
    version = int(said.removeprefix("v"))
    assert lake.attachment(publication, "report.html").read_bytes() == said.encode() * 200
    assert publication.notes["why"] == f"version {version}"
    return version


def staging_of(root: Path) -> list[Path]:
    """Return what lies in staging."""
    return sorted((root / "staging").glob("*"))
