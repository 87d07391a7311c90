"""Idempotency-Key: a creating request that is sent again gets the first answer again, and makes nothing.

The decorator `idempotent` -> mesh.db.idempotency.  A key counts for one user and one address.  What is refused is not
kept: it may be tried again under the same key.  What is in a network is given again to those who may still see it.
"""

import json
import re
from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from typing import Concatenate, ParamSpec

from flask import Response, request

from api.context import mesh, principal
from api.errors import MalformedRequestError
from api.request import raw_body
from mesh.db.idempotency import Kept
from mesh.db.unit_of_work import UnitOfWork

P = ParamSpec("P")
Transaction = UnitOfWork | None

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_KEY = re.compile(r"[!-~]{1,255}")
_KEPT_HEADERS = ("Content-Type", "Location", "ETag", "Cache-Control")


def idempotent(
    secret: str | None = None, *, repeats: bool = False
) -> Callable[[Callable[Concatenate[Transaction, P], Response]], Callable[P, Response]]:
    """For views that create; they are given the transaction to work in, or None: then it is the service's own.

    `secret` is a member of the answer that is not stored: it is null when the answer is given again.  With `repeats`
    nothing of it is: the view makes no row, and is asked again.
    """

    def decorate(view: Callable[Concatenate[Transaction, P], Response]) -> Callable[P, Response]:
        @wraps(view)
        def answer(*args: P.args, **kwargs: P.kwargs) -> Response:
            if HEADER not in request.headers:
                return view(None, *args, **kwargs)
            with mesh().idempotency.attempt(_id(), sha256(raw_body()).digest()) as attempt:
                first = attempt.first
                if first is not None and first.body is not None:
                    _require_network(attempt.work)
                    return Response(first.body, first.status, {**first.headers, REPLAYED: "true"})
                response = view(attempt.work, *args, **kwargs)
                if first is None:
                    mesh().idempotency.keep(attempt, _kept(response, secret, repeats=repeats))
                else:
                    response.headers[REPLAYED] = "true"
                return response

        return answer

    return decorate


def _id() -> bytes:
    """What the key counts for: the user, the address, and the key itself."""
    key = request.headers[HEADER]
    if not _KEY.fullmatch(key):
        raise MalformedRequestError(f"{HEADER} must be 1 to 255 visible ASCII characters.")
    return sha256(f"{principal().user_id}\n{request.path}\n{key}".encode()).digest()


def _require_network(work: UnitOfWork) -> None:
    """Refuse as the view would: a user's keys are not all granted the same networks, and networks are deleted."""
    network_id = (request.view_args or {}).get("network_id")
    if network_id is not None:
        mesh().networks.require(principal(), network_id, within=work)


def _kept(response: Response, secret: str | None, *, repeats: bool) -> Kept:
    body = None if repeats else response.get_data(as_text=True)
    if body is not None and secret is not None:
        body = json.dumps({**json.loads(body), secret: None})
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return Kept(response.status_code, headers, body)
