"""The texts of running steps as one reader has been sent them: each character once, whatever is lost on the way.

Reader -> here.  Stored events say which texts there are; a text is known by its step and the number of the event that
began it, and what carries another number is void.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh.clock import now
from mesh.events.log import StoredEvent
from mesh.events.texts import TOKEN, token

_BEGINS = frozenset({"step_started", "fallback"})
_ENDS = frozenset({"step_completed", "step_failed"})
_ENDS_ALL = frozenset({"started", "complete"})


@dataclass(slots=True)
class _Text:
    """What was sent of a text: `length` characters; None when more of it cannot be sent any more."""

    task_id: str
    network_id: str
    sequence: int
    length: int | None = 0


class TextsSent:
    """The texts of the steps that run at the reader's position."""

    def __init__(self) -> None:
        self._texts: dict[str, _Text] = {}

    @property
    def running(self) -> dict[str, int]:
        """Each step that runs, with the number of the event that began its text."""
        return {step_id: text.sequence for step_id, text in self._texts.items()}

    def learn(self, events: Sequence[StoredEvent]) -> None:
        """Take note of events that are sent."""
        for event in events:
            data = event.data
            if event.type in _BEGINS:
                self._texts[data["step_id"]] = _Text(data["task_id"], data["network_id"], event.sequence)
            elif event.type in _ENDS:
                self._texts.pop(data["step_id"], None)
            elif event.type in _ENDS_ALL:
                self._texts.clear()

    def gap(self, one: StoredEvent) -> dict[str, int]:
        """The text that the token `one` continues, if characters are missing before it; else nothing."""
        text = self._text_of(one)
        missed = text is not None and text.length is not None and one.data["offset"] > text.length
        return {one.data["step_id"]: one.data["sequence"]} if missed else {}

    def news(self, one: StoredEvent) -> StoredEvent | None:
        """The part of the token `one` that was not sent yet, which is then counted as sent."""
        text = self._text_of(one)
        if text is None or text.length is None:
            return None
        known = text.length - one.data["offset"]
        if known < 0:  # and what is missing could not be read
            text.length = None
            return None
        rest = one.data["text"][known:]
        text.length += len(rest)
        if known == 0 or not rest:
            return one if rest else None
        return StoredEvent(0, TOKEN, one.data | {"offset": text.length - len(rest), "text": rest})

    def caught_up(self, step_id: str, so_far: str) -> StoredEvent | None:
        """What brings the reader to `so_far`: a `partial` if it has nothing, else a token."""
        text = self._texts[step_id]
        if text.length is None or len(so_far) <= text.length:
            return None
        sent, text.length = text.length, len(so_far)
        data: dict[str, Any] = token(text.task_id, text.network_id, step_id, text.sequence, at=now())
        if sent:
            return StoredEvent(0, TOKEN, data | {"offset": sent, "text": so_far[sent:]})
        return StoredEvent(0, "partial", data | {"text": so_far})

    def _text_of(self, one: StoredEvent) -> _Text | None:
        text = self._texts.get(one.data["step_id"])
        return text if text is not None and text.sequence == one.data["sequence"] else None
