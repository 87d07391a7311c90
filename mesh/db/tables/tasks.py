"""Tasks, and the steps their graphs are made of.  The steps table is also the queue: see `mesh.tasks.claims`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy import text as sql

from mesh.db.tables.base import Instant, Json, Texts, Usd, created_at, metadata, one_of

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("network_id", Text, ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("key_id", Text),
    Column("status", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("context", Json, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("model_selection", Json, nullable=False),
    # As it was asked for; what holds is the row in `budgets`.
    Column("budget_usd", Usd),
    Column("deadline", Instant),
    # How often the task was started: 1, and one more each time it is resumed; 0 while it is held.
    Column("run", Integer, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("last_sequence", Integer, nullable=False),
    created_at(),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    # The earlier of `deadline` and `started_at` + the network's `timeout_seconds`; what the sweep looks at.
    Column("expires_at", Instant),
    Column("result", Json),
    Column("error", Json),
    # Has made a call under a budget: it is helped to its end before others begin, see `mesh.tasks.admission`.
    Column("admitted", Boolean, nullable=False, server_default=sql("false")),
    # Paused: what its next call would take from its budgets; it goes on when that is there.
    Column("needs_usd", Usd),
    one_of("status", "pending", "processing", "paused", "completed", "failed", "cancelled"),
    Index("ix_tasks_network_id_id", "network_id", "id"),
    Index("ix_tasks_network_id_status_id", "network_id", "status", "id"),
    Index("ix_tasks_processing", "expires_at", postgresql_where=sql("status = 'processing'")),
    Index("ix_tasks_pending_deadline", "deadline", postgresql_where=sql("status IN ('pending', 'paused')")),
    Index(
        "ix_tasks_admitted", "owner", "network_id", "key_id", postgresql_where=sql("admitted AND status = 'processing'")
    ),
    Index(
        "ix_tasks_finished_under_budget",
        "network_id",
        "finished_at",
        postgresql_where=sql("admitted AND status = 'completed'"),
    ),
    Index("ix_tasks_paused", "id", postgresql_where=sql("status = 'paused'")),
    # Every event adds one to `last_sequence`: see below.
    postgresql_with={"fillfactor": 70},
)

steps = Table(
    "steps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("agent_name", Text, nullable=False),
    Column("agent_type", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("depends_on", Texts, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    # The turn in its queue (see `mesh.tasks.claims`); null while blocked, or parked until `not_before`.
    Column("turn", BigInteger),
    Column("not_before", Instant),
    # The fence: every claim adds one, every write of a worker names the one it was given.
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("worker_id", Text),
    Column("model", Text),
    Column("output", Text),
    Column("confidence", Float),
    # Ids of the memories that its agent says it used.
    Column("memories_used", Texts, nullable=False, server_default=sql("'{}'::text[]")),
    Column("error", Json),
    created_at(),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    one_of("kind", "decision", "agent"),
    one_of("state", "blocked", "ready", "running", "succeeded", "failed", "cancelled", "skipped"),
    CheckConstraint("(turn IS NULL) = (not_before IS NOT NULL) OR state <> 'ready'", name="ready_has_a_turn_or_waits"),
    Index("ix_steps_task_id_iteration", "task_id", "iteration"),
    Index("ix_steps_turn", "queue", "state", "turn", "id", postgresql_where=sql("state IN ('ready', 'running')")),
    Index(
        "ix_steps_owner_best",
        "queue",
        "owner",
        sql("priority DESC"),
        "id",
        postgresql_where=sql("state = 'ready' AND turn IS NOT NULL"),
    ),
    Index("ix_steps_owner_turn", "queue", "owner", "turn", postgresql_where=sql("state IN ('ready', 'running')")),
    Index("ix_steps_parked", "not_before", postgresql_where=sql("state = 'ready' AND turn IS NULL")),
    Index("ix_steps_running", "worker_id", postgresql_where=sql("state = 'running'")),
    # A queue's front is all dead rows soon: clean often, whatever the size of the table.
    # Room in each page for the next version of a row: an update that changes no index then touches none.
    postgresql_with={
        "fillfactor": 70,
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 5000,
        "autovacuum_vacuum_cost_delay": 0,
        "autovacuum_analyze_scale_factor": 0.05,
    },
)
