"""`make bench-api`: submissions beside a bare endpoint, and lists and counts with few tasks and with a million."""

import argparse
import tempfile
from pathlib import Path

from tests.load import lists, submissions


def main() -> None:
    """Measure both, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10, help="of 400 submissions each, to either (0: leave it out)")
    options.add_argument("--tasks", type=int, default=1_000_000, help="in the large database (0: leave it out)")
    options.add_argument("--base", type=int, default=1_000, help="tasks in the small database")
    options.add_argument("--runs", type=int, default=50, help="requests of each kind")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.rounds:
            submissions.measure(Path(folder) / "a", given.rounds)
        if given.tasks:
            lists.measure(Path(folder) / "b", given.base, given.tasks, given.runs)


if __name__ == "__main__":
    main()
