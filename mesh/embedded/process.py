"""Child processes that cannot outlive their parent, each with a session and a log file of its own.

supervisor -> here -> launch (becomes the program).
"""

import errno
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_LIMIT_BYTES = 10_000_000
# Below what systems hand out to outgoing connections (Linux from 32768, macOS from 49152): else a client that retries
# while its server restarts could take the server's port, and even connect to itself.
PORTS = range(20_000, 32_768)


class Identity(StrEnum):
    """As whom a child runs."""

    SAME = "same"
    NAMESPACE = "namespace"  # root outside, nobody in its own eyes
    NOBODY = "nobody"


def launched(
    program: Sequence[str | Path], *, death_signal: signal.Signals = signal.SIGKILL, identity: Identity = Identity.SAME
) -> list[str]:
    """The command that runs `program` (an absolute path, then arguments) tied to this process.

    On Linux the program gets `death_signal` when the *thread* that started it ends, so start it from a thread that
    lives long enough.  Other systems have no such signal.
    """
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), identity]
    return launcher + [str(argument) for argument in program]


def spawn(
    program: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    identity: Identity = Identity.SAME,
) -> subprocess.Popen[bytes]:
    """Start `program` in its own session (a terminal's Ctrl-C does not reach it), its output appended to `log`.

    `env` replaces the environment; without it the child has this process's.  A log past 10 MB is set aside first.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            launched(program, death_signal=death_signal, identity=identity),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now.

    Raises:
        OSError: the address itself cannot be used (not of this machine, or a port that needs privileges).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` on which nobody listens, outside the range of outgoing connections."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if port_is_free(host, port))


def tail(log: Path, *, offset: int = 0, lines: int = 12) -> str:
    """The last `lines` lines that were written to `log` after its first `offset` bytes; empty when there are none."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= end else 0, end - 16_384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
