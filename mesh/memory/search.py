"""Searching a network's memory by meaning and words: one statement, whatever the size of the network.

service, recall -> here.  Two lists, the nearest by meaning and the best by words, become one by reciprocal rank fusion
(Cormack, Clarke, Buettcher 2009: the sum of 1 / (60 + rank)).  What bounds them, measured with a million items:

- Meaning: a network of up to `EXACT` items is compared item by item; a larger one goes through the graph of pgvector
  (HNSW with iterative scan), and only such networks are in it.
- Words: ranking reads each row, so at most `RANKED` are ranked.  They are those with all words of the search, with its
  two rarest, or with one of its rare ones; how frequent a word is, the planner's statistics know.  Where each word is
  in more than `FREQUENT` items, they tell little apart, and the `NEWEST` items are ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from mesh.memory.views import Filters, Meaning

EXACT = 20_000
RANKED = 500
FREQUENT = 20_000
NEWEST = 1_000
# Of a long text, such as a task, the rarest words.
WORDS = 16
# Each list is so long at least: what is low in both may be high in their sum.
LEAST = 30
# The graph is searched until so many items that fit are found, or so many were looked at.
EF_SEARCH = 200
SCANNED = 10_000

# Read as one message with the statement, so within its transaction: what workers set for their prepared statements is
# wrong for a search.
SETTINGS = f"""
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = on; SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on;
SET LOCAL hnsw.iterative_scan = relaxed_order; SET LOCAL hnsw.ef_search = {EF_SEARCH};
SET LOCAL hnsw.max_scan_tuples = {SCANNED};
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched: `limit` items of a network, by the words of `query` and its `meaning`, if that is known."""

    network_id: str
    query: str
    meaning: Meaning | None
    filters: Filters
    limit: int


def best(connection: Connection, asked: Asked, *, now: datetime) -> Sequence[Row[Any]]:
    """The rows of `memories` that `asked` is most about, best first."""
    statement = f"""
    {SETTINGS}
    WITH {ranked(meant=asked.meaning is not None, of_task=asked.filters.task_id is not None)}
    SELECT memories.* FROM ranked JOIN memories USING (id)
    WHERE {fitting("memories")}
    ORDER BY ranked.score DESC, id DESC LIMIT :limit
    """  # noqa: S608  # built from constants of ours
    return connection.execute(text(statement), values_of(asked, now=now)).all()


def values_of(asked: Asked, *, now: datetime) -> dict[str, Any]:
    """The parameters of `ranked`, and `limit`."""
    meaning, filters = asked.meaning, asked.filters
    return {
        "network_id": asked.network_id,
        "query": asked.query,
        "model": meaning and meaning.model,
        "vector": meaning and literal(meaning.vector),
        "farthest": meaning and 1 - meaning.least_similarity,
        "type": filters.type,
        "min_confidence": filters.min_confidence,
        "task_id": filters.task_id,
        "now": now,
        "limit": asked.limit,
        "each": max(asked.limit, LEAST),
    }


def literal(vector: Sequence[float]) -> str:
    """A vector as pgvector reads it."""
    return f"[{','.join(format(value, '.6g') for value in vector)}]"


def fitting(table: str) -> str:
    """SQL for: an item, or the copy of it beside its vector, passes the filters and has not expired."""
    return f"""
        (CAST(:type AS text) IS NULL OR {table}.type = :type)
        AND (CAST(:min_confidence AS float) IS NULL OR {table}.confidence >= :min_confidence)
        AND (CAST(:task_id AS text) IS NULL OR {table}.task_id = :task_id)
        AND ({table}.expires_at IS NULL OR {table}.expires_at > :now)"""


def ranked(*, meant: bool, of_task: bool) -> str:
    """The CTEs that end in `ranked`: ids of items with their `score`; `meant` when there is a vector."""
    near = f"{_near(of_task=of_task)}, " if meant else ""
    return f"""{near}{_WORDED}, ranked AS (
        SELECT id, sum(1.0 / (60 + place)) AS score
        FROM (SELECT * FROM worded {"UNION ALL SELECT * FROM near" if meant else ""}) listed GROUP BY id
    )"""  # noqa: S608  # built from constants of ours


def nearest(*, of_task: bool = False) -> str:
    """SQL for the `:each` items nearest to `:vector`, as `memory_id, distance`; reads the CTE `LARGE`.

    Adding zero to a distance keeps the planner from the graph.  A task has few items: they are compared one by one.
    """
    among = f"{_VECTORS} AND {fitting('memory_vectors')}"
    if of_task:  # ix_memory_vectors_task_id
        return f"SELECT memory_id, {_DISTANCE} AS distance {among} ORDER BY ({_DISTANCE}) + 0 LIMIT :each"
    # ix_memory_vectors_exact, ix_memory_vectors_near
    return f"""
        (SELECT memory_id, {_DISTANCE} AS distance {among} AND NOT indexed ORDER BY ({_DISTANCE}) + 0 LIMIT :each)
        UNION ALL
        (SELECT memory_id, {_DISTANCE} AS distance {among} AND indexed AND (SELECT large FROM large)
         ORDER BY {_DISTANCE} LIMIT :each)"""  # noqa: S608  # built from constants of ours


def _near(*, of_task: bool) -> str:
    return f"""{LARGE}, near AS (
        SELECT memory_id AS id, row_number() OVER (ORDER BY distance) AS place
        FROM ({nearest(of_task=of_task)}) nearest WHERE distance < :farthest
        ORDER BY distance LIMIT :each
    )"""  # noqa: S608  # as above


_DISTANCE = "vector <=> CAST(:vector AS halfvec)"
_VECTORS = "FROM memory_vectors WHERE network_id = :network_id AND model = :model"

# Whether some of the network is in the graph (ix_memory_vectors_indexed).
LARGE = f"large AS MATERIALIZED (SELECT EXISTS (SELECT {_VECTORS} AND indexed) AS large)"

_QUOTED = r"'''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || ''''"

# `found` is by ix_memories_words, which has a row's network, type and task beside its words; if all words are frequent,
# by ix_memories_network_id_id.
_WORDED = rf"""sized AS (  -- network_counts' primary key
        SELECT coalesce(sum(memories), 0) AS size FROM network_counts WHERE network_id = :network_id
    ), common AS MATERIALIZED (
        SELECT most_common_elems::text::text[] AS words, most_common_elem_freqs AS shares FROM pg_stats
        WHERE schemaname = current_schema() AND tablename = 'memories' AND attname = 'words'
    ), lexemes AS (
        SELECT lexeme, coalesce(shares[array_position(words, lexeme)], 0) * size AS rows
        FROM sized CROSS JOIN unnest(to_tsvector('english', :query)) LEFT JOIN common ON true
        ORDER BY 2, 1 LIMIT {WORDS}
    ), counted AS (
        SELECT {_QUOTED} AS quoted, row_number() OVER rarest AS place, sum(rows) OVER rarest AS rows
        FROM lexemes WINDOW rarest AS (ORDER BY rows, lexeme)
    ), asked AS MATERIALIZED (
        SELECT CAST(string_agg(quoted, ' | ') AS tsquery) AS words, CAST(
            '(''' || CAST(:network_id AS text) || '''' || coalesce(' & ''=' || CAST(:type AS text) || '''', '')
                || coalesce(' & ''' || CAST(:task_id AS text) || '''', '') || ') & (('
            || string_agg(quoted, ' & ') || ') | (' || string_agg(quoted, ' & ') FILTER (WHERE place <= 2) || ') | '
            || string_agg(quoted, ' | ') FILTER (WHERE place = 1 OR rows <= {RANKED}) || ')' AS tsquery) AS placed,
            min(rows) > {FREQUENT} AND CAST(:task_id AS text) IS NULL AS frequent
        FROM counted
    ), found AS (
        (SELECT id, words FROM memories
         WHERE (array_to_tsvector(ARRAY[network_id, '='::text || type, COALESCE(task_id, '='::text)]) || words)
                @@ (SELECT placed FROM asked) AND {fitting("memories")} AND NOT (SELECT frequent FROM asked)
         LIMIT {RANKED})
        UNION ALL
        SELECT id, words FROM (
            SELECT * FROM memories WHERE network_id = :network_id AND (SELECT frequent FROM asked)
            ORDER BY id DESC LIMIT {NEWEST}) newest
        WHERE words @@ (SELECT words FROM asked) AND {fitting("newest")}
    ), worded AS (
        SELECT id, row_number() OVER (ORDER BY rank DESC, id DESC) AS place
        FROM (SELECT id, ts_rank(found.words, asked.words) AS rank FROM found, asked
              ORDER BY rank DESC, id DESC LIMIT :each) best
    )"""  # noqa: S608  # as above
