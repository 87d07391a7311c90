"""A provider that keeps each request and gives one answer: for what the sandbox does not show."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Recorder:
    """`requests` are the headers (names in lower case) and bodies so far; `answer` is what each is given.

    JSON, or bytes, which are a stream.  With `pause_seconds` it comes a byte at a time.
    """

    url: str
    answer: Any = None
    pause_seconds: float = 0
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)


@contextmanager
def recorder() -> Iterator[Recorder]:
    """A recorder on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            streams = isinstance(kept.answer, bytes)
            answer = kept.answer if streams else json.dumps(kept.answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            try:
                for start in range(0, len(answer), step := 1 if kept.pause_seconds else len(answer)):
                    self.wfile.write(answer[start : start + step])
                    time.sleep(kept.pause_seconds)
            except ConnectionError:
                self.close_connection = True  # the caller has gone away

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        kept = Recorder(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        server.shutdown()
