"""Memory from outside: what is added over HTTP is found by its meaning."""

import pytest

from mesh.memory import local_model
from tests.sandbox import Sandbox
from tests.system import Up, eventually

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("e2e-site")]


@pytest.mark.usefixtures("sandbox")
@pytest.mark.skipif(not local_model.installed(), reason="without the extra `embeddings`")
def test_what_is_added_is_found_in_other_words(up: Up) -> None:
    path = f"/networks/{up.client.network()}/memory"
    for content in ("The physician advised rest.", "Fewer cars were sold."):
        up.client.ask("POST", path, {"content": content})

    def found() -> list[str]:
        items = up.client.ask("GET", f"{path}?query=doctors recommend sleeping")["items"]
        return [item["content"] for item in items]

    eventually(lambda: found()[:1] == ["The physician advised rest."])


def test_agents_say_what_they_used(up: Up, sandbox: Sandbox) -> None:
    sandbox.latency(0)
    network_id = up.client.network()
    item = up.client.ask("POST", f"/networks/{network_id}/memory", {"content": "The tone is dry.", "pinned": True})
    task_id = up.client.submit(network_id)
    up.client.ended(network_id, task_id)
    steps = up.client.ask("GET", f"/networks/{network_id}/tasks/{task_id}/steps")["items"]
    assert all(step["memories_used"][0] == item["memory_id"] for step in steps)
