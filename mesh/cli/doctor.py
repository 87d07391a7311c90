"""`mesh doctor`: is everything there that this machine's system needs, and what to do where it is not.

Two ways to run: parts of their own around given addresses (MESH_DATABASE_URL, MESH_REDIS_URL), or `mesh up`, which
brings what is not given.  `mesh.cli.checks` looks; this prints.
"""

import sys
from typing import TYPE_CHECKING

import click

from mesh.config import load
from mesh.errors import MeshError

if TYPE_CHECKING:
    from mesh.cli.checks import Finding


@click.command()
def doctor() -> None:
    """Check that everything this machine needs is there.

    One line a check, and below it a remedy where one is needed; the exit code is 1 when something is broken.
    Nothing is changed.
    """
    from mesh.cli.checks import CHECKS
    from mesh.observability import logging

    try:
        settings = load()
    except MeshError as error:
        raise click.ClickException(str(error)) from error
    logging.configure("ERROR")  # a part that is down is a finding here, not a log event
    broken = 0
    for check in CHECKS:
        for finding in check(settings):
            _show(finding)
            broken += finding.verdict == "FAIL"
    if broken:
        click.echo(f"\n{broken} broken.")
        sys.exit(1)
    click.echo("\nNothing is broken.")


def _show(finding: "Finding") -> None:
    verdict = click.style(f"{finding.verdict:4}", fg={"ok": "green", "warn": "yellow", "FAIL": "red"}[finding.verdict])
    click.echo(f"{verdict}  {finding.subject:11}  {finding.detail}")
    if finding.remedy:
        click.echo(f"{'':19}-> {finding.remedy}")
