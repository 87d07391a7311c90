"""Models and money: budgets, usage by the hour, why a model was chosen."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What was stored so far and not enforced.  A task that failed or was cancelled may be resumed.
_BUDGETS_OF_BEFORE = """
    INSERT INTO budgets (id, kind, subject_id, limit_usd, period, spent_usd, reserved_usd, counted,
                         created_at, updated_at)
    SELECT kind || ':' || subject_id, kind, subject_id, limit_usd, 'total', 0, 0, false, now(), now()
    FROM (SELECT 'network', id, budget_usd FROM networks WHERE deleted_at IS NULL
          UNION ALL
          SELECT 'task', id, budget_usd FROM tasks WHERE status <> 'completed') given (kind, subject_id, limit_usd)
    WHERE limit_usd IS NOT NULL
"""


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("limit_usd", sa.Numeric(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("spent_usd", sa.Numeric(), nullable=False),
        sa.Column("reserved_usd", sa.Numeric(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("known_from", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('user', 'network', 'key', 'task')", name=op.f("ck_budgets_kind")),
        sa.CheckConstraint("period IN ('total', 'day', 'month')", name=op.f("ck_budgets_period")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
    )
    op.create_index("ix_budgets_uncounted", "budgets", ["id"], unique=False, postgresql_where=sa.text("NOT counted"))
    op.execute(_BUDGETS_OF_BEFORE)
    op.create_table(
        "requests_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("route_class", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "hour", "route_class", name=op.f("pk_requests_hourly")),
    )
    op.create_table(
        "usage_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("network_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("agent_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), nullable=False),
        sa.Column("latency_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "user_id", "hour", "network_id", "key_id", "agent_type", "model", name=op.f("pk_usage_hourly")
        ),
    )
    op.create_table(
        "usage_daily",
        sa.Column("day", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("network_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), nullable=False),
        sa.Column("latency_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "day", "network_id", "model", name=op.f("pk_usage_daily")),
    )
    op.create_index("ix_usage_daily_day", "usage_daily", ["day"], unique=False)
    op.create_index("ix_usage_daily_network_id_day", "usage_daily", ["network_id", "day"], unique=False)
    op.create_index("ix_usage_hourly_hour", "usage_hourly", ["hour"], unique=False)
    op.create_index("ix_usage_hourly_network_id_hour", "usage_hourly", ["network_id", "hour"], unique=False)
    op.add_column("model_calls", sa.Column("worker_id", sa.Text(), nullable=True))
    op.add_column("model_calls", sa.Column("selection", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("model_calls", sa.Column("held_by", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("model_calls", sa.Column("rolled", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "ix_model_calls_ended_at",
        "model_calls",
        ["ended_at"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": True},
    )
    op.create_index(
        "ix_model_calls_open_books", "model_calls", ["ended_at"], unique=False, postgresql_where=sa.text("NOT rolled")
    )
    op.add_column("tasks", sa.Column("admitted", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("tasks", sa.Column("needs_usd", sa.Numeric(), nullable=True))
    op.create_index(
        "ix_tasks_admitted",
        "tasks",
        ["owner", "network_id", "key_id"],
        unique=False,
        postgresql_where=sa.text("admitted AND status = 'processing'"),
    )
    op.create_index(
        "ix_tasks_finished_under_budget",
        "tasks",
        ["network_id", "finished_at"],
        unique=False,
        postgresql_where=sa.text("admitted AND status = 'completed'"),
    )
    op.create_index("ix_tasks_paused", "tasks", ["id"], unique=False, postgresql_where=sa.text("status = 'paused'"))
    op.add_column("workers", sa.Column("locked", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "locked")
    op.drop_index(
        "ix_tasks_finished_under_budget",
        table_name="tasks",
        postgresql_where=sa.text("admitted AND status = 'completed'"),
    )
    op.drop_index("ix_tasks_paused", table_name="tasks", postgresql_where=sa.text("status = 'paused'"))
    op.drop_index(
        "ix_tasks_admitted", table_name="tasks", postgresql_where=sa.text("admitted AND status = 'processing'")
    )
    op.drop_column("tasks", "needs_usd")
    op.drop_column("tasks", "admitted")
    op.drop_index("ix_model_calls_open_books", table_name="model_calls", postgresql_where=sa.text("NOT rolled"))
    op.drop_index(
        "ix_model_calls_ended_at",
        table_name="model_calls",
        postgresql_using="brin",
        postgresql_with={"autosummarize": True},
    )
    op.drop_column("model_calls", "rolled")
    op.drop_column("model_calls", "held_by")
    op.drop_column("model_calls", "selection")
    op.drop_column("model_calls", "worker_id")
    op.drop_index("ix_usage_daily_network_id_day", table_name="usage_daily")
    op.drop_index("ix_usage_daily_day", table_name="usage_daily")
    op.drop_table("usage_daily")
    op.drop_index("ix_usage_hourly_network_id_hour", table_name="usage_hourly")
    op.drop_index("ix_usage_hourly_hour", table_name="usage_hourly")
    op.drop_table("usage_hourly")
    op.drop_table("requests_hourly")
    op.drop_index("ix_budgets_uncounted", table_name="budgets", postgresql_where=sa.text("NOT counted"))
    op.drop_table("budgets")
