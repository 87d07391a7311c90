"""`make bench`: what the mesh costs above its model calls, beside bare Celery jobs and a bare LiteLLM loop.

Every figure stands beside a control measured in the same run, interleaved with it; this says little about absolute
speed on another machine, and much about ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from mesh.cli.up import System, running_system
from mesh.config import Settings
from tests.load.chain import SLOTS, Chain
from tests.load.client import Client
from tests.load.cpu import tree_seconds

console = Console()

PARTS = {"api + workers": ("api", "worker"), "postgres + valkey": ("postgres", "valkey")}


def main() -> None:
    """Start a system of its own, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20, help="tasks for each idle latency")
    options.add_argument("--burst", type=int, default=200, help="tasks at once")
    options.add_argument("--steps", type=int, default=2000, help="steps for CPU a step")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, _system(Path(folder)) as system, _control(system) as chain_pid:
        chain = Chain(system.settings.redis_url)
        client = Client(system.base_url, system.admin_key)
        network_id = client.network()
        _warm(client, chain, network_id)
        _idle(system, client, chain, network_id, given.runs)
        _burst(system, client, chain, chain_pid, network_id, given.burst)
        _cpu_a_step(system, client, network_id, given.steps)


@contextmanager
def _system(home: Path) -> Iterator[System]:
    settings = Settings(home=home / "home", log_level="WARNING")
    with running_system(settings, port=0, concurrency=SLOTS, quiet=True) as system:
        yield system


@contextmanager
def _control(system: System) -> Iterator[int]:
    base = system.settings.openai_api_base or ""
    process = subprocess.Popen(  # noqa: S603  # our own module
        [sys.executable, "-m", "tests.load.chain", system.settings.redis_url, base], env=os.environ.copy()
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def _latency(system: System, seconds: float) -> None:
    root = httpx.URL(system.settings.openai_api_base or "").join("/sandbox/latency")
    httpx.put(root, json={"latency_seconds": seconds}).raise_for_status()


def _warm(client: Client, chain: Chain, network_id: str) -> None:
    client.burst(network_id, 10)
    chain.burst(10)


def _idle(system: System, client: Client, chain: Chain, network_id: str, runs: int) -> None:
    table = Table("provider latency", "model calls alone", "mesh", "above", "bare Celery chain", title="One task, idle (p50 ms)")
    for latency in (0.0, 0.1, 0.5):
        _latency(system, latency)
        mine, theirs = [], []
        with client.session() as session:
            for _ in range(runs):
                mine.append(client.run(network_id, session) * 1000)
                theirs.append(chain.run() * 1000)
        alone = 3 * latency * 1000
        ours = statistics.median(mine)
        ratio = f"{ours / alone:.3f} x" if alone else f"{ours:.0f} ms"
        table.add_row(f"{latency * 1000:.0f} ms", f"{alone:.0f}", f"{ours:.0f}", ratio, f"{statistics.median(theirs):.0f}")
    console.print(table)


def _measured(system: System, groups: dict[str, list[int]], work: Callable[[], float]) -> tuple[float, dict[str, float]]:
    before = {name: tree_seconds(pids) for name, pids in groups.items()}
    seconds = work()
    time.sleep(0.2)
    return seconds, {name: tree_seconds(pids) - before[name] for name, pids in groups.items()}


def _groups(system: System) -> dict[str, list[int]]:
    found = {name: [system.supervisor.pid(part) for part in parts] for name, parts in PARTS.items()}
    return {name: [pid for pid in pids if pid] for name, pids in found.items()}


def _burst(  # noqa: PLR0913, PLR0917  # all that takes part
    system: System, client: Client, chain: Chain, chain_pid: int, network_id: str, count: int
) -> None:
    _latency(system, 0.1)
    table = Table("", "tasks/s", "CPU ms a task", "Postgres + Valkey ms a task", title=f"{count} tasks at once, 100 ms calls")
    for name in ("mesh", "control", "mesh", "control"):
        groups = _groups(system) | {"control": [chain_pid]}
        work = (lambda: client.burst(network_id, count)) if name == "mesh" else (lambda: chain.burst(count))
        seconds, spent = _measured(system, groups, work)
        own = spent["api + workers"] if name == "mesh" else spent["control"]
        label = "mesh" if name == "mesh" else "bare Celery chain"
        table.add_row(
            label, f"{count / seconds:.1f}", f"{own / count * 1000:.1f}", f"{spent['postgres + valkey'] / count * 1000:.1f}"
        )
    console.print(table)


def _cpu_a_step(system: System, client: Client, network_id: str, steps: int) -> None:
    _latency(system, 0.1)
    tasks = -(-steps // 6)
    groups = {"worker": [system.supervisor.pid("worker") or 0]} | _groups(system)
    _, spent = _measured(system, groups, lambda: client.burst(network_id, tasks))
    bare = _bare_loop(system, tasks * 6)
    each = {name: seconds / (tasks * 6) * 1000 for name, seconds in spent.items()}
    table = Table("CPU ms a step", "", title=f"{tasks * 6} steps")
    table.add_row("worker", f"{each['worker']:.2f}")
    table.add_row("bare LiteLLM loop, same calls", f"{bare / (tasks * 6) * 1000:.2f}")
    table.add_row("worker above the bare loop", f"{each['worker'] - bare / (tasks * 6) * 1000:.2f}")
    table.add_row("Postgres + Valkey", f"{each['postgres + valkey']:.2f}")
    console.print(table)


def _bare_loop(system: System, calls: int) -> float:
    from mesh.embedded.parts import environment  # noqa: PLC0415  # only here

    ran = subprocess.run(  # noqa: S603  # our own module
        [sys.executable, "-m", "tests.load.loop", str(calls), str(SLOTS)],
        env=environment(system.settings),
        check=True,
        capture_output=True,
        text=True,
    )
    return float(json.loads(ran.stdout)["cpu_seconds"])


if __name__ == "__main__":
    main()
