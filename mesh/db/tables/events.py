"""What happened to a task, numbered densely from 1; read by `mesh.events.log` only."""

from sqlalchemy import Column, ForeignKey, Integer, PrimaryKeyConstraint, Table, Text

from mesh.db.tables.base import Json, created_at, metadata

events = Table(
    "events",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Json, nullable=False),
    created_at(),
    PrimaryKeyConstraint("task_id", "sequence"),
)
