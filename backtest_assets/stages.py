"""The stops on the data's path, once, in order.

A stage's value is its Dagster group and the name of its module in every room. Keep everything else out: what a stage
does belongs to its modules.
"""

from enum import StrEnum


class Stage(StrEnum):
    """One stop on the data's path; the order of the members is the order of the path."""

    RAW = "raw"
    BARS = "bars"
    RUN = "run"
    FEATURES = "features"
    CONTEXT = "context"
    EVENTS = "events"
    OUTCOMES = "outcomes"
    PHASE1 = "phase1"
    HYPOTHESES = "hypotheses"
    BLUEPRINTS = "blueprints"
    SIMULATION = "simulation"
    WALKFORWARD = "walkforward"
    PROMOTIONS = "promotions"
    REPORT = "report"
