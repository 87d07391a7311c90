"""`mesh beat`: the scheduler.  This process becomes it."""

import os
import sys

import click


@click.command()
def beat() -> None:
    """Schedule periodic jobs until SIGTERM.

    Several may run: one schedules, the others stand by and take over within seconds.
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "workers.beat"])  # noqa: S606  # this very interpreter
