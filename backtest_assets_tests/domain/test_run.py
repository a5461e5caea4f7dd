from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backtest_assets.domain.bounds import DEMANDS, OVERRIDES, PERMISSIONS
from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import ResearchRun, run_from_dict, settings_fields
from backtest_assets.domain.sensor import SensorDataset
from backtest_assets.domain.split import Split
from backtest_assets.errors import SettingsError, UsageError

RUN = ResearchRun(
    run_id="R1", symbols="btcusdt,ETHUSDT,BTCUSDT", start="2022-01-01", end="2025-12-31", source="synthetic"
)


def test_r5_symbols_are_upper_case_distinct_and_in_order():
    assert ("BTCUSDT", "ETHUSDT") == RUN.symbol_list


def test_r6_the_window_is_half_open_and_ends_after_the_last_day():
    assert (datetime(2022, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)) == RUN.window


def test_r10_to_r16_r23_to_r32_defaults_are_the_runbooks():
    expected = {
        "fees_bps": 4.0,
        "slippage_bps": 2.0,
        "phase2_min_ess": 150.0,
        "phase2_ess_max_lag": 24,
        "phase2_multiplicity_k": 1.0,
        "phase2_parameter_curvature_max_penalty": 0.5,
        "phase2_delay_grid_bars": "0,4,8,16,30",
        "phase2_min_delay_positive_ratio": 0.6,
        "phase2_min_delay_robustness_score": 0.6,
        "blueprints_top_k": 10,
        "blueprints_filter_event_type": "all",
        "walkforward_embargo_days": 0,
        "walkforward_train_frac": 0.6,
        "walkforward_validation_frac": 0.2,
        "walkforward_drawdown_cluster_top_frac": 0.10,
        "walkforward_drawdown_tail_q": 0.05,
        "promotion_regime_max_share": 0.80,
        "promotion_max_loss_cluster_len": 64,
        "promotion_max_cluster_loss_concentration": 0.5,
        "promotion_min_tail_conditional_drawdown_95": -0.2,
        "promotion_max_cost_ratio_train_validation": 0.6,
        "promotion_min_cross_symbol_pass_rate": 0.6,
        "promotion_min_deflated_sharpe": 0.95,
        "promotion_max_overfitting_probability": 0.5,
        "promotion_min_neighbour_share": 0.25,
        "promotion_max_correlation": 0.9,
    }
    assert expected == {item.name: item.default for item in settings_fields() if item.name in expected}


def test_r14_the_delay_grid_is_sorted_and_distinct():
    assert replace(RUN, phase2_delay_grid_bars="8,0,8,4").delays == (0, 4, 8)


def test_entry_delays_are_sorted_and_distinct_and_lengthen_the_purge():
    delayed = replace(RUN, phase2_entry_delays_bars="8,0,8")
    assert (0, 8) == delayed.entry_delays
    assert (0,) == RUN.entry_delays
    gap = [run.splits.windows[0].end - run.splits.windows[0].last_entry for run in (RUN, delayed)]
    assert timedelta(minutes=8 * 15) == gap[1] - gap[0]


def test_r7_the_hypothesis_queue_is_not_obeyed_unless_asked_for():
    expected = {
        "run_hypothesis_generator": 0,
        "hypothesis_datasets": "auto",
        "hypothesis_max_fused": 24,
        "hypothesis_min_symbol_coverage": 1.0,
    }
    found = {item.name: item.default for item in settings_fields() if item.metadata["group"] == "hypotheses"}
    assert expected == found
    assert not RUN.obeys_queue
    assert replace(RUN, run_hypothesis_generator=1).obeys_queue


def test_r7_data_sets_are_all_or_those_listed_in_fixed_order():
    assert tuple(SensorDataset) == RUN.sensor_datasets
    listed = replace(RUN, hypothesis_datasets=" um_funding,um_liquidations, um_funding")
    assert (SensorDataset.UM_LIQUIDATIONS, SensorDataset.UM_FUNDING) == listed.sensor_datasets


def test_an_allocation_that_could_give_nothing_to_anyone_is_refused():
    with pytest.raises(SettingsError, match="lower the one or raise the other"):
        replace(RUN, allocation_min_weight=0.5, allocation_max_weight=0.4)


def test_r27_cost_bps_is_derived_never_added():
    assert RUN.cost_bps == 6.0
    assert replace(RUN, cost_bps=6.0) == RUN
    with pytest.raises(SettingsError, match="fees_bps \\+ slippage_bps"):
        replace(RUN, cost_bps=12.0)


def test_r40_to_r42_splits_follow_the_calendar():
    plan = RUN.splits
    assert plan.purge_bars == 30 + 96 + 1
    assert datetime(2022, 1, 1, tzinfo=UTC) == plan[Split.TRAIN].start
    assert datetime(2024, 5, 26, tzinfo=UTC) == plan[Split.TRAIN].end == plan[Split.VALIDATION].start
    assert datetime(2025, 3, 14, tzinfo=UTC) == plan[Split.VALIDATION].end == plan[Split.TEST].start
    assert datetime(2026, 1, 1, tzinfo=UTC) == plan[Split.TEST].end


def test_an_event_too_late_in_a_split_is_purged():
    train = RUN.splits[Split.TRAIN]
    assert RUN.splits.split_of(train.last_entry) is None
    assert RUN.splits.split_of(train.start) is Split.TRAIN


def test_the_digest_ignores_the_name_and_sees_every_other_setting():
    assert replace(RUN, run_id="R2").digest == RUN.digest
    for name, value in {
        "fees_bps": 5.0,
        "end": "2025-12-30",
        "symbols": "BTCUSDT",
        "source": "synthetic:2",
    }.items():
        assert replace(RUN, cost_bps=None, **{name: value}).digest != RUN.digest, name


def test_r9_narrowing_phase_2_narrows_the_families_it_enumerates_and_no_other():
    one = replace(RUN, phase2_event_type="liquidity_vacuum")
    assert one.phase2_families == (EventType.LIQUIDITY_VACUUM,)
    assert one.event_types == RUN.event_types == RUN.phase2_families == tuple(EventType)


def test_the_difference_names_what_changed():
    other = replace(RUN, fees_bps=5.0, cost_bps=None)
    assert RUN.difference(other) == ("fees_bps: 4.0 -> 5.0", "cost_bps: 6.0 -> 7.0")


def test_settings_survive_a_round_trip():
    assert run_from_dict(RUN.to_dict()) == RUN


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("run_id", "a/b", "run_id 'a/b'"),
        ("run_id", "../up", "run_id"),
        ("run_id", "", "run_id"),
        ("run_id", "x" * 65, "run_id"),
        ("symbols", "", "empty"),
        ("symbols", "BTC/USDT", "BTC/USDT"),
        ("start", "2026-02-01", "lies after end"),
        ("start", "01.02.2024", "YYYY-MM-DD"),
        ("fees_bps", -1.0, "fees_bps"),
        ("fees_bps", float("nan"), "fees_bps"),
        ("phase2_event_type", "moon_phase", "choose one of"),
        ("run_hypothesis_generator", 2, "run_hypothesis_generator is 2"),
        ("run_hypothesis_generator", 0.5, "give 1 to obey"),
        ("hypothesis_datasets", "", "'' unknown; give auto or a comma list of um_liquidations"),
        ("hypothesis_datasets", "um_funding,tea_leaves", "'tea_leaves' unknown"),
        ("hypothesis_max_fused", -1, "hypothesis_max_fused"),
        ("hypothesis_min_symbol_coverage", 0.0, "hypothesis_min_symbol_coverage"),
        ("hypothesis_min_symbol_coverage", 1.01, "hypothesis_min_symbol_coverage"),
        ("phase2_delay_grid_bars", "0,x", "phase2_delay_grid_bars"),
        ("phase2_delay_grid_bars", "", "phase2_delay_grid_bars"),
        ("phase2_entry_delays_bars", "", "phase2_entry_delays_bars '': give one to 3 numbers"),
        ("phase2_entry_delays_bars", "0,-1", "phase2_entry_delays_bars"),
        ("phase2_entry_delays_bars", "97", "of 0 to 96 bars"),
        ("phase2_entry_delays_bars", "0,1,2,3", "one to 3 numbers"),
        ("phase2_max_conditions", 0, "phase2_max_conditions is 0; give 1 to 1000 conditions"),
        ("walkforward_train_frac", 0.9, "test window"),
        ("walkforward_drawdown_tail_q", 1.0, "walkforward_drawdown_tail_q"),
        ("walkforward_embargo_days", -1, "embargo_days"),
        ("walkforward_embargo_days", 400, "not longer than its purge"),
        ("source", "", "source"),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: object, says: str):
    with pytest.raises(UsageError, match=says):
        replace(RUN, **{"cost_bps": None, name: value})


def test_unknown_settings_are_refused():
    with pytest.raises(SettingsError, match="unknown settings moon"):
        run_from_dict({**RUN.to_dict(), "moon": 1})


def test_r63_every_override_is_strict_by_default_and_a_laxer_value_makes_the_run_diagnostic():
    assert (RUN.run_class, RUN.non_production_overrides) == ("production", ())
    laxer = {**dict.fromkeys(PERMISSIONS, 1), **{name: getattr(RUN, name) * 0 for name in DEMANDS}}
    laxer |= {
        "expectancy_capacity_min_events_per_day": 0.01,
        "naive_min_trades": 99,
        "naive_min_expectancy_after_cost": -0.1,
    }
    laxer["naive_max_drawdown"] = -0.3
    assert set(OVERRIDES) == set(laxer)
    for name, value in laxer.items():
        lifted = replace(RUN, **{name: value})
        assert (lifted.run_class, lifted.non_production_overrides) == ("diagnostic", (name,))
        assert lifted.digest != RUN.digest
        with pytest.raises(SettingsError, match=name):
            replace(RUN, **{name: -2})


def test_r75_to_r77_a_stricter_demand_is_no_override():
    stricter = replace(RUN, naive_min_trades=150, naive_min_expectancy_after_cost=0.001, naive_max_drawdown=-0.1)
    assert stricter.run_class == "production"


def test_r68_to_r73_the_strategy_candidates_are_strict_by_default():
    expected = {
        "strategy_builder_top_k_per_event": 2,
        "strategy_builder_max_candidates": 20,
        "strategy_builder_ignore_checklist": 0,
        "strategy_builder_allow_non_promoted": 0,
        "strategy_builder_allow_missing_candidate_detail": 0,
    }
    found = {item.name: item.default for item in settings_fields() if item.metadata["group"] == "strategies"}
    assert expected == found
    assert {name for name, value in expected.items() if value == 0} <= set(OVERRIDES)
    for name in expected:
        with pytest.raises(SettingsError, match=name):
            replace(RUN, **{name: -1})
