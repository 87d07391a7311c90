"""Jobs of the system itself, on `mesh.control`; beat schedules them."""

from celery import Celery

from mesh.costs.rollup import Rollup
from mesh.dispatch.queues import CONTROL
from mesh.generate.views import TIMEOUT_SECONDS
from mesh.memory.embedding import Embedding
from mesh.memory.queries import EMBED_QUERY, Answers
from mesh.retention.purge import Purge

PURGE = "mesh.purge_networks"
ROLLUP = "mesh.roll_up_calls"
EMBED = "mesh.embed"

# Generations may hold all of a worker's slots for so long; the next one that is free is for these jobs' queue.
_EXPIRES = {"queue": CONTROL, "expires": TIMEOUT_SECONDS + 30}

SCHEDULE = {
    # Deleted networks are invisible at once; what belonged to them may take its time.
    "purge-networks": {"task": PURGE, "schedule": 30.0, "options": _EXPIRES},
    # Statistics read single calls until they are rolled up: few enough in five minutes.
    "roll-up-calls": {"task": ROLLUP, "schedule": 300.0, "options": _EXPIRES},
    # What is new is found by its meaning so soon.
    "embed": {"task": EMBED, "schedule": 3.0, "options": _EXPIRES},
}


def register(
    app: Celery, purge: Purge, rollup: Rollup, *, embedding: Embedding | None = None, answers: Answers | None = None
) -> None:
    """Add the jobs to `app`; without a model of meaning, those that need it do nothing."""

    @app.task(name=PURGE)
    def purge_networks() -> None:
        """Remove what belongs to deleted networks."""
        purge.run()

    @app.task(name=ROLLUP)
    def roll_up_calls() -> None:
        """Close the books of calls that ended a while ago."""
        rollup.run()

    @app.task(name=EMBED)
    def embed() -> None:
        """Embed what waits for it."""
        if embedding is not None:
            embedding.run()

    @app.task(name=EMBED_QUERY)
    def embed_query(text: str, reply_key: str, user_id: str, key_id: str | None, network_id: str) -> None:
        """Tell a search what it means."""
        if answers is not None:
            answers.answer(text, reply_key, user_id, key_id, network_id)
