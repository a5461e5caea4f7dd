"""What the event stage may claim, measured: `make truth` prints both tables and ends with 1 if a bound is broken.

    python -m backtest_assets_tests.truth.measure [--markets 100] [--days 365] [--planted 20] [--recipe 40] [--processes 2]

First the martingale test of `drift.py`, arm by arm, then recall and precision on the planted markets of `planted.py`, then
size and power of the inference alone, `recipe.py`.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets_tests.truth import drift, planted, recipe


def one_market(asked: tuple[str, int, int]) -> dict[drift.Cell, drift.Days]:
    arm, seed, n_days = asked
    return drift.measured(arm, seed, n_days)


def one_planted(asked: tuple[EventType, int]) -> planted.Hits:
    return planted.hits(*asked)


def one_null(asked: tuple[float, int]) -> recipe.Found:
    return recipe.chain(asked[1], cost_bps=asked[0])


def one_edge(asked: tuple[EventType, float, int]) -> recipe.Found:
    family, strength, seed = asked
    return recipe.chain(seed, cost_bps=recipe.COST_BPS, planted=family, strength=strength)


def ask_recipe(n: int, each: Callable[..., Iterable[Any]]) -> bool:
    """Print tables 2 and 3 of the recipe on so many markets per planted row, four times as many without an edge; are they kept?"""
    sizes = recipe.sized([cell for cells in each(recipe.size_cells, range(4 * n)) for cell in cells])
    show(f"Recipe, table 2: one test at a time, {4 * n} markets without drift", sizes)
    costs = (0.0, recipe.COST_BPS)
    nulls = list(each(one_null, [(cost, 50_000 + seed) for cost in costs for seed in range(4 * n)]))
    told = recipe.judged_nulls({cost: nulls[i * 4 * n : (i + 1) * 4 * n] for i, cost in enumerate(costs)})
    show(f"Recipe, table 3: {4 * n} markets without an edge per cost", told)
    asked = [(f, t, 10_000 * i + seed) for i, (f, t, _) in enumerate(recipe.PLANTED) for seed in range(n)]
    edges = list(each(one_edge, asked))
    power = recipe.judged_planted([edges[i * n : (i + 1) * n] for i in range(len(recipe.PLANTED))])
    show(f"Recipe, table 3: {n} markets per planted edge", power)
    return all(bool(table["is_kept"].all()) for table in (sizes, told, power))


@contextmanager
def in_processes(n: int) -> Generator[Callable[..., Iterable[Any]]]:
    """Give a `map` over so many processes, in the order of what is asked; one is this one."""
    if n == 1:
        yield map
        return
    os.environ["POLARS_MAX_THREADS"] = "1"  # for the processes to come: one thread each
    with multiprocessing.get_context("spawn").Pool(n) as pool:
        yield pool.imap  # one at a time: each takes seconds, planted noises many minutes


def by_hold(told: pl.DataFrame) -> pl.DataFrame:
    """One row per family and kind: of each hold samples beyond / samples (most allowed) and t over all; ! where broken."""
    text = pl.format(
        "{}/{} ({})  t {}{}",
        "n_beyond", "n_samples", "n_beyond_max", pl.col("t").round(1),
        pl.when("is_martingale").then(pl.lit("")).otherwise(pl.lit(" !")),
    ).fill_null("nothing measured !")  # fmt: skip
    cells = told.with_columns(cell=text, events=pl.col("n_events").max().over("family", "kind"))
    return cells.pivot("hold", index=["family", "kind", "events"], values="cell")


def show(title: str, table: pl.DataFrame) -> None:
    print(f"\n{title}")
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60, tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True, float_precision=2, tbl_formatting="ASCII_BORDERS_ONLY_CONDENSED",
    ):  # fmt: skip
        print(table)


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="truth", description=__doc__)
    parser.add_argument("--markets", type=int, default=100, help="markets without drift per arm")
    parser.add_argument("--days", type=int, default=365, help="length of each [days]")
    parser.add_argument("--planted", type=int, default=20, help="planted markets per family")
    parser.add_argument("--recipe", type=int, default=40, help="markets per planted edge of the recipe")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(args)
    begun, are_kept = time.perf_counter(), True
    with in_processes(asked.processes) as each:
        for arm in drift.ARMS:
            made = each(one_market, [(arm, seed, asked.days) for seed in range(asked.markets)])
            told = drift.judged(drift.gathered(made))
            show(f"Without drift, {arm}: {asked.markets} markets of {asked.days} days", by_hold(told))
            n_beyond, n_samples = int(told["n_beyond"].sum()), max(int(told["n_samples"].sum()), 1)
            n_broken = told.filter(~pl.col("is_martingale")).height
            print(
                f"{n_beyond} of {n_samples} samples ({n_beyond / n_samples:.1%}) beyond {drift.NOMINAL:.0%}; level "
                f"{drift.LEVEL:.0%} over {told.height} cells and both bounds, |t| up to {told['t_max'].max():.2f}; {n_broken} broken"
            )
            are_kept &= n_broken == 0 and told.height > 0
        pairs = [(family, seed) for family in EventType for seed in range(asked.planted)]
        hits = list(each(one_planted, pairs))
        are_kept &= ask_recipe(asked.recipe, each)
    found = {f: [h for (g, _), h in zip(pairs, hits, strict=True) if g is f] for f in EventType}
    told = planted.judged(found)
    show(f"Planted: {asked.planted} markets per family", told)
    are_kept &= bool(told["is_found"].all())
    cpu_s = sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    print(
        f"\n{'every bound kept' if are_kept else 'A BOUND IS BROKEN'}; {cpu_s:.0f} CPU s, {time.perf_counter() - begun:.0f} s"
    )
    return 0 if are_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
