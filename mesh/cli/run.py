"""`mesh run`: give a task to a running system, watch it, print what comes of it.

The result goes to stdout and everything else to stderr, so that `mesh run ... > result.md` holds just the result.
"""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown

from mesh.cli.client import Client
from mesh.cli.progress import Progress, dollars, printable
from mesh.cli.up import base_url
from mesh.config import load
from mesh.errors import ConfigurationError, MeshError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_NAME_LENGTH = 60


@click.command()
@click.argument("task")
@click.option(
    "--context",
    "context_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a JSON object: what the agents should know.",
)
@click.option("--network", "network_id", help="The network to give it to.  [default: a new one]")
@click.option("--url", help="Where the system answers.  [default: as `mesh up` here, http://127.0.0.1:8080]")
@click.option("--key", envvar="MESH_API_KEY", show_envvar=True, help="API key; on 127.0.0.1 `mesh up` needs none.")
def run(task: str, context_file: Path | None, network_id: str | None, url: str | None, key: str | None) -> None:
    """Give TASK to a running system, show progress, print the result.

    \b
    mesh run "Create an e-mail campaign for TechPro X1"
    mesh run "Plan a product launch" --context product.json > plan.md

    The result goes to stdout, all else to stderr.  The exit code is 0 only when the task was completed.
    """  # noqa: D301  # click wants the character itself before lines that it must not fill
    console = Console(stderr=True, highlight=False)
    try:
        context = _read_context(context_file) if context_file else {}
        with Client(url or base_url(load()), key) as client:
            done = _solve(client, console, task, context, network_id)
    except MeshError as error:
        raise click.ClickException(printable(str(error))) from error
    report(done, console)
    say(console, summary(done))


def watch(client: Client, task_id: str, console: Console) -> None:
    """Show the task's progress on `console` until it ends.

    Raises:
        UnavailableError: the system stayed away.
        RefusedError: it does not let the task be watched.
    """
    with Progress(console) as progress:
        for event in client.events(task_id, lost=lambda why: progress.note(f"connection lost ({why}), reconnecting")):
            progress.take(event)


def report(task: Mapping[str, Any], console: Console) -> None:
    """Print the result of an ended `task` to stdout: rendered on a terminal, else as it is.

    Raises:
        ClickException: it was not completed; says why.
    """
    if task["status"] != "completed":
        error = task["error"]
        why = f" {error['detail']} ({error['code']})" if error else ""
        raise click.ClickException(printable(f"The task ended as {task['status']}.{why}"))
    content = task["result"]["content"]
    out = Console()
    if not out.is_terminal:
        click.echo(content)
        return
    console.rule(style="dim")
    out.print(Markdown(printable(content)))
    console.rule(style="dim")


def summary(task: Mapping[str, Any]) -> str:
    """What an ended `task` took, in one line."""
    began, ended = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
    usage = task["usage"]
    paid = " at list price; the sandbox answered, so nothing was paid" if task["sandbox"] else ""
    return (
        f"{task['task_id']} {task['status']} in {(ended - began).total_seconds():.1f} s: "
        f"{task['progress']['steps_done']} steps, {usage['calls']} model calls ({', '.join(task['models'])}), "
        f"{usage['prompt_tokens']:,} tokens in and {usage['completion_tokens']:,} out, "
        f"{dollars(task['cost_usd'])}{paid}."
    )


def say(console: Console, text: str) -> None:
    """Print lines that a terminal breaks between words, and that stay whole elsewhere."""
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


def _solve(
    client: Client, console: Console, task: str, context: Mapping[str, Any], network_id: str | None
) -> dict[str, Any]:
    if network_id is None:
        network_id = client.create_network(f"mesh run: {' '.join(task.split())[:_NAME_LENGTH]}")
        say(console, f"Network {network_id} (new)")
    task_id = client.submit(network_id, task, context)
    say(console, f"Task    {task_id}")
    try:
        watch(client, task_id, console)
        return client.task(network_id, task_id)
    except KeyboardInterrupt:
        say(console, _goes_on(client.base, network_id, task_id))
        sys.exit(INTERRUPTED)


def _goes_on(base: str, network_id: str, task_id: str) -> str:
    return (
        "\nYou stopped watching; the task goes on (send your key along if you used one).\n"
        f"  watch    curl -N {base}/tasks/{task_id}/events\n"
        f"  result   curl {base}/networks/{network_id}/tasks/{task_id}\n"
        f"  cancel   curl -X POST {base}/networks/{network_id}/tasks/{task_id}/cancel"
    )


def _read_context(file: Path) -> dict[str, Any]:
    try:
        context = json.loads(file.read_text())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise ConfigurationError(f"{file} is not JSON: {error}.") from error
    if not isinstance(context, dict):
        raise ConfigurationError(f'{file} must hold a JSON object, such as {{"product_name": "TechPro X1"}}.')
    return context
