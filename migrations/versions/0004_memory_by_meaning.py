"""Memory by meaning: words of a network in one index, what is to be embedded and was used, and counts for nothing."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNT = """
CREATE FUNCTION count_of_network() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign int := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO network_counts AS counts (network_id, shard, tasks, memories)
    SELECT network_id, pg_backend_pid() % 32,
        CASE TG_TABLE_NAME WHEN 'tasks' THEN sign * count(*) ELSE 0 END,
        CASE TG_TABLE_NAME WHEN 'memories' THEN sign * count(*) ELSE 0 END
    FROM changed GROUP BY network_id ORDER BY network_id
    ON CONFLICT (network_id, shard) DO UPDATE
    SET tasks = counts.tasks + excluded.tasks, memories = counts.memories + excluded.memories;
    RETURN NULL;
END $$
"""
_TRIGGERS = """
CREATE TRIGGER count_inserted AFTER INSERT ON {0} REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_of_network();
CREATE TRIGGER count_deleted AFTER DELETE ON {0} REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_of_network();
"""
_BACKFILL = """
INSERT INTO network_counts (network_id, shard, tasks, memories)
SELECT network_id, 0, sum(tasks), sum(memories) FROM (
    SELECT network_id, count(*) AS tasks, 0 AS memories FROM tasks GROUP BY network_id
    UNION ALL SELECT network_id, 0, count(*) FROM memories GROUP BY network_id) counted
GROUP BY network_id
"""


def upgrade() -> None:
    op.create_table(
        "network_counts",
        sa.Column("network_id", sa.Text(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("tasks", sa.BigInteger(), nullable=False),
        sa.Column("memories", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("network_id", "shard", name=op.f("pk_network_counts")),
        postgresql_with={"fillfactor": 50},
    )
    op.execute(_COUNT)
    # From here until the commit nobody else writes to these tables, so that the backfill misses nothing.
    for table in ("tasks", "memories"):
        op.execute(_TRIGGERS.format(table))
    op.execute(_BACKFILL)
    _memory()
    op.add_column(
        "steps",
        sa.Column("memories_used", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
    )


def _memory() -> None:
    op.create_table(
        "memories_to_embed",
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column(
            "taken_until",
            sa.DateTime(timezone=True),
            server_default=sa.text("'-infinity'::timestamptz"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["memory_id"], ["memories.id"], name=op.f("fk_memories_to_embed_memory_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("memory_id", name=op.f("pk_memories_to_embed")),
    )
    op.execute("INSERT INTO memories_to_embed (memory_id) SELECT id FROM memories")
    op.create_table(
        "task_vectors",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column(
            "taken_until",
            sa.DateTime(timezone=True),
            server_default=sa.text("'-infinity'::timestamptz"),
            nullable=False,
        ),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("vector", postgresql.ARRAY(sa.REAL()), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_task_vectors_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task_vectors")),
    )
    op.create_index("ix_task_vectors_asked", "task_vectors", ["task_id"], postgresql_where=sa.text("vector IS NULL"))
    op.add_column("memories", sa.Column("said", sa.Text(), nullable=True))
    op.add_column(
        "memories",
        sa.Column(
            "said_again",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
    )
    op.create_index("ix_memories_pinned", "memories", ["network_id", "id"], postgresql_where=sa.text("pinned"))
    op.create_index(
        "ix_memories_said", "memories", ["network_id", "said"], postgresql_where=sa.text("said IS NOT NULL")
    )
    op.create_index(
        "ix_memories_words",
        "memories",
        [sa.text("(array_to_tsvector(ARRAY[network_id, '='::text || type, COALESCE(task_id, '='::text)]) || words)")],
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )


def downgrade() -> None:
    op.drop_column("steps", "memories_used")
    op.execute("DROP TABLE IF EXISTS memory_vectors")
    for name in ("ix_memories_words", "ix_memories_said", "ix_memories_pinned"):
        op.drop_index(name, table_name="memories")
    op.drop_column("memories", "said_again")
    op.drop_column("memories", "said")
    op.drop_table("task_vectors")
    op.drop_table("memories_to_embed")
    for table in ("memories", "tasks"):
        op.execute(f"DROP TRIGGER count_inserted ON {table}; DROP TRIGGER count_deleted ON {table}")
    op.execute("DROP FUNCTION count_of_network()")
    op.drop_table("network_counts")
