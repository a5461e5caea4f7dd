import time
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import kurtosis, skew

from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Partition
from backtest_assets.domain.source import DEMO_SPEC
from backtest_assets.errors import SourceError
from backtest_assets.gates.funding import GATES_RAW_UM_FUNDING
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.raw import GATES_RAW_SPOT_OHLCV, GATES_RAW_UM_OHLCV
from backtest_assets.sources.base import Dataset, rows_digest
from backtest_assets.sources.open import open_source
from backtest_assets.sources.synthetic.market import generate_market
from backtest_assets.sources.synthetic.plant import PLANTABLE, Plant, Tape, detect, planted_drift
from backtest_assets_tests.sources.asked import month_print, month_rows

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)
SYMBOLS = ("SYNAUSDT", "SYNBUSDT")
NULL = generate_market(1, SYMBOLS, START, END)


def tape_of(rows, funding):
    return Tape(rows["open_at"], rows["high"].to_numpy(), rows["low"].to_numpy(), rows["close"].to_numpy(), funding)


def tape(symbol, until=None):
    rows = symbol.klines.slice(0, until)
    return tape_of(rows, symbol.funding.filter(pl.col("settled_at") <= rows["open_at"][-1] + pl.duration(minutes=15)))


def hold_bps(symbol, bars, sides, hold):
    price = symbol.klines["open"].to_numpy()
    inside = bars + 1 + hold < len(price)
    bars, sides = bars[inside], sides[inside]
    return 1e4 * sides * (price[bars + 1 + hold] / price[bars + 1] - 1)


def returns(symbol):
    return symbol.klines["close"].pct_change().drop_nulls().to_numpy()


def test_every_month_passes_every_raw_gate():
    source = open_source("synthetic:3")
    as_of = datetime(2026, 2, 1, tzinfo=UTC)
    gates = {
        Dataset.UM_OHLCV: GATES_RAW_UM_OHLCV,
        Dataset.UM_FUNDING: GATES_RAW_UM_FUNDING,
        Dataset.SPOT_OHLCV: GATES_RAW_SPOT_OHLCV,
    }
    for dataset, asked in gates.items():
        for month in ("2019-01", "2020-02", "2025-12"):
            rows = month_rows(source, dataset, "SYNAUSDT", month)
            assert dataset.table.violations(rows).is_empty()
            answers = ask_all(asked, Evidence(dataset.table, Partition.of_month("SYNAUSDT", month), rows, as_of))
            assert [answer.verdict for answer in answers if not answer.verdict.passed] == []


def test_bars_hang_together():
    bars = NULL["SYNAUSDT"].klines
    assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
    assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()
    opens, closes = bars["open"].to_numpy(), bars["close"].to_numpy()
    assert np.std(opens[1:] / closes[:-1] - 1) < 0.05 * np.std(closes / opens - 1)
    vwap = bars["volume_quote"] / bars["volume_base"]
    assert ((vwap >= bars["low"]) & (vwap <= bars["high"])).all()
    assert 1e-4 < np.std(closes / NULL["SYNAUSDT"].spot["close"].to_numpy() - 1) < 1e-3


def test_a_symbols_path_depends_on_seed_and_name_alone():
    alone = generate_market(1, ("SYNBUSDT",), START, END)["SYNBUSDT"]
    for mine, other in zip(
        (alone.klines, alone.spot, alone.funding),
        (NULL["SYNBUSDT"].klines, NULL["SYNBUSDT"].spot, NULL["SYNBUSDT"].funding),
        strict=True,
    ):
        assert_frame_equal(mine, other)
    assert not generate_market(2, ("SYNBUSDT",), START, END)["SYNBUSDT"].klines["close"].equals(alone.klines["close"])


def test_months_are_slices_of_one_path():
    first, second = open_source("synthetic:5"), open_source("synthetic:5")
    march = month_rows(first, Dataset.UM_OHLCV, "SYNAUSDT", "2021-03")
    month_rows(second, Dataset.UM_OHLCV, "SYNBUSDT", "2024-01")
    assert_frame_equal(march, month_rows(second, Dataset.UM_OHLCV, "SYNAUSDT", "2021-03"))
    april = month_rows(first, Dataset.UM_OHLCV, "SYNAUSDT", "2021-04")
    assert abs(april["open"][0] / march["close"][-1] - 1) < 1e-3
    assert month_rows(first, Dataset.UM_OHLCV, "SYNAUSDT", "2026-01").is_empty()
    assert month_rows(first, Dataset.UM_OHLCV, "SYNAUSDT", "2018-12").is_empty()
    assert (datetime(2019, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, 45, tzinfo=UTC)) == first.span(
        Dataset.UM_OHLCV, "SYNAUSDT"
    )


def test_fingerprints_differ_wherever_rows_do():
    def fingerprints() -> list[str]:
        return [
            month_print(open_source(spec), dataset, symbol, month)
            for spec in ("synthetic:5", "synthetic:6", "synthetic:5:vol_shock_relaxation=60")
            for dataset in Dataset
            for symbol in SYMBOLS
            for month in ("2021-03", "2021-04")
        ]

    assert len(set(fingerprints())) == 3 * len(Dataset) * 2 * 2
    assert fingerprints() == fingerprints()


PINNED = [4701.112581743968, 7689847.022165196, 8346.941698262104, 0.00931117]


def test_the_generator_version_pins_its_rows():
    # If this fails on purpose: raise GENERATOR in synthetic/source.py and write the new numbers here.
    rows = generate_market(1, ("SYNAUSDT",), START, datetime(2020, 2, 1, tzinfo=UTC))["SYNAUSDT"]
    seen = [
        rows.klines["close"][-1],
        rows.klines["volume_base"].sum(),
        rows.spot["close"][100],
        rows.funding["funding_rate"].sum(),
    ]
    assert pytest.approx(PINNED, rel=1e-6) == seen


def test_the_texture_is_that_of_real_markets():
    # BTCUSDT and ETHUSDT 2022-25: correlation .53 (stat_recipe.md), kurtosis 44-46, first autocorrelation of |r| .31-.33.
    a, b = (returns(NULL[symbol]) for symbol in SYMBOLS)
    assert 0.43 < np.corrcoef(a, b)[0, 1] < 0.63
    for series in (a, b):
        size = np.abs(series)
        assert 0.15 < np.corrcoef(size[1:], size[:-1])[0, 1] < 0.40
        assert np.corrcoef(size[96:], size[:-96])[0, 1] > 0.04
        assert 10 < kurtosis(series) < 150
        assert 0.4 < series.std() * np.sqrt(35_040) < 0.95


def test_funding_has_a_calm_base_and_crowded_spells():
    rate = NULL["SYNAUSDT"].funding["funding_rate"].to_numpy()
    assert 0.5e-4 < np.median(rate) < 1.5e-4
    assert np.abs(rate).max() > 3 * np.quantile(np.abs(rate), 0.9)
    assert np.corrcoef(rate[1:], rate[:-1])[0, 1] > 0.6
    assert NULL["SYNAUSDT"].funding["funding_interval_h"].unique().to_list() == [8.0]


def test_every_family_occurs_on_a_null_market():
    for symbol in SYMBOLS:
        counts = {family.value: len(detect(family, tape(NULL[symbol]))[0]) for family in PLANTABLE}
        assert min(counts.values()) >= 10, counts


@pytest.mark.parametrize("shape", [{}, {"jump_skew": -1.0}, {"annual_drift": 1.5}])
def test_simple_returns_are_a_martingale_around_the_drift(shape):
    # Each market gives one z of its mean simple return; 24 of them must look standard normal.
    z = []
    for seed in range(12):
        for symbol in generate_market(seed, SYMBOLS, START, END, **shape).values():
            excess = returns(symbol) - shape.get("annual_drift", 0.0) / 35_040
            z.append(excess.mean() / excess.std() * np.sqrt(len(excess)))
    assert abs(np.mean(z)) < 4 * np.sqrt(1.53 / 24)
    assert 0.5 < np.std(z) < 1.6


def test_skewed_jumps_are_skewed():
    skews = [
        skew(returns(generate_market(4, SYMBOLS, START, END, jump_skew=sign)["SYNAUSDT"])) for sign in (-1.0, 0.0, 1.0)
    ]
    assert skews[0] < -1
    assert skews[2] > 1


def test_no_rule_of_the_past_predicts_the_next_bar_of_a_null_market():
    z = []
    for seed in range(8):
        r = returns(generate_market(seed, ("SYNAUSDT",), START, END)["SYNAUSDT"])
        for signal in (np.sign(r[:-1]), np.sign(np.convolve(r, np.ones(96), "valid")[:-1])):
            gain = signal * r[-len(signal) :]
            z.append(gain.mean() / gain.std() * np.sqrt(len(gain)))
    assert abs(np.mean(z)) < 4 / np.sqrt(len(z))
    assert max(np.abs(z)) < 4


@pytest.mark.parametrize("family", PLANTABLE)
def test_detection_knows_nothing_of_the_future(family):
    whole, sides = detect(family, tape(NULL["SYNAUSDT"]))
    for cut in (20_000, 41_111, 60_003):
        known, known_sides = detect(family, tape(NULL["SYNAUSDT"], cut))
        assert whole[whole < cut].tolist() == known.tolist()
        assert sides[: len(known)].tolist() == known_sides.tolist()


def test_breakouts_are_those_of_a_plain_loop():
    data = tape(NULL["SYNAUSDT"], 9_000)
    high, low, close = data.high, data.low, data.close
    spread = [np.nan] * 95 + [
        (high[t - 95 : t + 1].max() - low[t - 95 : t + 1].min()) / close[t] for t in range(95, len(close))
    ]
    ratio = [np.nan] * 2974 + [spread[t] / np.median(spread[t - 2879 : t + 1]) for t in range(2974, len(close))]
    expected, free = [], 0
    for t in range(2974 + 2880 + 1, len(close)):
        compressed = ratio[t - 1] <= np.quantile(ratio[2974 : t - 1], 0.20)
        side = int(close[t] > high[t - 96 : t].max()) - int(close[t] < low[t - 96 : t].min())
        if compressed and side and t >= free:
            expected.append((t, side))
            free = t + 96
    bars, sides = detect(EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, data)
    assert expected == list(zip(bars.tolist(), sides.tolist(), strict=True))
    assert len(expected) > 5


def test_shocks_are_those_of_a_plain_loop():
    data = tape(NULL["SYNAUSDT"], 12_000)
    r = np.concatenate(([np.nan], np.diff(np.log(data.close))))
    rv = np.asarray([np.sqrt(np.mean(r[max(t - 11, 0) : t + 1] ** 2)) if t >= 12 else np.nan for t in range(len(r))])
    ratio = np.asarray([rv[t] / np.median(rv[t - 287 : t + 1]) if t >= 299 else np.nan for t in range(len(r))])
    limit = [np.quantile(ratio[max(299, t - 8640) : t], 0.99) if t >= 299 + 2880 else np.nan for t in range(len(r))]
    expected, t = [], 1
    while t < len(r):
        if ratio[t] >= limit[t] and ratio[t - 1] < limit[t - 1]:
            expected.append(t)
            calm = 0
            while t + 1 < len(r) and calm < 3:
                t += 1
                calm = calm + 1 if ratio[t] <= 1.25 else 0
            t += 12
        else:
            t += 1
    assert expected == detect(EventType.VOL_SHOCK_RELAXATION, data)[0].tolist()
    assert len(expected) > 5


def test_reversals_are_those_of_a_plain_loop():
    data = tape(NULL["SYNAUSDT"])
    rate = data.funding["funding_rate"].to_numpy()
    size, r = np.abs(rate), np.concatenate(([np.nan], np.diff(np.log(data.close))))
    limit = [np.quantile(size[max(0, k - 270) : k], 0.98) if k >= 90 else np.nan for k in range(len(size))]
    found = {}
    for k in range(1, len(size)):
        if not (size[k] >= limit[k] and size[k - 1] < limit[k - 1]):
            continue
        at = 32 * k - 1  # the bar that closes at the settlement
        for t in range(at + 1, min(at + 97, len(r))):
            if -np.sign(rate[k]) * np.log(data.close[t] / data.close[at]) > r[t - 95 : t + 1].std(ddof=1):
                found.setdefault(t, -np.sign(rate[k]))
                break
    expected = []
    for t in sorted(found):
        if not expected or t >= expected[-1][0] + 96:
            expected.append((t, found[t]))
    bars, sides = detect(EventType.FUNDING_EXTREME_REVERSAL_WINDOW, data)
    assert expected == list(zip(bars.tolist(), sides.tolist(), strict=True))
    assert {-1.0, 1.0} == set(sides)


@pytest.mark.parametrize(
    ("family", "bps"),
    [
        (EventType.VOL_SHOCK_RELAXATION, 200.0),
        (EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, 60.0),
        (EventType.FUNDING_EXTREME_REVERSAL_WINDOW, 200.0),
    ],
)
def test_a_planted_edge_is_there_on_the_events_of_the_planted_path_and_nowhere_else(family, bps):
    planted = generate_market(1, SYMBOLS, START, END, planted=Plant(family, 16, bps))
    gains, far = [], []
    for symbol in planted.values():
        bars, sides = detect(family, tape(symbol))
        gains.append(hold_bps(symbol, bars, sides, 16))
        far.append(hold_bps(symbol, bars + 16, sides, 16))
    gain, after = np.concatenate(gains), np.concatenate(far)
    assert abs(gain.mean() - bps) < 3.5 * gain.std() / np.sqrt(len(gain))
    assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))
    assert abs(after.mean()) < 3.5 * after.std() / np.sqrt(len(after))


def test_nearly_all_events_of_the_planted_path_carry_the_edge():
    plant = Plant(EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, 16, 60.0)
    planted, null = (generate_market(1, ("SYNAUSDT",), START, END, planted=p)["SYNAUSDT"] for p in (plant, None))
    wanted = planted_drift((plant,), tape(planted))
    carried = (planted.klines["close"] / planted.klines["open"] - null.klines["close"] / null.klines["open"]).to_numpy()
    bars, _ = detect(plant.event_type, tape(planted))
    bars = bars[bars + 17 < len(carried)]
    assert np.isclose(wanted[bars + 1], carried[bars + 1], atol=1e-9).mean() > 0.95


def test_the_plant_touches_the_bars_between_entry_and_exit_only():
    plant = Plant(EventType.VOL_SHOCK_RELAXATION, 16, 160.0)
    drift = planted_drift((plant,), tape(NULL["SYNAUSDT"]))
    bars, _ = detect(plant.event_type, tape(NULL["SYNAUSDT"]))
    lonely = [bar for bar, gap in zip(bars[:-1], np.diff(bars), strict=True) if gap > 40][3]
    assert pytest.approx([0.0] + [1e-3] * 16 + [0.0]) == drift[lonely : lonely + 18]


def test_the_demo_market_has_its_edge():
    source = open_source(DEMO_SPEC)
    assert source.identity == DEMO_SPEC
    n, total, squares = 0, 0.0, {}
    for symbol in SYMBOLS:
        months = [f"{year}-{month:02d}" for year in range(2021, 2024) for month in range(1, 13)]
        rows = pl.concat([month_rows(source, Dataset.UM_OHLCV, symbol, month) for month in months])
        data = tape_of(rows, pl.DataFrame())
        bars, sides = detect(EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, data)
        keep = bars + 17 < rows.height
        price = rows["open"].to_numpy()
        net = 1e4 * sides[keep] * (price[bars[keep] + 17] / price[bars[keep] + 1] - 1) - 12
        n, total = n + len(net), total + net.sum()
        for bar, gain in zip(bars[keep] // 96, net, strict=True):
            squares.setdefault(int(bar), []).append(gain)
    mean = total / n
    se = np.sqrt(sum(sum(gain - mean for gain in day) ** 2 for day in squares.values())) / n
    assert 6 < mean / se < 11


def test_two_symbols_of_six_years_take_less_than_a_cpu_second():
    began = time.process_time()
    generate_market(9, SYMBOLS, datetime(2019, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("symbols", [("BTCUSDT",), ("SYNAUSDT", "ETHUSDT")])
def test_invented_data_never_stands_under_a_real_name(symbols):
    with pytest.raises(SourceError, match="must start with SYN"):
        generate_market(1, symbols, START, END)
    with pytest.raises(SourceError, match="must start with SYN"):
        month_rows(open_source("synthetic"), Dataset.UM_OHLCV, symbols[-1], "2024-01")


@pytest.mark.parametrize(
    ("start", "end"),
    [(END, START), (START, START), (datetime(2020, 1, 1, 1, tzinfo=UTC), END), (START.replace(tzinfo=None), END)],
)
def test_a_window_that_is_not_whole_days_is_refused(start, end):
    with pytest.raises(SourceError, match="whole UTC days"):
        generate_market(1, SYMBOLS, start, end)


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ("synthetic", "synthetic:7"),
        ("synthetic:12", "synthetic:12"),
        ("synthetic::vol_shock_relaxation=60", "synthetic:7:vol_shock_relaxation=60"),
        (
            "synthetic:1:vol_shock_relaxation=60.50,range_compression_breakout_window=-4",
            "synthetic:1:range_compression_breakout_window=-4,vol_shock_relaxation=60.5",
        ),
    ],
)
def test_specs_have_one_spelling(spec, identity):
    assert identity == open_source(spec).identity
    assert identity == open_source(identity).identity


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("kraken", "known are binance"),
        ("", "known are"),
        ("synthetic:x", "whole SEED"),
        ("synthetic:-1", "whole SEED"),
        ("synthetic:1:vol_shock_relaxation=60:more", "whole SEED"),
        ("synthetic:1:breakout=8", "EDGE is one of vol_shock_relaxation"),
        ("synthetic:1:vol_shock_relaxation", "not EDGE=BPS"),
        ("synthetic:1:vol_shock_relaxation=nan", "finite size"),
        ("synthetic:1:vol_shock_relaxation=0", "finite size"),
        ("synthetic:1:vol_shock_relaxation=1,vol_shock_relaxation=2", "named twice"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec, said):
    with pytest.raises(SourceError, match=said):
        open_source(spec)


def test_the_digest_of_rows_sees_names_types_values_and_order():
    frame = pl.DataFrame({"a": [1.0, 2.0]})
    others = [frame.rename({"a": "b"}), frame.cast(pl.Float32), frame.reverse(), frame.head(1), frame + 1e-12]
    assert len({rows_digest(each) for each in (frame, *others)}) == 6
    assert rows_digest(frame) == rows_digest(frame.clone())
