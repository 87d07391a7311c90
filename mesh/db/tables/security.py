"""API keys: what is needed to verify one, never the key itself."""

from sqlalchemy import Column, Index, LargeBinary, Table, Text

from mesh.db.tables.base import Instant, Texts, created_at, metadata, one_of

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("scopes", Texts, nullable=False),
    Column("name", Text, nullable=False),
    Column("networks", Texts, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("secret_version", Text, nullable=False),
    created_at(),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    one_of("role", "user", "service", "admin"),
    Index("ix_api_keys_user_id_id", "user_id", "id"),
)
