"""Which craft an agent practises, told from its name or from how its prompt introduces it."""

import re
from typing import Literal

Craft = Literal["content", "design", "analytics", "personalization", "coordinator", "other"]

ORDER: tuple[Craft, ...] = ("content", "design", "personalization", "analytics")
TITLES: dict[Craft, str] = {
    "content": "Copy",
    "design": "Design",
    "personalization": "Segments and personalization",
    "analytics": "Metrics and tests",
}

_WORDS: dict[str, Craft] = {
    "content": "content", "copywrit": "content", "copy editor": "content", "writer": "content",
    "design": "design", "layout": "design", "visual": "design",
    "analyst": "analytics", "analytic": "analytics", "data scien": "analytics", "metric": "analytics",
    "personali": "personalization", "crm": "personalization", "lifecycle": "personalization",
    "segment": "personalization",
    "coordinat": "coordinator", "orchestrat": "coordinator",
}  # fmt: skip
_YOU_ARE = re.compile(r'\bYou are (?:an? )?"?([^".\n]+)')
_INTRODUCTION = 300  # characters in which any other prompt says whom it addresses


def craft_of(name: str) -> Craft:
    """The craft whose word comes first in an agent's name."""
    text = name.lower()
    found = [(at, craft) for word, craft in _WORDS.items() if (at := text.find(word)) >= 0]
    return min(found)[1] if found else "other"


def craft_addressed(system: str) -> Craft:
    """The craft of the agent that a system prompt speaks to: `You are "Ann" ... You are a senior copywriter ...`."""
    introduced = _YOU_ARE.findall(system)[:2] or [system[:_INTRODUCTION]]
    return next((craft for text in introduced if (craft := craft_of(text)) != "other"), "other")
