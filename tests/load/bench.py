"""`make bench`: what the mesh costs above its model calls, beside bare Celery jobs and a bare LiteLLM loop.

Every figure stands beside a control measured in the same run, interleaved with it; this says little about absolute
speed on another machine, and much about ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from mesh.cli.up import System, running_system
from mesh.config import Settings
from mesh.embedded.parts import environment
from tests.load.chain import SLOTS, Chain
from tests.load.client import Client
from tests.load.cpu import tree_seconds

HOPS = 3
CALLS = 6
LATENCIES = (0.0, 0.1, 0.5)
BURST_LATENCY = 0.1

# The system counts as idle while it uses less than a tenth of a core.
IDLE_CPU = 0.1

console = Console()


@dataclass(frozen=True)
class Bench:
    """A running system, its control, and what is needed to load both."""

    system: System
    client: Client
    network_id: str
    chain: Chain
    chain_pid: int

    def latency(self, seconds: float) -> None:
        """Make the sandbox answer after `seconds`."""
        root = httpx.URL(self.system.settings.openai_api_base or "").join("/sandbox/latency")
        httpx.put(root, json={"latency_seconds": seconds}).raise_for_status()

    def pids(self, *parts: str) -> list[int]:
        """The process of each part that runs."""
        return [pid for part in parts if (pid := self.system.supervisor.pid(part))]


def main() -> None:
    """Start a system of its own, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20, help="tasks for each idle latency (0: leave it out)")
    options.add_argument("--burst", type=int, default=200, help="tasks at once (0: leave it out)")
    options.add_argument("--rounds", type=int, default=2, help="bursts of each kind, in turn")
    options.add_argument("--steps", type=int, default=2000, help="steps for CPU a step (0: leave it out)")
    options.add_argument("--calm", type=int, default=10, help="seconds that the system has been idle at the start")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, _bench(Path(folder)) as bench:
        bench.client.burst(bench.network_id, 10)
        bench.chain.burst(10)
        _settle(bench, given.calm)
        if given.runs:
            _idle(bench, given.runs)
        if given.burst:
            _burst(bench, given.burst, given.rounds)
        if given.steps:
            _cpu_a_step(bench, -(-given.steps // CALLS))


@contextmanager
def _bench(home: Path) -> Iterator[Bench]:
    settings = Settings(home=home / "home", log_level="WARNING")
    with running_system(settings, port=0, concurrency=SLOTS, quiet=True) as system:
        command = [sys.executable, "-m", "tests.load.chain", system.settings.redis_url]
        process = subprocess.Popen([*command, system.settings.openai_api_base or ""], stderr=subprocess.DEVNULL)
        client = Client(system.base_url, system.admin_key)
        try:
            yield Bench(system, client, client.network(), Chain(system.settings.redis_url), process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _settle(bench: Bench, seconds: int) -> None:
    """Wait until nothing is being loaded any more: parts go on warming up for a while after they are ready."""
    pids = [*bench.pids(*bench.system.supervisor.names), bench.chain_pid]
    calm_since = time.monotonic()
    while time.monotonic() - calm_since < seconds:
        before = tree_seconds(pids)
        time.sleep(1)
        if tree_seconds(pids) - before > IDLE_CPU:
            calm_since = time.monotonic()


def _idle(bench: Bench, runs: int) -> None:
    columns = ("provider latency", "model calls alone", "mesh", "above", "bare Celery chain")
    table = Table(*columns, title=f"One task of {HOPS} hops, idle: p50 of {runs}, ms")
    for latency in LATENCIES:
        bench.latency(latency)
        ours, theirs = [], []
        with bench.client.session() as session:
            for _ in range(runs):
                ours.append(bench.client.run(bench.network_id, session) * 1000)
                theirs.append(bench.chain.run() * 1000)
        alone, mine = HOPS * latency * 1000, statistics.median(ours)
        above = f"{mine / alone:.3f} x" if alone else f"+{mine:.0f}"
        table.add_row(f"{latency * 1000:.0f}", f"{alone:.0f}", f"{mine:.0f}", above, f"{statistics.median(theirs):.0f}")
    console.print(table)


def _burst(bench: Bench, count: int, rounds: int) -> None:
    bench.latency(BURST_LATENCY)
    title = f"{count} tasks at once, {BURST_LATENCY * 1000:.0f} ms a call"
    table = Table("", "tasks/s", "CPU ms a task", "Postgres + Valkey, CPU ms a task", title=title)
    stores = bench.pids("postgres", "valkey")
    for _ in range(rounds):
        for name, own, work in (
            ("mesh: API + worker", bench.pids("api", "worker"), lambda: bench.client.burst(bench.network_id, count)),
            ("bare Celery chain", [bench.chain_pid], lambda: bench.chain.burst(count)),
        ):
            seconds, (mine, theirs) = _measured([own, stores], work)
            table.add_row(name, f"{count / seconds:.1f}", f"{mine / count:.1f}", f"{theirs / count:.1f}")
    console.print(table)


def _cpu_a_step(bench: Bench, tasks: int) -> None:
    bench.latency(BURST_LATENCY)
    groups = [bench.pids("worker"), bench.pids("postgres", "valkey")]
    _, (worker, stores) = _measured(groups, lambda: bench.client.burst(bench.network_id, tasks))
    steps = tasks * CALLS
    bare = _bare_loop(bench.system, steps)
    table = Table("", "CPU ms a step", title=f"{steps} steps")
    table.add_row("worker", f"{worker / steps:.2f}")
    table.add_row("bare LiteLLM loop, calls of the same kind", f"{bare / steps:.2f}")
    table.add_row("worker above the bare loop", f"{(worker - bare) / steps:.2f}")
    table.add_row("Postgres + Valkey", f"{stores / steps:.2f}")
    console.print(table)


def _measured(groups: list[list[int]], work: Callable[[], float]) -> tuple[float, list[float]]:
    """The seconds that `work` answers, and the CPU milliseconds that each group of processes used meanwhile."""
    before = [tree_seconds(pids) for pids in groups]
    seconds = work()
    return seconds, [(tree_seconds(pids) - spent) * 1000 for pids, spent in zip(groups, before, strict=True)]


def _bare_loop(system: System, calls: int) -> float:
    command = [sys.executable, "-m", "tests.load.loop", str(calls), str(SLOTS)]
    ran = subprocess.run(command, env=environment(system.settings), check=True, capture_output=True, text=True)
    return float(json.loads(ran.stdout)["cpu_seconds"]) * 1000


if __name__ == "__main__":
    main()
