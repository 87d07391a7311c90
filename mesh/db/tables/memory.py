"""Shared memory of a network, and what is to be embedded.

Vectors of items are in a table of their own, which only a server with pgvector has: see `mesh.db.vectors`.
"""

from sqlalchemy import (
    REAL,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

from mesh.db.tables.base import Instant, Json, created_at, metadata, one_of

# Whose an item is, as words that no text has, so that one index finds them together with the words of a search.
PLACED_WORDS = "(array_to_tsvector(ARRAY[network_id, '='::text || type, COALESCE(task_id, '='::text)]) || words)"

memories = Table(
    "memories",
    metadata,
    Column("id", Text, primary_key=True),
    Column("network_id", Text, ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    Column("type", Text, nullable=False),
    Column("content", Text, nullable=False),
    # The same for contents that differ only in letter case and white space: see `mesh.memory.sameness`.
    Column("said", Text),
    Column("confidence", Float, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("expires_at", Instant),
    Column("source_kind", Text, nullable=False),
    Column("agent_id", Text),
    Column("task_id", Text),
    # Who else said it, instead of adding it once more: agent, task, instant.
    Column("said_again", Json, nullable=False, server_default=sql("'[]'::jsonb")),
    Column("version", Integer, nullable=False),
    created_at(),
    Column("updated_at", Instant, nullable=False),
    Column("words", TSVECTOR, Computed("to_tsvector('english'::regconfig, content)", persisted=True)),
    one_of("type", "fact", "context", "decision", "feedback"),
    one_of("source_kind", "user", "agent"),
    Index("ix_memories_network_id_id", "network_id", "id"),
    Index("ix_memories_pinned", "network_id", "id", postgresql_where=sql("pinned")),
    Index("ix_memories_said", "network_id", "said", postgresql_where=sql("said IS NOT NULL")),
    # Without a pending list, which every search would read from end to end.
    Index("ix_memories_words", sql(PLACED_WORDS), postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
)

# A queue: an item stands here from when its content is written until its vector is.
memories_to_embed = Table(
    "memories_to_embed",
    metadata,
    Column("memory_id", Text, ForeignKey("memories.id", ondelete="CASCADE"), primary_key=True),
    # Until then a worker has it in hand, or it is left alone.
    Column("taken_until", Instant, nullable=False, server_default=sql("'-infinity'::timestamptz")),
    # How often it could not be embedded, alone or together with others.
    Column("attempts", Integer, nullable=False, server_default=sql("0")),
    Index("ix_memories_to_embed_taken_until", "taken_until", "memory_id"),
)

# The model whose vectors are stored: that of the control worker which was the last to begin with another; at most one.
embedding_model = Table(
    "embedding_model",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="only_one"), primary_key=True, server_default=sql("1")),
    Column("model", Text, nullable=False),
)

# What tasks are about, for recalling; without a vector it is asked for.
task_vectors = Table(
    "task_vectors",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("taken_until", Instant, nullable=False, server_default=sql("'-infinity'::timestamptz")),
    Column("model", Text),
    Column("vector", ARRAY(REAL)),
    Column("least_similarity", Double, nullable=False, server_default=sql("0.25")),
    Column("attempts", Integer, nullable=False, server_default=sql("0")),
    Index("ix_task_vectors_asked", "taken_until", "task_id", postgresql_where=sql("vector IS NULL")),
)
