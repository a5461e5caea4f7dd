"""A Dagster asset graph from raw market files to a promotion report.

The map of the house, lowest room first; a room imports only from rooms below it.

- `errors`, `stages`: the family of errors; the order of the stops on the data's path.
- `domain`: small frozen values (runs, splits, costs, verdicts, blueprints); no frames.
- `tables`: what every table looks like; `stats`: arrays in, small dataclasses out.
- `research`: frames in, frames out, one sub-room per stage; the future lives in `research.outcomes`.
- `gates`: what must be true of a table; `sources`: where raw data come from; `lake`: how tables are stored.
- `settings`: the environment, read once.
- `defs`: everything that imports Dagster; `definitions`: the composition root; `cli`: the command line.
"""
