"""The table of operations."""

import pytest

from mesh.errors import ConfigurationError, ForbiddenError
from mesh.security.policy import POLICY, RouteClass, authorize, check, route_class
from mesh.security.principal import LOCAL, Principal, Role, Scope


def _may(operation: str, *scopes: Scope, role: Role = Role.USER) -> bool:
    try:
        authorize(Principal("ann", role, frozenset(scopes)), operation)
    except ForbiddenError:
        return False
    return True


@pytest.mark.parametrize(
    ("operation", "scopes"),
    [
        ("networks.list", {Scope.READ}),
        ("networks.create", {Scope.CREATE, Scope.WRITE}),
        ("networks.delete", {Scope.DELETE}),
        ("networks.change", {Scope.WRITE}),
        ("agents.change", {Scope.WRITE}),
        ("memory.remove", {Scope.WRITE, Scope.DELETE}),
        ("tickets.create", {Scope.READ}),
        ("tasks.submit", {Scope.CREATE, Scope.WRITE}),
        ("tasks.process", {Scope.WRITE}),
        ("tasks.cancel", {Scope.WRITE}),
        ("agents.add", {Scope.WRITE}),
        ("agents.remove", {Scope.WRITE, Scope.DELETE}),
        ("memory.add", {Scope.WRITE}),
        ("streams.events", {Scope.READ}),
    ],
)
def test_each_of_these_scopes_suffices_and_no_other(operation: str, scopes: set[Scope]) -> None:
    assert {scope for scope in Scope if _may(operation, scope)} == scopes


@pytest.mark.parametrize("operation", [name for name in POLICY if name.startswith("security.")])
def test_security_is_for_the_role_admin_with_the_scope_admin(operation: str) -> None:
    assert _may(operation, Scope.ADMIN, role=Role.ADMIN)
    assert not _may(operation, *Scope, role=Role.USER)
    assert not _may(operation, *Scope, role=Role.SERVICE)
    assert not _may(operation, *(set(Scope) - {Scope.ADMIN}), role=Role.ADMIN)


def test_the_local_user_may_do_all_but_administrate() -> None:
    allowed = {name for name in POLICY if _may(name, *LOCAL.scopes, role=LOCAL.role)}
    assert POLICY.keys() - allowed == {name for name in POLICY if name.startswith("security.")}
    assert not LOCAL.is_admin


def test_the_scope_admin_counts_only_with_the_role() -> None:
    assert Principal("root", Role.ADMIN, frozenset(Scope)).is_admin
    assert not Principal("ann", Role.USER, frozenset(Scope)).is_admin
    assert not Principal("root", Role.ADMIN, frozenset({Scope.READ})).is_admin


def test_a_route_without_a_line_or_a_line_without_a_route_stops_the_start() -> None:
    check(POLICY)
    with pytest.raises(ConfigurationError, match=r"networks\.rename"):
        check([*POLICY, "networks.rename"])
    with pytest.raises(ConfigurationError, match=r"tasks\.cancel"):
        check(POLICY.keys() - {"tasks.cancel"})


@pytest.mark.parametrize(
    ("operation", "method", "kind"),
    [
        ("networks.list", "GET", RouteClass.READ),
        ("networks.list", "HEAD", RouteClass.READ),
        ("security.list_keys", "GET", RouteClass.READ),
        ("networks.create", "POST", RouteClass.WRITE),
        ("networks.delete", "DELETE", RouteClass.WRITE),
    ],
)
def test_requests_are_classed_by_method(operation: str, method: str, kind: RouteClass) -> None:
    assert route_class(operation, method) is kind


def test_generation_is_a_class_of_its_own() -> None:
    generating = {name for name, rule in POLICY.items() if rule.generates}
    assert generating == {name for name in POLICY if name.startswith("generate.")}
    assert {route_class(name, "POST") for name in generating} <= {RouteClass.GENERATE}
