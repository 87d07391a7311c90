"""A queue by itself: steps of any owners, made ready, claimed and ended as workers do it, within one transaction."""

from sqlalchemy import Connection, update

from mesh.db.tables import steps
from mesh.tasks.claims import Claim, claim, make_ready
from tests.builders import NOW, add_network, add_step, add_task

QUEUE = "agent.content"


class Queue:
    """The queue `agent.content`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.task_id = add_task(connection, add_network(connection))

    def add(self, owner: str, *priorities: int) -> list[str]:
        """A step of each priority, all made ready at once."""
        ids = [add_step(self._connection, self.task_id, owner, priority=priority) for priority in priorities]
        make_ready(self._connection, ids, from_states=["blocked"])
        return ids

    def claim(self) -> Claim | None:
        return claim(self._connection, queue=QUEUE, worker_id="worker_1", now=NOW)

    def owners(self, claims: int) -> list[str]:
        """Whose steps the next claims run."""
        found = [self.claim() for _ in range(claims)]
        return [one.owner for one in found if one]

    def end(self, step_id: str) -> None:
        self._connection.execute(update(steps).where(steps.c.id == step_id).values(state="succeeded"))
