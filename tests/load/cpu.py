"""CPU time and memory of process trees, from /proc (proc(5): stat fields 14-17, `Pss` of smaps_rollup)."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss: +(\d+) kB", re.MULTILINE)


def tree_seconds(pids: Iterable[int]) -> float:
    """CPU seconds (user and system) of the processes and all their descendants, reaped ones included."""
    children, stats = _processes()
    trees = [pid for root in pids for pid in _descendants(root, children)]
    return sum(sum(map(int, stats[pid][11:15])) for pid in trees if pid in stats) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of the process and all its descendants; what several share is counted once."""
    children, _ = _processes()
    rollups = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in _descendants(pid, children)]
    return sum(int(_PSS.findall(rollup)[0]) for rollup in rollups) * 1024


def _processes() -> tuple[dict[int, list[int]], dict[int, list[str]]]:
    """The children of each process, and its stat fields."""
    children: dict[int, list[int]] = {}
    stats: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            pid = int(entry.name)
            children.setdefault(int(fields[1]), []).append(pid)
            stats[pid] = fields
    return children, stats


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
