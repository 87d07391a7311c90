"""Networks and the agents in them."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from mesh.db.tables.base import Instant, Json, Texts, Usd, created_at, metadata

networks = Table(
    "networks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("shared_context", Json, nullable=False),
    Column("max_iterations", Integer, nullable=False),
    Column("timeout_seconds", Integer, nullable=False),
    Column("model_selection", Json, nullable=False),
    # As it was asked for; what holds is the row in `budgets`.
    Column("budget_usd", Usd),
    created_at(),
    Column("updated_at", Instant, nullable=False),
    # One more with every change, of its agents too.
    Column("version", Integer, nullable=False, server_default=text("1")),
    # Set by DELETE: gone for everybody at once, while the control job removes what belongs to it.
    Column("deleted_at", Instant),
    Index("ix_networks_owner_id", "owner", "id", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_networks_deleted", "id", postgresql_where=text("deleted_at IS NOT NULL")),
)

agents = Table(
    "agents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("network_id", Text, ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("model", Text),
    Column("description", Text, nullable=False),
    Column("instructions", Text, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("capabilities", Texts, nullable=False),
    created_at(),
    Column("version", Integer, nullable=False, server_default=text("1")),
    UniqueConstraint("network_id", "name"),
)

# How many tasks and memories a network has: the sum of its rows.  Triggers keep it, whoever inserts or deletes; each
# database session has a row of its own (but for few that share one), so that none waits for another's commit.
network_counts = Table(
    "network_counts",
    metadata,
    Column("network_id", Text, primary_key=True),
    Column("shard", SmallInteger, primary_key=True),
    Column("tasks", BigInteger, nullable=False),
    Column("memories", BigInteger, nullable=False),
    # Room in each page for the next version of a row.
    postgresql_with={"fillfactor": 50},
)
