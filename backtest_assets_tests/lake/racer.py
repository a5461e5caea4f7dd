"""A writer process for the race test: on "stage N" it stages, on "go" it publishes and says how it ended."""

import json
import sys
from pathlib import Path

from backtest_assets.domain.market import Partition
from backtest_assets.errors import PublishConflictError
from backtest_assets.lake.store import Lake
from backtest_assets_tests.lake.shared import publish, stage_run


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(root, version):
    lake = Lake(Path(root))
    for line in sys.stdin:
        staged = stage_run(lake, version, Partition.of_run(line.strip()))
        say("ready")
        sys.stdin.readline()
        try:
            say({"won": publish(lake, staged, version, writer=f"run-{version}").publication_id})
        except PublishConflictError as error:
            say({"lost": str(error)})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
