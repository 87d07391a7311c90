"""Readers of streams, as a browser's EventSource reads them: reconnecting with the last number seen."""

import asyncio
import random
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

    def line(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "id":
            self.numbers.append(int(value))
        elif name == "event":
            self.kinds.append(value)
        elif name == "retry":
            self.retries.append(int(value))
        elif not name and value:
            self.comments.append(value.strip())


def read(url: str, *, last: int | None = None, seen: Seen | None = None) -> Seen:
    """Read a stream to its end; `seen` fills meanwhile."""
    seen = seen or Seen()
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            seen.line(line)
    return seen


async def follow(session: aiohttp.ClientSession, url: str, seen: Seen, *, hang_up: float = 0.0) -> None:
    """Read to the end through any number of connections, hanging up by chance after a line."""
    while True:
        headers = {"Last-Event-ID": str(seen.numbers[-1])} if seen.numbers else {}
        try:
            async with session.get(url, headers=headers) as response:
                if response.status == 204:
                    return
                assert response.status == 200, await response.text()
                while line := await response.content.readline():
                    seen.line(line.decode().rstrip("\n"))
                    if line == b"\n" and random.random() < hang_up:
                        break
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
