"""`mesh demo`: the whole system for one task before the reader's eyes, in a home of its own, and nothing left running.

cli.up.running_system starts everything -> here -> cli.run watches one task and prints what comes of it.
"""

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click
from rich.console import Console

from mesh.cli.client import Client
from mesh.cli.run import INTERRUPTED, report, say, summary, watch
from mesh.cli.up import System, mesh_command, running_system
from mesh.config import load
from mesh.embedded.home import private_folder
from mesh.errors import MeshError
from mesh.models.providers import configured

if TYPE_CHECKING:
    from mesh.config import Settings

TASK = "Create an email campaign for a new product launch targeting tech professionals"
CONTEXT = {
    "product_name": "TechPro X1",
    "product_description": "Advanced AI-powered development tool",
    "target_audience": "Software developers and IT professionals",
    "key_features": ["AI code completion", "Automated testing", "Performance optimization"],
}
# The sandbox answers at once; so one can see who works when.
_PACE = {"latency_seconds": 0.4, "jitter_seconds": 0.6}
_SLOTS = 8


@click.command()
def demo() -> None:
    """Run everything for one email campaign, show it, and stop.

    Postgres, Valkey, the API, workers and beat start on free ports with a home of their own (.mesh/demo), beside
    whatever else runs.  Without a provider's key in the environment the sandbox's canned answers are used.
    """
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.default_int_handler)
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    try:
        settings = _settings()
        with ExitStack() as stack:
            with console.status("Postgres, Valkey, API, workers, beat"):
                system = stack.enter_context(running_system(settings, port=0, concurrency=_SLOTS))
            say(console, f"Ready at {system.base_url} after {time.monotonic() - began:.1f} s. {_models(system)}")
            _show(system, console)
        say(console, _next(settings.home))
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(INTERRUPTED)
    except MeshError as error:
        raise click.ClickException(str(error)) from error


def _settings() -> "Settings":
    """This machine's settings, but for all that could lead to a system that is in use."""
    settings = load()
    home = private_folder(private_folder(settings.home) / "demo")
    apart = {"database_url": "", "redis_url": "", "broker_url": "", "host": "127.0.0.1", "auth": "local"}
    return settings.model_copy(update={"home": home, **apart})


def _show(system: System, console: Console) -> None:
    with Client(system.base_url) as client:
        network_id = client.create_network("Email Campaign Assistant")
        task_id = client.submit(network_id, TASK, CONTEXT)
        say(console, f'\nTask: "{TASK}"')
        for name, value in CONTEXT.items():
            say(console, f"  {name}: {value if isinstance(value, str) else ', '.join(value)}")
        say(console, "")
        watch(client, task_id, console)
        done = client.task(network_id, task_id)
    report(done, console)
    say(console, summary(done))


def _models(system: System) -> str:
    """Who will answer; our own sandbox is slowed down to a pace that can be followed."""
    settings = system.settings
    if not settings.sandbox:
        return f"Models of {', '.join(configured(settings))}: this costs a few cents."
    if "sandbox" in system.supervisor.names:
        _slow_down(settings)
    return "The sandbox answers, with canned text: no provider's key is set."


def _slow_down(settings: "Settings") -> None:
    import httpx

    from mesh.sandbox.formats import BASES

    root = (settings.openai_api_base or "").removesuffix(BASES["openai"])
    httpx.put(f"{root}/sandbox/latency", json=_PACE, timeout=5, trust_env=False).raise_for_status()


def _next(home: Path) -> str:
    mesh = mesh_command()
    commands = {
        "make run": "everything until Ctrl-C, at http://127.0.0.1:8080",
        f'{mesh} run "Plan a newsletter"': "a task of yours, in a second terminal",
        "ANTHROPIC_API_KEY=... make demo": "the same with a real model (or OPENAI_, GEMINI_, GROQ_)",
        f"{mesh} up --home {quote(str(home))}": "this campaign again, through the API",
    }
    width = max(len(command) for command in commands)
    lines = [f"  {command:{width}}  {purpose}" for command, purpose in commands.items()]
    return "\n".join(["", "All parts have stopped. Next:", *lines])
