"""The other control: the same calls in a bare LiteLLM loop, for the CPU that a step costs above its call.

`python -m tests.load.loop <calls> <at once>` reads the providers from the environment, makes the calls that a worker
would make for the campaign, and prints its CPU seconds as JSON.
"""

import asyncio
import json
import resource
import sys

from mesh.agents import prompts, schemas
from mesh.agents.kinds import DEFAULTS, kind_of
from mesh.agents.prompts import AgentView, TaskView
from mesh.config import load
from mesh.models import catalogue
from mesh.models.litellm_calls import load_litellm
from mesh.models.providers import configured
from tests.load.client import CAMPAIGN


async def run(calls: int, at_once: int) -> float:
    """Make `calls` calls, `at_once` at a time; answers the CPU seconds that they took."""
    litellm = load_litellm()
    model = catalogue.load().resolve("claude-3-7-sonnet")
    access = configured(load())[model.provider]
    gate = asyncio.Semaphore(at_once)
    messages = _messages()

    async def ask() -> None:
        async with gate:
            await litellm.acompletion(
                model=model.litellm,
                messages=messages,
                response_format={"type": "json_schema", "json_schema": schemas.reply_schema()},
                max_tokens=kind_of("content").parameters.max_tokens,
                temperature=kind_of("content").parameters.temperature,
                api_key=access.api_key,
                api_base=access.api_base,
                max_retries=0,
            )

    await asyncio.gather(*(ask() for _ in range(at_once)))  # warm
    before = _cpu()
    await asyncio.gather(*(ask() for _ in range(calls)))
    return _cpu() - before


def _messages() -> list[prompts.Message]:
    kind = DEFAULTS[1]
    return prompts.specialist_messages(
        agent=AgentView(kind.name, kind.type, kind.description, "", kind.capabilities),
        task=TaskView(str(CAMPAIGN["task"]), dict(CAMPAIGN["context"])),  # type: ignore[arg-type]  # a dict there
        description="Write the copy of the campaign.",
        inputs=[],
        memories=[],
        shared_context={},
        delimiter="00000000",
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"cpu_seconds": asyncio.run(run(int(sys.argv[1]), int(sys.argv[2])))}))
