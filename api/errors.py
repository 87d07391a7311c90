"""Errors as RFC 9457 problems: the one place that knows what an error means in HTTP.

Views and services raise; nothing here shows a stack trace, a secret, or the text that was refused.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from traceback import format_exception
from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from mesh.errors import (
    ConflictError,
    ContentionError,
    ForbiddenError,
    InvalidCursorError,
    InvalidInputError,
    InvalidPeriodError,
    MeshError,
    NotFoundError,
    Problem,
    StaleVersionError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
)
from mesh.security.token import redact

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1_000_000
RETRY_AFTER_SECONDS = 2


class MalformedRequestError(MeshError):
    """A body that is not JSON as RFC 8259 means it, or a query parameter that cannot be read."""

    code = "malformed_request"

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class UnsupportedMediaTypeError(MeshError):
    """A body that does not say that it is JSON."""

    code = "unsupported_media_type"


# Looked up along the error's bases, so that a special case of one of these need not be listed.
_STATUS: dict[type, HTTPStatus] = {
    MalformedRequestError: HTTPStatus.BAD_REQUEST,
    InvalidCursorError: HTTPStatus.BAD_REQUEST,
    InvalidPeriodError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    StaleVersionError: HTTPStatus.PRECONDITION_FAILED,
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooManyError: HTTPStatus.TOO_MANY_REQUESTS,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    ContentionError: HTTPStatus.SERVICE_UNAVAILABLE,
    MeshError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_HEADERS: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="ai-mesh"'},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER_SECONDS)},
}
# Flask's and Werkzeug's own errors: code and detail.
_OF_FLASK: dict[int, tuple[str, str]] = {
    400: ("malformed_request", "The request cannot be read."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method; see the header Allow."),
    408: ("request_timeout", "The body did not come to its end in time."),
    413: ("too_large", f"A body holds at most {MAX_BODY_BYTES:,} bytes."),
    414: ("uri_too_long", "The address is too long."),
    431: ("headers_too_large", "A header is too long, or there are too many."),
}
_UNEXPECTED = "Something went wrong here; it is logged under the request_id."


def install(app: Flask) -> None:
    """Answer every error of `app` as a problem."""
    app.register_error_handler(MeshError, _of_mesh)
    app.register_error_handler(HTTPException, _of_flask)
    app.register_error_handler(Exception, _unexpected)


def _of_mesh(error: MeshError) -> Response:
    status = next(_STATUS[base] for base in type(error).__mro__ if base in _STATUS)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log(error, error.code, status)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _problem(status, "internal_error", _UNEXPECTED)
    headers = _HEADERS.get(status)
    if isinstance(error, TooManyError):
        headers = {"Retry-After": str(error.retry_after_seconds)}
    return _problem(status, error.code, str(error), getattr(error, "problems", ()), headers)


def problem(status: int, request_id: str) -> Response:
    """What is said of a status alone, outside of any request of the application."""
    code, detail = _said(HTTPStatus(status))
    return _answer(_members(HTTPStatus(status), code, detail, "", request_id), HTTPStatus(status))


def _said(status: HTTPStatus) -> tuple[str, str]:
    return _OF_FLASK.get(status, (status.name.lower(), status.description))


def _of_flask(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    code, detail = _said(status)
    headers = error.get_response().headers
    kept = {name: value for name, value in headers if name in {"Allow", "Retry-After"}}
    return _problem(status, code, detail, headers=kept)


def _unexpected(error: Exception) -> Response:
    _log(error, "internal_error", HTTPStatus.INTERNAL_SERVER_ERROR)
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", _UNEXPECTED)


def _log(error: Exception, code: str, status: HTTPStatus) -> None:
    """As text made here: what renders tracebacks elsewhere may show local variables, and with them keys and bodies."""
    trace = redact("".join(format_exception(error)))
    log.error("request_failed", code=code, status=int(status), endpoint=request.endpoint, traceback=trace)


def _problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    problems: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = _members(status, code, redact(detail), redact(request.path), g.request_id)
    if problems:
        body["errors"] = [vars(fault) for fault in problems]
    return _answer(body, status, headers)


def _members(status: HTTPStatus, code: str, detail: str, instance: str, request_id: str) -> dict[str, Any]:
    return {
        "type": "about:blank",  # RFC 9457: no more than the status; `code` says which of its kind
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "instance": instance,
        "code": code,
        "request_id": request_id,
    }


def _answer(body: dict[str, Any], status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, content_type="application/problem+json")
