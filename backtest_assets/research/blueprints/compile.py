"""The compiler: selected hypotheses in, blueprints out, the same bytes every time. Keep tests and simulation out."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import polars as pl

from backtest_assets.domain.blueprint import (
    ALL_SYMBOLS,
    COMPILER_VERSION,
    Blueprint,
    Entry,
    Evaluation,
    Exit,
    Lineage,
    Overlay,
    RobustnessFlags,
    Sizing,
    SymbolScope,
)
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import SettingsError, TableError
from backtest_assets.research.blueprints.criteria import (
    MAX_EDGE_LOSS,
    MAX_EXPOSURE,
    MIN_DRY_ENTRIES,
    QUALITY_FLOOR,
    THROTTLES,
)
from backtest_assets.research.blueprints.fit import Fitted, TrainMarket
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.candidates import with_standing
from backtest_assets.tables.blueprints import BLUEPRINT_REJECTIONS, BLUEPRINTS

REASONS: Final = (
    "checklist",
    "not_selected",
    "not_promoted",
    "quality_floor",
    "non_executable_condition",
    "naive_entry",
    "near_copy",
    "max_per_event",
    "loses_its_edge",
    "never_enters",
    "same_behaviour",
)
"""Why a tested hypothesis is no blueprint, in the order in which it is asked."""

_SINGLE: Final = re.compile(r"[^a-z0-9_]")


def compile_blueprints(
    hypotheses: pl.DataFrame,
    checklist: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    features: pl.DataFrame,
    edge_candidates: pl.DataFrame,
    naive: pl.DataFrame,
    run: ResearchRun,
) -> pl.DataFrame:
    """Compile the promoted candidates of a promoted run.

    The best t of each family and side is compiled, up to the run's maximum per family, of those that keep the quality
    floor, can be executed and pass the naive entry; what one place loses the next takes. Exits and guards are fitted on
    the train trades of the hypothesis (`fit`).

    Args:
        hypotheses: table hypotheses, any order.
        checklist: table research_checklist; anything but PROMOTE on every row compiles nothing, unless overridden.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um.
        features: table features.
        edge_candidates: table edge_candidates; a hypothesis without a row is not promoted.
        naive: table naive_entry; a hypothesis without a row fails.
        run: gives costs, symbols, limits, overrides and the train window.

    Returns:
        Table blueprints, rank 1 for the largest t of the selected; `is_executed` for the first `blueprints_top_k` of the
        family filter.

    Raises:
        TableError: if a candidate lacks a number that its blueprint needs.

    Knows:
        train, and which hypotheses validation confirmed.
    """
    market = TrainMarket.of(events, context, features, bars, run=run)
    tested = with_standing(hypotheses, edge_candidates)
    return _Compilation.of(tested, checklist, naive, market, run).blueprints()


def reject_hypotheses(
    hypotheses: pl.DataFrame,
    checklist: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    features: pl.DataFrame,
    edge_candidates: pl.DataFrame,
    naive: pl.DataFrame,
    run: ResearchRun,
) -> pl.DataFrame:
    """Say of every tested hypothesis that is no blueprint why it is none.

    Args:
        hypotheses: as of `compile_blueprints`, like the other arguments.
        checklist: table research_checklist.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um.
        features: table features.
        edge_candidates: table edge_candidates.
        naive: table naive_entry.
        run: gives limits and overrides.

    Returns:
        Table blueprint_rejections.

    Raises:
        TableError: if a candidate lacks a number that its blueprint needs.

    Knows:
        train, and which hypotheses validation confirmed.
    """
    market = TrainMarket.of(events, context, features, bars, run=run)
    tested = with_standing(hypotheses, edge_candidates)
    return _Compilation.of(tested, checklist, naive, market, run).rejections()


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: str
    detail: str
    kept: str | None = None


@dataclass(slots=True)
class _Compilation:
    """The tested hypotheses in the order they are asked, with what became of each."""

    market: TrainMarket
    run: ResearchRun
    naive: frozenset[str] | None
    kept: list[tuple[dict[str, Any], Fitted]] = field(default_factory=list[tuple[dict[str, Any], Fitted]])
    lost: list[tuple[dict[str, Any], _Refusal]] = field(default_factory=list[tuple[dict[str, Any], _Refusal]])

    @classmethod
    def of(
        cls,
        hypotheses: pl.DataFrame,
        checklist: pl.DataFrame,
        naive: pl.DataFrame,
        market: TrainMarket,
        run: ResearchRun,
    ) -> "_Compilation":
        passed = frozenset(naive.filter("is_passed")["hypothesis_id"])
        made = cls(market, run, None if run.strategy_blueprint_allow_naive_entry_fail else passed)
        decisions = checklist.select("decision", "is_passed").unique().rows()
        is_open = decisions == [("PROMOTE", True)] or run.strategy_blueprint_ignore_checklist == 1
        tested = hypotheses.filter("is_eligible").sort(
            "t_train", "hypothesis_id", descending=[True, False], nulls_last=True
        )
        said = ", ".join(sorted({str(decision) for decision, _ in decisions})) or "nothing"
        for hypothesis in tested.filter("is_promotable").to_dicts():
            _check_whole(hypothesis, run)
            made.ask(hypothesis, None if is_open else _Refusal("checklist", f"the checklist says {said}"))
        served = {hypothesis["event_type"] for hypothesis, _ in made.kept}
        for hypothesis in tested.filter(~pl.col("is_promotable")).to_dicts():
            may_stand_in = (
                is_open and run.strategy_blueprint_allow_fallback == 1 and hypothesis["event_type"] not in served
            )
            reason = "not_promoted" if hypothesis["status"] == "selected" else "not_selected"
            made.ask(hypothesis, None if may_stand_in else _Refusal(reason, hypothesis["reasons_against"]))
        return made

    def ask(self, hypothesis: dict[str, Any], refusal: _Refusal | None) -> None:
        """Keep a hypothesis as a blueprint, or note the first reason against it."""
        found = refusal or self._before_fitting(hypothesis) or self._fitted(hypothesis)
        if isinstance(found, Fitted):
            self.kept.append((hypothesis, found))
        else:
            self.lost.append((hypothesis, found))

    def _before_fitting(self, hypothesis: dict[str, Any]) -> _Refusal | None:
        low = [
            f"{name} {value} must be {how} {limit:g}"
            for name, (how, limit) in QUALITY_FLOOR.items()
            if not _keeps(value := hypothesis[name], how, limit)
        ]
        if low:
            return _Refusal("quality_floor", "; ".join(low))
        try:
            Condition(hypothesis["condition"])
        except SettingsError as error:
            return _Refusal("non_executable_condition", str(error))
        if self.naive is not None and hypothesis["hypothesis_id"] not in self.naive:
            return _Refusal("naive_entry", "the plain entry fails, or was not evaluated, in naive_entry (R67)")
        family, side = hypothesis["event_type"], hypothesis["side_rule"]
        leader = next((h for h, _ in self.kept if (h["event_type"], h["side_rule"]) == (family, side)), None)
        if leader is not None:
            detail = f"{family} {side} is compiled from {leader['condition']} hold {leader['hold_bars']}: nested conditions trade the same events"
            return _Refusal("near_copy", detail, leader["hypothesis_id"])
        most = self.run.strategy_blueprint_max_per_event
        if Counter(h["event_type"] for h, _ in self.kept)[family] >= most:
            return _Refusal("max_per_event", f"{family} has {most} blueprints of larger t")
        return None

    def _fitted(self, hypothesis: dict[str, Any]) -> Fitted | _Refusal:
        fitted = self.market.fit(_draft(hypothesis, self.run), hypothesis)
        if not fitted.keeps_edge:
            detail = (
                f"train move {fitted.time_exit_bps:.4g} bps with the time exit, {fitted.with_exits_bps:.4g} with exits: "
                f"more than {MAX_EDGE_LOSS:.0%} of the net mean is lost"
            )
            return _Refusal("loses_its_edge", detail)
        if fitted.n_entries < MIN_DRY_ENTRIES:
            return _Refusal("never_enters", f"{fitted.n_entries} entries on train, {MIN_DRY_ENTRIES} needed")
        digest = fitted.blueprint.behaviour_digest
        twin = next((h for h, other in self.kept if other.blueprint.behaviour_digest == digest), None)
        if twin is not None:
            return _Refusal("same_behaviour", f"trades as digest {digest[:12]}", twin["hypothesis_id"])
        return fitted

    def blueprints(self) -> pl.DataFrame:
        """Return table blueprints."""
        rows = [
            _shown(hypothesis, fitted) | {"rank": rank, "known_at": _known_at(self.run)}
            for rank, (hypothesis, fitted) in enumerate(self.kept, start=1)
        ]
        table = pl.DataFrame(
            rows, schema={name: dtype for name, dtype in BLUEPRINTS.schema.items() if name != "is_executed"}
        )
        wanted = self.run.blueprints_filter_event_type
        is_wanted = (pl.col("event_type") == wanted) | pl.lit(wanted == "all")
        is_executed = is_wanted & (is_wanted.cast(pl.Int32).cum_sum() <= self.run.blueprints_top_k)
        return BLUEPRINTS.conform(table.with_columns(is_executed=is_executed))

    def rejections(self) -> pl.DataFrame:
        """Return table blueprint_rejections."""
        copied = ("hypothesis_id", "event_type", "condition", "side_rule", "hold_bars")
        rows = [
            {name: hypothesis[name] for name in copied}
            | {
                "known_at": _known_at(self.run),
                "is_selected": hypothesis["status"] == "selected",
                "reason": refusal.reason,
                "detail": refusal.detail,
                "kept_hypothesis_id": refusal.kept,
            }
            for hypothesis, refusal in self.lost
        ]
        return BLUEPRINT_REJECTIONS.conform(pl.DataFrame(rows, schema=BLUEPRINT_REJECTIONS.schema))


def _known_at(run: ResearchRun) -> object:
    return run.splits[Split.VALIDATION].end


def _keeps(value: float | None, how: str, limit: float) -> bool:
    """Hold a number against a limit; what is unknown keeps none."""
    if value is None:
        return False
    return {">=": value >= limit, ">": value > limit, "<": value < limit}[how]


def _shown(hypothesis: dict[str, Any], fitted: Fitted) -> dict[str, Any]:
    blueprint = fitted.blueprint
    return {
        "blueprint_id": blueprint.blueprint_id,
        "hypothesis_id": hypothesis["hypothesis_id"],
        "is_fallback": not hypothesis["is_promotable"],
        "event_type": blueprint.event_type.value,
        "condition": hypothesis["condition"],
        "direction": blueprint.direction,
        "side_rule": blueprint.entry.side_rule.value,
        "symbols": ",".join(blueprint.symbol_scope.symbols),
        "delay_bars": blueprint.entry.delay_bars,
        "time_stop_bars": blueprint.exit.time_stop_bars,
        "stop_frac": blueprint.exit.stop_value,
        "target_frac": blueprint.exit.target_value,
        "exit_quantile": fitted.quantile,
        "n_entries_train": fitted.n_entries,
        "time_exit_train_bps": fitted.time_exit_bps,
        "with_exits_train_bps": fitted.with_exits_bps,
        "t_train": hypothesis["t_train"],
        "behaviour_digest": blueprint.behaviour_digest,
        "spec_json": blueprint.to_json(),
    }


def _check_whole(hypothesis: dict[str, Any], run: ResearchRun) -> None:
    needed = ("t_train", "adverse_q95_train_bps", "favourable_q95_train_bps")
    if any(hypothesis[name] is None for name in needed):
        message = (
            f"table hypotheses, run {run.run_id}: selected hypothesis {hypothesis['hypothesis_id']} lacks one of "
            f"{', '.join(needed)}; test the hypotheses again"
        )
        raise TableError(message)


def _overlays(hypothesis: dict[str, Any]) -> Iterator[Overlay]:
    """Yield the throttle of a hypothesis whose edge fades with a later entry."""
    scale = next((scale for below, scale in THROTTLES if hypothesis["delay_robustness_score"] < below), None)
    if scale is not None:
        yield Overlay("risk_throttle", (("size_scale", scale),))


def _draft(hypothesis: dict[str, Any], run: ResearchRun) -> Blueprint:
    """Return the blueprint of a hypothesis with its own hold as the only exit that counts."""
    family, side_rule = EventType(hypothesis["event_type"]), SideRule(hypothesis["side_rule"])
    condition, hold, train = Condition(hypothesis["condition"]), hypothesis["hold_bars"], run.splits[Split.TRAIN]
    delay = f"_d{hypothesis['delay_bars']}" if hypothesis["delay_bars"] else ""
    name = f"bp_{family.value}_{condition.slug}_{side_rule.value}{delay}_h{hold}"
    flags = RobustnessFlags(
        oos_required=hypothesis["gate_validation"], multiplicity_required=hypothesis["gate_multiplicity"]
    )
    return Blueprint(
        blueprint_id=_SINGLE.sub("_", name.lower()),
        run_id=run.run_id,
        event_type=family,
        direction=_direction(side_rule),
        symbol_scope=_scope(condition, run),
        entry=Entry((family.value,), (condition.name,), side_rule, hypothesis["delay_bars"], cooldown_bars=0),
        exit=Exit(hold, "percent", 0.5, "percent", 0.5),
        sizing=Sizing("fixed_fraction", MAX_EXPOSURE / len(run.symbol_list), MAX_EXPOSURE, MAX_EXPOSURE),
        evaluation=Evaluation(run.fees_bps, run.slippage_bps, funding_included=True, robustness_flags=flags),
        lineage=Lineage(
            hypothesis["hypothesis_id"],
            COMPILER_VERSION,
            train.start.isoformat(),
            train.end.isoformat(),
            source_path=f"hypotheses/run_id={run.run_id}",
        ),
        overlays=tuple(_overlays(hypothesis)),
    )


def _scope(condition: Condition, run: ResearchRun) -> SymbolScope:
    if condition.symbol:
        return SymbolScope("single_symbol", (condition.symbol,), condition.symbol)
    if len(run.symbol_list) == 1:
        return SymbolScope("single_symbol", run.symbol_list, ALL_SYMBOLS)
    return SymbolScope("all", run.symbol_list, ALL_SYMBOLS)


def _direction(side_rule: SideRule) -> Literal["long", "short", "conditional"]:
    if side_rule is SideRule.LONG:
        return "long"
    return "short" if side_rule is SideRule.SHORT else "conditional"
