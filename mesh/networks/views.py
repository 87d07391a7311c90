"""Networks and agents as callers give and see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict


@dataclass(frozen=True)
class AgentConfig:
    """An agent to be made; `type` chooses its craft and its queue, `model` wins over any selection."""

    name: str
    type: str
    model: str | None = None
    description: str = ""
    instructions: str = ""
    parameters: Mapping[str, float | int] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewNetwork:
    """A network to be made; without agents it gets the five default ones."""

    name: str
    description: str = ""
    agents: tuple[AgentConfig, ...] = ()
    shared_context: Mapping[str, Any] = field(default_factory=dict)
    max_iterations: int = 10
    timeout_seconds: int = 300
    model_selection: Mapping[str, Any] = field(default_factory=dict)
    budget_usd: Decimal | None = None


class NetworkChanges(TypedDict, total=False):
    """What of a network is to be changed, named as the columns are."""

    name: str
    description: str
    shared_context: Mapping[str, Any]
    max_iterations: int
    timeout_seconds: int
    model_selection: Mapping[str, Any]


class AgentChanges(TypedDict, total=False):
    """What of an agent is to be changed, named as the columns are."""

    name: str
    type: str
    model: str | None
    description: str
    instructions: str
    parameters: Mapping[str, float | int]
    capabilities: list[str]


@dataclass(frozen=True)
class AgentView:
    """An agent of a network; `working` while a step of it runs."""

    agent_id: str
    network_id: str
    name: str
    type: str
    model: str | None
    description: str
    instructions: str
    parameters: Mapping[str, float | int]
    capabilities: tuple[str, ...]
    status: Literal["idle", "working"]
    created_at: datetime
    version: int


@dataclass(frozen=True)
class NetworkView:
    """A network with its agents and counts."""

    network_id: str
    name: str
    description: str
    status: Literal["active"]
    owner: str
    agents: tuple[AgentView, ...]
    shared_context: Mapping[str, Any]
    max_iterations: int
    timeout_seconds: int
    model_selection: Mapping[str, Any]
    agent_count: int
    task_count: int
    memory_count: int
    created_at: datetime
    updated_at: datetime
    version: int
