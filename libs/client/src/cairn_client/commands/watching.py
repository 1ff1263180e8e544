"""`cairn watch`: a project's progress, live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Annotated

import typer
from google.protobuf.message import Message
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cairn.annotation.v1.annotation_store_pb2 import ProjectProgress
from cairn.dispatch.v1.task_dispatch_pb2 import Queue
from cairn.inference.v1.inference_pb2 import Routing, RoutingState
from cairn_client.aio import AsyncCairn
from cairn_client.commands.connection import connect_async, where
from cairn_client.commands.projects import progress_table
from cairn_client.commands.screen import out, tell
from cairn_client.errors import CairnError, NotFound
from cairn_client.names import last_part
from cairn_client.words import counted

_ROUTING_EVERY = 1.0
_AGAIN = 0.5
_LINE_EVERY = 10.0
_STILL = 3.0
"""Seconds without any change after which it is said what to do next: until then, answers may be on their way."""


def watch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
) -> None:
    """Show a project's progress live, until every item is labeled or you interrupt.

    Where nothing moves any more, it says what does: people or a program that answer, reviewers, or
    `cairn project conclude`, which makes labels of the answers that there are.
    """
    asyncio.run(_watch(connect_async(where(context).home), name))


async def _watch(client: AsyncCairn, name: str) -> None:
    async with client:
        await client.projects.get(name)  # an unknown project is a plain error, before the screen is drawn
        async with LiveBoard(client, name, advises=True) as board:
            await board.complete.wait()


class LiveBoard:
    """A board that follows a project while its block runs; also a Screen for what goes on in there. One that `advises` says
    what to do next where nothing moves.

    `complete` is set when every item has a label, or when the project cannot be followed any more.
    """

    def __init__(self, client: AsyncCairn, name: str, *, title: str = "", advises: bool = False) -> None:
        self.complete = asyncio.Event()
        self._client = client
        self._name = name
        self._board = Board(title or last_part(name), advises=advises)
        self._live = Live(self._board, console=out, refresh_per_second=8)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> LiveBoard:
        self._live.start()
        self._tasks = [
            asyncio.create_task(follow())
            for follow in (self._progress, self._queue, self._routing, self._lines)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            with contextlib.suppress(CairnError):
                self._board.progress.CopyFrom(await self._client.projects.progress(self._name))
                self._board.queue.CopyFrom(await self._client.queue(self._name))
                self._board.routing.CopyFrom(await self._client.models.routing(self._name))
        self._live.stop()
        failed = [one for one in ended if isinstance(one, CairnError)]
        if error is None and failed:
            raise failed[0]

    async def _progress(self) -> None:
        try:
            while True:
                with contextlib.suppress(NotFound):  # the block may be about to create the project
                    async for progress in self._client.projects.watch(self._name):
                        self._board.progress.CopyFrom(progress)
                        if progress.items and progress.labeled_items >= progress.items:
                            self.complete.set()
                await asyncio.sleep(_AGAIN)
        finally:
            self.complete.set()

    async def _queue(self) -> None:
        while True:
            with contextlib.suppress(CairnError):
                async for queue in self._client.watch_queue(self._name):
                    self._board.queue.CopyFrom(queue)
            await asyncio.sleep(_AGAIN)

    async def _routing(self) -> None:
        while True:
            with contextlib.suppress(CairnError):
                self._board.routing.CopyFrom(await self._client.models.routing(self._name))
            await asyncio.sleep(_ROUTING_EVERY)

    async def _lines(self) -> None:
        """Where no terminal draws the board, a line now and then says that the work goes on."""
        while not out.is_terminal:
            await asyncio.sleep(_LINE_EVERY)
            tell(escape(self._board.line()))

    def stage(self, text: str, total: int | None = None) -> None:
        """Say what goes on."""
        self._board.stage, self._board.total = text, total
        self._board.done = 0
        if not out.is_terminal:
            tell(escape(self._board.line()))

    def advance(self, done: int, note: str = "") -> None:
        """Say how far it has come."""
        self._board.done = done

    def say(self, text: str) -> None:
        """A line above the board."""
        self._live.console.print(escape(text))


class Board:
    """What is drawn: progress, the queue, and the model; and, if it `advises`, what to do next."""

    def __init__(
        self, name: str, *, advises: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._advises = advises
        self._clock = clock
        self._shown: dict[str, int] = {}
        self._still_since = clock()
        self.stage = ""
        self.done = 0
        self.total: int | None = None
        self.progress = ProjectProgress()
        self.queue = Queue()
        self.routing = Routing()

    def __rich__(self) -> RenderableType:
        items, labeled = self.progress.items, self.progress.labeled_items
        share = labeled / items if items else 0.0
        columns = Table.grid(padding=(0, 4))
        columns.add_row(progress_table(self.progress), self._queue_table(), self._model_table())
        bar = ProgressBar(total=max(1, items), completed=labeled, width=60)
        title = Text.assemble((f"{share:.1%}", "bold"), f" of {items:,} items labeled")
        lines: list[RenderableType] = [title, bar, Text(""), columns]
        if self.routing.stop_reason:
            lines += [Text(""), Text(self.routing.stop_reason, style="dim")]
        if self.stage:
            lines += [Text(""), Text(self._stage(), style="cyan")]
        if advice := self._advice():
            lines += [Text(""), Text(advice, style="cyan")]
        return Panel(Group(*lines), title=escape(self.name))

    def line(self) -> str:
        """The board in a line."""
        items, labeled = self.progress.items, self.progress.labeled_items
        parts = [
            self._stage(),
            f"{labeled:,} of {items:,} items labeled" if items else "",
            self._advice(),
        ]
        return "; ".join(part for part in parts if part)

    def _advice(self) -> str:
        if not self._advises:
            return ""
        shown, now = _counts(self.progress, self.queue), self._clock()
        if shown != self._shown:
            self._shown, self._still_since = shown, now
        return next_step(self.name, self.progress, self.queue) if now - self._still_since >= _STILL else ""

    def _stage(self) -> str:
        count = f" {self.done:,}" + (f" of {self.total:,}" if self.total else "") if self.done else ""
        return f"{self.stage}{count}"

    def _queue_table(self) -> Table:
        # Dispatch counts the reviews that were answered among its filled tasks; a labeled item waits for nothing.
        unlabeled = max(0, self.progress.items - self.progress.labeled_items)
        return _facts(
            ("answers wanted now", _answers_wanted(self.queue)),
            ("leases live", self.queue.live_leases),
            ("tasks open", self.queue.open_tasks - self.queue.open_reviews),
            ("waiting for consensus", min(self.queue.filled_tasks, unlabeled)),
            ("reviews wanted now", self.queue.open_review_slots),
        )

    def _model_table(self) -> Table:
        state = RoutingState.Name(self.routing.state).removeprefix("ROUTING_STATE_").lower()
        threshold = self.routing.threshold
        return _facts(
            ("model", escape(last_part(self.routing.model_version)) or "none"),
            ("may answer alone", escape(state)),
            ("threshold", f"{threshold.score:.3f}" if threshold.version else "none"),
            ("error at most", f"{threshold.error_upper_bound:.3f}" if threshold.version else "–"),
        )


def next_step(name: str, progress: ProjectProgress, queue: Queue) -> str:
    """What moves a project on in which nothing moves; empty when somebody is at work, or there is nothing to do."""
    if not progress.items:
        return f"There are no items yet: cairn import {name} ITEMS.csv"
    if progress.labeled_items >= progress.items or queue.live_leases:
        return ""
    conclude = f"cairn project conclude {name} makes labels of the answers that there are"
    if wanted := _answers_wanted(queue):
        asked = f"{counted(wanted, 'answer')} wanted: cairn label {name}"
        return f"{asked}; when nobody will answer any more, {conclude}." if progress.annotations else asked
    if queue.open_review_slots:
        decided = f"{counted(queue.open_review_slots, 'item')}: cairn label {name} --reviews"
        return f"Labelers are done: {conclude}; or a reviewer decides {decided}"
    return f"There is nothing left to hand out: {conclude}." if progress.annotations else ""


def _answers_wanted(queue: Queue) -> int:
    """Of labelers: reviewers are others, and often nobody is."""
    return queue.open_slots - queue.open_review_slots


def _counts(*told: Message) -> dict[str, int]:
    return {
        field.full_name: value
        for message in told
        for field, value in message.ListFields()
        if isinstance(value, int)
    }


def _facts(*facts: tuple[str, object]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for title, value in facts:
        table.add_row(title, f"{value:,}" if isinstance(value, int) else str(value))
    return table
