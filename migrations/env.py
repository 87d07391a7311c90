"""Alembic's environment: online only, one migrator at a time."""

from alembic import context
from sqlalchemy import text

from mesh.db import engine as engines
from mesh.db import vectors
from mesh.db.tables import metadata

# "mesh" and a purpose, as a number; session lock, so it ends with the connection.
MIGRATION_LOCK = 0x6D657368_0001


def run() -> None:
    """Upgrade within one transaction, under an advisory lock."""
    url = context.config.get_main_option("sqlalchemy.url") or ""
    engine = engines.create(url, name="mesh-migrate")
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, include_name=_is_compared)
        with context.begin_transaction():
            context.run_migrations()
    # The lock lives as long as its session: none may stay in the pool.
    engine.dispose()


def _is_compared(name: str | None, kind: str, _parents: object) -> bool:
    """Whether what the database has is to be as the code says; the table of vectors depends on the server."""
    return (kind, name) != ("table", vectors.TABLE)


run()
