"""Queues: one for each default agent type, one for all others, two for the system itself (contract, section 9)."""

from collections.abc import Collection

COORDINATOR = "coordinator"
OWN_QUEUE_TYPES = (COORDINATOR, "content", "design", "analytics", "personalization")
CUSTOM = "agent.custom"
CONTROL = "mesh.control"
GENERATE = "mesh.generate"

RUN_STEP = "mesh.run_step"


def of_type(agent_type: str) -> str:
    """The queue of a pool for `agent_type`."""
    return f"agent.{agent_type}"


def for_step(agent_type: str, live_queues: Collection[str]) -> str:
    """Where a step goes: its type's queue if that is a default one or a pool for it lives, else `agent.custom`."""
    own = of_type(agent_type)
    return own if agent_type in OWN_QUEUE_TYPES or own in live_queues else CUSTOM


def of_pool(agent_types: Collection[str]) -> tuple[str, ...]:
    """The queues that a pool serves; no types means all of the default ones and `agent.custom`."""
    if not agent_types:
        return (*(of_type(name) for name in OWN_QUEUE_TYPES), CUSTOM)
    return tuple(dict.fromkeys(of_type(name) for name in agent_types))


def is_custom(queue: str) -> bool:
    """Whether `queue` exists only while a pool for its type lives."""
    return queue.startswith("agent.") and queue != CUSTOM and queue.removeprefix("agent.") not in OWN_QUEUE_TYPES
