"""Networks and agents: what may be asked and what is answered."""

from typing import Annotated, Any, Literal, cast

from pydantic import Field, StringConstraints

from api.schemas.base import ABSENT, Answer, Asked, Budget, Description, Instant, JsonObject, Name, Share
from mesh.networks.views import AgentChanges, AgentConfig, NetworkChanges, NewNetwork

# It names a queue as well: agent.<type>.
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Instructions = Annotated[str, StringConstraints(max_length=20_000)]
Capabilities = Annotated[list[Name], Field(max_length=50)]
Iterations = Annotated[int, Field(ge=1, le=50)]
Timeout = Annotated[int, Field(ge=1, le=86_400)]


class ModelSelection(Asked):
    """What a task asks of the models that work on it."""

    task_complexity: Literal["LOW", "MEDIUM", "HIGH"] | None = None
    requires_vision: bool | None = None
    requires_function_calling: bool | None = None
    cost_sensitive: bool | None = None
    model: Name | None = None

    def given(self) -> dict[str, Any]:
        """The wishes that were expressed."""
        return self.model_dump(exclude_none=True)


class AgentParameters(Asked):
    """How an agent's model samples."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    top_p: Share | None = None


class AgentSpecification(Asked):
    """An agent as a caller wants it."""

    name: Name
    type: Slug
    model: Name | None = None
    description: Description = ""
    instructions: Instructions = ""
    parameters: AgentParameters = AgentParameters()
    capabilities: Capabilities = Field(default_factory=list)

    def to_domain(self) -> AgentConfig:
        """The same for the service."""
        return AgentConfig(
            name=self.name,
            type=self.type,
            model=self.model,
            description=self.description,
            instructions=self.instructions,
            parameters=self.parameters.model_dump(exclude_none=True),
            capabilities=tuple(self.capabilities),
        )


class AddAgent(Asked):
    """POST .../agents."""

    agent_config: AgentSpecification


class CreateNetwork(Asked):
    """POST /networks."""

    name: Name
    description: Description = ""
    agents: list[AgentSpecification] = Field(default_factory=list, max_length=50)
    shared_context: JsonObject = Field(default_factory=dict)
    max_iterations: Iterations = 10
    timeout_seconds: Timeout = 300
    model_selection: ModelSelection = ModelSelection()
    budget_usd: Budget | None = None

    def to_domain(self) -> NewNetwork:
        """The same for the service."""
        return NewNetwork(
            name=self.name,
            description=self.description,
            agents=tuple(agent.to_domain() for agent in self.agents),
            shared_context=self.shared_context,
            max_iterations=self.max_iterations,
            timeout_seconds=self.timeout_seconds,
            model_selection=self.model_selection.given(),
            budget_usd=self.budget_usd,
        )


class AgentDifference(Asked):
    """What of an agent is to be different; what is left out stays, and `parameters` are replaced as a whole."""

    name: Name = ABSENT
    type: Slug = ABSENT
    model: Name | None = Field(default_factory=lambda: None, description="null: whatever selection chooses")
    description: Description = ABSENT
    instructions: Instructions = ABSENT
    parameters: AgentParameters = ABSENT
    capabilities: Capabilities = ABSENT


class ChangeAgent(Asked):
    """PATCH .../agents/{agent_id}."""

    agent_config: AgentDifference

    def to_domain(self) -> AgentChanges:
        """The same for the service."""
        given = self.agent_config.model_dump(exclude_unset=True)
        if "parameters" in given:
            given["parameters"] = self.agent_config.parameters.model_dump(exclude_none=True)
        return cast(AgentChanges, given)


class ChangeNetwork(Asked):
    """PATCH /networks/{network_id}: what is left out stays, objects are replaced as a whole."""

    name: Name = ABSENT
    description: Description = ABSENT
    shared_context: JsonObject = ABSENT
    max_iterations: Iterations = ABSENT
    timeout_seconds: Timeout = ABSENT
    model_selection: ModelSelection = ABSENT

    def to_domain(self) -> NetworkChanges:
        """The same for the service."""
        given = self.model_dump(exclude_unset=True)
        if "model_selection" in given:
            given["model_selection"] = self.model_selection.given()
        return cast(NetworkChanges, given)


class Agent(Answer):
    """An agent of a network."""

    agent_id: str
    network_id: str
    name: str
    type: str
    model: str | None
    description: str
    instructions: str
    parameters: dict[str, float | int]
    capabilities: list[str]
    status: Literal["idle", "working"]
    created_at: Instant


class Network(Answer):
    """A network with its agents."""

    network_id: str
    name: str
    description: str
    status: Literal["active"]
    owner: str
    agents: list[Agent]
    shared_context: dict[str, Any]
    max_iterations: int
    timeout_seconds: int
    model_selection: dict[str, Any]
    agent_count: int
    task_count: int
    memory_count: int
    created_at: Instant
    updated_at: Instant
