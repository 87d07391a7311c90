"""Shared memory of a network."""

from sqlalchemy import Boolean, Column, Computed, Float, ForeignKey, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import TSVECTOR

from mesh.db.tables.base import Instant, Json, created_at, metadata, one_of

memories = Table(
    "memories",
    metadata,
    Column("id", Text, primary_key=True),
    Column("network_id", Text, ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    Column("type", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("expires_at", Instant),
    Column("source_kind", Text, nullable=False),
    Column("agent_id", Text),
    Column("task_id", Text),
    Column("version", Integer, nullable=False),
    created_at(),
    Column("updated_at", Instant, nullable=False),
    Column("words", TSVECTOR, Computed("to_tsvector('english'::regconfig, content)", persisted=True)),
    one_of("type", "fact", "context", "decision", "feedback"),
    one_of("source_kind", "user", "agent"),
    Index("ix_memories_network_id_id", "network_id", "id"),
)
