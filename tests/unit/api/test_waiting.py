"""GET .../tasks/{task_id}?wait=SECONDS: answers when the task ends, by what streams are told, not by asking again."""

import time

import gevent
import pytest
from werkzeug.test import TestResponse

from mesh.tasks.states import TaskStatus
from mesh.tasks.views import TaskView
from tests.unit.api.fakes import NETWORK_ID, FakeMesh, FakeTasks, wire
from tests.unit.api.hub import TASK, FakeLog, Stage, until

pytestmark = pytest.mark.usefixtures("no_greenlet_is_left")


class Log(FakeLog):
    def last(self, _task_id: str) -> int:
        return len(self.rows)


class Running:
    """A task that runs; `asked` is somebody who waits for its end."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.stage.log.store("started", "plan", "step_started")
        self.mesh = FakeMesh(events=Log())
        self.mesh.events.rows = self.stage.log.rows  # type: ignore[attr-defined]  # a Log
        self.mesh.tasks.status = TaskStatus.PROCESSING
        self.asked: gevent.Greenlet[[], tuple[TestResponse, float]]

    def ask(self, seconds: float = 20) -> None:
        app = self.mesh.app()
        app.extensions["streams"] = self.stage.hub

        def get() -> tuple[TestResponse, float]:
            started = time.monotonic()
            path = f"/api/mesh/networks/{NETWORK_ID}/tasks/{TASK}?wait={seconds}"
            return app.test_client().get(path, headers={"X-API-Key": "user-key"}), time.monotonic() - started

        self.asked = gevent.spawn(get)

    def end(self, *, announced: bool = True) -> None:
        self.mesh.tasks.status = TaskStatus.COMPLETED
        stored = self.stage.log.store("result", "complete")
        if announced:
            self.stage.redis.publish(*stored)

    def answer(self) -> tuple[str, float]:
        """The status that was answered, and after how many seconds."""
        response, seconds = self.asked.get(timeout=5)
        assert response.status_code == 200
        return wire(response)["status"], seconds


@pytest.fixture
def running() -> Running:
    return Running()


def test_it_answers_when_the_task_has_ended_and_reads_no_rows_meanwhile(running: Running) -> None:
    running.ask()
    until(lambda: running.stage.log.reads)
    gevent.sleep(0.1)
    assert not running.asked.dead
    assert running.stage.log.reads == 1
    ended = time.monotonic()
    running.end()
    assert running.answer()[0] == "completed"
    assert time.monotonic() - ended < 2


def test_it_answers_the_present_state_when_the_time_is_over(running: Running) -> None:
    running.ask(0.1)
    status, seconds = running.answer()
    assert status == "processing"
    assert 0.1 <= seconds < 2
    until(lambda: not running.stage.redis.followed)  # nobody reads it any more


def test_a_task_that_has_ended_is_answered_at_once(running: Running) -> None:
    running.end()
    running.ask()
    assert running.answer()[0] == "completed"
    assert running.stage.log.reads == 0


def test_an_end_between_reading_the_task_and_listening_is_not_missed(running: Running) -> None:
    class EndsMeanwhile(FakeTasks):
        def get(self, *asked: object) -> TaskView:
            view = super().get(*asked)
            if view.status == TaskStatus.PROCESSING:
                self.status = TaskStatus.COMPLETED
                running.stage.log.store("complete")
            return view

    running.mesh.tasks = EndsMeanwhile()
    running.mesh.tasks.status = TaskStatus.PROCESSING
    running.ask()
    assert running.answer()[0] == "completed"


def test_without_redis_the_rows_are_read_every_now_and_then(running: Running) -> None:
    running.stage.redis.down = True
    running.ask()
    until(lambda: running.stage.log.reads)
    running.end(announced=False)
    assert running.answer()[0] == "completed"


def test_a_server_that_stops_keeps_nobody_waiting(running: Running) -> None:
    running.ask()
    until(lambda: running.stage.log.reads)
    running.stage.hub.drain()
    assert running.answer()[0] == "processing"
