"""The table of operations: which scopes and roles each needs, and whose things it touches.

api.app refuses to start when a route has no line here, or a line no route; api.auth asks `authorize` before a view
runs, so that a service only ever has to ask about ownership.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from mesh.errors import ConfigurationError, ForbiddenError
from mesh.security.principal import Principal, Role, Scope


class Touches(StrEnum):
    """Whose things an operation touches, which decides who is answered 404."""

    NOTHING = "nothing"  # no owner: the service itself, or the caller's own list
    NETWORK = "network"  # what is named in the path belongs to a network: its owner, a grant, or an admin
    TASK = "task"  # the same, with the network found by the task
    BUDGET = "budget"  # of a user or key: administrators; of a network or task: its owner
    KEY = "key"  # API keys, which have no owner but the administrators


class RouteClass(StrEnum):
    """What requests are counted as, see `route_class`."""

    READ = "read"
    WRITE = "write"
    GENERATE = "generate"  # each is a call of a model


@dataclass(frozen=True, slots=True)
class Rule:
    """What an operation needs: any one of `scopes`, any one of `roles`; `public` ones need no credentials.

    `generates`: it calls a model, and that is all it does.  `tickets`: a ticket in the address will do.
    """

    scopes: frozenset[Scope]
    roles: frozenset[Role] = frozenset(Role)
    touches: Touches = Touches.NOTHING
    public: bool = False
    generates: bool = False
    tickets: bool = False


READ = frozenset({Scope.READ})
CREATE = frozenset({Scope.CREATE, Scope.WRITE})  # `write` includes `create`
WRITE = frozenset({Scope.WRITE})
DELETE = frozenset({Scope.DELETE})
REMOVE = frozenset({Scope.WRITE, Scope.DELETE})  # parts of a network: changing it, or deleting
PUBLIC = Rule(frozenset(), public=True)
ADMIN = Rule(frozenset({Scope.ADMIN}), frozenset({Role.ADMIN}), Touches.KEY)


def _network(scopes: frozenset[Scope]) -> Rule:
    return Rule(scopes, touches=Touches.NETWORK)


POLICY: dict[str, Rule] = {
    "networks.create": Rule(CREATE),
    "networks.list": Rule(READ),
    "networks.get": _network(READ),
    "networks.change": _network(WRITE),
    "networks.delete": _network(DELETE),
    "agents.add": _network(WRITE),
    "agents.list": _network(READ),
    "agents.get": _network(READ),
    "agents.change": _network(WRITE),
    "agents.remove": _network(REMOVE),
    "tasks.submit": _network(CREATE),
    "tasks.list": _network(READ),
    "tasks.get": _network(READ),
    "tasks.steps": _network(READ),
    "tasks.process": _network(WRITE),
    "tasks.cancel": _network(WRITE),
    "memory.add": _network(WRITE),
    "memory.list": _network(READ),
    "memory.get": _network(READ),
    "memory.change": _network(WRITE),
    "memory.remove": _network(REMOVE),
    "budgets.get": Rule(READ, touches=Touches.BUDGET),
    "budgets.put": Rule(WRITE, touches=Touches.BUDGET),
    "budgets.remove": Rule(WRITE, touches=Touches.BUDGET),
    "generate.stream": Rule(CREATE, generates=True),
    "tickets.create": Rule(READ, touches=Touches.TASK),
    "streams.events": Rule(READ, touches=Touches.TASK, tickets=True),
    "streams.stream": Rule(READ, touches=Touches.TASK, tickets=True),
    "streams.submit": _network(CREATE),
    "stats.cost": Rule(READ),
    "stats.usage": Rule(READ),
    "stats.models": Rule(READ),
    "security.create_key": ADMIN,
    "security.list_keys": ADMIN,
    "security.revoke_key": ADMIN,
    "health.report": PUBLIC,
    "health.live": PUBLIC,
    "health.ready": PUBLIC,
    "openapi.document": PUBLIC,
    "openapi.docs": PUBLIC,
}


def authorize(principal: Principal, operation: str) -> None:
    """Let `principal` pass, as far as role and scopes go; ownership is the service's question.

    Raises:
        ForbiddenError: says which role or scope would do.
    """
    rule = POLICY[operation]
    if rule.public:
        return
    if principal.role not in rule.roles:
        raise ForbiddenError(f"This needs the role {_any_of(rule.roles)}.")
    if not rule.scopes & principal.scopes:
        raise ForbiddenError(f"This needs a key with the scope {_any_of(rule.scopes)}.")


def route_class(operation: str, method: str) -> RouteClass:
    """What a request with this HTTP method counts as."""
    if POLICY[operation].generates:
        return RouteClass.GENERATE
    return RouteClass.READ if method in {"GET", "HEAD", "OPTIONS"} else RouteClass.WRITE


def check(operations: Iterable[str]) -> None:
    """Hold the table against the routes that there are.

    Raises:
        ConfigurationError: names each route without a line, and each line without a route.
    """
    routes = set(operations)
    if missing := sorted(routes - POLICY.keys()):
        raise ConfigurationError(f"Routes without a line in mesh.security.policy: {', '.join(missing)}.")
    if stale := sorted(POLICY.keys() - routes):
        raise ConfigurationError(f"Lines in mesh.security.policy without a route: {', '.join(stale)}.")


def _any_of(values: Iterable[str]) -> str:
    return " or ".join(sorted(values))
