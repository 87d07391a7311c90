"""`mesh worker`: a pool of slots.  This process becomes the worker."""

import json
import os
import re
import sys

import click

_TYPE = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


@click.command()
@click.option("--agents", help="Agent types to serve, with commas between: content,design.  [default: all]")
@click.option("--control", is_flag=True, help="Serve the system's own jobs and direct generation instead.")
@click.option("--concurrency", type=click.IntRange(1, 512), default=32, show_default=True, help="Jobs run at once.")
def worker(agents: str | None, control: bool, concurrency: int) -> None:
    """Run agents' steps until SIGTERM; start more of these to scale a pool.

    \b
    mesh worker                           all agent types
    mesh worker --agents content,design   a pool for two of them
    mesh worker --agents seo              a pool of its own for a custom type
    mesh worker --control                 retention and other jobs of the system

    Needs MESH_DATABASE_URL, MESH_REDIS_URL and a provider's key, or MESH_SANDBOX=1.
    """  # noqa: D301  # click wants the character itself before lines that it must not fill
    types = [name.strip() for name in agents.split(",")] if agents else []
    if control and types:
        raise click.UsageError("--control and --agents exclude each other: start two workers.")
    for name in types:
        if not _TYPE.fullmatch(name):
            raise click.BadParameter(f"{name!r} is not an agent type (a slug like `seo`).", param_hint="--agents")
    given = json.dumps({"agents": types, "control": control, "slots": concurrency})
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "workers.main", given])  # noqa: S606  # this very interpreter
