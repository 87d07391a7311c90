"""Gunicorn's worker, whose own errors are problems too: for requests that it cannot read, and so never hands on.

api.server -> here -> api.app, for whatever can be read.
"""

from typing import TYPE_CHECKING, cast
from uuid import uuid4

from gunicorn.workers.ggevent import GeventWorker

if TYPE_CHECKING:
    import socket

    from gunicorn.http.message import Request


class Worker(GeventWorker):
    """As gunicorn's, which would answer with a page in HTML, the refused line in it, and no request id."""

    def handle_error(
        self, req: "Request | None", client: "socket.socket", addr: "str | int | tuple[str, int]", exc: BaseException
    ) -> None:
        """Gunicorn decides on the status, and logs; the answer is ours."""
        super().handle_error(req, cast("socket.socket", _Answering(client)), addr, exc)


class _Answering:
    """A connection that sends a problem in the place of gunicorn's page, with the same status."""

    def __init__(self, connection: "socket.socket") -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def sendall(self, page: bytes) -> None:
        """Take the status from `page` ("HTTP/1.1 400 Bad Request ..."), and nothing else."""
        self._connection.sendall(unreadable(int(page.split(maxsplit=2)[1]), uuid4().hex))


def unreadable(status: int, request_id: str) -> bytes:
    """The whole answer, on the wire, to a request that could not be read; it is logged under its id."""
    from api.errors import log, problem  # noqa: PLC0415  # the arbiter stays small, and its workers start clean
    from api.request import SECURITY_HEADERS  # noqa: PLC0415  # the same

    log.warning("request_unreadable", status=status, request_id=request_id)
    answer = problem(status, request_id)
    answer.headers.update(SECURITY_HEADERS)
    answer.headers.update({"X-Request-ID": request_id, "Cache-Control": "no-store", "Connection": "close"})
    return f"HTTP/1.1 {answer.status}\r\n{answer.headers}".encode("latin-1") + answer.get_data()
