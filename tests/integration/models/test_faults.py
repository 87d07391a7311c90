"""Nineteen kinds of fault with all providers, plain and streamed: who answers, what the breaker counts, the books."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any

import pytest

from mesh.models.board import BREAKER, Board
from mesh.models.calls import Cancellation, Completion
from mesh.models.litellm_calls import LiteLLMCalls
from mesh.testing import AwayRedis
from tests.integration.models.conftest import MESSAGES, NAMES, PATHS, WITH_LITELLM, reach, sandbox_bases
from tests.integration.models.faults import FAULTS, Case, Ran, expected, gateway, run
from tests.integration.models.sharing import Ahead
from tests.integration.models.test_gateway import Unwritten
from tests.integration.tasks.core import Core
from tests.sandbox import Sandbox

pytestmark = [
    *WITH_LITELLM,
    # LiteLLM reads `model_fields` of an instance when a stream ends.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

AT_ONCE = 10  # as many connections as a process has


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is bound, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("provider", NAMES)
def test_a_fault_costs_its_model_one_turn_and_the_books_say_what_the_provider_has_seen(
    provider: str, core: Core, calls: LiteLLMCalls, sandbox: Sandbox, nobody: str
) -> None:
    """The next model answers, or one clear error is raised, in time."""
    network_id = core.network()
    nowhere = reach({**sandbox_bases(sandbox), provider: nobody + PATHS[provider]})
    for name, fault in FAULTS.items():
        if fault.kind:
            sandbox.fault(fault.kind, provider=provider, prompt=f"<{name}>")
    cases = [Case(name, provider, *how) for name, *how in product(FAULTS, (False, True), (False, True))]
    ran: list[Ran] = []
    for translator, reached in ((calls, True), (nowhere, False)):  # one after the other: LiteLLM's client is one loop's
        complete = partial(run, core=core, network_id=network_id, calls=translator)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            ran += threads.map(complete, [case for case in cases if (case.fault.kind is not None) is reached])
    sent = {call["call"]: call for call in sandbox.calls()}
    assert len(sent) == len(sandbox.calls()), "two requests of one call"
    assert {one.case: one.outcome(core, sent) for one in ran} == {case: expected(case) for case in cases}


DEAD = {"anthropic": "503", "openai": "500", "gemini": "529"}
FAILURES = 5  # that open a breaker
RESET_SECONDS = 30
CROWD = 8


class Forgetful(Unwritten):
    """Keeps nothing, whatever fails."""

    def failed(self, *_: Any, **__: Any) -> None:  # noqa: ANN401  # as told
        """Let the next one be asked."""


def test_three_dead_models_cost_nothing_once_their_breakers_are_open_but_one_probe_each(
    calls: LiteLLMCalls, sandbox: Sandbox
) -> None:
    clock = Ahead()
    board = Board(AwayRedis(), monotonic=clock)
    models = gateway(calls, board, *NAMES)

    def answered_by(_: int = 0) -> str:
        request = Completion(MESSAGES, None, str, None, 100)
        reply = models.complete(request, journal=Forgetful(), cancellation=Cancellation(), timeout_seconds=40)
        return reply.model.provider

    def asked() -> dict[str, int]:
        """How often each has been asked since this was called last."""
        seen = sandbox.summary()["per_provider"]
        sandbox.clear()
        return dict(seen)

    def crowd() -> set[str]:
        with ThreadPoolExecutor(CROWD) as threads:
            return set(threads.map(answered_by, range(CROWD)))

    for provider, kind in DEAD.items():
        sandbox.fault(kind, provider=provider)
    for _ in range(FAILURES):
        assert answered_by() == "groq"
    assert asked() == dict.fromkeys(NAMES, FAILURES)

    assert crowd() == {"groq"}
    assert asked() == {"groq": CROWD}

    clock.seconds += RESET_SECONDS
    assert crowd() == {"groq"}
    assert asked() == {**dict.fromkeys(DEAD, 1), "groq": CROWD}

    sandbox.clear_faults()
    clock.seconds += RESET_SECONDS
    assert "anthropic" in crowd()
    assert asked()["anthropic"] >= 1
    assert board.entry(BREAKER + NAMES["anthropic"]) is None
    assert answered_by() == "anthropic"
