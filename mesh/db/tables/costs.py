"""The ledger: one row a model call, from before it is sent to its end.

No foreign keys: it outlives what it is about.
"""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, Table, Text, text

from mesh.db.tables.base import Instant, Usd, created_at, metadata, one_of

model_calls = Table(
    "model_calls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("key_id", Text),
    Column("network_id", Text),
    Column("task_id", Text),
    Column("step_id", Text),
    Column("agent_type", Text),
    Column("attempt", Integer, nullable=False),
    Column("requested_model", Text),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("reserved_usd", Usd, nullable=False),
    Column("cost_usd", Usd, nullable=False),
    # The provider did not say what was used: the cost is an upper bound.
    Column("estimated", Boolean, nullable=False),
    # The price map does not know the model: the cost is unknown, which is not zero.
    Column("unpriced", Boolean, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("error_code", Text),
    Column("latency_seconds", Float),
    created_at(),
    Column("ended_at", Instant),
    one_of("state", "reserved", "settled", "failed", "cancelled"),
    Index("ix_model_calls_task_id", "task_id"),
    Index("ix_model_calls_reserved", "step_id", postgresql_where=text("state = 'reserved'")),
)
