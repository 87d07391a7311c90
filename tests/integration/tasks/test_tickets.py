"""Stream tickets: they open one task's streams for whom they were made, and end with the task or the key."""

import base64
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

from mesh.db import engine as engines
from mesh.db.idempotency import Idempotency
from mesh.db.unit_of_work import Database
from mesh.errors import NotFoundError, UnauthenticatedError
from mesh.ids import new_id
from mesh.security.keyring import Keyring
from mesh.security.keys import Keys
from mesh.security.principal import LOCAL, Principal, Role, Scope
from mesh.security.token import redact
from mesh.tasks.tickets import GRACE, Tickets
from tests.builders import principal
from tests.integration.tasks.core import Core

OLD, NEW = "v1:" + "o" * 32, "v2:" + "n" * 32


@pytest.fixture
def core(database_url: str) -> Iterator[Core]:
    """Once: whether a session does nothing but prepared statements makes no difference here."""
    engine = engines.create(database_url, name="test")
    yield Core(engine)
    engine.dispose()


@pytest.fixture
def keys(core: Core) -> Keys:
    return Keys(core.database, OLD, core.clock)


@pytest.fixture
def ann(keys: Keys) -> Principal:
    key, _ = keys.create(user_id="ann", scopes=[Scope.READ, Scope.CREATE])
    return keys.verify(key)


@pytest.fixture
def tickets(core: Core, keys: Keys) -> Tickets:
    return made(core, keys)


def made(core: Core, keys: Keys, secrets: str = OLD, *, local: bool = False) -> Tickets:
    return Tickets(core.database, Keyring.parse(secrets), keys, core.clock, local=local)


def is_refused(tickets: Tickets, ticket: str, task_id: str) -> bool:
    try:
        tickets.redeem(ticket, task_id)
    except UnauthenticatedError:
        return True
    return False


def test_a_ticket_is_whose_key_it_was_made_with_and_for_one_task(core: Core, tickets: Tickets, ann: Principal) -> None:
    network = core.network()
    task, other = core.submit(network, ann), core.submit(network, ann)
    ticket = tickets.issue(ann, task.task_id).ticket
    assert tickets.redeem(ticket, task.task_id) == ann
    assert is_refused(tickets, ticket, other.task_id)
    for who, task_id in ((principal("bob"), task.task_id), (ann, new_id("task"))):
        with pytest.raises(NotFoundError):
            tickets.issue(who, task_id)


def test_within_a_transaction_a_ticket_takes_no_other_connection(
    database_url: str, core: Core, tickets: Tickets, ann: Principal
) -> None:
    """Else requests under way hold every connection, and wait for one."""
    task_id = core.submit(core.network(), ann).task_id
    engine = create_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    database = Database(engine)
    alone = Tickets(database, Keyring.parse(OLD), Keys(database, OLD, core.clock), core.clock, local=False)
    with Idempotency(database, core.clock).attempt(b"id", b"body") as attempt:
        ticket = alone.issue(ann, task_id, within=attempt.work)
    engine.dispose()
    assert not is_refused(tickets, ticket.ticket, task_id)


def test_revoking_the_key_ends_it(core: Core, tickets: Tickets, keys: Keys, ann: Principal) -> None:
    task_id = core.submit(core.network(), ann).task_id
    ticket = tickets.issue(ann, task_id).ticket
    assert ann.key_id
    keys.revoke(ann.key_id)
    assert is_refused(tickets, ticket, task_id)


def test_it_holds_as_long_as_the_task_may_run_and_a_while_longer(core: Core, tickets: Tickets, ann: Principal) -> None:
    task_id = core.submit(core.network(timeout_seconds=60), ann).task_id
    given = tickets.issue(ann, task_id)
    assert given.expires_at - core.clock() == GRACE + (core.task(task_id).expires_at - core.clock())
    core.tasks.cancel(ann, core.task(task_id).network_id, task_id)
    core.clock.advance(60 + GRACE.total_seconds() - 1)
    tickets.redeem(given.ticket, task_id)
    core.clock.advance(1)
    assert is_refused(tickets, given.ticket, task_id)
    core.tasks.process(ann, core.task(task_id).network_id, task_id)
    tickets.redeem(given.ticket, task_id)


def test_a_held_task_may_run_for_its_time_from_now(core: Core, tickets: Tickets, ann: Principal) -> None:
    task_id = core.submit(core.network(timeout_seconds=60), ann, auto_process=False).task_id
    assert (tickets.issue(ann, task_id).expires_at - core.clock() - GRACE).total_seconds() == 60


def test_no_ticket_can_be_made_up_or_altered(core: Core, tickets: Tickets, keys: Keys, ann: Principal) -> None:
    task_id = core.submit(core.network(), ann).task_id
    ticket = tickets.issue(ann, task_id).ticket
    altered = [ticket[:number] + ("A" if ticket[number] != "A" else "B") + ticket[number + 1 :] for number in (9, -9)]
    cursor = Keyring.parse(OLD).seal("cursor", f"9999999999 {ann.key_id}", task_id)
    blank = base64.urlsafe_b64encode(bytes(32) + f"v1 9999999999 {ann.key_id}".encode()).decode()
    for wrong in (*altered, cursor, blank, "", "ticket_", "ticket_é", ticket + "A" * 4, ticket[:-4]):
        assert is_refused(tickets, wrong, task_id), wrong
    assert not is_refused(made(core, keys, f"{NEW},{OLD}"), ticket, task_id)
    assert is_refused(made(core, keys, NEW), ticket, task_id)


def test_callers_without_keys_have_tickets_where_they_are_served(core: Core, keys: Keys) -> None:
    task_id = core.submit(core.network(owner="local"), LOCAL).task_id
    local = made(core, keys, local=True)
    ticket = local.issue(LOCAL, task_id).ticket
    assert local.redeem(ticket, task_id) == LOCAL
    assert is_refused(made(core, keys), ticket, task_id)


def test_a_ticket_is_struck_out_of_texts(core: Core, tickets: Tickets, keys: Keys) -> None:
    key, _ = keys.create(user_id="root", role=Role.ADMIN, scopes=Scope)
    ticket = tickets.issue(keys.verify(key), core.submit(core.network()).task_id)
    assert redact(f"GET /events?ticket={ticket.ticket}&x=1") == "GET /events?ticket=[ticket]&x=1"
    assert ticket.ticket not in repr(ticket)
