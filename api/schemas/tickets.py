"""Stream tickets: what may be asked and what is answered."""

from pydantic import Field

from api.schemas.base import Answer, Asked, Instant, TaskId


class CreateTicket(Asked):
    """POST /stream-tickets."""

    task_id: TaskId


class Ticket(Answer):
    """A ticket for `?ticket=` on the streams of its task."""

    ticket: str
    expires_at: Instant = Field(description="until then at least, and for as long as the task may run")
