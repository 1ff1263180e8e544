"""What the command writes: to people on stderr, with colours where a terminal is; results on stdout."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import Segment

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys instead of showing: escape sequences begin with one of these. Tab and newline are text."""


class PlainConsole(Console):
    """A console that shows what others wrote, and never obeys it: only our own styles reach the terminal.

    It is the last gate for whatever is printed; against markup in others' words there is `rich.markup.escape`.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What Console renders, without control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_CONTROL.sub("", segment.text), segment.style)


out = PlainConsole(highlight=False)
"""Results."""

err = PlainConsole(stderr=True, highlight=False)
"""Progress, remarks and errors."""


def say(markup: str) -> None:
    """Print a result in words, not folded: a pipe, a test or a log has it on one line."""
    out.print(markup, soft_wrap=True)


def tell(markup: str) -> None:
    """Print a remark or an error, not folded."""
    err.print(markup, soft_wrap=True)


class RichScreen:
    """A run's stages as progress bars; the Screen of cairn_client.replay.run."""

    def __init__(self, console: Console = err) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._total: int | None = None
        self._task = self._progress.add_task("", visible=False, note="")

    def __enter__(self) -> RichScreen:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        self._progress.stop()

    def stage(self, text: str, total: int | None = None) -> None:
        """A new bar; the one before is done."""
        self.finish()
        self._total = total
        self._task = self._progress.add_task(escape(text), total=total, note="")

    def advance(self, done: int, note: str = "") -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, note=escape(note))

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(escape(text))

    def finish(self) -> None:
        """The bar has come as far as it will: what is left over was not needed."""
        task = next((one for one in self._progress.tasks if one.id == self._task), None)
        if task is not None and not task.finished:
            done = task.completed if self._total is not None else 1
            self._progress.update(self._task, total=max(done, 1), completed=max(done, 1))
