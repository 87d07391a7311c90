"""Waiting for the end of a task: GET .../tasks/{task_id}?wait=SECONDS.

api.resources.tasks -> here -> api.streams.  Who waits is a reader of the task's stream who is sent nothing: no
connection is held, and the rows are read only where a stream's would be, every second while Redis is away.
"""

from typing import cast

import gevent
from flask import current_app

from api.context import principal
from api.stream_topics import Format, Reader, Signal
from api.streams import Hub

_NOTHING = Format("", opening=b"", heartbeat=b"", event=lambda _event: b"", farewell=lambda _milliseconds: b"")


def wait_for_end(task_id: str, position: int, *, seconds: float) -> None:
    """Return when the task has ended after event number `position`, and after `seconds` at the latest.

    Sooner, too, when this process is told to stop, or the caller's key is revoked.
    """
    hub = cast(Hub, current_app.extensions["streams"])
    reader = Reader(_NOTHING, position, key_id=principal().key_id, connection=None)
    # A signal among the events, and no gevent.Timeout: that could hit while a query is under way.
    timer = gevent.spawn_later(seconds, reader.offer, Signal.DRAIN)
    try:
        for _ in hub.stream(task_id, reader):
            pass
    finally:
        timer.kill()
