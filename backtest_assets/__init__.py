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

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  # before numpy loads, or it is not read
"""Linear algebra on one thread unless the environment says otherwise: our matrices are small, and two threads that wait for
each other on a busy machine took up to a hundred times as long (the eigenvalues of 900 days: 4 s instead of 0.04 s)."""
