"""The runner: one agent at work on one step.

tasks.execution -> here -> models.gateway.  Builds the prompt of a brief, says what a valid reply is, asks the gateway.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from mesh.agents import prompts, schemas
from mesh.agents.kinds import kind_of
from mesh.agents.prompts import AgentView, FinishedStep, MemoryView, TaskView
from mesh.models.calls import Cancellation, Completion, Journal, Preferences, Reply, T
from mesh.models.gateway import Gateway


@dataclass(frozen=True)
class Brief:
    """What an agent is given: itself, the task, and what is known; `parameters` as its owner set them.

    `preferences` choose among models; `budget_left_usd` is what is not spent of the tightest budget, if there is one.
    """

    agent: AgentView
    preferences: Preferences
    budget_left_usd: Decimal | None
    parameters: Mapping[str, float | int]
    task: TaskView
    shared_context: Mapping[str, Any]
    memories: Sequence[MemoryView]


@dataclass(frozen=True)
class DecisionBrief(Brief):
    """For the coordinator: whom it leads, what they did so far, and whether this is its last word.

    `shows` is the field of the reply whose text is shown while it is written.
    """

    shows: ClassVar[str] = "content"

    specialists: Sequence[AgentView]
    finished: Sequence[FinishedStep]
    iteration: int
    max_iterations: int
    must_conclude: bool


@dataclass(frozen=True)
class StepBrief(Brief):
    """For a specialist: its subtask, and the results that it depends on; `shows` as above."""

    shows: ClassVar[str] = "result"

    description: str
    inputs: Sequence[FinishedStep]


@dataclass(frozen=True)
class Terms:
    """How the reply is asked for: who keeps the books, what stops it, how long it may take in seconds.

    With `on_text` the reply is streamed, see `Completion`.
    """

    journal: Journal
    cancellation: Cancellation
    timeout_seconds: float
    on_text: Callable[[str], None] | None = None


class Runner:
    """Asks models on behalf of agents."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def decide(
        self, brief: DecisionBrief, terms: Terms, *, check: Callable[[schemas.Decision], None]
    ) -> Reply[schemas.Decision]:
        """The coordinator's decision; `check` raises `InvalidReplyError` for a plan that cannot be carried out.

        Raises:
            What `Gateway.complete` raises.
        """
        names = [agent.name for agent in brief.specialists]

        def parse(text: str) -> schemas.Decision:
            decision = schemas.parse_decision(text, names, must_conclude=brief.must_conclude)
            check(decision)
            return decision

        messages = prompts.decision_messages(
            coordinator=brief.agent,
            specialists=brief.specialists,
            task=brief.task,
            shared_context=brief.shared_context,
            memories=brief.memories,
            finished=brief.finished,
            iteration=brief.iteration,
            max_iterations=brief.max_iterations,
            must_conclude=brief.must_conclude,
            delimiter=secrets.token_hex(4),
        )
        return self._complete(brief, messages, schemas.decision_schema(names), parse, terms)

    def reply(self, brief: StepBrief, terms: Terms) -> Reply[schemas.Reply]:
        """A specialist's reply.

        Raises:
            What `Gateway.complete` raises.
        """
        messages = prompts.specialist_messages(
            agent=brief.agent,
            task=brief.task,
            description=brief.description,
            inputs=brief.inputs,
            memories=brief.memories,
            shared_context=brief.shared_context,
            delimiter=secrets.token_hex(4),
        )
        return self._complete(brief, messages, schemas.reply_schema(), schemas.parse_reply, terms)

    def _complete(
        self,
        brief: Brief,
        messages: Sequence[prompts.Message],
        schema: dict[str, Any],
        parse: Callable[[str], T],
        terms: Terms,
    ) -> Reply[T]:
        defaults = kind_of(brief.agent.type).parameters
        request = Completion(
            messages=prompts.with_images(messages, brief.task.context.get("images")),
            schema=schema,
            parse=parse,
            repair=prompts.repair_messages,
            max_tokens=int(brief.parameters.get("max_tokens", defaults.max_tokens)),
            temperature=brief.parameters.get("temperature", defaults.temperature),
            top_p=brief.parameters.get("top_p"),
            preferences=brief.preferences,
            budget_left_usd=brief.budget_left_usd,
            agent_type=brief.agent.type,
            on_text=terms.on_text,
        )
        return self._gateway.complete(
            request,
            journal=terms.journal,
            cancellation=terms.cancellation,
            timeout_seconds=terms.timeout_seconds,
        )
