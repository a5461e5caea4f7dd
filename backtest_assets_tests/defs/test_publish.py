"""What a range run tells of each partition is in the stored event of that partition, and in no other."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from backtest_assets.defs.publish import _Step, _tell
from backtest_assets.domain.market import Partition
from backtest_assets.tables.registry import TABLES
from backtest_assets_tests.world import END, MONTHS, World

KEYS = ("k0", "k1", "k2", "k3")
PARTS = dg.StaticPartitionsDefinition(KEYS)
RANGE = {ASSET_PARTITION_RANGE_START_TAG: "k1", ASSET_PARTITION_RANGE_END_TAG: "k3"}
FACTS = {"k1": {"digest": "one", "rows": 1}, "k2": {"digest": "two", "inputs": dg.MetadataValue.json([{"rows": 1}])}}


def stored(world: World, table: str) -> dict[str | None, Mapping[str, object]]:
    """Return the metadata of each partition's materialisations, which must be one, as the event log gives it."""
    found = dict[str | None, Mapping[str, object]]()
    for record in world.session.instance.fetch_materializations(dg.AssetKey(table), limit=100).records:
        made = record.asset_materialization
        assert made is not None
        assert made.partition not in found
        found[made.partition] = {name: entry.value for name, entry in made.metadata.items()}
    return found


def test_each_partition_of_a_range_run_is_told_its_own_publication(world: World):
    asked = [Partition.of_month("AAAUSDT", month) for month in MONTHS]
    tables = ("raw_um_funding", "settlements_um")
    assert [] == world.run_range(tables, asked[0], asked[-1])
    digests = set[str]()
    for table in tables:
        expected = dict[str | None, Mapping[str, object]]()
        for partition in asked:
            made = world.lake.current(table, partition)
            assert made is not None
            digests.add(made.digest)
            expected[partition.label] = {
                "data_root": str(world.settings.data_root),
                "n_partitions": 3,
                "dagster/row_count": made.n_rows,
                "digest": made.digest,
                "publication": made.publication_id,
                "inputs": [
                    {"table": one.table, "partition": one.partition, "digest": one.digest} for one in made.inputs
                ],
                **{name: text for name, text in made.notes.items() if name != "origins"},
            }
        assert expected == stored(world, table)
    assert 6 == len(digests)


Teller = Callable[[dg.AssetExecutionContext, World], None]


def told_at_once(context: dg.AssetExecutionContext, world: World) -> None:
    step = _Step(context, world.session.resource, TABLES["settlements_um"], END)
    _tell(step, {**FACTS, "k0": {"digest": "of no partition of this run"}})


def told_by_dagsters_own_way(context: dg.AssetExecutionContext, world: World) -> None:
    del world
    for key, facts in FACTS.items():
        context.add_asset_metadata(facts, partition_key=key)


@pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`")  # beta; the pinned version is characterised
@pytest.mark.parametrize("tell", [told_at_once, told_by_dagsters_own_way])
def test_what_is_told_of_a_partition_is_in_its_event_and_in_no_other(world: World, tell: Teller):
    @dg.asset(name="settlements_um", partitions_def=PARTS, backfill_policy=dg.BackfillPolicy.single_run())
    def told(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        context.add_asset_metadata({"before": "everywhere"})
        tell(context, world)
        return dg.MaterializeResult(metadata={"n_partitions": 3})

    @dg.asset(deps=[told], partitions_def=PARTS, backfill_policy=dg.BackfillPolicy.single_run())
    def beside() -> None:
        """Nothing is told of it."""

    dg.materialize([told, beside], instance=world.session.instance, tags=RANGE)
    common = {"n_partitions": 3, "before": "everywhere"}
    assert {
        "k1": {**common, "digest": "one", "rows": 1},
        "k2": {**common, "digest": "two", "inputs": [{"rows": 1}]},
        "k3": common,
    } == stored(world, "settlements_um")
    assert {"k1": {}, "k2": {}, "k3": {}} == stored(world, "beside")
