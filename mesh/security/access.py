"""Ownership in SQL: which networks a principal may touch.  Every query about something in a network uses it."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, true

from mesh.db.tables import networks
from mesh.errors import NotFoundError, StaleVersionError
from mesh.security.principal import Principal


def accessible(principal: Principal) -> ColumnElement[bool]:
    """The condition on `networks` that holds for those of `principal`: its own, those granted, all for admins."""
    own: ColumnElement[bool] = networks.c.owner == principal.user_id
    if principal.is_admin:
        own = true()
    elif principal.networks:
        own = or_(own, networks.c.id.in_(principal.networks))
    return and_(networks.c.deleted_at.is_(None), own)


# The same as SQL for statements that are prepared; `accessible_values` are its parameters.
ACCESSIBLE = """
    networks.deleted_at IS NULL AND (:everyone OR networks.owner = :user_id OR networks.id = ANY(:granted))
"""
ACCESSIBLE_TYPES = {"everyone": "boolean", "granted": "text[]"}


def accessible_values(principal: Principal) -> dict[str, Any]:
    """The parameters of `ACCESSIBLE`."""
    return {"everyone": principal.is_admin, "user_id": principal.user_id, "granted": list(principal.networks)}


def require(
    connection: Connection, principal: Principal, network_id: str, *, keep: bool = False, change: bool = False
) -> Row[Any]:
    """The network's row; until the transaction ends it cannot be deleted (`keep`), or changed by others (`change`).

    Raises:
        NotFoundError: there is none, or it is not the principal's.
    """
    query = select(networks).where(networks.c.id == network_id, accessible(principal))
    if keep:
        query = query.with_for_update(read=True)
    elif change:
        query = query.with_for_update(key_share=True)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"There is no network {network_id!r}.")
    return row


def require_version(version: int, expected: Collection[int] | None) -> None:
    """Pass what is at one of the `expected` versions (None: at any).

    Raises:
        StaleVersionError: it has changed since the caller saw it.
    """
    if expected is not None and version not in expected:
        raise StaleVersionError("It was changed since you read it: read it again, and then decide.")
