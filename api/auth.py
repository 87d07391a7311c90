"""Authentication and authorization of requests: 401, then 403; 404 for what is not one's own is the services' part.

before_request -> here -> mesh.security.keys (who), mesh.security.policy (what).  A view that runs has a principal.
"""

import re

from flask import Flask, g, request

from api.context import mesh
from mesh.errors import ForbiddenError, NotFoundError, UnauthenticatedError, UnavailableError
from mesh.security.loopback import is_loopback
from mesh.security.policy import POLICY, authorize
from mesh.security.principal import LOCAL, Principal

_ID = re.compile(r"[a-z]+_[0-9a-z]{26}")


def install(app: Flask) -> None:
    """Let nothing pass to the views of `app` that the policy does not allow."""
    app.before_request(_authenticate)


def visitor() -> Principal | None:
    """Who asks a public operation; None without credentials, with bad ones, and while they cannot be verified."""
    try:
        return _identify() if _credentials() is not None else None
    except (UnauthenticatedError, UnavailableError):
        return None


def _authenticate() -> None:
    if mesh().settings.auth == "local":
        _refuse_foreign_pages()
    operation = request.endpoint
    if operation is None or POLICY[operation].public:
        return
    g.principal = _identify(tickets=POLICY[operation].tickets)
    authorize(g.principal, operation)
    for name, value in (request.view_args or {}).items():
        if name.endswith("_id") and not _ID.fullmatch(value):
            raise NotFoundError(f"There is no such {name.removesuffix('_id')}.")


def _identify(*, tickets: bool = False) -> Principal:
    credentials = _credentials()
    if credentials is not None:
        return mesh().keys.verify(credentials)
    if tickets and "ticket" in request.args:
        return mesh().tickets.redeem(request.args["ticket"], (request.view_args or {})["task_id"])
    if mesh().settings.auth == "local":
        return LOCAL
    raise UnauthenticatedError("Send an API key: X-API-Key: <key>, or Authorization: Bearer <key>.")


def _credentials() -> str | None:
    """The key that the request brings; what is no key at all is given on, to be refused."""
    key = request.headers.get("X-API-Key")
    if key is not None:
        return key
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _refuse_foreign_pages() -> None:
    """Without credentials, the browser of somebody at this machine must not act for a page from elsewhere.

    A page that had its name rebound to 127.0.0.1 gives itself away by Host, any other by Origin.
    """
    host = request.headers.get("Host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if not is_loopback(name):
        raise ForbiddenError("With MESH_AUTH=local only this machine may ask: use localhost or 127.0.0.1 as the host.")
    origin = request.headers.get("Origin")
    if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
        raise ForbiddenError("With MESH_AUTH=local no page from elsewhere may ask.")
