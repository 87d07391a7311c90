"""From an ask to the model's text: a decision, a specialist's reply, a sample of another schema, or plain text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mesh.sandbox.content import campaign
from mesh.sandbox.content.brief import Brief, Prompt, Result, read
from mesh.sandbox.content.crafts import ORDER, TITLES, Craft, craft_addressed, craft_of
from mesh.sandbox.exchange import Ask, Json
from mesh.sandbox.schema_instance import MISSING, instance, resolve

MOST_SUBTASKS = 20  # what the mesh accepts in one decision
CONFIDENCE: dict[Craft, float] = {"content": 0.92, "design": 0.88, "analytics": 0.86, "personalization": 0.89}
DELIVERS: dict[Craft, str] = {
    "content": "Write the copy: three subject lines, a preheader, the body with one call to action",
    "design": "Specify the layout: sections top to bottom, type, colours, buttons, dark mode, checks",
    "analytics": "Plan the measurement: primary metric, guardrails, A/B tests, tracking",
    "personalization": "Define segments with their rules, merge fields with fallbacks, and the timing",
    "coordinator": "Review the whole for gaps and contradictions",
    "other": "Contribute what your craft adds",
}


def text_for(ask: Ask) -> str:
    """The text of the answer; JSON that fits the schema when there is one, nothing where vectors are wanted.

    Raises:
        BadRequestError: the schema is beyond the generator.
    """
    if ask.dimensions:
        return ""
    prompt = read(ask.user)
    if ask.schema is None:
        return _plain(prompt.brief)
    draft: object = MISSING
    properties = resolve(ask.schema, ask.schema).get("properties", {})
    if ask.schema_name == "mesh_decision" or {"task_complete", "subtasks"} <= set(properties):
        draft = _decision(prompt, _agents(properties.get("subtasks", {}), ask.schema))
    elif ask.schema_name == "mesh_reply" or {"result", "confidence", "memories"} <= set(properties):
        draft = _reply(prompt.brief, craft_addressed(ask.system or ask.user))
    if isinstance(draft, dict) and "used_memories" in properties:
        draft["used_memories"] = list(prompt.memories)
    return json.dumps(instance(ask.schema, draft), ensure_ascii=False)


def _decision(prompt: Prompt, agents: Sequence[str]) -> Json:
    if prompt.results or prompt.must_conclude or not agents:
        return _conclusion(prompt.brief, prompt.results)
    return _plan(prompt.brief, agents)


def _agents(subtasks: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    item = resolve(resolve(subtasks, root).get("items", {}), root)
    names = resolve(item.get("properties", {}).get("agent", {}), root).get("enum", [])
    specialists = [name for name in names if craft_of(name) != "coordinator"]
    return (specialists or list(names))[:MOST_SUBTASKS]


def _plan(facts: Brief, agents: Sequence[str]) -> Json:
    keys = [campaign.slug(agent) or "step" for agent in agents]
    subtasks = [
        {
            "key": key if key not in keys[:at] else f"{key}-{at + 1}",
            "agent": agent,
            "description": f"{DELIVERS[craft_of(agent)]}. The task: {_sentence(facts.task)} Known: {_known(facts)}.",
            "depends_on": [],
        }
        for at, (key, agent) in enumerate(zip(keys, agents, strict=True))
    ]
    return {
        "reasoning": f"The crafts needed do not depend on each other, so that {len(agents)} can work in parallel.",
        "task_complete": False,
        "subtasks": subtasks,
        "memories": [_memory("decision", f"Work on the task is split in parallel among {', '.join(agents)}.", 0.9)],
        "content": "",
        "explanation": "",
        "confidence": 0.9,
    }


def _conclusion(facts: Brief, finished: Sequence[Result]) -> Json:
    sections = [(craft_of(result.agent), result) for result in finished if result.text]
    missing = [result.agent for result in finished if not result.text]
    if not sections:
        wanted: Sequence[Craft] = ORDER if facts.is_campaign else ("other",)
        sections = [(craft, Result("", _craft_text(facts, craft))) for craft in wanted]
    ordered = sorted(sections, key=lambda section: (*ORDER, section[0]).index(section[0]))
    parts = [f"## {TITLES.get(craft) or result.agent or 'Result'}\n\n{result.text}" for craft, result in ordered]
    title = f"E-mail campaign for {campaign.product_of(facts)}" if facts.is_campaign else facts.task
    lacking = f" Missing is the part of: {', '.join(missing)}." if missing else ""
    return {
        "reasoning": "All that can be had is at hand and consistent, so the parts can be put together.",
        "task_complete": True,
        "subtasks": [],
        "memories": [_memory("fact", f"{title}: finished, in {len(parts)} parts.", 0.95)],
        "content": "\n\n".join([f"# {title}", *parts]),
        "explanation": f"Rests on the facts given ({_known(facts)}), in the order in which it is used.{lacking}",
        "confidence": 0.7 if missing else 0.93,
    }


def _reply(facts: Brief, craft: Craft) -> Json:
    about = facts.product or "the task"
    return {
        "reasoning": f"Worked from the facts given ({_known(facts)}), and left open what they do not say.",
        "result": _craft_text(facts, craft),
        "confidence": CONFIDENCE.get(craft, 0.85),
        "memories": [
            _memory("fact", f"What is known of {about}: {_known(facts)}.", 0.9),
            _memory("context", f"{TITLES.get(craft, 'Specialist work')} for {about} has been delivered.", 0.85),
        ],
    }


def _craft_text(facts: Brief, craft: Craft) -> str:
    if facts.is_campaign and craft in campaign.WRITERS:
        return campaign.WRITERS[craft](facts)
    return (
        f"### Approach\n\n{facts.subtask or f'{DELIVERS[craft]}. The task: {_sentence(facts.task)}'}\n\n"
        "### Steps\n\n"
        "1. Settle what the result must let its reader do, and what is out of scope.\n"
        f"2. Work from what is known: {_known(facts)}.\n"
        "3. Do the part with the greatest effect first, and check it against the task.\n"
        "4. Note what stays open, who can answer it, and by when.\n\n"
        "### Checks\n\n"
        "- Every claim can be traced to the material.\n- Nothing contradicts another part of the work."
    )


def _plain(facts: Brief) -> str:
    if facts.is_campaign:
        return f"Subject: {campaign.subjects(facts)[0]}\n\n{campaign.body(facts)}"
    return (
        f"Here is a short answer to: {facts.task}\n\n"
        "The main point first: settle what the result must let its reader do, and work backwards from it. "
        "Then take the part with the greatest effect, finish it, and check it against the question before going on. "
        "What the material does not say is best left open, with a note on who could answer it."
    )


def _known(facts: Brief) -> str:
    fields = {"product": facts.product, "description": facts.description, "audience": facts.audience}
    known = [f"{name} {value}" for name, value in fields.items() if value]
    known += [f"features {campaign.join(facts.features)}"] if facts.features else []
    return "; ".join(known) or "the task alone"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _memory(kind: str, content: str, confidence: float) -> Json:
    return {"type": kind, "content": content, "confidence": confidence}
