"""Gates of the frozen settings."""

import json
from typing import Final

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import ResearchRun, run_from_dict
from backtest_assets.gates.gate import Evidence, Gate


def _settings_complete(evidence: Evidence) -> Verdict:
    values = {name: json.loads(text) for name, text in evidence.frame.select("setting", "value_json").iter_rows()}
    frozen = run_from_dict(values)
    wrong = len(set(evidence.frame["settings_digest"].to_list()) ^ {frozen.digest})
    wrong += len(set(ResearchRun.__dataclass_fields__) ^ set(values))
    overrides = evidence.frame.filter("is_override")["setting"].to_list()
    wrong += len(set(frozen.non_production_overrides) ^ set(overrides))
    return Verdict(
        "settings_complete",
        wrong,
        0,
        "settings",
        passed=wrong == 0,
        detail="every setting is frozen under its digest"
        if wrong == 0
        else "settings or their digest are missing or altered; use a new run_id",
    )


def _settings_immutable(evidence: Evidence) -> Verdict:
    before: set[str] = set() if evidence.previous is None else set(evidence.previous["settings_digest"].to_list())
    changed = len(before - set(evidence.frame["settings_digest"].to_list()))
    return Verdict(
        "settings_immutable",
        changed,
        0,
        "digests",
        passed=changed == 0,
        detail="the settings are those the run was frozen with"
        if changed == 0
        else "the run_id is frozen with other settings; use a new run_id (R4)",
    )


GATES_RESEARCH_RUN: Final = (
    Gate(
        "settings_complete",
        Severity.ERROR,
        "All settings are there and match their digest; limit: 0 differences.",
        _settings_complete,
    ),
    Gate(
        "settings_immutable",
        Severity.ERROR,
        "The settings equal those frozen before (R4, R52); limit: 0 changes.",
        _settings_immutable,
    ),
)
