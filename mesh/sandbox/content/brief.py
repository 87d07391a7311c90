"""What the stand-in understands of a prompt: the task, the product's facts, and results of finished steps.

Prompts of the mesh carry their data in blocks, `<<<label id>>>` to `<<<end id>>>`; facts are found by key in the JSON
of the context. Of any other prompt the whole text is taken for both.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

RESULTS_LABEL = "results of finished steps"
CONCLUDE = "You must conclude now"
LONGEST_TASK = 300  # characters of the task that are quoted
MOST_FEATURES = 8
MOST_USED = 2

_DECODER = json.JSONDecoder()
_BLOCK = re.compile(r"<<<([^<>\n]+) (\S+)>>>\n(.*?)\n<<<end \2>>>", re.DOTALL)
_COLON = re.compile(r"\s*:\s*")
_NAMED = re.compile(
    r"\b(?:for|of|introducing|about|launch|named|called)\s+(?:our\s+|the\s+)?([A-Z][\w-]*(?:\s+[A-Z0-9][\w-]*)*)"
)
_FOR_WHOM = re.compile(r"\b(?:targeting|aimed at|addressed to|audience:)\s+([^.,;\n\"]{3,80})")
_CAMPAIGN = re.compile(r"campaign|e-?mail|newsletter|launch|marketing|announce", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Brief:
    """The facts that a prompt gives; an empty string or tuple where it gives none."""

    task: str
    subtask: str = ""
    product: str = ""
    description: str = ""
    audience: str = ""
    features: tuple[str, ...] = ()

    @property
    def is_campaign(self) -> bool:
        """Whether a product or the words of the task call for marketing."""
        return bool(self.product or _CAMPAIGN.search(self.task))


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished step delivered; no text when it failed."""

    agent: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the user's part of a prompt says; `memories` are the labels of the first ones."""

    brief: Brief
    results: tuple[Result, ...]
    must_conclude: bool
    memories: tuple[str, ...] = ()


def read(user: str) -> Prompt:
    """Read the user's part of a prompt."""
    blocks: dict[str, list[str]] = {}
    for label, _, body in _BLOCK.findall(user):
        blocks.setdefault(label, []).append(body)
    data = "\n".join(blocks.get("context", []) + blocks.get("shared context", [])) if blocks else user
    task = "\n".join(blocks.get("task", [])) or _first(user, "task") or user
    return Prompt(
        _brief(_short(task), _short("\n".join(blocks.get("your subtask", []))), data),
        tuple(_result(body) for body in blocks.get(RESULTS_LABEL, [])),
        CONCLUDE in _BLOCK.sub("", user),
        tuple(str(label) for label in _values("\n".join(blocks.get("memory", [])), "label"))[:MOST_USED],
    )


def _brief(task: str, subtask: str, data: str) -> Brief:
    features = next((value for value in _values(data, "key_features") if isinstance(value, list)), [])
    return Brief(
        task=task,
        subtask=subtask,
        product=_first(data, "product_name") or _match(_NAMED, task),
        description=_first(data, "product_description").strip().rstrip("."),
        audience=(_first(data, "target_audience", "audience") or _match(_FOR_WHOM, task)).strip(),
        features=tuple(str(feature) for feature in features if str(feature).strip())[:MOST_FEATURES],
    )


def _result(body: str) -> Result:
    """A line of JSON that names the agent, then its output."""
    header, _, output = body.partition("\n")
    return Result(_first(header, "agent"), output.strip())


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_TASK else text[:LONGEST_TASK].rsplit(" ", 1)[0] + " ..."


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""


def _first(text: str, *keys: str) -> str:
    found = (value for key in keys for value in _values(text, key) if isinstance(value, str) and value.strip())
    return next(found, "")


def _values(text: str, key: str) -> Iterator[object]:
    quoted = f'"{key}"'
    at = text.find(quoted)
    while at >= 0:
        at += len(quoted)
        if colon := _COLON.match(text, at):
            with suppress(ValueError):  # not JSON after all: look for the next one
                yield _DECODER.raw_decode(text, colon.end())[0]
        at = text.find(quoted, at)
