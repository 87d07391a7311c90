"""Alembic, called from code: bring a database to the newest schema."""

from importlib.resources import files

from alembic import command
from alembic.config import Config


def config(url: str) -> Config:
    """Alembic's configuration for `url`, with the migrations that ship with this package."""
    settings = Config()
    settings.set_main_option("script_location", str(files("migrations")))
    # Alembic interpolates `%`; a URL may hold one.
    settings.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return settings


def upgrade(url: str) -> None:
    """Apply every migration that is missing; several processes may call this at once (one works, the others wait)."""
    command.upgrade(config(url), "head")
