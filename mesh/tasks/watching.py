"""Watching: the text of a step for those who watch its task, while its model writes it.

tasks.execution -> here -> mesh.events.texts.  Streaming costs many times what a plain call does, so models are asked to
stream only for tasks that somebody watches when the call begins.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Protocol

import structlog
from redis import Redis

from mesh.agents.growing import GrowingText
from mesh.clock import Clock
from mesh.events.live import Command
from mesh.events.texts import Piece, removal, watched_key
from mesh.models.shared import Shared
from mesh.tasks.claims import Claim

# A step's text is sent at most 20 times a second, its last piece, which waits for nothing, included.
PERIOD_SECONDS = 1 / 18

# The steps of a plan begin within milliseconds, and would wait for each other's answers of Redis.
TOGETHER = timedelta(milliseconds=50)

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """What sends to Redis in the order of the task's events: `mesh.events.live.LivePublisher`."""

    def send(self, commands: Sequence[Command]) -> None:
        """Send `commands`; never raises nor waits."""


class StepText:
    """The text of one attempt at a step; `news` is told when there may be something to show."""

    def __init__(
        self,
        claim: Claim,
        network_id: str,
        field: str,
        *,
        sender: Sender,
        clock: Clock,
        news: "SimpleQueue[StepText]",
    ) -> None:
        """`field` of the reply's JSON holds the text."""
        self._claim = claim
        self._network_id = network_id
        self._field = field
        self._sender = sender
        self._clock = clock
        self._news = news
        self._lock = Lock()
        self._sequence: int | None = None
        self._forget()

    def begin(self, sequence: int | None) -> None:
        """Event number `sequence` says that a model is asked: what came before is void.  None: do not show its text."""
        with self._lock:
            self._end()
            self._sequence = sequence

    def feed(self, piece: str) -> None:
        """Take the next piece of the model's reply."""
        with self._lock:
            self._growing.add(piece)
        self._news.put(self)

    def show(self) -> None:
        """Send what is new."""
        with self._lock:
            self._show()

    def close(self) -> None:
        """Send the rest; nothing is sent after that."""
        with self._lock:
            self._show()
            self._end()

    def _show(self) -> None:
        grown = "" if self._sequence is None else self._growing.grown()
        if self._sequence is None or not grown:
            return
        claim = self._claim
        piece = Piece(
            claim.task_id, self._network_id, claim.step_id, self._sequence, self._characters, self._bytes, grown
        )
        self._characters += len(grown)
        self._bytes += len(grown.encode())
        self._sender.send(piece.commands(at=self._clock()))

    def _end(self) -> None:
        if self._sequence is not None and self._characters:
            self._sender.send([removal(self._claim.step_id, self._sequence)])
        self._forget()

    def _forget(self) -> None:
        self._sequence = None
        self._growing = GrowingText(self._field)
        self._characters = self._bytes = 0


class Watching:
    """The texts of this process's steps; one thread sends what is new, for all of them, every `PERIOD_SECONDS`."""

    def __init__(self, shared: Shared, sender: Sender, clock: Clock) -> None:
        self._shared = shared
        self._sender = sender
        self._clock = clock
        self._news: SimpleQueue[StepText] = SimpleQueue()
        self._lock = Lock()
        self._thread = Thread()
        self._last = "", False, clock()

    def text_of(self, claim: Claim, network_id: str, field: str) -> StepText | None:
        """The text of `claim`, to be fed and closed; None when nobody watches, or Redis does not say."""
        if not self._shared.ask(partial(self._watched, claim.task_id)):
            return None
        with self._lock:
            if not self._thread.is_alive():
                self._thread = Thread(target=self._show_all, name="texts", daemon=True)
                self._thread.start()
        return StepText(claim, network_id, field, sender=self._sender, clock=self._clock, news=self._news)

    def _watched(self, task_id: str, redis: Redis) -> bool:
        """Whether somebody watches; asked once for steps that begin together.  One thread at a time is in here."""
        last, watched, asked_at = self._last
        if last != task_id or abs(self._clock() - asked_at) > TOGETHER:
            watched = bool(redis.exists(watched_key(task_id)))
            self._last = task_id, watched, self._clock()
        return watched

    def _show_all(self) -> None:
        while True:
            texts = {self._news.get()}
            while not self._news.empty():  # nobody else takes from it
                texts.add(self._news.get())
            for text in texts:
                try:
                    text.show()
                except Exception:  # the other texts go on
                    log.exception("text_not_shown")
            time.sleep(PERIOD_SECONDS)
