"""API keys against their table."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from mesh.config import Settings
from mesh.db import engine as engines
from mesh.db.tables import api_keys
from mesh.db.unit_of_work import Database
from mesh.errors import InvalidInputError, NotFoundError, UnauthenticatedError
from mesh.security.keys import Keys, bootstrap_admin
from mesh.security.principal import Principal, Role, Scope
from mesh.security.token import key_id_of, new_key

OLD, NEW = "v1:" + "o" * 32, "v2:" + "n" * 32


class Now:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, **duration: float) -> None:
        self.at += timedelta(**duration)


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = engines.create(database_url, name="test")
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def keys(database: Database, now: Now) -> Keys:
    return Keys(database, OLD, now)


def test_a_key_is_who_it_was_made_for(keys: Keys) -> None:
    networks = ("network_" + "1" * 26,)
    key, view = keys.create(
        user_id="mail.service", role=Role.SERVICE, scopes=[Scope.READ, Scope.CREATE], networks=networks
    )
    expected = Principal(
        "mail.service", Role.SERVICE, frozenset({Scope.READ, Scope.CREATE}), view.key_id, frozenset(networks)
    )
    assert keys.verify(key) == expected
    assert keys.is_live(view.key_id)


def test_the_key_itself_is_not_in_the_database(keys: Keys, database: Database) -> None:
    key, _ = keys.create(user_id="ann")
    with database.begin() as work:
        stored = repr(work.connection.execute(select(api_keys)).all())
    assert key not in stored
    assert key[-56:-8] not in stored


def test_a_revoked_key_is_refused_at_once_and_by_everybody(keys: Keys, database: Database, now: Now) -> None:
    key, view = keys.create(user_id="ann")
    elsewhere = Keys(database, OLD, now)
    elsewhere.verify(key)
    keys.revoke(view.key_id)
    with pytest.raises(UnauthenticatedError):
        elsewhere.verify(key)
    assert not elsewhere.is_live(view.key_id)


def test_revoking_takes_a_whole_key_may_be_repeated_and_keeps_the_first_time(keys: Keys, now: Now) -> None:
    key, _ = keys.create(user_id="ann")
    keys.revoke(key)
    first = keys.list(limit=1)[0].revoked_at
    now.pass_(hours=1)
    keys.revoke(key)
    assert keys.list(limit=1)[0].revoked_at == first == now() - timedelta(hours=1)
    with pytest.raises(NotFoundError):
        keys.revoke("key_" + "0" * 26)


def test_a_key_expires(keys: Keys, now: Now) -> None:
    key, view = keys.create(user_id="ann", expires_in_days=1)
    now.pass_(hours=23)
    keys.verify(key)
    now.pass_(hours=1)
    with pytest.raises(UnauthenticatedError):
        keys.verify(key)
    assert not keys.is_live(view.key_id)


def test_a_key_made_up_for_a_known_id_is_refused(keys: Keys, now: Now) -> None:
    key, view = keys.create(user_id="ann")
    forged = new_key("ann", view.key_id, now())
    assert key_id_of(forged) == key_id_of(key)
    with pytest.raises(UnauthenticatedError):
        keys.verify(forged)


def test_keys_outlive_a_rotation_of_the_secret_until_the_old_one_is_taken_out(
    keys: Keys, database: Database, now: Now
) -> None:
    key, _ = keys.create(user_id="ann")
    both = Keys(database, f"{NEW},{OLD}", now)
    newer, _ = both.create(user_id="ann")
    both.verify(key)
    only_new = Keys(database, NEW, now)
    only_new.verify(newer)
    for refused, ring in ((key, only_new), (newer, keys)):
        with pytest.raises(UnauthenticatedError):
            ring.verify(refused)


def test_its_use_is_noted_at_most_once_a_minute(keys: Keys, now: Now) -> None:
    key, _ = keys.create(user_id="ann")
    assert keys.list(limit=1)[0].last_used_at is None
    keys.verify(key)
    first = now()
    now.pass_(seconds=59)
    keys.verify(key)
    assert keys.list(limit=1)[0].last_used_at == first
    now.pass_(seconds=1)
    keys.verify(key)
    assert keys.list(limit=1)[0].last_used_at == now()


def test_noting_the_use_never_waits_for_another_who_does(keys: Keys, database: Database) -> None:
    key, view = keys.create(user_id="ann")
    with database.begin() as work:
        work.connection.execute(text("UPDATE api_keys SET last_used_at = now() WHERE id = :id"), {"id": view.key_id})
        assert keys.verify(key).user_id == "ann"  # would wait here for ever


def test_keys_are_listed_newest_first_by_user_and_page(keys: Keys) -> None:
    made = [keys.create(user_id=user)[1].key_id for user in ("ann", "bob", "ann")]
    assert [view.key_id for view in keys.list(limit=9)] == sorted(made, reverse=True)
    assert {view.key_id for view in keys.list(user_id="ann", limit=9)} == {made[0], made[2]}
    newest = max(made)
    assert newest not in [view.key_id for view in keys.list(limit=9, before=newest)]


def test_what_a_key_cannot_be_is_refused(keys: Keys) -> None:
    for asked in ({"user_id": "a b"}, {"user_id": ""}, {"user_id": "a", "networks": ["network_x"]}):
        with pytest.raises(InvalidInputError):
            keys.create(**asked)
    assert keys.list(limit=1) == []


def test_the_bootstrap_key_is_the_one_that_was_kept_until_it_holds_no_more(
    database_url: str, database: Database, now: Now
) -> None:
    settings = Settings(database_url=database_url, secrets=SecretStr(OLD))
    key = bootstrap_admin(settings)
    assert bootstrap_admin(settings, key) == key
    keys = Keys(database, OLD, now)
    assert keys.verify(key).is_admin
    keys.revoke(key)
    assert bootstrap_admin(settings, key) not in {key, ""}
