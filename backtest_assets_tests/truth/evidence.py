"""What `promise` measured, held against the bounds, as rows, two figures and a page made from them; measuring stays there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from scipy import stats

from backtest_assets.research.report.svg import draw

LEVELS: Final = (0.01, 0.05, 0.10, 0.20, 0.50, 0.80)
MAX_FALSE: Final = 0.05
"""Share of null markets of an arm that may have a strict blueprint."""
LEAST_AT_6: Final = 0.80
"""Share of markets with an edge of strength 6 on which it must be found, right family and side."""
OF_ORACLE_AT_4: Final = 0.9
"""At strength 4: at least so much of what the oracle finds."""


_COLUMNS: Final = (
    "`chain`: share of markets with a blueprint of the right family and side, `low` to `high` its interval; `with_data`: the same where "
    "the family meets the run's demands on how much data there is; `oracle_*`: the true hypothesis alone at the adjusted level; "
    "`bias_*`: what was told over what the trades truly earn; `false`: blueprints that truly earn nothing.\n\n"
)


@dataclass(frozen=True)
class Found:
    """Rows of null and planted markets, of shuffled real events and of the real market's checklist. Empty: not measured."""

    null: pl.DataFrame
    planted: pl.DataFrame
    shuffled: pl.DataFrame
    real: pl.DataFrame


FILES: Final = ("null_markets", "planted_edges", "shuffled_events", "real_market")
"""Where the rows of `Found` lie, field by field; a file that is missing was not measured."""


def read(folder: Path) -> Found:
    """Read the rows that `write` left in a folder."""
    paths = [folder / f"{name}.csv" for name in FILES]
    frames = [pl.read_csv(path, infer_schema_length=None) if path.exists() else pl.DataFrame() for path in paths]
    return Found(*frames)


def interval(n: int, of: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    told = stats.binomtest(n, of).proportion_ci(method="exact")
    return float(told.low), float(told.high)


def by_arm(found: pl.DataFrame) -> pl.DataFrame:
    """One row per arm: markets with a strict blueprint, the share with its interval, quantiles of the least adjusted p."""
    rows = [
        {
            "arm": arm, "markets": rows.height, "tested": rows["n_tested"].mean(), "false": (false := int((rows["n_blueprints"] > 0).sum())),
            "share": false / rows.height, "low": interval(false, rows.height)[0], "high": interval(false, rows.height)[1],
            "selected": int((rows["n_selected"] > 0).sum()),
            **{f"p <= {level}": rows.select((pl.col("p_least") <= level).mean()).item() for level in LEVELS},
            "is_kept": false <= MAX_FALSE * rows.height and bool((rows["n_tested"] > 0).all()),
        }
        for (arm,), rows in found.partition_by("arm", as_dict=True, maintain_order=True).items()
    ]  # fmt: skip
    return pl.DataFrame(rows)


def by_strength(found: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Shares found by the chain and by both oracles, with the chain's interval, for each strength and `by`."""
    keys = [*by, "strength"]
    told = found.group_by(keys, maintain_order=True).agg(
        markets=pl.len(),
        strength_true=pl.col("strength_true").mean(),
        chain=pl.col("is_found").mean(),
        with_data=pl.col("is_found").filter("has_data").mean(),
        n_found=pl.col("is_found").sum(),
        oracle_rw=pl.col("is_oracle_rw").mean(),
        oracle_bonferroni=pl.col("is_oracle_bonferroni").mean(),
        right_hold=pl.col("is_hold_right").filter("is_found").mean(),
        false=pl.col("n_false").sum(),
        bias_train=(pl.col("reported_bps") / pl.col("true_bps")).filter("is_found").mean(),
        bias_shrunken=(pl.col("shrunken_bps") / pl.col("true_bps")).filter("is_found").mean(),
        bias_validation=(pl.col("validation_bps") / pl.col("true_bps")).filter("is_found").mean(),
    )
    ends = [interval(n, of) for n, of in told.select("n_found", "markets").iter_rows()]
    return (
        told.with_columns(
            low=pl.Series([low for low, _ in ends], dtype=pl.Float64),
            high=pl.Series([high for _, high in ends], dtype=pl.Float64),
        )
        .drop("n_found")
        .sort(keys)
    )


def losses(found: pl.DataFrame) -> pl.DataFrame:
    """By strength: why the true hypothesis was lost where the family was not found, each reason alone, most frequent first."""
    lost = found.filter(~pl.col("is_found")).with_columns(pl.col("lost_to").str.split(",")).explode("lost_to")
    return (
        lost.group_by("strength", "lost_to")
        .agg(markets=pl.len())
        .sort("strength", "markets", "lost_to", descending=[False, True, False])
    )


def broken_bounds(found: Found) -> list[str]:
    """What the promise says and the measurement does not bear out."""
    return [*_false_broken(found.null), *_false_broken(found.shuffled), *_power_broken(found.planted)]


def _false_broken(null: pl.DataFrame) -> Iterator[str]:
    for row in by_arm(null).to_dicts() if null.height else ():
        if not row["is_kept"]:
            yield f"{row['arm']}: {row['false']} of {row['markets']} markets have a false blueprint, at most {MAX_FALSE:.0%} may"


def _power_broken(planted: pl.DataFrame) -> Iterator[str]:
    if planted.is_empty():
        return
    for row in by_strength(planted).to_dicts():
        if row["strength"] == 6 and row["chain"] < LEAST_AT_6:  # the strength that the promise names
            yield f"strength 6: found on {row['chain']:.0%} of {row['markets']} markets, at least {LEAST_AT_6:.0%} is promised"
        if row["strength"] == 4 and row["chain"] < OF_ORACLE_AT_4 * row["oracle_rw"]:
            yield f"strength 4: the chain finds {row['chain']:.0%}, the oracle {row['oracle_rw']:.0%}"


def write(found: Found, folder: Path) -> str:
    """Write rows, figures and page to a folder and return the page; equal rows give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(FILES, (found.null, found.planted, found.shuffled, found.real), strict=True):
        if rows.height:
            rows.write_csv(folder / f"{name}.csv")
    parts = [
        f"# The promise, measured\n\nMade by `{_command(found)}`; rows beside this page. Shares with 95 % Clopper-Pearson intervals.\n"
    ]
    if found.null.height:
        (folder / "null_markets.svg").write_text(
            _standalone(draw(_null_figure(found.null), name="null", title="Least adjusted p."))
        )
        parts.append("## Markets without an edge\n\n" + _table(by_arm(found.null)) + "\n\n![](null_markets.svg)\n")
    if found.planted.height:
        (folder / "planted_edges.svg").write_text(
            _standalone(draw(_power_figure(found.planted), name="power", title="Power."))
        )
        parts.append(
            "## Planted edges\n\n" + _COLUMNS + _table(by_strength(found.planted)) + "\n\n![](planted_edges.svg)\n"
        )
        parts += [f"### By {by}\n\n" + _table(by_strength(found.planted, by)) + "\n" for by in ("hold_bars", "family")]
        parts.append("### Why the true hypothesis was lost\n\n" + _table(losses(found.planted)) + "\n")
    if found.shuffled.height:
        parts.append("## Real prices, events moved by random weeks\n\n" + _table(by_arm(found.shuffled)) + "\n")
    if found.real.height:
        parts.append("## Bitcoin and ether, 2022 to 2025, as found\n\n" + _as_found(found.real) + "\n")
    page = "\n".join(parts)
    (folder / "promise.md").write_text(page)
    return page


def _command(found: Found) -> str:
    n_null = found.null["seed"].n_unique() if found.null.height else 0
    n_planted = found.planted["seed"].n_unique() if found.planted.height else 0
    return f"make promise ARGS='--null {n_null} --planted {n_planted} --shuffles {found.shuffled.height}'"


def _as_found(real: pl.DataFrame) -> str:
    lines = [f"- {gate}: {detail}" for gate, detail in real.select("gate", "detail").iter_rows()]
    return "\n".join([f"{real['decision'][0]}; {real['n_blueprints'][0]} blueprints.", "", *lines])


def _table(told: pl.DataFrame) -> str:
    rows = [told.columns, ["---"] * told.width, *([_cell(value) for value in row] for row in told.iter_rows())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _null_figure(null: pl.DataFrame) -> dict[str, Any]:
    points = [
        {"arm": arm, "p": p, "share": (rank + 1) / rows.height}
        for (arm,), rows in null.partition_by("arm", as_dict=True, maintain_order=True).items()
        for rank, p in enumerate(rows["p_least"].sort().to_list())
    ]
    uniform = [{"arm": "uniform", "p": p, "share": p} for p in (0.0, 1.0)]
    return {
        "width": 440, "height": 300, "data": {"values": points + uniform},
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": {"field": "p", "type": "quantitative", "title": "least adjusted p of a market"},
            "y": {"field": "share", "type": "quantitative", "title": "share of markets"},
            "color": {"field": "arm", "type": "nominal", "sort": None},
        },
    }  # fmt: skip


def _power_figure(planted: pl.DataFrame) -> dict[str, Any]:
    told = by_strength(planted, "hold_bars").rename({"oracle_rw": "oracle"})
    lines = told.unpivot(("chain", "oracle"), index=["hold_bars", "strength"], variable_name="who", value_name="share")
    ends = told.select("hold_bars", "strength", "low", "high").to_dicts()
    x = {
        "field": "strength",
        "type": "quantitative",
        "title": "true net mean / standard error on train",
        "axis": {"values": [2, 4, 6, 8]},
    }
    color = {"field": "who", "type": "nominal"}
    layers = [
        {
            "mark": {"type": "line", "point": True},
            "encoding": {"x": x, "y": {"field": "share", "type": "quantitative", "title": "found"}, "color": color},
        },
    ]
    whiskers = {
        "mark": {"type": "rule", "opacity": 0.5},
        "encoding": {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
    }
    return {
        "hconcat": [
            {
                "width": 200, "height": 260, "title": f"over {hold} bars",
                "layer": [
                    {"data": {"values": lines.filter(pl.col("hold_bars") == hold).to_dicts()}, **layers[0]},
                    {"data": {"values": [end for end in ends if end["hold_bars"] == hold]}, **whiskers},
                ],
            }
            for hold in sorted(set(told["hold_bars"].to_list()))
        ]
    }  # fmt: skip


def _standalone(picture: str) -> str:
    return str(picture).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:white" ', 1) + "\n"
