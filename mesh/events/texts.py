"""Texts as models write them: for those who watch a task, beside its stored events and never stored themselves.

mesh.tasks.watching (workers) -> LivePublisher -> Redis -> here and api.streams (the hub).
A text is known by its step and the number of the stored event that began it (`step_started` or `fallback`); one with
an older number is void.  For each piece a `token` goes the way of the task's events, so that all arrive in one order;
before that the piece is written to a Redis string, where the text so far is read: it is never behind the tokens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from redis import Redis

from mesh.clock import to_wire
from mesh.events.live import CHANNEL_PREFIX, Command, encode
from mesh.events.log import StoredEvent

TOKEN = "token"  # noqa: S105  # a kind of event
# How long a task counts as watched after the hub said so, which it does every few seconds.
WATCHED_SECONDS = 10
# For the text of a worker that died; others are removed.
KEEP_SECONDS = 600


def watched_key(task_id: str) -> str:
    """The Redis key that is there while somebody watches the task."""
    return f"mesh:watched:{task_id}"


def _text_key(step_id: str, sequence: int) -> str:
    return f"mesh:text:{step_id}:{sequence}"


@dataclass(frozen=True, slots=True)
class Piece:
    """What the text of a step, begun by event number `sequence`, grew by after `offset` characters, `at_byte` bytes."""

    task_id: str
    network_id: str
    step_id: str
    sequence: int
    offset: int
    at_byte: int
    text: str

    def commands(self, *, at: datetime) -> list[Command]:
        """What tells Redis: sent twice they do what they do once."""
        key = _text_key(self.step_id, self.sequence)
        data = token(self.task_id, self.network_id, self.step_id, self.sequence, at=at)
        grown = StoredEvent(0, TOKEN, data | {"offset": self.offset, "text": self.text})
        return [
            ("SETRANGE", key, str(self.at_byte), self.text),
            ("EXPIRE", key, str(KEEP_SECONDS)),
            ("PUBLISH", CHANNEL_PREFIX + self.task_id, encode([grown])),
        ]


def token(task_id: str, network_id: str, step_id: str, sequence: int, *, at: datetime) -> dict[str, Any]:
    """The fields that `token` and `partial` have in common; `sequence` is the number of the event that they follow."""
    return {
        "task_id": task_id,
        "network_id": network_id,
        "sequence": sequence,
        "timestamp": to_wire(at),
        "step_id": step_id,
    }


def removal(step_id: str, sequence: int) -> Command:
    """What has Redis forget a text that has ended."""
    return ("UNLINK", _text_key(step_id, sequence))


class Texts:
    """Redis as the hub needs it beside Pub/Sub; every method raises RedisError or OSError when it does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def watch(self, task_ids: Iterable[str]) -> None:
        """Have models stream to these tasks for `WATCHED_SECONDS`."""
        pipeline = self._redis.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.set(watched_key(task_id), "", ex=WATCHED_SECONDS)
        pipeline.execute()

    def so_far(self, texts: Mapping[str, int]) -> dict[str, str]:
        """What is written of `texts` (step to number); those are missing of which there is nothing, or not all."""
        keys = [_text_key(step_id, sequence) for step_id, sequence in texts.items()]
        found = cast("list[bytes | None]", self._redis.mget(keys))
        # Where pieces never arrived, or Redis forgot the first ones, it fills up with NUL, which no text holds.
        return {
            step_id: text.decode() for step_id, text in zip(texts, found, strict=True) if text and b"\0" not in text
        }
