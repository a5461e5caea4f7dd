from collections import Counter
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.domain.split import Split
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market

MARKET = random_market(7)
FUNNEL = summarise_families(MARKET.candidates, MARKET.features, run=MARKET.run)
FATES = ("accepted", "cooldown", "low_quality", "outside_window", "not_in_universe")
BASIS = ("basis_z_96",)
DESYNC = EventType.CROSS_VENUE_DESYNC.value
TRAIN = MARKET.run.splits[Split.TRAIN]
_OF_ONE = MARKET.features.filter(symbol="SYNAUSDT")["known_at"]
N_BEFORE = int((_OF_ONE < TRAIN.start).sum())
N_BARS = int(_OF_ONE.is_between(TRAIN.start, TRAIN.end, closed="left").sum())
STANDING = ("event_type", "symbol", "status", "reason", "known_frac", "measure", "measure_frac")


def without(names: tuple[str, ...], symbol: str, where: pl.Expr) -> pl.DataFrame:
    nulls = (pl.when(~((pl.col("symbol") == symbol) & where)).then(name).alias(name) for name in names)
    return MARKET.features.with_columns(nulls)


def standing(features: pl.DataFrame) -> dict[tuple[str, str], str]:
    """(family, symbol) -> reason, of those not run, on events detected from these features."""
    candidates = detect_events(MarketView(MARKET.bars, features, MARKET.funding), run=MARKET.run)
    told = summarise_families(candidates, features, run=MARKET.run)
    out = told.filter(pl.col("status") == "NOT_RUN")
    assert (out["known_frac"] < 0.5).all()
    assert (told.filter(pl.col("status") == "RUN")["known_frac"] >= 0.5).all()
    return {(family, symbol): reason for family, symbol, reason in out.select("event_type", "symbol", "reason").rows()}


def test_every_family_and_symbol_has_a_row_and_every_family_needs_something():
    asked = [(family.value, symbol) for family in EventType for symbol in SYMBOLS]
    assert sorted(asked) == FUNNEL.select("event_type", "symbol").rows()
    assert {"RUN"} == set(FUNNEL["status"])
    assert [] == [family for family, made in FAMILIES.items() if not made.definition.needs]


def test_candidates_are_counted_by_their_fate():
    centre = MARKET.candidates.filter(pl.col("variant") == "centre")
    for row in FUNNEL.iter_rows(named=True):
        own = centre.filter(pl.col("event_type") == row["event_type"], pl.col("symbol") == row["symbol"])
        accepted = own.filter(pl.col("status") == "accepted")["known_at"]
        assert own.height == row["n_candidates"]
        assert [(own["status"] == fate).sum() for fate in FATES] == [row[f"n_{fate}"] for fate in FATES]
        assert (accepted.min(), accepted.max()) == (row["first_known_at"], row["last_known_at"])
        assert own.sort("known_at")["threshold"].last() == row["threshold"]
    assert centre.height == FUNNEL["n_candidates"].sum()


def test_a_symbol_without_spot_has_no_desync_and_says_why():
    absent = without(BASIS, "SYNBUSDT", pl.lit(value=True))
    reason = f"basis_z_96 known on 0.0% of train's {N_BARS:,} bars, 50% are needed"
    assert {("cross_venue_desync", "SYNBUSDT"): reason} == standing(absent)


@pytest.mark.parametrize(
    "inside",
    [pl.col("known_at") >= TRAIN.start, pl.col("known_at") < TRAIN.end],
    ids=["known before train only", "known after train only"],
)
def test_what_is_known_outside_train_only_does_not_count(inside):
    assert [("cross_venue_desync", "SYNAUSDT")] == list(standing(without(BASIS, "SYNAUSDT", inside)))


def blanked(features: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """Every value of every measure unknown there."""
    kept = ("symbol", "open_at", "known_at", "is_gap")
    return features.with_columns(pl.when(~where).then(pl.exclude(kept)).name.keep())


def test_nothing_after_the_end_of_train_moves_a_status_a_reason_or_a_share():
    later = pl.col("known_at") >= TRAIN.end
    since = TRAIN.start + timedelta(days=14)
    poor = without(("funding_rate_8h",), "SYNAUSDT", pl.col("known_at") < since)
    poor = poor.with_columns(pl.when((pl.col("symbol") != "SYNBUSDT") | later).then("basis_z_96").alias("basis_z_96"))
    other = random_market(8).features
    swapped = pl.concat([poor.filter(~later), other.filter(later)]).sort("symbol", "open_at")
    told = summarise_families(MARKET.candidates, poor, run=MARKET.run)
    funding = told.row(by_predicate=(pl.col("event_type") == "funding_extreme_onset") & (pl.col("symbol") == "SYNAUSDT"), named=True)  # fmt: skip
    assert ("RUN", 1 - 14 * 96 / N_BARS) == (funding["status"], pytest.approx(funding["known_frac"], abs=0.01))
    assert funding["known_frac"] * N_BARS < (MARKET.run.window[1] - TRAIN.start) / timedelta(minutes=15) / 2
    assert [(DESYNC, "SYNBUSDT")] == told.filter(status="NOT_RUN").select("event_type", "symbol").rows()
    for features in (swapped, blanked(poor, later)):
        again = summarise_families(MARKET.candidates, features, run=MARKET.run)
        assert_frame_equal(told.select(STANDING), again.select(STANDING))
    first = blanked(poor, pl.col("known_at") == TRAIN.end - timedelta(minutes=15))
    moved = summarise_families(MARKET.candidates, first, run=MARKET.run)
    assert (moved["known_frac"] <= told["known_frac"]).all()
    assert (moved["known_frac"] < told["known_frac"]).sum() > 20  # the last bar known in train is one of its bars


def test_counts_are_of_the_whole_run_and_not_of_train_alone():
    before = MARKET.candidates.filter(pl.col("known_at") < TRAIN.end)
    told = summarise_families(before, MARKET.features, run=MARKET.run)
    assert before.filter(variant="centre").height == told["n_candidates"].sum() < FUNNEL["n_candidates"].sum()
    assert (FUNNEL["last_known_at"] > MARKET.run.splits[Split.TEST].start).any()


@pytest.mark.parametrize(("n_known", "n_not_run"), [(1, 1), (N_BARS // 2 - 1, 1), (N_BARS // 2, 0)])
def test_a_family_runs_from_half_of_trains_bars_on_and_one_known_bar_is_not_enough(n_known, n_not_run):
    number = pl.int_range(pl.len()).over("symbol") - N_BEFORE
    whole = MARKET.features.with_columns(pl.col("basis_z_96").fill_null(0.1))
    only = pl.when((pl.col("symbol") != "SYNAUSDT") | number.is_between(0, n_known - 1)).then("basis_z_96")
    told = summarise_families(MARKET.candidates, whole.with_columns(only.alias("basis_z_96")), run=MARKET.run)
    row = told.row(by_predicate=(pl.col("event_type") == DESYNC) & (pl.col("symbol") == "SYNAUSDT"), named=True)
    assert n_known / N_BARS == row["known_frac"] == row["measure_frac"]
    assert n_not_run == (row["status"] == "NOT_RUN")
    assert row["reason"] == (
        f"basis_z_96 known on {n_known / N_BARS:.1%} of train's {N_BARS:,} bars, 50% are needed" if n_not_run else ""
    )


def test_candidates_of_a_family_that_is_not_run_are_counted_all_the_same():
    half = without(BASIS, "SYNAUSDT", pl.col("known_at") >= TRAIN.start + timedelta(days=30))
    candidates = detect_events(MarketView(MARKET.bars, half, MARKET.funding), run=MARKET.run)
    told = summarise_families(candidates, half, run=MARKET.run)
    row = told.row(by_predicate=(pl.col("event_type") == DESYNC) & (pl.col("symbol") == "SYNAUSDT"), named=True)
    assert "NOT_RUN" == row["status"]
    own = candidates.filter(event_type=DESYNC, symbol="SYNAUSDT", variant="centre")
    assert own.height == row["n_candidates"] > 0


def slowly_known(row: dict[str, object], family: EventType) -> str | None:
    """The measure that decides a bar, read by hand."""
    definition = FAMILIES[family].definition
    if any(row[name] is None for name in definition.needs):
        return None
    column = {
        "taker_imbalance": "taker_imbalance",
        "log_return": "logret_1",
        "range": "range_frac",
        "volatility": "rv_12",
    }
    column |= {"basis": "basis_z_96", "funding_rate": "funding_rate_8h"}
    for word in definition.measures:
        if row["volume_measure"] == word.value if word.value not in column else row[column[word.value]] is not None:
            return word.value
    return None


@pytest.mark.parametrize("family", list(EventType))
def test_shares_and_measures_are_those_a_slow_reader_counts(family):
    for symbol in SYMBOLS:
        rows = MARKET.features.filter(
            pl.col("symbol") == symbol, pl.col("known_at").is_between(TRAIN.start, TRAIN.end, closed="left")
        )
        found = Counter(slowly_known(row, family) for row in rows.iter_rows(named=True))
        row = FUNNEL.row(by_predicate=(pl.col("event_type") == family.value) & (pl.col("symbol") == symbol), named=True)
        unknown = found.pop(None, 0)
        (most, n_most), *_ = found.most_common(1)
        assert (1 - unknown / rows.height, most, n_most / rows.height) == (
            pytest.approx(row["known_frac"]), row["measure"], pytest.approx(row["measure_frac"])
        )  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "family", "measure"),
    [
        (("volume_quote_ratio_2880", "volume_measure"), "liquidity_absence_window", "volatility"),
        (("volume_quote_ratio_2880", "volume_measure"), "liquidity_vacuum", None),
        (("taker_imbalance",), "directional_exhaustion_after_forced_flow", "log_return"),
    ],
)
def test_where_the_best_measure_is_lacking_the_next_one_is_told(lost, family, measure):
    poorer = without(lost, "SYNAUSDT", pl.lit(value=True))
    told = summarise_families(MARKET.candidates, poorer, run=MARKET.run)
    row = told.row(by_predicate=(pl.col("event_type") == family) & (pl.col("symbol") == "SYNAUSDT"), named=True)
    assert measure == row["measure"]
    assert ("RUN" if measure else "NOT_RUN") == row["status"]


def test_no_events_at_all_are_counted_as_none():
    nobody = summarise_families(MARKET.candidates.clear(), MARKET.features, run=MARKET.run)
    assert (26, 0) == (nobody.height, nobody["n_candidates"].sum())
    assert 26 == nobody["threshold"].null_count()
