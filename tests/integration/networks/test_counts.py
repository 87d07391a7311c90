"""Counts of networks: exact whoever adds and removes, and as cheap for a million as for one."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from mesh.memory.service import Memory
from mesh.memory.views import NewMemory
from mesh.networks.rows import network_views
from mesh.retention.purge import Purge
from tests.builders import agent_reply, decision, subtask
from tests.integration.tasks.core import ANN, Core


def counts(core: Core, network: str) -> tuple[int, int]:
    with core.database.begin() as work:
        [view] = network_views(work.connection, [network])
    return view.task_count, view.memory_count


def test_counts_follow_users_and_agents(core: Core) -> None:
    network, memory = core.network("content"), Memory(core.database, core.clock)
    assert counts(core, network) == (0, 0)
    added = memory.add(ANN, network, NewMemory("Readers skim."))
    core.submit(network)
    core.finish(core.claim(), decision(subtask("copy")))
    notes = [{"type": "fact", "content": content, "confidence": 1.0} for content in ("Readers read.", "Readers skim.")]
    core.finish(core.claim("content"), agent_reply("Text", notes))
    assert counts(core, network) == (1, 2)
    memory.remove(ANN, network, added.memory_id)
    assert counts(core, network) == (1, 1)


def test_those_who_add_at_once_are_all_counted(core: Core) -> None:
    network = core.network()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: core.submit(network), range(40)))
    assert counts(core, network) == (40, 0)


def test_a_purged_network_leaves_no_counts(core: Core) -> None:
    network = core.network()
    core.submit(network)
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE networks SET deleted_at = now()"))
    assert Purge(core.database, core.tasks.stop_network).run() == 1
    with core.database.begin() as work:
        assert work.connection.execute(text("SELECT count(*) FROM network_counts")).scalar_one() == 0


def test_counting_touches_a_few_pages_however_many_there_are(core: Core) -> None:
    network = core.network()
    with core.database.begin() as work:
        work.connection.execute(_MANY, {"network": network})
        plan = work.connection.execute(_EXPLAIN, {"network": network}).scalar_one()
    assert counts(core, network) == (0, 20_000)
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 10


_MANY = text(
    """
    INSERT INTO memories (id, network_id, type, content, confidence, metadata, pinned, source_kind, version,
                          created_at, updated_at)
    SELECT 'memory_' || n, :network, 'fact', 'x', 1, '{}', false, 'user', 1, now(), now()
    FROM generate_series(1, 20000) n
    """
)
_EXPLAIN = text(
    "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
    "SELECT sum(tasks), sum(memories) FROM network_counts WHERE network_id = :network"
)
