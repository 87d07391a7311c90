"""Whose vectors are stored, and how often a text could not be embedded."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "embedding_model",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_embedding_model_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding_model")),
    )
    for table in ("memories_to_embed", "task_vectors"):
        op.add_column(table, sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_index("ix_memories_to_embed_taken_until", "memories_to_embed", ["taken_until", "memory_id"])
    op.drop_index("ix_task_vectors_asked", table_name="task_vectors")
    _index_of_asked("taken_until", "task_id")


def downgrade() -> None:
    op.drop_index("ix_task_vectors_asked", table_name="task_vectors")
    _index_of_asked("task_id")
    op.drop_index("ix_memories_to_embed_taken_until", table_name="memories_to_embed")
    for table in ("task_vectors", "memories_to_embed"):
        op.drop_column(table, "attempts")
    op.drop_table("embedding_model")


def _index_of_asked(*columns: str) -> None:
    op.create_index("ix_task_vectors_asked", "task_vectors", list(columns), postgresql_where=sa.text("vector IS NULL"))
