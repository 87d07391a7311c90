"""`mesh migrate`: the schema."""

import click


@click.command()
def migrate() -> None:
    """Bring the database at MESH_DATABASE_URL to the newest schema; safe to run from several places at once."""
    from mesh.config import load
    from mesh.db.migrate import upgrade
    from mesh.errors import MeshError

    try:
        upgrade(load().database_url)
    except MeshError as error:
        raise click.ClickException(str(error)) from error
    click.echo("The schema is up to date.")
