"""One exchange, free of any provider's wire format: what was asked, and what is answered.

formats.parse -> Ask -> content -> Answer -> formats (plain or stream).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

Provider = Literal["anthropic", "openai", "gemini", "groq"]
Finish = Literal["stop", "length", "blocked"]
Json = dict[str, Any]

CHARACTERS_PER_TOKEN = 4
WORDS_PER_CHUNK = 5


class BadRequestError(Exception):
    """The request is not one that the provider would accept; the message says why. Answered with a 400."""


@dataclass(frozen=True)
class Ask:
    """A parsed request. `messages` are (role, text), the system's first; roles are system, user, assistant, tool.

    With `dimensions`, vectors of so many numbers are wanted, one for each message.
    """

    model: str
    stream: bool
    messages: tuple[tuple[str, str], ...]
    schema: Mapping[str, Any] | None = None
    schema_name: str = ""
    tool: str | None = None
    max_tokens: int | None = None
    include_usage: bool = True
    dimensions: int | None = None

    @cached_property
    def system(self) -> str:
        """All system text."""
        return "\n".join(text for role, text in self.messages if role == "system")

    @cached_property
    def user(self) -> str:
        """All text of the user role."""
        return "\n".join(text for role, text in self.messages if role == "user")

    @property
    def prompt_tokens(self) -> int:
        """A quarter of the prompt's characters, system included, rounded up."""
        return tokens(sum(len(text) for _, text in self.messages))

    @property
    def digest(self) -> str:
        """SHA-256 of `role:text` lines: the same for the same prompt, whichever provider it was sent to."""
        return hashlib.sha256("\n".join(f"{role}:{text}" for role, text in self.messages).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says. `created` is in Unix seconds; `text` is JSON when the ask had a schema."""

    id: str
    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    created: int


@dataclass(frozen=True, slots=True)
class Frames:
    """A streamed answer in wire format: what opens it, one frame a piece of text, and the finish with usage."""

    head: Sequence[bytes]
    deltas: Sequence[bytes]
    tail: Sequence[bytes]


class Format(Protocol):
    """A provider's wire format."""

    request_id_header: str

    def key(self, headers: Mapping[str, str]) -> str:
        """The caller's credentials, or an empty string."""
        ...

    def parse(self, body: Json, call: str) -> Ask:
        """Read a request; `call` is the path's last segment.

        Raises:
            BadRequestError: something that the provider insists on is missing.
        """
        ...

    def plain(self, ask: Ask, answer: Answer) -> Json:
        """The body of a plain answer."""
        ...

    def frames(self, ask: Ask, answer: Answer) -> Frames:
        """The events of a streamed answer."""
        ...

    def error(self, status: int, kind: str, message: str, request_id: str) -> Json:
        """The body of an error; `kind` is `status` text such as `429`, or `quota`, `context_length`."""
        ...


def tokens(characters: int) -> int:
    """How many tokens so many characters count for."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def pieces(text: str) -> list[str]:
    """`text` in pieces of a few words that join to it again."""
    words = text.split(" ")
    groups = [" ".join(words[at : at + WORDS_PER_CHUNK]) for at in range(0, len(words), WORDS_PER_CHUNK)]
    return [*(f"{group} " for group in groups[:-1]), groups[-1]] if text else []


def text_of(content: object) -> str:
    """The text of a message: a string, or a list of parts that carry `text`; other parts count for nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
