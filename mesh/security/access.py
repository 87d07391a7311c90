"""Ownership in SQL: which networks a principal may touch.  Every query about something in a network uses it."""

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, true

from mesh.db.tables import networks
from mesh.errors import NotFoundError
from mesh.security.principal import Principal


def accessible(principal: Principal) -> ColumnElement[bool]:
    """The condition on `networks` that holds for those of `principal`: its own, those granted, all for admins."""
    own: ColumnElement[bool] = networks.c.owner == principal.user_id
    if principal.is_admin:
        own = true()
    elif principal.networks:
        own = or_(own, networks.c.id.in_(principal.networks))
    return and_(networks.c.deleted_at.is_(None), own)


def require(
    connection: Connection, principal: Principal, network_id: str, *, keep: bool = False
) -> Row[tuple[object, ...]]:
    """The network's row; with `keep` it cannot be deleted until the transaction ends.

    Raises:
        NotFoundError: there is none, or it is not the principal's.
    """
    query = select(networks).where(networks.c.id == network_id, accessible(principal))
    row = connection.execute(query.with_for_update(read=True) if keep else query).first()
    if row is None:
        raise NotFoundError(f"There is no network {network_id!r}.")
    return row
