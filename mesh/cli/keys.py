"""`mesh keys`: make, list and revoke API keys, straight in the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mesh.clock import now, to_wire
from mesh.config import load
from mesh.errors import InvalidInputError, MeshError
from mesh.security.principal import Role, Scope

if TYPE_CHECKING:
    from mesh.security.keys import Keys

LISTED = 1_000


@click.group()
def keys() -> None:
    """Make, list and revoke API keys (needs MESH_DATABASE_URL and MESH_SECRETS)."""


@keys.command()
@click.argument("user_id")
@click.option("--role", type=click.Choice([role.value for role in Role]), default="user", show_default=True)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    default=["read"],
    show_default=True,
    help="May be repeated.",
)
@click.option("--network", "networks", multiple=True, help="A network granted to a service key; may be repeated.")
@click.option("--name", default="", help="What the key is for.")
@click.option("--days", type=click.IntRange(1, 3_650), default=365, show_default=True, help="Until it expires.")
def create(user_id: str, role: str, scopes: list[str], networks: list[str], name: str, days: int) -> None:
    """Make a key for USER_ID; prints the key, this once."""
    with _keys() as found:
        key, view = found.create(
            user_id=user_id,
            role=Role(role),
            scopes=map(Scope, scopes),
            name=name,
            networks=networks,
            expires_in_days=days,
        )
    click.echo(f"{view.key_id} expires {to_wire(view.expires_at)}", err=True)
    click.echo(key)


@keys.command("list")
@click.option("--user", "user_id", help="Only keys of this user.")
def list_(user_id: str | None) -> None:
    """List keys, newest first (at most 1,000), without their secrets."""
    with _keys() as found:
        for view in found.list(user_id=user_id, limit=LISTED):
            state = "revoked" if view.revoked_at else "expired" if view.expires_at <= now() else "live"
            scopes = ",".join(sorted(view.scopes))
            click.echo(
                "\t".join([view.key_id, view.user_id, view.role, scopes, state, to_wire(view.expires_at), view.name])
            )


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Revoke a key, named by its id."""
    with _keys() as found:
        found.revoke(key_id)
    click.echo(f"{key_id} is revoked.", err=True)


@contextmanager
def _keys() -> Iterator["Keys"]:
    """The keys of the configured database; errors as one line."""
    from mesh.db import engine as engines
    from mesh.db.unit_of_work import Database
    from mesh.security.keys import Keys

    try:
        settings = load()
        engine = engines.create(settings.database_url, name="mesh-keys")
        try:
            yield Keys(Database(engine), settings.secrets.get_secret_value(), now)
        finally:
            engine.dispose()
    except InvalidInputError as error:
        raise click.ClickException(" ".join([str(error), *(one.detail for one in error.problems)])) from error
    except MeshError as error:
        raise click.ClickException(str(error)) from error
