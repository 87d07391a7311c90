"""Reading a body: what does not come, or not as it should, is refused, and nothing more is read from its caller."""

import io
import socket
import time

import gevent
import pytest
from flask import Flask
from gunicorn.http.errors import InvalidChunkSize
from werkzeug.exceptions import RequestTimeout
from werkzeug.test import create_environ

from api.errors import MalformedRequestError
from api.request import raw_body


class Stalled(io.RawIOBase):
    """A caller that sends nothing and stays."""

    def readable(self) -> bool:
        return True

    def readinto(self, _: object) -> int:
        gevent.sleep(30)
        return 0


class Malformed(Stalled):
    """A caller whose chunks are none."""

    def readinto(self, _: object) -> int:
        raise InvalidChunkSize(b"zz")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [(Stalled, RequestTimeout), (Malformed, MalformedRequestError)],
    ids=["stalled", "malformed"],
)
def test_a_body_that_cannot_be_read_is_refused_in_time_and_its_connection_closed(
    stream: type[Stalled], expected: type[Exception]
) -> None:
    ours, callers = socket.socketpair()
    environ = create_environ() | {"gunicorn.socket": ours, "wsgi.input_terminated": True, "wsgi.input": stream()}
    with ours, callers, Flask("test").request_context(environ):
        started = time.monotonic()
        with pytest.raises(expected):
            raw_body(0.05)
        assert time.monotonic() - started < 5
        ours.setblocking(False)
        assert ours.recv(1) == b""
