"""Alembic, called from code: bring a database to the newest schema."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from mesh.db import engine as engines
from mesh.db import vectors

# "mesh" and a purpose, as a number.
_LOCK = 0x6D657368_0004


def config(url: str) -> Config:
    """Alembic's configuration for `url`, with the migrations that ship with this package."""
    settings = Config()
    settings.set_main_option("script_location", str(files("migrations")))
    # Alembic interpolates `%`; a URL may hold one.
    settings.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return settings


def upgrade(url: str) -> None:
    """Apply every migration that is missing; several processes may call this at once (one works, the others wait).

    And make the table for vectors, where the server can keep some.
    """
    command.upgrade(config(url), "head")
    engine = engines.create(url, name="mesh-migrate")
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            vectors.create(connection)
    finally:
        engine.dispose()
