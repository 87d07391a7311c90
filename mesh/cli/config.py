"""`mesh config`: the settings in force."""

import click


@click.command()
def config() -> None:
    """Show every setting: its variable, its value (never a secret's), and what it is for."""
    from pydantic import SecretStr
    from rich.console import Console
    from rich.table import Table

    from mesh.config import Settings, load
    from mesh.errors import MeshError

    try:
        settings = load()
    except MeshError as error:
        raise click.ClickException(str(error)) from error
    table = Table("variable", "value", "meaning", box=None, header_style="bold")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        secret = isinstance(value, SecretStr) or "://" in str(value)
        shown = ("(set)" if str(getattr(value, "get_secret_value", lambda: value)()) else "") if secret else value
        table.add_row(field.alias or f"MESH_{name.upper()}", "" if shown is None else str(shown), field.description)
    Console().print(table)
