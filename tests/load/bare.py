"""`python -m tests.load.bare HOST PORT`: the control of submissions: Flask, one INSERT, one `apply_async`.

On the same server as the API, with the same settings of it; the database and the broker come from the environment.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import sys
import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery
from flask import Flask, request
from flask.typing import ResponseReturnValue
from gunicorn.app.base import BaseApplication
from psycogreen.gevent import patch_psycopg
from sqlalchemy import create_engine, text

from mesh.config import load

TABLE = "CREATE TABLE IF NOT EXISTS bare (id text PRIMARY KEY, body jsonb NOT NULL)"
_INSERT = text("INSERT INTO bare (id, body) VALUES (:id, :body)")


def create_app() -> Flask:
    """One route, without any check."""
    settings = load()
    app = Flask(__name__)
    engine = create_engine(settings.database_url)
    celery = Celery("bare", broker=settings.redis_url, set_as_current=False)
    celery.conf.update(task_ignore_result=True)

    @celery.task(name="bare")
    def job(task_id: str) -> None:
        """Nobody runs it."""

    @app.post("/tasks")
    def submit() -> ResponseReturnValue:
        task_id = uuid.uuid4().hex
        with engine.begin() as connection:
            connection.execute(_INSERT, {"id": task_id, "body": request.get_data(as_text=True)})
        job.apply_async((task_id,))
        return {"task_id": task_id}, 202

    return app


def _cooperate(_arbiter: object, _worker: object) -> None:
    patch_psycopg()


class _Server(BaseApplication):
    """Gunicorn with gevent, one worker."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def load_config(self) -> None:
        """As `api.server` sets it."""
        options: dict[str, Any] = {
            "bind": self._address,
            "workers": 1,
            "worker_class": "gevent",
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_fork": _cooperate,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        """The application, made in the worker."""
        return create_app()


if __name__ == "__main__":
    _Server(f"{sys.argv[1]}:{sys.argv[2]}").run()
