"""The main job from outside: a task goes in over HTTP, agents work on it, and its result and stream come out."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sandbox import Sandbox
from tests.system import Event, Up, eventually

SPECIALISTS = {"Content Specialist", "Design Specialist", "Analytics Specialist", "Personalization Specialist"}

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("e2e-site")]


def test_a_task_goes_from_submission_to_its_result(up: Up, sandbox: Sandbox) -> None:
    """The default network's coordinator plans, four specialists work at once, the coordinator puts it together."""
    sandbox.latency(1.0)
    client = up.client
    network_id = client.network()
    context = {"product_name": "TrailMate", "target_audience": "hikers", "key_features": ["offline maps"]}
    task_id = client.submit(network_id, "Create an e-mail campaign for a product launch.", context=context)
    task = client.ended(network_id, task_id)

    assert task["status"] == "completed"
    assert "TrailMate" in task["result"]["content"]
    assert 0 < task["result"]["confidence"] <= 1
    assert task["progress"] == {"steps_total": 6, "steps_done": 6}
    assert task["usage"]["calls"] == 6
    assert task["sandbox"] is True
    steps = client.ask("GET", f"/networks/{network_id}/tasks/{task_id}/steps")["items"]
    assert {step["agent"] for step in steps if step["kind"] == "agent"} == SPECIALISTS
    assert sum(step["cost_usd"] for step in steps) == pytest.approx(task["cost_usd"])
    at_work = [(call["started_at"], call["ended_at"]) for call in sandbox.calls()[1:5]]
    assert max(start for start, _ in at_work) < min(end for _, end in at_work), "specialists work side by side"
    assert client.ask("GET", f"/networks/{network_id}/memory")["items"]


@pytest.mark.usefixtures("sandbox")
def test_its_stream_tells_the_whole_story_in_order(up: Up) -> None:
    network_id = up.client.network()
    task_id = up.client.submit(network_id)
    events = list(up.client.follow(task_id))

    kinds = [event.kind for event in events]
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert kinds[0] == "started"
    assert kinds[-2:] == ["result", "complete"]
    assert kinds.count("step_started") == kinds.count("step_completed") == 6
    plan = next(event for event in events if event.kind == "plan")
    assert {step["agent"] for step in plan.data["steps"]} == SPECIALISTS
    assert all(event.data["task_id"] == task_id and event.data["sequence"] == event.number for event in events)


def test_a_stream_goes_on_without_gap_or_duplicate_when_the_api_is_killed(up: Up, sandbox: Sandbox) -> None:
    """As EventSource does: it connects again with the last number that it saw."""
    sandbox.latency(1.0)
    network_id = up.client.network()
    task_id = up.client.submit(network_id)
    events: list[Event] = []
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(lambda: events.extend(up.client.follow(task_id)))
        for progress in (2, 4):
            eventually(lambda progress=progress: len(events) >= progress, every=0.02)  # type: ignore[misc]  # a default argument of a lambda
            up.kill("api", whole=True)
        reading.result(timeout=60)
    stored = up.rows("SELECT sequence, type FROM events WHERE task_id = :id ORDER BY sequence", id=task_id)
    assert [(event.number, event.kind) for event in events] == [(row.sequence, row.type) for row in stored]
    assert events[-1].data["status"] == "completed"
