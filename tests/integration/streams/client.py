"""Readers of streams, as a browser's EventSource reads them: reconnecting with the last number seen."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import httpx


@dataclass
class Seen:
    """What came, in its order."""

    numbers: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    connections: int = 0
    _fields: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        """A connection begins: what was cut off before its blank line never came (WHATWG HTML, 9.2.6)."""
        self.connections += 1
        self._fields.clear()

    def line(self, line: str) -> None:
        name, _, value = line.partition(":")
        if not line:
            self._event()
        elif name == "retry":
            self.retries.append(int(value))
        elif name:
            self._fields[name] = value
        else:
            self.comments.append(value.strip())

    def _event(self) -> None:
        if "event" in self._fields:
            self.kinds.append(self._fields["event"])
        if "id" in self._fields:
            self.numbers.append(int(self._fields["id"]))
        self._fields.clear()


def read(url: str, *, last: int | None = None, seen: Seen | None = None) -> Seen:
    """Read a stream to its end; `seen` fills meanwhile."""
    seen = seen or Seen()
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.status_code == 200, response.read()
        seen.begin()
        for line in response.iter_lines():
            seen.line(line)
    return seen


async def follow(session: aiohttp.ClientSession, urls: Sequence[str], seen: Seen, *, hang_up: float = 0.0) -> None:
    """Read to the end through any number of connections, each to any of `urls`, hanging up by chance after an event."""
    while True:
        headers = {"Last-Event-ID": str(seen.numbers[-1])} if seen.numbers else {}
        try:
            async with session.get(random.choice(urls), headers=headers) as response:
                if response.status == 204:
                    return
                assert response.status == 200, await response.text()
                seen.begin()
                while line := await response.content.readline():
                    seen.line(line.decode().rstrip("\n"))
                    if line == b"\n" and random.random() < hang_up:
                        break
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
