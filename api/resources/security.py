"""API keys, for administrators: POST, GET, DELETE /security/api-keys."""

from flask import Blueprint, Response

from api.answers import made
from api.context import mesh
from api.idempotency import Transaction, idempotent
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page
from api.schemas.security import CreateKey, Key, ListKeys, NewKey

blueprint = Blueprint("security", __name__)


@blueprint.post("/security/api-keys")
@idempotent(secret="api_key")  # noqa: S106  # the name of a member
def create_key(within: Transaction) -> Response:
    """Make a key; its secret is in this answer and nowhere else, not even when the answer is given again."""
    no_parameters()
    key, view = mesh().keys.create(**dict(body(CreateKey)), within=within)
    return made(NewKey, {**vars(view), "api_key": key}, f"/security/api-keys/{view.key_id}")


@blueprint.get("/security/api-keys")
def list_keys() -> Response:
    """Keys, without secrets."""
    query = parameters(ListKeys)
    return page(
        Page[Key],
        query,
        lambda limit, before: mesh().keys.list(user_id=query.user_id, limit=limit, before=before),
        lambda view: view.key_id,
    )


@blueprint.delete("/security/api-keys/<api_key>")
def revoke_key(api_key: str) -> Response:
    """Revoke a key, named by its id or given whole."""
    no_parameters()
    mesh().keys.revoke(api_key)
    return Response(status=204)
