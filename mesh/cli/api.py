"""`mesh api`: the REST interface.  This process becomes the server, which must patch before anything is imported."""

import os
import sys

import click

from mesh.config import load
from mesh.errors import MeshError


@click.command()
@click.option("--host", help="Address to listen on.  [default: MESH_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0: a free one.  [default: MESH_PORT, 8080]")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that answer.")
def api(host: str | None, port: int | None, workers: int) -> None:
    """Serve the REST interface until Ctrl-C.

    Needs MESH_DATABASE_URL, MESH_REDIS_URL and MESH_SECRETS; one process answers thousands of streams.
    """
    try:
        settings = load()
    except MeshError as error:
        raise click.ClickException(str(error)) from error
    where = [host or settings.host, str(settings.port if port is None else port), str(workers)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "api.server", *where])  # noqa: S606  # this very interpreter
