"""The home folder of `mesh up`: private, used by one process at a time, and where secrets are kept."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh.errors import ConfigurationError


def private_folder(path: Path) -> Path:
    """Make `path` (with its parents) if need be, for its owner only; returns it absolute.

    Raises:
        ConfigurationError: it cannot be made, or is there already and open to others or theirs.  It is not closed then,
            since it could be a folder that others need, such as /tmp.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = path.stat()
    except OSError as error:
        raise ConfigurationError(f"The folder {path} cannot be used: {error.strerror}.") from error
    if state.st_uid != os.geteuid() or state.st_mode & 0o077:
        raise ConfigurationError(f"The folder {path} must be yours alone: choose another, or `chmod 700` it.")
    return path.resolve()


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold `home` for this process; the system gives it back when the process ends, however it ends.

    Raises:
        ConfigurationError: another process holds it; the message tells its pid.
    """
    with (home / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ConfigurationError(f"{home} is in use by another `mesh up` (pid {holder}).") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)


def kept(path: Path, make: Callable[[], str]) -> str:
    """What `path` holds, made once by `make` and readable by its owner only (0600)."""
    if not path.exists():
        write_private(path, make())
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write `path` as a whole or not at all, readable by its owner only."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    Path(name).replace(path)
