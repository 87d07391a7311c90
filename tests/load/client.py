"""A small client: submit a task, wait for its end on the event stream."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

CAMPAIGN = {
    "task": "Create an email campaign for a new product launch targeting tech professionals",
    "context": {
        "product_name": "TechPro X1",
        "product_description": "Advanced AI-powered development tool",
        "target_audience": "Software developers and IT professionals",
        "key_features": ["AI code completion", "Automated testing", "Performance optimization"],
    },
}

# Tasks that are never done are a failure of the run, not a wait without end.
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Client:
    """Talks to the API at `base_url` as the local user."""

    base_url: str

    def network(self) -> str:
        """A network with the five default agents."""
        answer = httpx.post(f"{self.base_url}/api/mesh/networks", json={"name": "benchmark", "timeout_seconds": 3600})
        return str(answer.raise_for_status().json()["network_id"])

    def run(self, network_id: str, session: httpx.Client) -> float:
        """Submit one task, wait for its `complete`; answers the seconds between.

        Raises:
            RuntimeError: the task did not complete.
        """
        started = time.perf_counter()
        task_id = (
            session.post(f"/api/mesh/networks/{network_id}/tasks", json=CAMPAIGN).raise_for_status().json()["task_id"]
        )
        with session.stream("GET", f"/api/mesh/tasks/{task_id}/events") as stream:
            event = ""
            for line in stream.iter_lines():
                event = line.removeprefix("event:") if line.startswith("event:") else event
                if event == "complete" and line.startswith("data:"):
                    status = json.loads(line.removeprefix("data:"))["status"]
                    if status != "completed":
                        raise RuntimeError(f"Task {task_id} ended as {status}.")
                    return time.perf_counter() - started
        raise RuntimeError(f"The stream of {task_id} ended without `complete`.")

    def session(self) -> httpx.Client:
        """A connection pool of one's own."""
        return httpx.Client(base_url=self.base_url, timeout=PATIENCE_SECONDS)

    def burst(self, network_id: str, count: int) -> float:
        """Submit `count` tasks at once, wait for all; answers the seconds from the first submission to the last end."""
        with self.session() as session, ThreadPoolExecutor(16) as pool:
            started = time.perf_counter()
            submit = lambda _: session.post(f"/api/mesh/networks/{network_id}/tasks", json=CAMPAIGN).raise_for_status()  # noqa: E731  # one use
            list(pool.map(submit, range(count)))
            while self._open(session):
                if time.perf_counter() - started > PATIENCE_SECONDS:
                    raise RuntimeError("The burst did not end.")
                time.sleep(0.1)
            return time.perf_counter() - started

    def _open(self, session: httpx.Client) -> bool:
        return bool(session.get("/api/mesh/health", headers={"X-API-Key": self.admin_key}).json()["active_tasks_count"])

    admin_key: str = ""
