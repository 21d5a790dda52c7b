"""What a person sees while the demo works: steps with their time, live on a terminal, plain lines elsewhere.

Guarantees that steps may run at the same time from several threads, and that what is printed after the live view is
not overwritten by it. Plain lines are complete: a log of the run tells the same as the screen did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from tenantplane_cli.output import clean, console, one_line

_REFRESH_PER_SECOND: Final = 8
_MARKS: Final = {"running": "…", "done": "✓", "failed": "✗"}
_STYLES: Final = {"running": "yellow", "done": "green", "failed": "red"}


@dataclass
class Step:
    """One thing that is done and verified. ``detail`` is shown below it while it runs."""

    title: str
    state: str = "running"
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    detail: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The step on one line."""
        seconds = self.seconds if self.state != "running" else time.monotonic() - self.started
        told = f": {self.note}" if self.note else ""
        return clean(f"{_MARKS[self.state]} {self.title} ({seconds:.1f} s){told}")


class View:
    """A context manager. ``verbose`` lines of helpers become the note of their step."""

    def __init__(self) -> None:
        self._console = console()
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=_REFRESH_PER_SECOND
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """End the live view; what it shows stays on the screen. Idempotent."""
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live.stop()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step; failed when its body raises."""
        step = Step(title)
        with self._lock:
            self._steps.append(step)
        if self._live is None:
            self.say(f"  {title}")
        try:
            yield step
        except BaseException:
            self._end(step, "failed")
            raise
        self._end(step, "done")

    def detail(self, step: Step, lines: list[str]) -> None:
        """Replace what is shown below a running step; plain mode prints what is new."""
        with self._lock:
            new = [line for line in lines if line not in step.detail]
            step.detail = lines
        if self._live is None:
            for line in new:
                self.say(f"    {line}")

    def progress(self, step: Step, line: str) -> None:
        """A line of a helper, such as the cluster provider."""
        with self._lock:
            step.note = one_line(line, 200)
        if self._live is None:
            self.say(f"    {line}")

    def say(self, line: str = "") -> None:
        """A line that stays."""
        with self._lock:
            self._console.print(clean(line), soft_wrap=True)

    def _end(self, step: Step, state: str) -> None:
        with self._lock:
            step.state, step.seconds, step.detail = state, time.monotonic() - step.started, []
        if self._live is None:
            self.say(step.line())

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        with self._lock:
            parts = []
            for step in self._steps:
                parts.append(Text(step.line(), style=_STYLES[step.state], overflow="ellipsis", no_wrap=True))
                parts += [Text(f"    {clean(line)}", overflow="ellipsis", no_wrap=True) for line in step.detail]
            return Group(*parts)
