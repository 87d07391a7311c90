"""A model that is to be left alone holds no slot: a worker with a single one does other work meanwhile."""

from collections.abc import Iterator

import pytest
from redis import Redis

from mesh.models.limits import PREFIX
from mesh.security.principal import LOCAL
from tests.integration.workers.conftest import Fleet, fleet_on
from tests.sandbox import Sandbox
from tests.system import eventually, part

pytestmark = pytest.mark.xdist_group("workers-limits")

RETRY_AFTER_SECONDS = 3
# A bucket holds ten seconds' worth.
PER_MINUTE, BURST = 30, 5
MODELS = f"""
chain = ["gpt-4o"]

[models.gpt-4o]
litellm = "openai/gpt-4o"
requests_per_minute = {PER_MINUTE}
"""
OTHER = {"model": "gpt-oss-120b"}


@pytest.fixture(scope="module")
def one_slot(
    module_database_url: str, redis_url: str, sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """One worker with one slot, and one model; another one is asked when it is named."""
    home = tmp_path_factory.mktemp("limits")
    (home / "models.toml").write_text(MODELS)
    with fleet_on(module_database_url, redis_url.removesuffix("/0") + "/2", sandbox_process, home) as fleet:
        variables = {**fleet.variables(), "MESH_MODELS_FILE": str(home / "models.toml")}
        worker = fleet.stack.enter_context(
            part("worker", "--concurrency", "1", log=home / "worker.log", variables=variables)
        )
        fleet.serving(worker)
        yield fleet


@pytest.fixture
def working(one_slot: Fleet, sandbox: Sandbox) -> Fleet:
    """The module's system, a sandbox without calls and faults, and full buckets."""
    assert one_slot.sandbox is sandbox
    with Redis.from_url(one_slot.mesh.settings.redis_url) as client:
        for key in client.scan_iter(f"{PREFIX}*"):
            client.delete(key)
    return one_slot


def test_retry_after_is_kept_for_all_while_the_only_slot_does_other_work(working: Fleet) -> None:
    working.sandbox.fault(f"429;{RETRY_AFTER_SECONDS}", provider="openai", times=1)
    network_id = working.network()
    first = working.submit(network_id)
    working.sandbox.started(1)
    second = working.submit(network_id)
    passes = working.submit(network_id, model_selection=OTHER)
    put_back = "SELECT 1 FROM steps WHERE task_id = :id AND not_before > now()"
    eventually(lambda: working.rows(put_back, id=second), RETRY_AFTER_SECONDS, every=0.02)
    working.mesh.tasks.cancel(LOCAL, network_id, second)
    assert [working.ended(network_id, task_id).status for task_id in (first, passes)] == ["completed"] * 2
    refused, *asked = working.sandbox.calls(provider="openai")
    assert (refused["status"], [call["status"] for call in asked]) == (429, [200] * 3)
    again_at = refused["ended_at"] + RETRY_AFTER_SECONDS
    assert asked[0]["started_at"] >= again_at
    others = working.sandbox.calls(provider="groq")
    assert len(others) == 3
    assert others[0]["started_at"] < again_at


def test_a_limit_of_requests_is_kept_while_the_only_slot_does_other_work(working: Fleet) -> None:
    network_id = working.network()
    tasks = [working.submit(network_id) for _ in range(2)]
    working.sandbox.started(BURST)
    tasks.append(working.submit(network_id, model_selection=OTHER))
    assert [working.ended(network_id, task_id).status for task_id in tasks] == ["completed"] * 3
    asked = [call["started_at"] for call in working.sandbox.calls(provider="openai")]
    assert len(asked) == BURST + 1
    assert asked[-1] - asked[0] >= 60 / PER_MINUTE
    assert working.sandbox.calls(provider="groq")[0]["started_at"] < asked[-1]
