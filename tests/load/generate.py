"""`python -m tests.load.generate`: the first token of a direct generation, beside the bare provider's.

Both are streamed by httpx over a kept connection, in turn, from one system of its own with nothing else to do.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from mesh.cli.up import running_system
from mesh.config import Settings
from tests.load.cpu import tree_seconds

PROMPT = "Write a short text."
MODEL = "gpt-4o"
PARTS = ("api", "worker-control", "beat")


def main() -> None:
    """Start a system, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=100, help="generations of each kind")
    options.add_argument("--chunk", type=float, default=0.0, help="seconds between the provider's chunks")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", log_level="WARNING")
        with (
            running_system(settings, port=0, concurrency=8, quiet=True) as system,
            httpx.Client(timeout=20, trust_env=False) as client,
        ):
            base = system.settings.openai_api_base or ""
            httpx.put(httpx.URL(base).join("/sandbox/latency"), json={"chunk_latency_seconds": given.chunk})
            pids = [pid for part in PARTS if (pid := system.supervisor.pid(part))]

            def bare() -> float:
                body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
                headers = {"Authorization": "Bearer none"}
                return first(client, f"{base}/chat/completions", body, '"content":"H', headers)

            def ours() -> float:
                body = {"model": MODEL, "prompt": PROMPT}
                return first(client, f"{system.base_url}/api/mesh/generate/stream?format=ndjson", body, '"token"')

            measure(bare, ours, 10)
            before = tree_seconds(pids)
            bare_seconds, our_seconds = measure(bare, ours, given.runs)
            cpu = (tree_seconds(pids) - before) / given.runs
    for name, seconds in (("bare provider", bare_seconds), ("generate/stream", our_seconds)):
        quantiles = statistics.quantiles(seconds, n=20)
        print(f"{name:16} first token p50 {quantiles[9] * 1000:6.1f} ms  p95 {quantiles[18] * 1000:6.1f} ms")
    added = statistics.median(our_seconds) - statistics.median(bare_seconds)
    print(f"added            p50 {added * 1000:.1f} ms; CPU of API and workers {cpu * 1000:.1f} ms a generation")


def measure(bare: Callable[[], float], ours: Callable[[], float], runs: int) -> tuple[list[float], list[float]]:
    """Seconds to the first token of `runs` each, in turn."""
    pairs = [(bare(), ours()) for _ in range(runs)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def first(
    client: httpx.Client, url: str, body: Mapping[str, object], mark: str, headers: dict[str, str] | None = None
) -> float:
    """Seconds until a line with `mark` has come; the rest is read as well."""
    began = time.perf_counter()
    took = None
    with client.stream("POST", url, json=body, headers=headers) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if took is None and mark in line:
                took = time.perf_counter() - began
    assert took is not None, "no text came"
    return took


if __name__ == "__main__":
    main()
