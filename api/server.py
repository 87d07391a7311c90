"""The server: gunicorn with gevent, its settings as code.  Run as `python -m api.server HOST PORT WORKERS`.

cli.api becomes this process; its workers build the system and the application after the fork, each its own
connections.  Only here is anything monkey-patched, and first of all, so that nothing holds on to what is replaced.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import contextlib
import logging
import resource
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from mesh.config import Settings, load
from mesh.errors import ConfigurationError, MeshError
from mesh.security.keyring import Keyring
from mesh.security.loopback import is_loopback
from mesh.security.token import redact

if TYPE_CHECKING:
    from flask import Flask
    from gunicorn.workers.ggevent import GeventWorker

MAX_CONNECTIONS = 10_000  # a worker; streams are held open, and cost about 25 KB each
BACKLOG = 2048
MAX_LINE_BYTES = 8190  # the most that gunicorn takes: a search of 1,000 characters may be 6,000 long
GRACE_SECONDS = 10
KEEPALIVE_SECONDS = 5  # idle connections delay a stop by this much


def main(host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM.

    Raises:
        ConfigurationError: it cannot start as it is set, or cannot listen there.
    """
    settings = load()
    if settings.auth == "local" and not is_loopback(host):
        raise ConfigurationError(f"MESH_AUTH=local serves this machine only, not {host}: set MESH_AUTH=keys.")
    Keyring.parse(settings.secrets.get_secret_value())  # one clear line here, instead of a traceback a worker
    _allow_many_files()
    with _listen(host, port) as listener:
        address = f"[{host}]" if ":" in host else host
        print(f"Listening on http://{address}:{listener.getsockname()[1]}", file=sys.stderr)  # noqa: T201  # for people
        _Server(settings, listener.detach(), workers).run()


class _Server(BaseApplication):
    """Gunicorn, told what it would otherwise read from a file."""

    def __init__(self, settings: Settings, descriptor: int, workers: int) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {
            "bind": f"fd://{descriptor}",
            "workers": workers,
            "worker_class": "api.worker.Worker",
            "limit_request_line": MAX_LINE_BYTES,
            "worker_connections": MAX_CONNECTIONS,
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": KEEPALIVE_SECONDS,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_fork": _cooperate,
            "post_worker_init": _drain_on_stop,
            "worker_exit": _store_counts,
        }
        super().__init__()

    def load_config(self) -> None:
        """Take the options over."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        """The application, made in the worker."""
        from api.app import create_app  # noqa: PLC0415  # the arbiter stays small, and its workers start clean
        from mesh.bootstrap import build  # noqa: PLC0415  # the same
        from mesh.observability.logging import configure  # noqa: PLC0415  # the same

        configure(self._settings.log_level)
        try:
            return create_app(build(self._settings, name="mesh-api"))
        except MeshError as error:
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201  # for people, instead of a traceback
            sys.exit(Arbiter.APP_LOAD_ERROR)  # this one is not started again


class Redacted(logging.Filter):
    """Strikes keys and tickets out of what gunicorn logs: whole addresses, for requests that it cannot handle."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; all of them pass."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


def _cooperate(_arbiter: object, worker: "GeventWorker") -> None:
    """Let other greenlets run while one waits for PostgreSQL; without it, one slow query stops them all."""
    worker.log.error_log.addFilter(Redacted())
    from psycogreen.gevent import patch_psycopg  # noqa: PLC0415  # loads psycopg2, which only workers need

    patch_psycopg()


def _drain_on_stop(worker: "GeventWorker") -> None:
    from api.streams import install_drain  # noqa: PLC0415  # loaded with the application, in the worker

    install_drain(cast("Flask", worker.wsgi).extensions["streams"])


def _store_counts(_arbiter: object, worker: "GeventWorker") -> None:
    if worker.booted:
        cast("Flask", worker.wsgi).extensions["requests"].flush()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # who comes before the workers are there, waits
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Try another --port."
        ) from None
    return listener


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: every connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # not allowed here: then it is as it was
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except MeshError as error:
        sys.exit(f"Error: {error}")
