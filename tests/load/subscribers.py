"""`python -m tests.load.subscribers BASE_URL`: many event streams in one process, for `tests.load.streams`.

Orders come as JSON lines on standard input, each is answered by one line: `{"open": n, "paths": [...]}` (paths are
taken in turn; with `"stall": true` they are not read once they stand), `{"forget": true}`, `{"report": true}`.
"""

import asyncio
import json
import re
import socket
import statistics
import sys
import time
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

_MADE_AT = re.compile(rb'"made at (\d+) ')


class Stream(asyncio.Protocol):
    """One stream: notes how long each event took, in milliseconds."""

    def __init__(self, request: bytes, took: list[float]) -> None:
        self._request = request
        self._took = took
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Events come whole: the server sends each batch in one piece, and it is far below the size of a segment."""
        now = time.monotonic_ns()
        if not self.opened.done():
            self.opened.set_result(data.partition(b"\r\n")[0])
        self._took.extend((now - int(made)) / 1e6 for made in _MADE_AT.findall(data))

    def connection_lost(self, error: Exception | None) -> None:
        """Before it stands, that is a failure."""
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("The stream was closed."))


class Subscribers:
    """All streams of this process."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._streams: list[Stream] = []
        self._took: list[float] = []

    async def obey(self, order: dict[str, Any]) -> dict[str, float]:
        """Do one thing."""
        if "open" in order:
            await self._open(order["open"], order["paths"], stall=order.get("stall", False))
        elif "forget" in order:
            self._took.clear()
        else:
            return self._report()
        return {}

    async def _open(self, count: int, paths: list[str], *, stall: bool) -> None:
        for number in range(count):
            request = f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode()
            stream = Stream(request, self._took)
            connection = socket.socket()
            if stall:  # what fits into buffers is no stall
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (self._host, self._port))
            await loop.create_connection(partial(_same, stream), sock=connection)
            status = await asyncio.wait_for(stream.opened, 30)
            if b" 200 " not in status:
                raise RuntimeError(status.decode())
            if stall:
                stream.transport.pause_reading()
            self._streams.append(stream)

    def _report(self) -> dict[str, float]:
        cuts = statistics.quantiles(self._took or [0.0, 0.0], n=100)
        return {"delivered": len(self._took), "p50": cuts[49], "p99": cuts[98]}


def _same(stream: Stream) -> Stream:
    return stream


async def main(base_url: str) -> None:
    """Obey until the input ends."""
    subscribers = Subscribers(base_url)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await subscribers.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
