"""API keys: made once, shown once, verified against their row on every request.

api.auth -> here -> api_keys.  Nothing is cached: a revoked key is refused by the next request of every process.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, insert, or_, select, update

from mesh import clock as clocks
from mesh.clock import Clock
from mesh.config import Settings
from mesh.db import engine as engines
from mesh.db.prepared import Prepared
from mesh.db.tables import api_keys
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import InvalidInputError, NotFoundError, Problem, UnauthenticatedError
from mesh.ids import new_id
from mesh.security.keyring import Keyring
from mesh.security.principal import Principal, Role, Scope
from mesh.security.token import USER_ID, key_id_of, new_key

DEFAULT_EXPIRY_DAYS = 365

_PURPOSE = "api-key"
_KEY_ID = re.compile("key_[0-9a-z]{26}")
_USED_EVERY = timedelta(minutes=1)
_REFUSED = "The API key does not hold: it is malformed, unknown, expired or revoked."
_UNKNOWN = "There is no such API key."

# Every request asks this, by the primary key.
_BY_ID = Prepared(
    """
    SELECT user_id, role, scopes, networks, digest, secret_version, expires_at, revoked_at, last_used_at
    FROM api_keys WHERE id = :key_id
    """
)

# Of many requests at once one writes; the others pass it by instead of waiting for its lock.
_NOTE_USE = (
    update(api_keys)
    .where(
        api_keys.c.id.in_(
            select(api_keys.c.id)
            .where(
                api_keys.c.id == bindparam("key_id"),
                or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= bindparam("before")),
            )
            .with_for_update(skip_locked=True, key_share=True)
        )
    )
    .values(last_used_at=bindparam("used_at"))
)


@dataclass(frozen=True)
class KeyView:
    """A key without its secret."""

    key_id: str
    user_id: str
    role: Role
    scopes: frozenset[Scope]
    name: str
    networks: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class Keys:
    """API keys in the database, under the server's secrets (`secrets`: see `mesh.security.keyring`)."""

    def __init__(self, database: Database, secrets: str, clock: Clock) -> None:
        """Raises ConfigurationError when `secrets` cannot be read."""
        self._database = database
        self._keyring = Keyring.parse(secrets)
        self._clock = clock

    def create(
        self,
        *,
        user_id: str,
        role: Role = Role.USER,
        scopes: Iterable[Scope] = (Scope.READ,),
        name: str = "",
        networks: Sequence[str] = (),
        expires_in_days: int = DEFAULT_EXPIRY_DAYS,
        within: UnitOfWork | None = None,
    ) -> tuple[str, KeyView]:
        """Make a key; answers the whole key, which is not stored and cannot be had again, and its view.

        Raises:
            InvalidInputError: the user id cannot stand in a key, or networks are granted to another role than service.
        """
        _check(user_id, role, networks)
        now = self._clock()
        key_id = new_id("key")
        key = new_key(user_id, key_id, now)
        row = {
            "id": key_id,
            "user_id": user_id,
            "role": role.value,
            "scopes": sorted(set(scopes)),
            "name": name,
            "networks": list(networks),
            "digest": self._keyring.sign(_PURPOSE, key),
            "secret_version": self._keyring.newest,
            "created_at": now,
            "expires_at": now + timedelta(days=expires_in_days),
        }
        with self._database.begin(within=within) as work:
            return key, _view(work.connection.execute(insert(api_keys).values(row).returning(api_keys)).one())

    def verify(self, key: str) -> Principal:
        """Whose key it is, by primary key; notes its use at most once a minute.

        Raises:
            UnauthenticatedError: whatever is wrong with it; the message is always the same.
        """
        key_id = key_id_of(key)
        now = self._clock()
        if key_id is None:
            raise UnauthenticatedError(_REFUSED)
        with self._database.begin(atomic=False) as work:
            row = _BY_ID.execute(work.connection, {"key_id": key_id}).first()
            if row is None or not self._keyring.holds(_PURPOSE, key, row.digest, row.secret_version):
                raise UnauthenticatedError(_REFUSED)
            if row.revoked_at is not None or row.expires_at <= now:
                raise UnauthenticatedError(_REFUSED)
            if row.last_used_at is None or row.last_used_at <= now - _USED_EVERY:
                work.connection.execute(_NOTE_USE, {"key_id": key_id, "used_at": now, "before": now - _USED_EVERY})
        return _principal(row, key_id)

    def holder(self, key_id: str) -> Principal:
        """Who holds a key that still holds, for what was signed on its behalf.

        Raises:
            UnauthenticatedError: it is unknown, revoked or expired.
        """
        with self._database.begin(atomic=False) as work:
            row = _BY_ID.execute(work.connection, {"key_id": key_id}).first()
        if row is None or row.revoked_at is not None or row.expires_at <= self._clock():
            raise UnauthenticatedError(_REFUSED)
        return _principal(row, key_id)

    def is_live(self, key_id: str) -> bool:
        """Whether the key still holds: known, not revoked, not expired; for streams, which outlive their request."""
        try:
            self.holder(key_id)
        except UnauthenticatedError:
            return False
        return True

    def revoke(self, key: str) -> None:
        """Take effect on the next request; `key` is a key id or a whole key.  A revoked one stays as it was.

        Raises:
            NotFoundError: there is no such key.
        """
        key_id = key_id_of(key) or key
        if not _KEY_ID.fullmatch(key_id):
            raise NotFoundError(_UNKNOWN)
        first = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with self._database.begin() as work:
            if work.connection.execute(first.values(revoked_at=self._clock())).rowcount:
                return
            if work.connection.execute(select(api_keys.c.id).where(api_keys.c.id == key_id)).first() is None:
                raise NotFoundError(_UNKNOWN)

    def list(self, *, user_id: str | None = None, limit: int, before: str | None = None) -> Sequence[KeyView]:
        """Keys of one user (ix_api_keys_user_id_id) or of all, newest first, ids below `before`."""
        query = select(api_keys).order_by(api_keys.c.id.desc()).limit(limit)
        if user_id is not None:
            query = query.where(api_keys.c.user_id == user_id)
        if before is not None:
            query = query.where(api_keys.c.id < before)
        with self._database.begin() as work:
            return [_view(row) for row in work.connection.execute(query)]


def bootstrap_admin(settings: Settings, kept: str = "") -> str:
    """A key of user `admin`, with every scope: `kept`, or a new one when that holds no more.

    It may be revoked or expired, or of another database or secret.  Storing the key is the caller's part.

    Raises:
        ConfigurationError: there is no database URL or no secret.
        UnavailableError: the database does not answer.
    """
    engine = engines.create(settings.database_url, name="mesh-bootstrap")
    try:
        keys = Keys(Database(engine), settings.secrets.get_secret_value(), clocks.now)
        if kept and _holds(keys, kept):
            return kept
        key, _ = keys.create(user_id="admin", role=Role.ADMIN, scopes=Scope, name="made by `mesh up`")
        return key
    finally:
        engine.dispose()


def _holds(keys: Keys, key: str) -> bool:
    try:
        return keys.verify(key).is_admin
    except UnauthenticatedError:
        return False


def _check(user_id: str, role: Role, networks: Sequence[str]) -> None:
    problems = []
    if not re.fullmatch(USER_ID, user_id):
        problems.append(
            Problem(
                "/user_id",
                "invalid_user_id",
                "1-128 letters, digits or . _ @ + : | -, beginning with a letter or digit.",
            )
        )
    if networks and role is not Role.SERVICE:
        problems.append(
            Problem("/networks", "not_a_service_key", "Networks are granted to keys with the role service.")
        )
    if problems:
        raise InvalidInputError("The key cannot be made as asked.", problems)


def _principal(row: Row[*tuple[Any, ...]], key_id: str) -> Principal:
    return Principal(row.user_id, Role(row.role), frozenset(map(Scope, row.scopes)), key_id, frozenset(row.networks))


def _view(row: Row[Any]) -> KeyView:
    return KeyView(
        key_id=row.id,
        user_id=row.user_id,
        role=Role(row.role),
        scopes=frozenset(map(Scope, row.scopes)),
        name=row.name,
        networks=tuple(row.networks),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
