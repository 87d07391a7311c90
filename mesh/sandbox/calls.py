"""The record of calls, for tests to read: in memory, bounded, and as JSON lines that survive a kill.

Instants are Unix seconds.
"""

import json
import os
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mesh.sandbox.exchange import Ask, Provider
from mesh.sandbox.faults import Fault

KEPT = 200_000


@dataclass(slots=True)
class Call:
    """One call. `status` 0: nothing was answered; `disconnected`: the client went away before the end."""

    n: int
    provider: Provider
    model: str
    path: str
    stream: bool
    request_id: str
    call: str
    prompt_digest: str
    prompt_tokens: int
    started_at: float
    ended_at: float | None = None
    status: int = 0
    fault: str | None = None
    disconnected: bool = False
    completion_tokens: int = 0


class Calls:
    """Counts calls, keeps the last ones, and appends a line at the start and at the end of each to a file."""

    def __init__(self, log: Path | None = None, *, kept: int = KEPT) -> None:
        self._kept: deque[Call] = deque(maxlen=kept)
        self._count = 0
        self._file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if log else None

    def start(self, provider: Provider, path: str, request_id: str, ask: Ask, marker: str, fault: Fault | None) -> Call:
        """Record that a call has come; `marker` is what the caller sent as `X-Mesh-Call`."""
        self._count += 1
        call = Call(
            n=self._count,
            provider=provider,
            model=ask.model,
            path=path,
            stream=ask.stream,
            request_id=request_id,
            call=marker,
            prompt_digest=ask.digest,
            prompt_tokens=ask.prompt_tokens,
            started_at=time.time(),
            fault=fault.kind if fault else None,
        )
        self._kept.append(call)
        self._write("start", call)
        return call

    def end(self, call: Call) -> None:
        """Record that a call has ended."""
        call.ended_at = time.time()
        self._write("end", call)

    def clear(self) -> None:
        """Forget all calls and count from 1 again; the file keeps its lines."""
        self._kept.clear()
        self._count = 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def as_json(self) -> list[dict[str, Any]]:
        """The calls that are kept, oldest first."""
        return [asdict(call) for call in self._kept]

    def summary(self) -> dict[str, Any]:
        """Counts over the calls that are kept."""
        kept = self._kept
        return {
            "calls": len(kept),
            "open": sum(call.ended_at is None for call in kept),
            "disconnected": sum(call.disconnected for call in kept),
            "prompt_tokens": sum(call.prompt_tokens for call in kept),
            "completion_tokens": sum(call.completion_tokens for call in kept),
            "per_provider": Counter(call.provider for call in kept),
            "per_model": Counter(call.model for call in kept),
            "per_status": Counter(call.status for call in kept if call.ended_at is not None),
            "per_fault": Counter(call.fault for call in kept if call.fault),
        }

    def _write(self, event: str, call: Call) -> None:
        if self._file is not None:  # straight to the kernel: a line stands even when the process is killed next
            fields = {name: getattr(call, name) for name in Call.__slots__}
            os.write(self._file, json.dumps({"event": event, **fields}).encode() + b"\n")
