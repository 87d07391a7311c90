"""Live processes: one row an incarnation, kept alive by its lease."""

from sqlalchemy import Boolean, Column, Index, Integer, Table, Text
from sqlalchemy import text as sql

from mesh.db.tables.base import Instant, Texts, metadata, one_of

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("queues", Texts, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),
    # Held the lock with its id when it last renewed; of others, a free lock says nothing.
    Column("locked", Boolean, nullable=False, server_default=sql("false")),
    one_of("role", "worker", "beat"),
    Index("ix_workers_lease_until", "lease_until"),
)
