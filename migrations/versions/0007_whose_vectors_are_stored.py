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


def downgrade() -> None:
    for table in ("task_vectors", "memories_to_embed"):
        op.drop_column(table, "attempts")
    op.drop_table("embedding_model")
