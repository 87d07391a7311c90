"""`mesh config`: the settings in force."""

import click


@click.command()
def config() -> None:
    """Show every setting: its variable, its value (never a secret's), and what it is for."""
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
        shown = _shown(getattr(settings, name))
        table.add_row(field.alias or f"MESH_{name.upper()}", shown, field.description)
    Console().print(table)


def _shown(value: object) -> str:
    """The value for a person; of secrets, and of addresses that may hold one, only that they are set."""
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        value = value.get_secret_value() and "(set)"
    if isinstance(value, str) and "@" in value:
        return "(set)"
    return "" if value is None else str(value)
