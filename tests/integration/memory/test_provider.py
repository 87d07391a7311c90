"""Memory by the meaning that a provider gives it: found, paid for to the digit, in nobody's way when it fails."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from sqlalchemy import Row, select, text

from mesh.costs.budgets import Kind, limit
from mesh.db.tables import model_calls
from mesh.dispatch.jobs import Jobs
from mesh.memory.embedding import LONGEST, REST_SECONDS, WITHOUT_BUDGET, Embedding
from mesh.memory.embedding_queue import BATCH, IN_HAND
from mesh.memory.queries import Answers, Queries, client
from mesh.memory.service import Memory
from mesh.memory.views import NewMemory
from mesh.models import catalogue
from mesh.models.catalogue import EmbeddingModel
from mesh.models.embeddings import ProviderEmbedder
from mesh.models.gateway import Gateway
from mesh.models.litellm_calls import LiteLLMCalls
from mesh.security.principal import Principal, Role
from tests.builders import MODELS, gateway, principal
from tests.integration.memory.conftest import At, Straight
from tests.integration.models.conftest import WITH_LITELLM, calls
from tests.integration.tasks.core import ANN, WORKER, Core
from tests.sandbox import Sandbox, sandbox, sandbox_process

__all__ = ["calls", "sandbox", "sandbox_process"]

pytestmark = WITH_LITELLM

SMALL = MODELS.embedding("text-embedding-3-small")
USD_A_TOKEN = Decimal("0.00000002")
BEN = principal("ben")


class Provided:
    """Memory with vectors by way of `model`, in front of the sandbox; items are embedded by `run`."""

    def __init__(self, core: Core, asking: Gateway, model: EmbeddingModel = SMALL) -> None:
        self.core = core
        self.embedder = ProviderEmbedder(
            model,
            lambda: asking,
            stored_as=model.name,
            worker_id=WORKER,
            database=core.database,
            clock=core.clock,
            sandbox=True,
        )
        self.embedder.warm_up()
        self._embedding = Embedding(core.database, self.embedder, core.clock)
        self.run = self._embedding.run

    def add(self, network: str, *contents: str, by: Principal = ANN) -> None:
        memory = Memory(self.core.database, self.core.clock)
        for content in contents:
            memory.add(by, network, NewMemory(content))

    def found(self, redis: Redis, network: str, query: str, by: Principal = ANN) -> list[str]:
        """As the API finds it, by way of a worker."""
        answers = Answers(redis, self.embedder, self._embedding.possible)
        answers.announce()
        queries = Queries(At(redis), redis, cast(Jobs, Straight(answers)))
        memory = Memory(self.core.database, self.core.clock, queries.meaning_of)
        return [view.content for view in memory.search(by, network, query, limit=9)]

    def embedded(self) -> list[str]:
        """The contents that have vectors."""
        return [row.content for row in self._rows("memories JOIN memory_vectors ON memory_id = id ORDER BY id")]

    def waiting(self) -> list[str]:
        """The contents that have none yet."""
        return [row.content for row in self._rows("memories JOIN memories_to_embed ON memory_id = id ORDER BY id")]

    def ledger(self) -> Sequence[Row[Any]]:
        """All rows, in the order of their making."""
        with self.core.database.begin() as work:
            return work.connection.execute(select(model_calls).order_by(model_calls.c.id)).all()

    def _rows(self, source: str) -> Sequence[Row[Any]]:
        with self.core.database.begin() as work:
            return work.connection.execute(text(f"SELECT content FROM {source}")).all()  # noqa: S608  # ours


def by_a_model_of_ones_own(core: Core, calls: LiteLLMCalls, folder: Path, entry: str) -> Provided:
    """Memory with vectors of the model that `entry` of a models file describes."""
    file = folder / "models.toml"
    file.write_text(f"[embeddings.ours]\n{entry}\n", "utf-8")
    models = catalogue.load(file)
    return Provided(core, gateway(calls, "openai", catalogue=models), models.embedding("ours"))


@pytest.fixture
def redis(redis_flushed: str) -> Redis:
    return client(redis_flushed)


@pytest.fixture
def asking(calls: LiteLLMCalls) -> Gateway:
    return gateway(calls, "openai", "gemini")


@pytest.fixture
def provided(core: Core, asking: Gateway) -> Provided:
    return Provided(core, asking)


def test_an_item_is_found_by_a_providers_meaning_and_each_request_is_one_exact_row(
    core: Core, provided: Provided, redis: Redis, network: str, sandbox: Sandbox
) -> None:
    """Items at the cost of the network's owner, tasks and searches at that of who wants them."""
    carl = replace(principal("carl", Role.SERVICE, network), key_id="key_2")
    task_id = core.submit(network).task_id
    asked_for(core, task_id)
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE tasks SET key_id = 'key_1', owner = 'dora'"))
    provided.add(network, "Newsletter subscribers skim.", "Prices rise.")
    provided.run()
    assert provided.found(redis, network, "newslettr subscribrs", by=carl) == ["Newsletter subscribers skim."]
    rows, sent = provided.ledger(), sandbox.calls()
    assert [(row.id, row.prompt_tokens) for row in rows] == [(call["call"], call["prompt_tokens"]) for call in sent]
    assert [row.cost_usd for row in rows] == [USD_A_TOKEN * call["prompt_tokens"] for call in sent]
    assert [(row.user_id, row.key_id, row.network_id, row.task_id) for row in rows] == [
        ("dora", "key_1", network, task_id),
        (ANN.user_id, None, network, None),
        ("carl", "key_2", network, None),
    ]
    assert {(row.state, row.estimated, row.model, row.worker_id) for row in rows} == {
        ("settled", False, SMALL.name, WORKER)
    }


def test_what_failed_waits_is_booked_as_failed_and_is_embedded_later(
    core: Core, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    provided.add(network, "Customers skim.", "Prices rise.")
    sandbox.fault("500", times=2)
    provided.run()
    assert (provided.embedded(), len(provided.waiting())) == ([], 2)
    core.clock.advance(REST_SECONDS - 1)
    provided.add(network, "It is cold.")
    assert provided.run() == 0
    core.clock.advance(IN_HAND.total_seconds())
    provided.run()
    assert (len(provided.embedded()), provided.waiting()) == (3, [])
    assert [(row.state, row.error_code, bool(row.cost_usd)) for row in provided.ledger()] == [
        *[("failed", "provider_error", False)] * 2,
        ("settled", None, True),
    ]


def test_a_model_that_keeps_failing_is_not_asked_for_items_nor_for_searches(
    core: Core, provided: Provided, redis: Redis, network: str, sandbox: Sandbox
) -> None:
    provided.add(network, "Customers skim.")
    sandbox.fault("500")
    for _ in range(7):
        provided.run()
        core.clock.advance(LONGEST.total_seconds())
    assert provided.found(redis, network, "customers") == ["Customers skim."]
    assert provided.found(redis, network, "custumers") == []
    assert len(sandbox.calls()) == len(provided.ledger()) == 5


def test_a_budget_that_is_used_up_stops_its_network_and_no_other(
    core: Core, provided: Provided, redis: Redis, network: str, sandbox: Sandbox
) -> None:
    other = core.network(owner=BEN.user_id)
    provided.add(network, "Customers skim.")
    provided.add(other, "Customers read.", by=BEN)
    cap(core, network, "0.00000001")
    provided.run()
    assert (provided.embedded(), provided.waiting()) == (["Customers read."], ["Customers skim."])
    assert provided.found(redis, network, "custumers") == []
    assert provided.found(redis, other, "custumers", by=BEN) == ["Customers read."]
    assert {row.network_id for row in provided.ledger()} == {other}
    cap(core, network, "1")
    core.clock.advance(WITHOUT_BUDGET.total_seconds())
    provided.run()
    assert provided.found(redis, network, "custumers") == ["Customers skim."]
    assert len(sandbox.calls()) == 4


def cap(core: Core, network: str, usd: str) -> None:
    with core.database.begin() as work:
        limit(work.connection, Kind.NETWORK, network, Decimal(usd), now=core.clock())


def test_a_text_that_the_provider_refuses_keeps_no_other_from_being_embedded(
    core: Core, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    """It is looked for with few calls, is asked for ever more seldom, and not lost."""
    others = [f"Remark number {number}." for number in range(BATCH - 1)]
    provided.add(network, *others[:20], "Forbidden words.", *others[20:])
    sandbox.fault("400", prompt="Forbidden")
    provided.run()
    assert (provided.embedded(), provided.waiting()) == (others, ["Forbidden words."])
    assert len(sandbox.calls()) == 1 + 1 + BATCH // 8 + 4 + 2
    for _ in range(9):
        core.clock.advance(LONGEST.total_seconds())
        provided.run()
    sandbox.clear_faults()
    asked = len(sandbox.calls())
    core.clock.advance(LONGEST.total_seconds() - 1)
    assert (provided.run(), len(sandbox.calls())) == (0, asked)
    core.clock.advance(1)
    provided.run()
    assert provided.waiting() == []


def test_a_text_that_the_provider_fails_at_keeps_no_other_from_being_embedded(
    core: Core, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    """Nor what tasks are about from being looked up, of which it may be one."""
    poison, other = (core.submit(network).task_id for _ in range(2))
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE tasks SET task = 'A poisoned task.' WHERE id = :id"), {"id": poison})
    asked_for(core, poison, other)
    provided.add(network, "Customers skim.", "Poisoned words.", "Prices rise.")
    sandbox.fault("500", prompt="oison")
    for _ in range(5):
        provided.run()
        core.clock.advance(REST_SECONDS)
    assert (provided.embedded(), provided.waiting()) == (["Customers skim.", "Prices rise."], ["Poisoned words."])
    assert [row.task_id for row in tasks_asked_for(core) if row.model is None] == [poison]
    assert len(provided.ledger()) == len(sandbox.calls()) < 16


def test_where_every_text_is_refused_the_fault_is_not_theirs(
    core: Core, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    """So it is if a plain word is refused as well: they do not wait longer for it, one after the other."""
    provided.add(network, *(f"Remark number {number}." for number in range(3 * BATCH)))
    sandbox.fault("400")
    for rests in range(3):
        provided.run()
        core.clock.advance(2**rests * REST_SECONDS)
    assert len(sandbox.calls()) == 3 * 2
    sandbox.clear_faults()
    provided.run()
    assert len(provided.embedded()) == 3 * BATCH
    assert len(sandbox.calls()) == 3 * 2 + 3


def test_a_wrong_key_of_gemini_is_not_what_the_text_is_refused_for(
    core: Core, asking: Gateway, network: str, sandbox: Sandbox
) -> None:
    by_gemini = Provided(core, asking, MODELS.embedding("gemini-embedding-001"))
    by_gemini.add(network, "Customers skim.", "Prices rise.")
    sandbox.fault("401")
    by_gemini.run()
    [row], [call] = by_gemini.ledger(), sandbox.calls()
    assert (row.error_code, call["status"]) == ("not_authorized", 400)


def test_a_budget_for_some_texts_is_used_for_some(
    core: Core, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    """A byte may be a token; four characters are one with the sandbox."""
    provided.add(network, "Tea.")
    provided.run()
    short = ["Prices rise.", "Tea is warm."]
    provided.add(network, "Customers skim what is longer than a line.", *short, "Customers read.")
    cap(core, network, str(USD_A_TOKEN * (1 + 24)))
    provided.run()
    assert (provided.embedded(), len(provided.waiting())) == (["Tea.", *short], 2)
    core.clock.advance(WITHOUT_BUDGET.total_seconds())
    provided.run()
    assert provided.embedded() == ["Tea.", *short, "Customers read."]
    assert sum(row.cost_usd for row in provided.ledger()) <= USD_A_TOKEN * (1 + 24)
    assert len(sandbox.calls()) == len(provided.ledger()) == 3


def test_a_model_without_a_price_is_asked_under_no_budget_and_not_all_the_time(
    core: Core, calls: LiteLLMCalls, network: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    provided = by_a_model_of_ones_own(core, calls, tmp_path, 'litellm = "openai/ours"\nshortens = true')
    provided.add(network, "Customers skim.")
    cap(core, network, "1")
    provided.run()
    with core.database.begin() as work:
        work.connection.execute(text("DELETE FROM budgets"))
    core.clock.advance(WITHOUT_BUDGET.total_seconds() - 1)
    assert (provided.run(), sandbox.calls()) == (0, [])
    core.clock.advance(1)
    provided.run()
    assert provided.embedded() == ["Customers skim."]


def test_a_model_of_other_dimensions_is_taken_out_and_its_answer_is_paid(
    core: Core, calls: LiteLLMCalls, network: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    provided = by_a_model_of_ones_own(core, calls, tmp_path, 'litellm = "openai/text-embedding-3-small"')
    provided.add(network, "Customers skim.")
    for _ in range(2):
        provided.run()
        core.clock.advance(IN_HAND.total_seconds())
    assert (provided.embedded(), provided.waiting()) == ([], ["Customers skim."])
    [row], [call] = provided.ledger(), sandbox.calls()
    assert (row.state, row.error_code) == ("failed", "wrong_dimensions")
    assert row.cost_usd == USD_A_TOKEN * call["prompt_tokens"]


def test_geminis_model_is_asked_at_geminis_address_and_another_models_vectors_are_made_anew(
    core: Core, provided: Provided, asking: Gateway, redis: Redis, network: str, sandbox: Sandbox
) -> None:
    """Texts that LiteLLM takes for files are texts."""
    provided.add(network, "Newsletter subscribers skim.", "files/secret", "gs://bucket/x.png")
    provided.run()
    by_gemini = Provided(core, asking, MODELS.embedding("gemini-embedding-001"))
    by_gemini.run()
    assert [(call["provider"], call["model"]) for call in sandbox.calls()] == [
        ("openai", "text-embedding-3-small"),
        ("gemini", "gemini-embedding-001"),
    ]
    assert by_gemini.found(redis, network, "newslettr subscribrs") == ["Newsletter subscribers skim."]
    assert provided.found(redis, network, "newslettr subscribrs") == []


@pytest.mark.parametrize(
    ("kind", "code", "usd"),
    [
        ("429;7", "rate_limited", "0"),
        ("503", "provider_error", "0"),
        ("reset", "connection_failed", "0.0000003"),
        ("drop_stream", "malformed_reply", "0.0000003"),
        ("malformed_body", "malformed_reply", "0.0000003"),
    ],
)
def test_a_call_that_fails_is_one_request_and_costs_at_most_what_was_reserved(
    kind: str, code: str, usd: str, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    """LiteLLM would send what fails so three times."""
    provided.add(network, "Customers skim.")
    sandbox.fault(kind, times=1)
    provided.run()
    [row, *more] = provided.ledger()
    assert 1 + len(more) == len(sandbox.calls())
    assert (row.state, row.error_code, row.cost_usd) == ("failed", code, Decimal(usd))


@pytest.mark.parametrize("end", ["UPDATE networks SET deleted_at = now()", "UPDATE tasks SET finished_at = now()"])
def test_what_nobody_will_look_for_is_not_paid_for(
    end: str, core: Core, provided: Provided, network: str, sandbox: Sandbox
) -> None:
    asked_for(core, core.submit(network).task_id)
    if "networks" in end:
        provided.add(network, "Customers skim.")
    with core.database.begin() as work:
        work.connection.execute(text(end))
    provided.run()
    assert (sandbox.calls(), provided.waiting(), tasks_asked_for(core)) == ([], [], [])


def asked_for(core: Core, *task_ids: str) -> None:
    """As if the tasks could not recall all that their network remembers."""
    with core.database.begin() as work:
        for task_id in task_ids:
            work.connection.execute(text("INSERT INTO task_vectors (task_id) VALUES (:id)"), {"id": task_id})


def tasks_asked_for(core: Core) -> Sequence[Row[Any]]:
    with core.database.begin() as work:
        return work.connection.execute(text("SELECT task_id, model FROM task_vectors")).all()
