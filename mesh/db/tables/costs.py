"""Money: the ledger, one row a model call from before it is sent to its end; its sums by the hour; budgets.

No foreign keys: the ledger outlives what it is about.
"""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, PrimaryKeyConstraint, Table, Text, text

from mesh.db.tables.base import Instant, Json, Texts, Usd, created_at, metadata, one_of

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
    # The incarnation that makes the call: once its lease is over, nobody but the sweep can end the row.
    Column("worker_id", Text),
    Column("requested_model", Text),
    # Why this model: candidates, scores, reason.
    Column("selection", Json),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("reserved_usd", Usd, nullable=False),
    Column("cost_usd", Usd, nullable=False),
    # The budgets (their ids) that hold `reserved_usd` while the call is open.
    Column("held_by", Texts, nullable=False, server_default="{}"),
    # The provider did not say what was used: the cost is an upper bound.
    Column("estimated", Boolean, nullable=False),
    # The price map does not know the model: the cost is unknown, which is not zero.
    Column("unpriced", Boolean, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("error_code", Text),
    Column("latency_seconds", Float),
    created_at(),
    Column("ended_at", Instant),
    # Its hour's books are closed: it is part of `usage_hourly`, and no late reply corrects it any more.
    Column("rolled", Boolean, nullable=False, server_default=text("false")),
    one_of("state", "reserved", "settled", "failed", "cancelled"),
    Index("ix_model_calls_task_id", "task_id"),
    Index("ix_model_calls_reserved", "step_id", postgresql_where=text("state = 'reserved'")),
    # Rows end roughly in the order they are stored in.
    Index("ix_model_calls_ended_at", "ended_at", postgresql_using="brin", postgresql_with={"autosummarize": True}),
    Index("ix_model_calls_open_books", "ended_at", postgresql_where=text("NOT rolled")),
)

usage_hourly = Table(
    "usage_hourly",
    metadata,
    Column("hour", Instant, nullable=False),
    Column("user_id", Text, nullable=False),
    # Empty where the call had none: a key needs a value.
    Column("network_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("agent_type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("cost_usd", Usd, nullable=False),
    # The sum over the settled calls.
    Column("latency_seconds", Float, nullable=False),
    PrimaryKeyConstraint("user_id", "hour", "network_id", "key_id", "agent_type", "model"),
    Index("ix_usage_hourly_hour", "hour"),
    Index("ix_usage_hourly_network_id_hour", "network_id", "hour"),
)

# The same by day (UTC) and less finely: what a statistic reads of the whole days of its period.
usage_daily = Table(
    "usage_daily",
    metadata,
    Column("day", Instant, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("network_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("cost_usd", Usd, nullable=False),
    Column("latency_seconds", Float, nullable=False),
    PrimaryKeyConstraint("user_id", "day", "network_id", "model"),
    Index("ix_usage_daily_day", "day"),
    Index("ix_usage_daily_network_id_day", "network_id", "day"),
)

# Requests to the API, counted by each of its processes and added here once in a while.
requests_hourly = Table(
    "requests_hourly",
    metadata,
    Column("hour", Instant, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("route_class", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "hour", "route_class"),
)

budgets = Table(
    "budgets",
    metadata,
    # `<kind>:<subject_id>`, which is also the order in which budgets are locked.
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("limit_usd", Usd, nullable=False),
    Column("period", Text, nullable=False),
    # The beginning of the day or month that `spent_usd` is of (UTC); null for `total`.
    Column("period_start", Instant),
    Column("spent_usd", Usd, nullable=False),
    Column("reserved_usd", Usd, nullable=False),
    # False until the calls made before the budget was set have been counted; no call is opened meanwhile.
    Column("counted", Boolean, nullable=False),
    # The first transaction that was begun after it was set: the count waits until all before have ended.
    Column("known_from", BigInteger),
    created_at(),
    Column("updated_at", Instant, nullable=False),
    one_of("kind", "user", "network", "key", "task"),
    one_of("period", "total", "day", "month"),
    Index("ix_budgets_uncounted", "id", postgresql_where=text("NOT counted")),
)
