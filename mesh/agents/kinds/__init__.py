"""The kinds of agent, one module each: a new specialist is one new file here that defines `KIND`.

A type without a module is a custom agent: it gets the generic `custom` kind, and its own configuration does the rest.
"""

from importlib import import_module
from pkgutil import iter_modules

from mesh.agents.kinds._base import Kind, Parameters

__all__ = ["DEFAULTS", "Kind", "Parameters", "kind_of"]

_modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__) if module.name[0] != "_")
_KINDS: dict[str, Kind] = {module.KIND.type: module.KIND for module in _modules}

DEFAULTS: tuple[Kind, ...] = tuple(
    _KINDS[agent_type] for agent_type in ("coordinator", "content", "design", "analytics", "personalization")
)
"""The agents of a network that was created without any, in the order they are shown."""


def kind_of(agent_type: str) -> Kind:
    """The kind for `agent_type`; the generic `custom` kind for types that have no module here."""
    return _KINDS.get(agent_type, _KINDS["custom"])
