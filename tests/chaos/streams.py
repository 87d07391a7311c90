"""Two APIs on one database and one Valkey, readers who move between them, and what strikes meanwhile."""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
from redis import Redis

from mesh.embedded.process import free_port
from tests.integration.streams.client import Seen, follow
from tests.integration.workers.conftest import Fleet
from tests.system import eventually, part, processes


class Api:
    """An API of a fleet's system, at an address that it keeps when it is started again."""

    def __init__(self, fleet: Fleet, stack: ExitStack) -> None:
        self._fleet = fleet
        self._stack = stack
        self._port = free_port()
        self._log: Path = fleet.home / f"api-{self._port}.log"
        self.url = f"http://127.0.0.1:{self._port}/api/mesh"
        self.start()

    def start(self) -> None:
        """Return when it listens."""
        variables = {**self._fleet.variables(), "MESH_AUTH": "local"}
        started = part("api", "--port", str(self._port), log=self._log, variables=variables)
        before = self._listened()
        self._process: subprocess.Popen[bytes] = self._stack.enter_context(started)
        eventually(lambda: self._listened() > before, every=0.05)

    def kill(self) -> None:
        """Kill (-9) all its processes."""
        for pid in [*processes(self._process.pid), self._process.pid]:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _listened(self) -> int:
        return self._log.read_text().count("Listening on") if self._log.exists() else 0


class Faults:
    """What strikes, in turn; the last API dies once."""

    def __init__(self, redis_url: str, api: Api) -> None:
        self._redis_url = redis_url
        self._api = api
        self.struck: Counter[str] = Counter()

    def strike(self, name: str) -> None:
        """Strike once."""
        STRIKES[name](self)
        self.struck[name] += 1

    def flush(self) -> None:
        """FLUSHALL."""
        self._redis("FLUSHALL")

    def listeners(self) -> None:
        """Every Pub/Sub connection is cut."""
        self._redis("CLIENT", "KILL", "TYPE", "pubsub")

    def callers(self) -> None:
        """Every other connection is cut: those of publishers, and of Celery."""
        self._redis("CLIENT", "KILL", "TYPE", "normal")

    def api(self) -> None:
        """An API dies and is started again."""
        self._api.kill()
        self._api.start()

    def _redis(self, *command: str) -> None:
        with Redis.from_url(self._redis_url) as client:
            client.execute_command(*command)


STRIKES: Mapping[str, Callable[[Faults], None]] = {
    one.__name__: one for one in (Faults.flush, Faults.listeners, Faults.callers, Faults.api)
}


async def read_all(readers: Sequence[tuple[Sequence[str], Seen]], *, hang_up: float, seconds: float) -> None:
    """Have everybody read to the end, each from any of their addresses."""
    limits = aiohttp.ClientTimeout(total=seconds)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limits) as session:
        await asyncio.gather(*(follow(session, urls, seen, hang_up=hang_up) for urls, seen in readers))
