"""Admission: tasks that share a scarce budget are helped to their end before others begin.

journal -> here, at a task's first call under a budget, with the task and the budgets locked.  Without it the first
steps of many tasks would use up what would have finished some.
"""

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection, text

from mesh.costs.accounts import Account
from mesh.costs.ledger import Spender
from mesh.errors import BudgetBusyError

# A task that nothing is known about is taken for as dear as so many of its first call at worst.
COLD_START_CALLS = 20

# ix_tasks_admitted, which holds only tasks that are under way.
_RIVALS = text(
    """
    SELECT
        (SELECT count(*) FROM tasks WHERE owner = :user_id AND admitted AND status = 'processing') AS user,
        (SELECT count(*) FROM tasks WHERE network_id = :network_id AND admitted AND status = 'processing') AS network,
        (SELECT count(*) FROM tasks WHERE key_id = :key_id AND admitted AND status = 'processing') AS key
    """
)

# The dearest of the last twenty (ix_tasks_finished_under_budget, ix_model_calls_task_id).
_DEAREST = text(
    """
    SELECT max(cost) FROM (
        SELECT sum(cost_usd) AS cost FROM model_calls WHERE task_id IN (
            SELECT id FROM tasks WHERE network_id = :network_id AND admitted AND status = 'completed'
            ORDER BY finished_at DESC LIMIT 20)
        GROUP BY task_id) finished
    """
)

_ADMIT = text("UPDATE tasks SET admitted = true WHERE id = :task_id")


def admit(connection: Connection, spender: Spender, accounts: Sequence[Account], worst_usd: Decimal) -> None:
    """Let a task begin to spend, if what is left suffices for it and for all that have begun.

    One task may always begin: whether its calls fit is for each call to ask.

    Raises:
        BudgetBusyError: others have begun, and there may not be enough for one more.
    """
    values = {"user_id": spender.user_id, "network_id": spender.network_id, "key_id": spender.key_id}
    rivals = connection.execute(_RIVALS, values).one()._mapping
    dearest = connection.execute(_DEAREST, values).scalar()
    expected = COLD_START_CALLS * worst_usd if dearest is None else dearest
    for account in accounts:
        begun = rivals.get(account.id.partition(":")[0], 0)
        if begun and (begun + 1) * expected > account.limit_usd - account.spent_usd:
            detail = f"The budget {account.id} is kept for the {begun} tasks that have begun."
            raise BudgetBusyError(detail, not_begun=True)
    connection.execute(_ADMIT, {"task_id": spender.task_id})
