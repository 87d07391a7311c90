"""The API from outside, over real Postgres and Valkey: main paths, ownership, revocation, bad input, outages."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from api.app import BASE, create_app
from mesh.bootstrap import build
from mesh.config import Settings
from mesh.events.live import CHANNEL_PREFIX
from mesh.security.policy import POLICY, Touches
from tests.integration.api.conftest import SECRETS, Service, Start, key_id, key_of

pytestmark = pytest.mark.timeout(60)

BAD_BODIES = [
    (b"{", 400), (b"", 400), (b"\xff", 400), (b'{"name": "x", "name": "y"}', 400), (b'{"name": NaN}', 400),
    (b"[" * 900_000, 400), (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
    (b'{"name": "' + b"x" * 1_000_000 + b'"}', 413),
    (b"{}", 422), (b"[]", 422), (b'{"name": 1, "task": 1, "content": 1, "user_id": 1}', 422),
    (rb'{"name": "\u0000", "task": "\u0000", "content": "\u0000", "user_id": "\u0000"}', 422),
    (rb'{"name": "\ud800", "task": "\ud800", "content": "\ud800", "user_id": "\ud800"}', 422),
    (b'{"name": "x", "task": "x", "content": "x", "user_id": "x", "unknown": 1}', 422),
]  # fmt: skip


def test_networks_agents_memory_and_tasks_are_made_read_changed_and_removed(service: Service) -> None:
    ann = service.user("ann")
    network = ann.post("/networks", json={"name": "Campaigns"})
    assert network.status_code == 201
    path = f"/networks/{network.json()['network_id']}"
    assert network.headers["Location"] == f"{BASE}{path}"
    assert [agent["type"] for agent in network.json()["agents"]] == [
        "coordinator",
        "content",
        "design",
        "analytics",
        "personalization",
    ]
    agent = ann.post(f"{path}/agents", json={"agent_config": {"name": "SEO Specialist", "type": "seo"}})
    assert agent.status_code == 201
    memory = ann.post(f"{path}/memory", json={"content": "Our colour is green", "memory_type": "fact"})
    assert memory.status_code == 201
    known = {"If-None-Match": network.headers["ETag"]}
    assert ann.get(path, headers=known).status_code == 200  # there is one agent more
    assert ann.get(path, headers={"If-None-Match": ann.get(path).headers["ETag"]}).status_code == 304
    for made in (agent, memory):
        it, mine = made.headers["Location"].removeprefix(BASE), {"If-Match": made.headers["ETag"]}
        change = {"agent_config": {"description": "y"}} if made is agent else {"confidence": 0.5}
        changed = ann.patch(it, json=change, headers=mine)
        assert (changed.status_code, changed.headers["ETag"]) == (200, ann.get(it).headers["ETag"])
        stale = ann.delete(it, headers=mine)
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert ann.patch(path, json={"name": "News"}).json()["name"] == "News"
    assert ann.put(path, json={}).status_code == 405
    task = ann.post(f"{path}/tasks", json={"task": "Write", "auto_process": False, "context": {"product": "X1 🚀"}})
    assert task.status_code == 202
    assert ann.get(task.headers["Location"].removeprefix(BASE)).json()["context"] == {"product": "X1 🚀"}
    assert ann.get(f"{path}/tasks/{task.json()['task_id']}/steps").status_code == 200
    assert ann.post(f"{path}/tasks/{task.json()['task_id']}/process").status_code == 202
    assert ann.post(f"{path}/tasks/{task.json()['task_id']}/cancel").json()["status"] == "cancelled"
    assert len(ann.get(f"{path}/agents").json()["items"]) == 6
    assert ann.delete(f"{path}/agents/{agent.json()['agent_id']}").status_code == 204
    assert [item["content"] for item in ann.get(f"{path}/memory?query=green").json()["items"]] == [
        "Our colour is green"
    ]
    assert [item["status"] for item in ann.get(f"{path}/tasks").json()["items"]] == ["cancelled"]
    assert ann.delete(path).status_code == 204
    assert ann.get(path).status_code == 404
    assert ann.get("/networks").json() == {"items": [], "next_cursor": None}


def test_what_belongs_to_others_is_404_on_every_route(service: Service) -> None:
    ann, mallory = service.user("ann"), service.user("mallory")
    network = ann.post("/networks", json={"name": "Campaigns"}).json()
    task = ann.post(f"/networks/{network['network_id']}/tasks", json={"task": "x", "auto_process": False}).json()
    memory = ann.post(f"/networks/{network['network_id']}/memory", json={"content": "x"}).json()
    ids = {
        "network_id": network["network_id"],
        "memory_id": memory["memory_id"],
        "agent_id": network["agents"][1]["agent_id"],
        "task_id": task["task_id"],
    }
    bodies = {
        "agents.add": {"agent_config": {"name": "x", "type": "x"}},
        "tasks.submit": {"task": "x"},
        "memory.add": {"content": "x"},
        "networks.change": {"name": "mine"},
        "agents.change": {"agent_config": {"name": "mine"}},
        "memory.change": {"content": "mine"},
        "tickets.create": {"task_id": task["task_id"]},
        "streams.submit": {"task": "x"},
    }
    settings = Settings(database_url=service.database_url, redis_url="redis://x", secrets=SECRETS)
    before = service.rows()
    asked = 0
    for rule in create_app(build(settings, name="test")).url_map.iter_rules():
        if POLICY[rule.endpoint].touches not in {Touches.NETWORK, Touches.TASK}:
            continue
        built = rule.build({name: ids[name] for name in rule.arguments})
        assert built
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = mallory.request(method, built[1].removeprefix(BASE), json=bodies.get(rule.endpoint))
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, built[1])
            asked += 1
    assert asked >= 13
    assert service.rows() == before
    assert mallory.get("/networks").json()["items"] == []
    assert service.admin.get(f"/networks/{network['network_id']}").status_code == 200


def test_who_waits_for_a_task_is_answered_when_it_has_ended(service: Service) -> None:
    ann = service.user("ann")
    network_id = ann.post("/networks", json={"name": "x"}).json()["network_id"]
    task = ann.post(f"/networks/{network_id}/tasks", json={"task": "x"}).json()
    path = f"/networks/{network_id}/tasks/{task['task_id']}"
    started = time.monotonic()
    assert ann.get(f"{path}?wait=0.3").json()["status"] == "processing"
    assert 0.3 <= time.monotonic() - started < 5
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ann.get, f"{path}?wait=20")
        _until_followed(service, task["task_id"])
        assert ann.post(f"{path}/cancel").json()["status"] == "cancelled"
        ended = time.monotonic()
        assert waiting.result(timeout=20).json()["status"] == "cancelled"
        assert time.monotonic() - ended < 1
    assert ann.get(f"{path}?wait=20").elapsed.total_seconds() < 5


def _until_followed(service: Service, task_id: str) -> None:
    with Redis.from_url(service.redis_url) as redis:
        deadline = time.monotonic() + 10
        while not redis.pubsub_numsub(f"{CHANNEL_PREFIX}{task_id}")[0][1]:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_network_never_has_more_than_50_agents(service: Service) -> None:
    def agents(count: int, prefix: str = "a") -> list[dict[str, str]]:
        return [{"name": f"{prefix}{number}", "type": "seo"} for number in range(count)]

    full = service.admin.post("/networks", json={"name": "x", "agents": agents(49)}).json()
    assert full["agent_count"] == 50
    refused = service.admin.post(f"/networks/{full['network_id']}/agents", json={"agent_config": agents(1, "b")[0]})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")

    nearly = service.admin.post("/networks", json={"name": "x", "agents": agents(46)}).json()["network_id"]
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda agent: service.admin.post(f"/networks/{nearly}/agents", json={"agent_config": agent}).status_code,
            agents(8, "b"),
        )
        assert sorted(answers) == [201] * 3 + [409] * 5
    assert service.admin.get(f"/networks/{nearly}").json()["agent_count"] == 50


def test_a_service_key_reaches_the_networks_granted_to_it(service: Service) -> None:
    ann = service.user("ann")
    mine, other = (ann.post("/networks", json={"name": name}).json()["network_id"] for name in "ab")
    mailer = service.user("mailer", "read", "create", role="service", networks=[mine])
    assert mailer.get(f"/networks/{mine}").status_code == 200
    assert mailer.get(f"/networks/{other}").status_code == 404
    task = mailer.post(f"/networks/{mine}/tasks", json={"task": "x", "on_behalf_of": "bob", "auto_process": False})
    assert (task.status_code, task.json()["owner"]) == (202, "bob")
    assert ann.post(f"/networks/{mine}/tasks", json={"task": "x", "on_behalf_of": "bob"}).status_code == 403


def test_a_revoked_key_is_401_on_the_next_request(service: Service) -> None:
    by_id, whole = service.user("ann"), service.user("ann")
    for client, name in ((by_id, key_id(by_id)), (whole, key_of(whole))):
        assert client.get("/networks").status_code == 200
        assert service.admin.delete(f"/security/api-keys/{name}").status_code == 204
        assert client.get("/networks").status_code == 401
    listed = service.admin.get("/security/api-keys?user_id=ann").json()["items"]
    assert all(key["revoked_at"] and key["last_used_at"] for key in listed)
    assert "api_key" not in listed[0]


def test_bad_input_is_a_problem_and_leaves_nothing_behind(service: Service) -> None:
    network = service.admin.post("/networks", json={"name": "x"}).json()["network_id"]
    routes = [
        "/networks",
        *(f"/networks/{network}/{part}" for part in ("tasks", "memory", "agents")),
        "/security/api-keys",
    ]
    before = service.rows()
    for route in routes:
        for body, status in BAD_BODIES:
            answer = service.admin.post(route, content=body, headers={"Content-Type": "application/json"})
            problem = answer.json()
            assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), (
                route,
                body[:40],
            )
            assert problem["request_id"] == answer.headers["X-Request-ID"]
            assert problem["instance"] == f"{BASE}{route}"
    unknown = "network_" + "0" * 26
    assert service.admin.post(f"/networks/{unknown}/tasks", json={"task": "x"}).status_code == 404
    assert service.rows() == before


def test_a_chunked_body_is_bounded_as_well(service: Service) -> None:
    chunks = (b" " * 100_000 for _ in range(20))
    answer = service.admin.post("/networks", content=chunks, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_equal_submissions_at_once_are_one_task_and_every_answer_is_the_same(service: Service) -> None:
    ann = service.user("ann")
    path = f"/networks/{ann.post('/networks', json={'name': 'x'}).json()['network_id']}/tasks"

    def submit(_: int) -> httpx.Response:
        return ann.post(path, json={"task": "x"}, headers={"Idempotency-Key": "k"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(16)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    again = submit(0)
    assert again.headers["Idempotency-Replayed"] == "true"
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert {(answer.text, answer.headers["Location"]) for answer in accepted} == {
        (again.text, again.headers["Location"])
    }
    assert len(ann.get(path).json()["items"]) == 1


def test_an_answer_is_given_again_only_to_keys_that_may_see_the_network(service: Service) -> None:
    ann = service.user("ann")
    network, other = (ann.post("/networks", json={"name": "x"}).json()["network_id"] for _ in range(2))
    granted, not_granted = (service.user("bot", role="service", networks=[one]) for one in (network, other))

    def submit(client: httpx.Client) -> int:
        answer = client.post(f"/networks/{network}/tasks", json={"task": "x"}, headers={"Idempotency-Key": "k"})
        return answer.status_code

    assert [submit(client) for client in (granted, granted, not_granted)] == [202, 202, 404]
    assert ann.delete(f"/networks/{network}").status_code == 204
    assert submit(granted) == 404


def test_one_request_that_waits_for_the_database_holds_up_no_other(service: Service) -> None:
    engine = create_engine(service.database_url, poolclass=NullPool)
    with engine.connect() as connection, ThreadPoolExecutor() as pool:
        connection.execute(text("LOCK TABLE networks IN ACCESS EXCLUSIVE MODE"))
        waiting = pool.submit(service.admin.get, "/networks")
        _until_blocked(service.database_url)
        started = time.monotonic()
        assert service.client().get("/health/live").status_code == 200
        assert service.client("wrong").get("/networks").status_code == 401
        assert time.monotonic() - started < 2
        assert not waiting.done()
        connection.rollback()
        assert waiting.result().status_code == 200


def _until_blocked(database_url: str) -> None:
    with create_engine(database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        deadline = time.monotonic() + 10
        while not connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_without_its_database_it_answers_503_and_lives(start: Start) -> None:
    service = start(MESH_DATABASE_URL="postgresql://mesh@127.0.0.1:9/mesh?connect_timeout=1")
    refused = service.admin.get("/networks")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    health = service.client().get("/health")
    assert (health.status_code, health.json()) == (503, {"status": "unhealthy"})
    assert service.client().get("/health/live").status_code == 200


def test_local_mode_serves_the_local_user_and_no_foreign_page(start: Start) -> None:
    service = start(MESH_AUTH="local")
    anybody = service.client()
    network = anybody.post("/networks", json={"name": "x"})
    assert (network.status_code, network.json()["owner"]) == (201, "local")
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert anybody.get("/networks", headers=headers).status_code == 403
        assert anybody.post("/networks", json={"name": "x"}, headers=headers).status_code == 403
    assert anybody.get("/security/api-keys").status_code == 403


def test_a_busy_port_is_one_clear_line(service: Service) -> None:
    port = service.url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "api.server", "127.0.0.1", port, "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"MESH_SECRETS": SECRETS, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert port in line
    assert "in use" in line


def test_it_stops_at_once_when_told_and_never_logged_a_key_or_a_ticket(service: Service) -> None:
    ann, browser = service.user("ann"), service.client()
    network_id = ann.post("/networks", json={"name": "x"}).json()["network_id"]
    task = ann.post(f"/networks/{network_id}/tasks", json={"task": "x"}).json()
    ann.post(f"/networks/{network_id}/tasks/{task['task_id']}/cancel")
    ticket = ann.post("/stream-tickets", json={"task_id": task["task_id"]}).json()["ticket"]
    address = f"/tasks/{task['task_id']}/events?ticket={ticket}"
    assert "event:complete" in browser.get(address).text
    service.admin.delete(f"/security/api-keys/{key_of(ann)}")
    assert browser.get(address).status_code == 401
    for client in (ann, browser, service.admin):
        client.close()  # an idle connection is waited for
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    _, errors = service.process.communicate(timeout=20)
    assert service.process.returncode == 0
    assert time.monotonic() - started < 5
    logged = errors.decode() + service.log.read_text()
    assert ticket not in logged
    for client in (ann, service.admin):
        assert key_of(client) not in logged
        assert key_of(client)[-56:] not in logged
