"""POST /generate/stream over real processes: what is told, what is charged, and what becomes of it when parts fail."""

import signal
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.builders import MODELS
from tests.integration.generate.conftest import Site, joined
from tests.system import eventually

pytestmark = pytest.mark.xdist_group("generate")


def test_a_generation_tells_model_text_and_exact_cost(site: Site) -> None:
    told = site.generate(system="Be brief.", max_tokens=500)
    assert [type_ for type_, _ in told if type_ != "token"] == ["start", "complete"]
    [call], [row] = site.sandbox.calls(), site.ledger()
    assert told[0] == ("start", {"model": "claude-sonnet-5-5", "sandbox": True})
    end = told[-1][1]
    assert (end["model"], end["finish_reason"]) == ("claude-sonnet-5-5", "stop")
    assert joined(told).startswith("Here is a short answer")
    assert end["usage"] == {"prompt_tokens": call["prompt_tokens"], "completion_tokens": call["completion_tokens"]}
    assert (row.id, row.state, row.user_id, row.agent_type, row.step_id) == (
        call["call"],
        "settled",
        "local",
        None,
        None,
    )
    assert (row.prompt_tokens, row.completion_tokens) == (call["prompt_tokens"], call["completion_tokens"])
    facts = MODELS.resolve("claude-sonnet-5-5").facts
    cost = sum(
        Decimal(str(facts[f"{kind}_cost_per_token"])) * call[f"{name}_tokens"]
        for kind, name in (("input", "prompt"), ("output", "completion"))
    )
    assert row.cost_usd == cost == Decimal(str(end["cost_usd"]))
    assert row.worker_id.startswith("worker_")


def test_text_comes_while_it_is_made(site: Site) -> None:
    site.sandbox.latency(0, chunk=0.05)
    began = time.monotonic()
    with site.generating() as told:
        came = [time.monotonic() - began for type_, _ in told if type_ == "token"]
    assert 6 < len(came) <= 13, "on a busy machine some of the 13 pieces come together, and are told together"
    assert came[-1] - came[0] > 6 * 0.05


def test_server_sent_events_have_no_number_since_nothing_can_be_resumed(site: Site) -> None:
    with site.client() as client:
        answer = client.post("/generate/stream", json={"prompt": "Hello"})
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    blocks = answer.text.strip().split("\n\n")
    assert blocks[0].endswith(": stream")
    assert blocks[1].startswith("event:start\ndata:{")
    assert blocks[-1].startswith("event:complete\ndata:{")
    assert "\nid:" not in answer.text


def test_a_model_that_breaks_off_is_followed_by_the_next_and_its_text_is_void(site: Site) -> None:
    site.sandbox.fault("truncate", provider="openai")
    told = site.generate(model="gpt-4o")
    kinds = [type_ for type_, _ in told]
    fallback = dict(told)["fallback"]
    assert fallback == {
        "from_model": "gpt-4o",
        "to_model": "claude-sonnet-5-5",
        "reason": "malformed_reply",
        "restarted": True,
    }
    assert "token" in kinds[: kinds.index("fallback")]
    assert joined(told[kinds.index("fallback") :]).endswith(".")
    assert told[-1][1]["model"] == "claude-sonnet-5-5"
    broken, whole = site.ledger()
    assert (broken.state, broken.estimated, whole.state) == ("failed", True, "settled")
    assert 0 < broken.cost_usd < broken.reserved_usd, "charged for the prompt and what came, not for a full reply"


def test_a_model_that_refuses_has_shown_nothing(site: Site) -> None:
    site.sandbox.fault("503", provider="anthropic")
    assert dict(site.generate())["fallback"]["restarted"] is False


def test_when_every_model_fails_the_caller_is_told(site: Site) -> None:
    site.sandbox.fault("400")
    told = site.generate()
    assert told[-1][0] == "error"
    assert told[-1][1]["code"] == "all_models_failed"
    assert "Write a short text" not in told[-1][1]["detail"]


def test_a_caller_that_hangs_up_stops_the_call_and_pays_for_what_came(site: Site) -> None:
    site.sandbox.latency(0, chunk=0.2)
    with site.generating(model="gpt-4o") as told:
        assert next(told)[0] == "start"
        assert next(told)[0] == "token"
    hung_up = time.time()
    [call] = site.sandbox.ended(1)
    assert call["disconnected"]
    assert call["ended_at"] - hung_up < 2
    [row] = site.ledger()
    assert (row.state, row.estimated) == ("cancelled", True)
    assert 0 < row.cost_usd < row.reserved_usd


def test_a_caller_that_hangs_up_before_any_text_stops_the_call_too(site: Site) -> None:
    site.sandbox.fault("hang")
    with site.generating() as told:
        assert next(told)[0] == "start"
        site.sandbox.started(1)
    hung_up = time.time()
    [call] = site.sandbox.ended(1)
    assert call["disconnected"]
    assert call["ended_at"] - hung_up < 2


def test_a_user_has_so_many_at_once_and_a_hung_up_one_counts_no_more(site: Site) -> None:
    site.sandbox.fault("hang")
    with site.generating() as first, site.generating() as second:
        assert [next(first)[0], next(second)[0]] == ["start", "start"]
        refused = site.refused(429)
        assert refused.json()["code"] == "too_many_requests"
        assert int(refused.headers["Retry-After"]) > 0
    site.sandbox.clear_faults()

    def free() -> bool:
        with site.client() as client:
            return client.post("/generate/stream", json={"prompt": "Hello"}).status_code == 200

    assert eventually(free, every=0.1) < 2


def test_what_cannot_be_made_is_refused_before_the_stream_begins(site: Site) -> None:
    unknown = site.refused(422, model="gpt-4oo").json()
    assert unknown["errors"][0]["pointer"] == "/model"
    assert "gpt-4o" in unknown["errors"][0]["detail"]
    site.refused(404, network_id="network_" + "0" * 26)
    site.refused(422, prompt=" ")
    with site.client() as client:
        repeated = client.post("/generate/stream", json={"prompt": "Hello"}, headers={"Idempotency-Key": "once"})
    assert repeated.status_code == 422
    assert site.sandbox.calls() == []
    assert site.rows() == []


def test_a_budget_that_is_used_up_makes_an_error_and_no_call(site: Site) -> None:
    with site.client() as client:
        network_id = client.post("/networks", json={"name": "poor"}).json()["network_id"]
        client.put(f"/budgets/networks/{network_id}", json={"limit_usd": 0, "period": "total"}).raise_for_status()
    told = site.generate(network_id=network_id)
    assert [(type_, fields["code"]) for type_, fields in told] == [("error", "budget_exceeded")]
    assert site.sandbox.calls() == []


def test_a_budget_that_is_nearly_used_up_chooses_a_cheaper_model(site: Site) -> None:
    """Instead of refusing: the rest is known before a model is chosen."""
    dear = MODELS.resolve("claude-sonnet-5-5").worst_case_usd(prompt_bytes=100, max_tokens=1000)
    with site.client() as client:
        network_id = client.post("/networks", json={"name": "careful"}).json()["network_id"]
        limit = {"limit_usd": float(dear / 2), "period": "total"}
        client.put(f"/budgets/networks/{network_id}", json=limit).raise_for_status()
    told = site.generate(network_id=network_id, max_tokens=1000)
    assert told[-1][0] == "complete", told
    [row] = site.ledger()
    assert row.selection["rejected"]["claude-sonnet-5-5"] == "over_budget"


def test_without_redis_it_is_refused_and_can_be_tried_again(site: Site) -> None:
    deaf = replace(site, redis_url="redis://127.0.0.1:1/0", url="")
    deaf.api()
    assert int(deaf.refused(503).headers["Retry-After"]) > 0


@pytest.mark.timeout(180)
def test_a_worker_that_dies_or_is_not_there_is_told_within_five_seconds(site: Site) -> None:
    """Last in its module, since the worker is gone after it."""
    site.sandbox.fault("hang")
    [worker] = site.workers()
    with site.generating() as told:
        assert next(told)[0] == "start"
        worker.send_signal(signal.SIGKILL)
        died = time.monotonic()
        assert [(type_, fields["code"]) for type_, fields in told] == [("error", "worker_lost")]
    assert time.monotonic() - died < 5
    began = time.monotonic()
    assert [(type_, fields["code"]) for type_, fields in site.generate()] == [("error", "no_worker")]
    assert time.monotonic() - began < 5.5
