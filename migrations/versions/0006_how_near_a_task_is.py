"""How similar an item must be to a task to have to do with it, which depends on the model."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "task_vectors", sa.Column("least_similarity", sa.Double(), nullable=False, server_default=sa.text("0.25"))
    )


def downgrade() -> None:
    op.drop_column("task_vectors", "least_similarity")
