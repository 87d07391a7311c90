"""Vectors of memories: a table and an index that need pgvector (0.7 or newer), which not every server has.

Made after the migrations, as soon as the server has it; until then memory is searched by words alone, and what is
written waits to be embedded.
"""

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

TABLE = "memory_vectors"
DIMENSIONS = 384

log = structlog.get_logger(__name__)

# With pgvector's own 64 for `ef_construction`, two thirds of the ten nearest were found among a million items.
GRAPH = f"""
CREATE INDEX ix_memory_vectors_near ON {TABLE} USING hnsw (vector halfvec_cosine_ops)
    WITH (ef_construction = 200) WHERE indexed"""

# `type` to `expires_at` are copies, so that a search reads one table; PLAIN keeps the vector in the row.
# `indexed`: in the graph of ix_memory_vectors_near, as items of large networks are, where each costs milliseconds.  The
# others are compared one by one, and ix_memory_vectors_exact has all that takes: 4,000 items among 200,000 are read in
# 2 ms from it, in 16 ms from the table, where each is in a page of its own.
_CREATE = f"""
CREATE TABLE {TABLE} (
    memory_id text PRIMARY KEY REFERENCES memories ON DELETE CASCADE,
    network_id text NOT NULL,
    indexed boolean NOT NULL,
    type text NOT NULL,
    confidence double precision NOT NULL,
    task_id text,
    expires_at timestamptz,
    model text NOT NULL,
    vector halfvec({DIMENSIONS}) STORAGE PLAIN NOT NULL
);
CREATE INDEX ix_memory_vectors_exact ON {TABLE} (model, network_id)
    INCLUDE (memory_id, type, confidence, task_id, expires_at, vector) WHERE NOT indexed;
CREATE INDEX ix_memory_vectors_indexed ON {TABLE} (model, network_id) WHERE indexed;
CREATE INDEX ix_memory_vectors_task_id ON {TABLE} (task_id) WHERE task_id IS NOT NULL;
{GRAPH};
"""


def exist(connection: Connection) -> bool:
    """Whether this database keeps vectors."""
    return connection.execute(text("SELECT to_regclass(:name)"), {"name": TABLE}).scalar() is not None


def create(connection: Connection) -> bool:
    """Make the table if the server can keep vectors and this user may; whether it is there now."""
    if exist(connection):
        return True
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            connection.execute(text(_CREATE))
    except DBAPIError as error:  # no such extension, an old one, or no right to create it: nothing else is done here
        log.info("no_vectors", reason=str(error.orig).partition("\n")[0])
        return False
    return True
