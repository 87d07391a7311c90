"""Helpers for tests that look at processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder of the test's own."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def eventually() -> Callable[..., None]:
    """`eventually(condition, seconds=...)` returns when the condition holds, and fails the test when time is over."""

    def poll(condition: Callable[[], object], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.02)

    return poll


@pytest.fixture
def descendants() -> Callable[[int], set[int]]:
    """`descendants(pid)`: its children, their children, and so on."""
    return _descendants


@pytest.fixture
def alive() -> Callable[[set[int]], set[int]]:
    """`alive(pids)`: those that still run, zombies left out."""
    return lambda pids: {pid for pid in pids if _parent(pid) is not None}


def _descendants(ancestor: int) -> set[int]:
    pids = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}  # noqa: PTH208  # names are all it takes
    parents = {pid: _parent(pid) for pid in pids}
    found = {ancestor}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {ancestor}


def _parent(pid: int) -> int | None:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(parent)
