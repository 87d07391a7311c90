"""Tasks of one status, however rare it is among the network's."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tasks_network_id_status_id", "tasks", ["network_id", "status", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_tasks_network_id_status_id", table_name="tasks")
