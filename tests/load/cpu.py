"""CPU time of process trees, from /proc (proc(5): stat fields 14-17)."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree_seconds(pids: Iterable[int]) -> float:
    """CPU seconds (user and system) of the processes and all their descendants, reaped ones included."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            pid = int(entry.name)
            children.setdefault(int(fields[1]), []).append(pid)
            spent[pid] = sum(map(int, fields[11:15])) / _TICKS
    return sum(spent.get(pid, 0.0) for root in pids for pid in _descendants(root, children))


def _descendants(root: int, children: dict[int, list[int]]) -> Iterable[int]:
    yield root
    for child in children.get(root, []):
        yield from _descendants(child, children)


def _stat(entry: Path) -> list[str]:
    """The fields after the command, from `state` on; none for a process that has just gone."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
