"""One of several processes that claim at once."""

from datetime import UTC, datetime

from sqlalchemy import text

from mesh.db import engine as engines
from mesh.tasks.claims import claim, waits

# No claim may wait for a row; a lock on the file's end, which PostgreSQL takes when the table grows, is over in this.
LOCK_TIMEOUT_MILLISECONDS = 500


def claim_all(database_url: str, worker_id: str, queue: str) -> list[str]:
    """Claim until nothing is left; the ids in their order."""
    engine = engines.create(database_url, name=worker_id)
    claimed: list[str] = []
    with engine.connect() as connection:
        connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}"))
        connection.commit()
        while waits(connection, queue):
            found = claim(connection, queue=queue, worker_id=worker_id, now=datetime.now(UTC))
            connection.commit()
            if found:
                claimed.append(found.step_id)
    engine.dispose()
    return claimed
