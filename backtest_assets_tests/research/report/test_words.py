import pytest

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.research.events.thresholds import MEASURES, Operator, Threshold
from backtest_assets.research.report.words import condition_words, number_text, rule_words
from backtest_assets_tests.research.report.scenes import a_run, inputs_of


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "bps", "unknown"),
        (-0.01234, "fraction of equity", "\u22121.23\u00a0%"),
        (-0.00003, "fraction", "\u22120.003\u00a0%"),
        (0.0, "fraction", "0.00\u00a0%"),
        (-0.0, "fraction", "0.00\u00a0%"),
        (-0.0, "text", "0"),
        (-0.0, "bps", "0.0\u00a0bps"),
        (-0.04, "bps", "0.0\u00a0bps"),
        (-0.06, "bps", "\u22120.1\u00a0bps"),
        (-1.0, "1", "\u22121"),
        (1234567.0, "events", "1,234,567"),
        (0.0004, "probability", "<\u00a00.001"),
        (0.0512, "probability", "0.051"),
        (-16.84, "bps per trade", "\u221216.8\u00a0bps"),
        (2.0, "1", "2"),
        (2.345, "1", "2.35"),
        (0.00123, "1", "0.0012"),
    ],
)
def test_numbers_are_printed_as_their_unit_is_read(value, unit, words):
    assert words == number_text(value, unit)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("operator", list(Operator))
def test_every_threshold_reads_as_a_sentence(measure, operator):
    words = condition_words(Threshold.of(measure, operator, 2, 3 if operator is Operator.IN_RANGE else None).text)
    assert words.startswith("while ")
    assert "_" not in words
    assert words.endswith("2 and 3" if operator is Operator.IN_RANGE else "2")


def test_an_unknown_condition_is_named_not_hidden():
    assert condition_words("moon_phase_full") == "under moon phase full"


def test_a_rule_reads_as_one_could_follow_it():
    blueprint = blueprint_from_json(inputs_of(a_run()).blueprints.filter(rank=1)["spec_json"].item())
    words = rule_words(blueprint).replace("\u00a0", " ")
    assert words.startswith(f"After a {blueprint.entry.triggers[0].replace('_', ' ')} event on BTCUSDT or ETHUSDT")
    assert words.endswith("earlier at a loss of 3.10 % or a gain of 4.40 %. Size 50.00 % of equity.")
