"""What every request and answer has in common: the request id, security headers, and reading bodies and parameters."""

import contextlib
import re
import socket
from typing import TypeVar
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from gevent import Timeout
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from api.errors import MAX_BODY_BYTES, MalformedRequestError, UnsupportedMediaTypeError
from api.schemas.base import Asked, Parameters
from api.strict_json import check, pointer
from mesh.errors import InvalidInputError, Problem

Model = TypeVar("Model", bound=BaseModel)

MAX_PROBLEMS = 20
BODY_SECONDS = 30.0

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SECURITY_HEADERS = {
    # The answers are data: nothing in them may run, be framed, sniffed, or lead elsewhere.
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def install(app: Flask) -> None:
    """Give every request of `app` its id, and every answer its headers."""
    app.before_request(_begin)
    app.after_request(_finish)


def body(model: type[Model]) -> Model:
    """The request's JSON as a `model`.

    Raises:
        RequestEntityTooLarge: it is larger than `MAX_BODY_BYTES`.
        UnsupportedMediaTypeError: it does not say that it is JSON.
        RequestTimeout: it does not come to its end, see `raw_body`.
        MalformedRequestError: it cannot be read, or is not JSON, strictly.
        InvalidInputError: it is, but not as `model` wants it.
    """
    charset = request.mimetype_params.get("charset", "utf-8")
    if request.mimetype != "application/json" or charset.lower() != "utf-8" or request.content_encoding:
        raise UnsupportedMediaTypeError("Send JSON in UTF-8, with Content-Type: application/json.")
    data = raw_body()
    if request.content_length is None and len(data) >= MAX_BODY_BYTES:
        raise RequestEntityTooLarge  # Werkzeug cuts a chunked body at the limit, without a word
    check(data)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInputError("The body is not as it should be; see errors.", _problems(error)) from None


def raw_body(seconds: float = BODY_SECONDS) -> bytes:
    """The request's body, waited for as long as `seconds`; the connection is of no use after an error.

    Raises:
        RequestEntityTooLarge: it says that it is larger than `MAX_BODY_BYTES`.
        RequestTimeout: it does not come to its end in time.
        MalformedRequestError: it is cut off, or not chunked as RFC 9112 has it.
    """
    try:
        with Timeout(seconds, RequestTimeout):
            return request.get_data()
    except RequestTimeout:
        _hang_up()
        raise
    except (ParseException, OSError):
        _hang_up()
        raise MalformedRequestError("The body cannot be read: it is cut off, or its chunks are malformed.") from None


def no_body() -> None:
    """Refuse a body that says anything, as `body` would: an empty one and `{}` are fine."""
    if raw_body():
        body(Asked)


def no_parameters() -> None:
    """Refuse any query parameter."""
    parameters(Parameters)


def parameters(model: type[Model]) -> Model:
    """The query string as a `model`; every parameter at most once, unknown ones refused.

    Raises:
        MalformedRequestError: names each parameter that cannot be read.
    """
    given = request.args.to_dict(flat=False)
    if any(len(values) > 1 for values in given.values()):
        raise MalformedRequestError("A query parameter is given twice.")
    if any("\0" in values[0] for values in given.values()):
        raise MalformedRequestError("A query parameter holds NUL.")
    try:
        return model.model_validate({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        raise MalformedRequestError("Query parameters cannot be read; see errors.", _problems(error)) from None


def _problems(error: ValidationError) -> list[Problem]:
    """Where, which and why, without what was given."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [Problem(pointer(*one["loc"]), one["type"], one["msg"]) for one in found[:MAX_PROBLEMS]]


def _hang_up() -> None:
    """Read no more from the caller: what comes next is the rest of a body, and no request."""
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # the caller has gone already
            connection.shutdown(socket.SHUT_RD)


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _SANE_ID.fullmatch(given) else uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _finish(response: Response) -> Response:
    headers = response.headers
    headers["X-Request-ID"] = g.request_id
    headers.setdefault("Cache-Control", "no-store")
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    return response
