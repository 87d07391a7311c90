"""A server of its own process: the streams, on real rows and a real Redis, for callers that need no key but `key_1`.

python server.py DATABASE_URL REDIS_URL PORT BEAT_SECONDS REVOKED; once the file REVOKED exists, the key is.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402  # after the patching
from pathlib import Path  # noqa: E402  # after the patching
from types import SimpleNamespace  # noqa: E402  # after the patching
from typing import Any, cast  # noqa: E402  # after the patching

from flask import Flask, g  # noqa: E402  # after the patching
from gunicorn.app.base import BaseApplication  # noqa: E402  # after the patching
from gunicorn.workers.base import Worker  # noqa: E402  # after the patching
from psycogreen.gevent import patch_psycopg  # noqa: E402  # after the patching

from api import errors, request  # noqa: E402  # after the patching
from api.resources import streams  # noqa: E402  # after the patching
from api.streams import install_drain  # noqa: E402  # after the patching
from mesh.db.engine import create  # noqa: E402  # after the patching
from mesh.db.unit_of_work import Database  # noqa: E402  # after the patching
from mesh.errors import NotFoundError  # noqa: E402  # after the patching
from mesh.events.log import EventLog  # noqa: E402  # after the patching
from mesh.security.principal import Principal, Role  # noqa: E402  # after the patching


class Tasks:
    """Knows every task but one."""

    def find(self, _principal: Principal, task_id: str) -> None:
        if task_id == "task_unknown":
            raise NotFoundError("There is no such task.")


class Server(BaseApplication):
    """gunicorn with one gevent worker, as the service runs it."""

    def __init__(self, database_url: str, redis_url: str, port: str, beat_seconds: str, revoked: str) -> None:
        self.arguments = (database_url, redis_url, float(beat_seconds), Path(revoked))
        self.port = port
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": f"127.0.0.1:{self.port}",
            "worker_class": "gevent",
            "worker_connections": 5_000,
            "graceful_timeout": 20,
            "control_socket_disable": True,
            "post_worker_init": _ready,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # noqa: ANN401  # stubs know WSGI applications only as callables
        patch_psycopg()
        database_url, redis_url, beat_seconds, revoked = self.arguments
        mesh = SimpleNamespace(
            settings=SimpleNamespace(redis_url=redis_url),
            events=EventLog(Database(create(database_url, name="streams"))),
            keys=SimpleNamespace(is_live=lambda _key_id: not revoked.exists()),
            tasks=Tasks(),
        )
        app = Flask(__name__, static_folder=None)
        errors.install(app)
        request.install(app)
        app.before_request(_everybody)
        app.register_blueprint(streams.blueprint(cast("Any", mesh), beat_seconds=beat_seconds))
        return app


def _everybody() -> None:
    g.principal = Principal("somebody", Role.USER, frozenset(), key_id="key_1")


def _ready(worker: Worker) -> None:
    install_drain(cast("Flask", worker.wsgi).extensions["streams"])


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
