"""What the decision lets through: nearly every family with an edge, at most one in five without any effect."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from backtest_assets.research.phase1.criteria import (
    MAX_EFFECT_P,
    METRICS,
    MIN_PLACEBOS,
    N_SHUFFLES,
    SHUFFLE_LEVEL,
    Decided,
    FamilyDecision,
    Ground,
    MetricNumbers,
    decide_family,
    why_not_run,
)
from backtest_assets.research.phase1.evidence import weigh_family
from backtest_assets_tests.research.phase1.simulated import decided, simulated_sets

QUIET = MetricNumbers(n_matched=30, p_family=0.21, p_placebo=0.02, n_years_opposite=0, n_groups_opposite=0)
CLEAR = MetricNumbers(n_matched=30, p_family=0.20, p_placebo=0.011, n_years_opposite=0, n_groups_opposite=0)

OF_GROUND = {
    Ground.NO_SCATTER: "not_run",
    Ground.FEW_PLACEBOS: "not_run",
    Ground.NO_EFFECT: "freeze",
    Ground.BIASED: "freeze",
    Ground.CONTRADICTED: "freeze",
    Ground.EFFECT: "pass",
}


def family(**changed: MetricNumbers) -> dict[str, MetricNumbers]:
    return dict.fromkeys(METRICS, QUIET) | changed


def moving(**changed: float) -> dict[str, MetricNumbers]:
    return family(move_16_bars_bps=replace(CLEAR, **changed))


@pytest.mark.slow
def test_families_without_any_effect_pass_at_most_one_time_in_five():
    n = 120
    passed = Counter(decided(seed)[0] for seed in range(n))["pass"]
    assert passed <= stats.binom.ppf(0.999, n, MAX_EFFECT_P)
    assert passed >= stats.binom.ppf(0.001, n, MAX_EFFECT_P / 2)  # and it is not closed either


@pytest.mark.parametrize(("at_hold", "n_events"), [(4, 200), (16, 200), (96, 200), (16, 60)])
def test_an_edge_of_strength_four_nearly_always_passes(at_hold, n_events):
    n = 40
    passed = Counter(decided(500 + s, strength=4.0, at_hold=at_hold, n_events=n_events)[0] for s in range(n))["pass"]
    assert passed >= 38


def test_at_its_limits_a_family_passes_and_says_by_what():
    found = decide_family(family(move_16_bars_bps=CLEAR), n_placebos=MIN_PLACEBOS)
    reason = "move_16_bars_bps differs from its controls at adjusted p 0.2"
    assert Decided(FamilyDecision.PASSED, Ground.EFFECT, reason) == found


@pytest.mark.parametrize(
    ("numbers", "ground", "reason"),
    [
        (
            family(),
            "no_effect",
            "no move differs from its controls: the clearest, move_4_bars_bps, has adjusted p 0.21, above 0.2",
        ),
        # phase 2 trades moves: what else differs is shown and decides nothing
        (family(tail_hit=replace(CLEAR, p_family=0.001)), "no_effect", "no move differs"),
        (moving(p_placebo=0.01), "biased", "but move_16_bars_bps of shifted events differs too, at adjusted p 0.01"),
        # one biased move strikes all: 16 bars lie inside 48
        (
            family(move_16_bars_bps=CLEAR, move_48_bars_bps=replace(QUIET, p_placebo=0.001)),
            "biased",
            "but move_48_bars_bps of shifted events differs too, at adjusted p 0.001",
        ),
        (moving(n_years_opposite=1), "contradicted", "move_16_bars_bps: 1 years significantly contradict"),
        (moving(n_groups_opposite=2), "contradicted", "move_16_bars_bps: 2 symbols or volatility regimes"),
        (moving(p_placebo=np.nan), "few_placebos", "4 of 8 shifts could be compared"),
        (family(tail_hit=replace(CLEAR, p_family=np.nan)), "no_scatter", "tail_hit: no scatter over days or weeks"),
        # what does not differ may be contradicted, what is no move may be biased: nothing rests on it
        (
            family(move_16_bars_bps=CLEAR, move_4_bars_bps=replace(QUIET, n_years_opposite=3)),
            "effect",
            "move_16_bars_bps",
        ),
        (
            family(move_16_bars_bps=CLEAR, range_sigmas=replace(CLEAR, p_placebo=0.001)),
            "effect",
            "move_16_bars_bps differs",
        ),
    ],
)
def test_each_ground_decides_and_names_its_number(numbers, ground, reason):
    found = decide_family(numbers, n_placebos=MIN_PLACEBOS)
    assert (ground, OF_GROUND[found.ground]) == (found.ground.value, found.decision.value)
    assert reason in found.reason


def test_too_few_testable_placebos_are_no_ground_for_any_decision():
    found = decide_family(family(move_16_bars_bps=CLEAR), n_placebos=MIN_PLACEBOS - 1)
    assert (FamilyDecision.NOT_RUN, Ground.FEW_PLACEBOS) == (found.decision, found.ground)
    assert "3 of 8 shifts could be compared and tested, 4 are needed" == found.reason


def test_a_family_is_not_run_for_counts_alone():
    enough = dict.fromkeys(METRICS, 30)
    assert why_not_run([("RUN", ""), ("NOT_RUN", "no basis")], enough) is None
    few = why_not_run([("RUN", "")], enough | {"move_16_bars_bps": 29})
    assert few is not None
    assert (FamilyDecision.NOT_RUN, Ground.FEW_MATCHED) == (few.decision, few.ground)
    assert "move_16_bars_bps: 29 matched" in few.reason
    lacking = why_not_run([("NOT_RUN", "no basis"), ("NOT_RUN", "no basis")], enough)
    reason = "the data do not support the family on any symbol: no basis"
    assert Decided(FamilyDecision.NOT_RUN, Ground.UNSUPPORTED, reason) == lacking


def test_a_year_against_the_whole_freezes():
    sets = simulated_sets(np.random.default_rng(3), strength=8.0, at_hold=16)
    last = sets.years == sets.years.max()
    move = METRICS.index("move_16_bars_bps")
    sets.values[last, 0, move] -= 1.5 * np.nanstd(sets.values[:, 0, move])
    placebos = [simulated_sets(np.random.default_rng(s)) for s in range(MIN_PLACEBOS)]
    numbers = weigh_family(sets, placebos, np.random.default_rng(1))
    found = decide_family(numbers.of_metrics(), n_placebos=numbers.placebos.n)
    assert (1, Ground.CONTRADICTED) == (numbers.n_years_opposite[move], found.ground)
    assert "move_16_bars_bps: 1 years significantly contradict the whole" in found.reason


def test_an_effect_that_shifted_events_show_too_is_no_ground():
    made = [simulated_sets(np.random.default_rng(seed)) for seed in range(5)]
    move = METRICS.index("move_48_bars_bps")
    for sets in made:
        sets.values[:, 0, move] += np.nanstd(sets.values[:, 0, move])
    numbers = weigh_family(made[0], made[1:], np.random.default_rng(1))
    found = decide_family(numbers.of_metrics(), n_placebos=numbers.placebos.n)
    assert (FamilyDecision.FREEZE, Ground.BIASED) == (found.decision, found.ground)
    assert "the comparison is biased" in found.reason
    assert numbers.placebos.p_shifted[move] >= 0.2
    assert numbers.placebos.p[move] == pytest.approx(4 / 2001)
    assert stats.binom.sf(round(numbers.rejected_shuffles * N_SHUFFLES) - 1, N_SHUFFLES, SHUFFLE_LEVEL) > 0.001


@pytest.mark.parametrize("case", ["few sets", "no scatter"])
def test_placebos_with_too_few_sets_or_without_scatter_are_left_out_and_below_four_all_is_unknown(case):
    true, bad = simulated_sets(np.random.default_rng(1)), simulated_sets(np.random.default_rng(2), n_events=29)
    if case == "no scatter":
        bad = simulated_sets(np.random.default_rng(2))
        bad.values[:, :, METRICS.index("tail_hit")] = 0.0
    good = [simulated_sets(np.random.default_rng(seed)) for seed in range(10, 14)]
    numbers = weigh_family(true, [bad, *good, bad], np.random.default_rng(1))
    assert 4 == numbers.placebos.n
    assert np.isfinite(numbers.placebos.p).all()
    assert Ground.FEW_PLACEBOS is not decide_family(numbers.of_metrics(), n_placebos=4).ground
    numbers = weigh_family(true, [bad, *good[1:]], np.random.default_rng(1))
    assert 3 == numbers.placebos.n
    for unknown in (
        numbers.placebos.p,
        numbers.placebos.p_shifted,
        numbers.placebos.t_max,
        numbers.placebos.n_effective,
    ):
        assert np.isnan(unknown).all()
    assert Ground.FEW_PLACEBOS is decide_family(numbers.of_metrics(), n_placebos=3).ground
