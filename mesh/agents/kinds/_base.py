"""What a kind of agent is; each module beside this one holds one, under the name `KIND`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameters:
    """How a model is called for an agent that sets nothing itself; `max_tokens` bounds one reply, in tokens."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Kind:
    """A craft: `type` is its slug and names its queue; `instructions` are its part of the system prompt."""

    type: str
    name: str
    description: str
    instructions: str
    capabilities: tuple[str, ...]
    parameters: Parameters
