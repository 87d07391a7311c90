"""Answers that are kept for requests sent again; read by `mesh.db.idempotency` only."""

from sqlalchemy import Column, Index, LargeBinary, SmallInteger, Table, Text

from mesh.db.tables.base import Json, created_at, metadata

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # A digest of who asked, where, and under which key.
    Column("id", LargeBinary, primary_key=True),
    # A digest of the request's body.
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", Json, nullable=False),
    # Null where the answer is a secret.
    Column("body", Text),
    created_at(),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
