"""`cairn watch`: a project's progress, live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
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
from cairn_client.errors import CairnError, NotFound, Unavailable
from cairn_client.names import last_part
from cairn_client.profile import Service
from cairn_client.words import counted, shortened

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
                self._board.show(await self._client.projects.progress(self._name))
                self._board.show(await self._client.queue(self._name))
                self._board.routing.CopyFrom(await self._client.models.routing(self._name))
        self._live.stop()
        failed = [one for one in ended if isinstance(one, CairnError)]
        if error is None and failed:
            raise failed[0]

    async def _progress(self) -> None:
        lost = partial(self._board.lose, Service.ANNOTATION_STORE)
        try:
            while True:
                try:
                    async for progress in self._client.projects.watch(self._name, broke=lost):
                        self._board.show(progress)
                        if progress.items and progress.labeled_items >= progress.items:
                            self.complete.set()
                except NotFound as error:
                    lost(error)
                await asyncio.sleep(_AGAIN)
        finally:
            self.complete.set()

    async def _queue(self) -> None:
        lost = partial(self._board.lose, Service.TASK_DISPATCH)
        while True:
            try:
                async for queue in self._client.watch_queue(self._name, broke=lost):
                    self._board.show(queue)
            except CairnError as error:
                lost(error)
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
    """What is drawn: progress, the queue, and the model; and, if it `advises`, what to do next.

    It shows what it was told last, and says so when that is out of date; it advises on nothing else than what is true.
    """

    def __init__(
        self, name: str, *, advises: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._advises = advises
        self._clock = clock
        self._still_since = clock()
        self.stage = ""
        self.done = 0
        self.total: int | None = None
        self._progress: ProjectProgress | None = None
        self._queue: Queue | None = None
        self._lost: dict[Service, CairnError] = {}
        self.routing = Routing()

    def show(self, told: ProjectProgress | Queue) -> None:
        """Take in counts as they are now."""
        before: Message | None
        if isinstance(told, Queue):
            who, before, self._queue = Service.TASK_DISPATCH, self._queue, told
        else:
            who, before, self._progress = Service.ANNOTATION_STORE, self._progress, told
        was_lost = self._lost.pop(who, None) is not None
        if was_lost or before is None or _counts(before) != _counts(told):
            self._still_since = self._clock()

    def lose(self, who: Service, error: CairnError) -> None:
        """Take note that this service tells no counts, until it does. A project that nothing is known of yet may be about
        to be made."""
        if self._progress is not None or not isinstance(error, NotFound):
            self._lost[who] = error

    def __rich__(self) -> RenderableType:
        columns = Table.grid(padding=(0, 4))
        columns.add_row(*self._tables())
        lines: list[RenderableType] = [*self._share(), columns]
        if self.routing.stop_reason:
            lines += [Text(""), Text(self.routing.stop_reason, style="dim")]
        if self.stage:
            lines += [Text(""), Text(self._stage(), style="cyan")]
        if lost := self._out_of_date():
            lines += [Text(""), Text(lost, style="yellow")]
        if advice := self._advice():
            lines += [Text(""), Text(advice, style="cyan")]
        return Panel(Group(*lines), title=escape(self.name))

    def line(self) -> str:
        """The board in a line."""
        progress = self._progress or ProjectProgress()
        parts = [
            self._stage(),
            f"{progress.labeled_items:,} of {progress.items:,} items labeled" if progress.items else "",
            self._out_of_date(),
            self._advice(),
        ]
        return "; ".join(part for part in parts if part)

    def _advice(self) -> str:
        if not self._advises or self._progress is None or self._queue is None or self._lost:
            return ""
        if self._clock() - self._still_since < _STILL:
            return ""
        return next_step(self.name, self._progress, self._queue)

    def _out_of_date(self) -> str:
        lost = [f"{who.value}{_reason(error)}" for who, error in self._lost.items()]
        return f"Not up to date: nothing is heard from {' and '.join(lost)}." if lost else ""

    def _stage(self) -> str:
        count = f" {self.done:,}" + (f" of {self.total:,}" if self.total else "") if self.done else ""
        return f"{self.stage}{count}"

    def _share(self) -> list[RenderableType]:
        if self._progress is None:
            return []
        items, labeled = self._progress.items, self._progress.labeled_items
        title = Text.assemble((f"{labeled / max(1, items):.1%}", "bold"), f" of {items:,} items labeled")
        return [title, ProgressBar(total=max(1, items), completed=labeled, width=60), Text("")]

    def _tables(self) -> Iterator[Table]:
        if self._progress is not None:
            yield self._dimmed(progress_table(self._progress), Service.ANNOTATION_STORE)
        if self._queue is not None:
            yield self._dimmed(self._queue_table(self._queue), Service.TASK_DISPATCH)
        yield self._model_table()

    def _dimmed(self, table: Table, told_by: Service) -> Table:
        table.style = "dim" if told_by in self._lost else "none"
        return table

    def _queue_table(self, queue: Queue) -> Table:
        # Dispatch counts the reviews that were answered among its filled tasks; a labeled item waits for nothing.
        progress = self._progress or ProjectProgress()
        unlabeled = max(0, progress.items - progress.labeled_items)
        return _facts(
            ("answers wanted now", _answers_wanted(queue)),
            ("leases live", queue.live_leases),
            ("tasks open", queue.open_tasks - queue.open_reviews),
            ("waiting for consensus", min(queue.filled_tasks, unlabeled)),
            ("reviews wanted now", queue.open_review_slots),
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


def _reason(error: CairnError) -> str:
    away = isinstance(error, Unavailable) and not error.reason  # told in gRPC's own words
    return "" if away else f" ({shortened(str(error))})"


def _answers_wanted(queue: Queue) -> int:
    """Of labelers: reviewers are others, and often nobody is."""
    return queue.open_slots - queue.open_review_slots


def _counts(told: Message) -> dict[str, int]:
    return {field.name: value for field, value in told.ListFields() if isinstance(value, int)}


def _facts(*facts: tuple[str, object]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for title, value in facts:
        table.add_row(title, f"{value:,}" if isinstance(value, int) else str(value))
    return table
