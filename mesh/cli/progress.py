"""Progress of a task in the terminal: a table that lives, or plain lines where there is no terminal.

cli.run, cli.demo -> here.  `Board` knows the steps from the events, without a terminal; `Progress` shows it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

# Of C0 and C1 only line breaks and tabs may reach a terminal: the rest could make it do things.
_UNPRINTABLE = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)])
_WIDE = 110  # columns from which on there is room for what each step is about
_WHAT_COLUMNS = 60


class State(StrEnum):
    """A step, as a watcher sees it."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


_LOOKS = {
    State.WAITING: ("·", "dim"),
    State.RUNNING: (" ", "bold"),
    State.DONE: ("✓", "green"),
    State.FAILED: ("✗", "red"),
    State.STOPPED: ("-", "dim"),
}


class Line(NamedTuple):
    """News in words; `notable` when a table does not show it."""

    text: str
    notable: bool = False


@dataclass
class Step:
    """One step; `since` is when it was seen to start, in seconds of the board's clock."""

    agent: str
    what: str = ""
    state: State = State.WAITING
    model: str = ""
    since: float = 0.0
    seconds: float | None = None
    cost_usd: float = 0.0


@dataclass
class Board:
    """The steps of a task so far, in the order in which they became known."""

    clock: Callable[[], float] = time.monotonic
    steps: dict[str, Step] = field(default_factory=dict)
    memories: int = 0

    def take(self, event: dict[str, Any]) -> Line | None:
        """Note an event; returns what there is to say of it.  Kinds that are not known are passed over."""
        note = getattr(self, f"_on_{event['event']}", None)
        line: Line | None = note(event) if note else None
        return Line(printable(line.text), line.notable) if line else None

    @property
    def cost_usd(self) -> float:
        """What the steps cost that are done."""
        return sum(step.cost_usd for step in self.steps.values())

    def _on_started(self, event: dict[str, Any]) -> Line:
        return Line("started" if event["run"] == 1 else f"resumed (run {event['run']})")

    def _on_plan(self, event: dict[str, Any]) -> Line:
        for step in event["steps"]:
            self.steps[step["step_id"]] = Step(printable(step["agent"]), printable(step["description"]))
        names = ", ".join(dict.fromkeys(step["agent"] for step in event["steps"]))
        return Line(f"plan {event['iteration']}: {names}")

    def _on_step_started(self, event: dict[str, Any]) -> Line:
        # A coordinator's steps are in no plan: they make it.
        what = "reviews what is there" if self.steps else "plans"
        step = self.steps.setdefault(event["step_id"], Step(printable(event["agent"]), what))
        step.state, step.model, step.since = State.RUNNING, printable(event["model"]), self.clock()
        again = f" (attempt {event['attempt']})" if event["attempt"] > 1 else ""
        return Line(f"{event['agent']}: asks {event['model']}{again}")

    def _on_fallback(self, event: dict[str, Any]) -> Line:
        step = self.steps.setdefault(event["step_id"], Step("An agent"))
        step.model = printable(event["to_model"])
        return Line(f"{step.agent}: {event['from_model']} failed ({event['reason']}), asks {event['to_model']}", True)

    def _on_step_completed(self, event: dict[str, Any]) -> Line:
        step = self.steps.setdefault(event["step_id"], Step(printable(event["agent"])))
        step.state, step.model = State.DONE, printable(event["model"])
        step.seconds, step.cost_usd = event["duration_seconds"], event["cost_usd"]
        spent = f"{event['model']}, {step.seconds:.1f} s, {dollars(step.cost_usd)}"
        return Line(f"{event['agent']}: done ({spent})")

    def _on_step_failed(self, event: dict[str, Any]) -> Line:
        step = self.steps.setdefault(event["step_id"], Step(printable(event["agent"])))
        step.state = State.WAITING if event["will_retry"] else State.FAILED
        goes_on = "; will be tried again" if event["will_retry"] else ""
        return Line(f"{event['agent']}: failed: {event['detail']} ({event['code']}){goes_on}", True)

    def _on_memory(self, _event: dict[str, Any]) -> None:
        self.memories += 1

    def _on_paused(self, event: dict[str, Any]) -> Line:
        return Line(f"paused: {event['reason']}", True)

    def _on_complete(self, event: dict[str, Any]) -> Line:
        for step in self.steps.values():
            if step.state in {State.WAITING, State.RUNNING}:
                step.state = State.STOPPED
        return Line(str(event["status"]))


class Progress:
    """Shows a board while it changes; a context manager."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`console` is where to; colours and movement only if it is a terminal."""
        self._console = console
        self._clock = clock
        self._began = clock()
        self._board = Board(clock)
        self._ended = False
        self._spinner = Spinner("dots", style="cyan")
        moves = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=10) if moves else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended = True
        if self._live:
            self._live.stop()

    def take(self, event: dict[str, Any]) -> None:
        """Show an event."""
        line = self._board.take(event)
        if line and (line.notable or not self._live):
            self._say(line.text)

    def note(self, text: str) -> None:
        """Say something that is no event."""
        self._say(printable(text))

    def _say(self, text: str) -> None:
        self._console.print(Text(f"{self._elapsed():6.1f} s  {text}"), soft_wrap=not self._console.is_terminal)

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _render(self) -> RenderableType:
        steps = list(self._board.steps.values())
        # A live table that is higher than the terminal cannot be redrawn: the oldest steps make room.
        shown = steps if self._ended else steps[-max(self._console.height - 4, 1) :]
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for step in shown:
            table.add_row(*self._row(step))
        if not steps and not self._ended:
            table.add_row(self._spinner, "waiting for the first agent")
        done = sum(step.state is State.DONE for step in steps)
        spent = [f"{self._elapsed():.1f} s", f"{done} of {len(steps)} steps", dollars(self._board.cost_usd)]
        footer = Text("  ".join([" ", *spent, f"memories: {self._board.memories}"]), style="dim")
        return Group(table, footer)

    def _row(self, step: Step) -> list[RenderableType]:
        sign, style = _LOOKS[step.state]
        running = step.state is State.RUNNING and not self._ended
        seconds = self._clock() - step.since if running else step.seconds
        row: list[RenderableType] = [
            self._spinner if running else Text(sign, style=style),
            Text(step.agent, style=style if step.state is not State.DONE else ""),
            Text(step.model, style="cyan"),
            "" if seconds is None else f"{seconds:.1f} s",
            dollars(step.cost_usd) if step.state is State.DONE else "",
        ]
        if self._console.width >= _WIDE:
            what = Text(step.what.partition("\n")[0], style="dim")
            what.truncate(_WHAT_COLUMNS, overflow="ellipsis")
            row.append(what)
        return row


def printable(text: str) -> str:
    """`text` without what could command a terminal."""
    return text.translate(_UNPRINTABLE)


def dollars(amount: float) -> str:
    """An amount for a person: four decimals, since a step costs fractions of a cent."""
    return f"${amount:,.4f}"
