"""`cairn watch`: a project's progress, live."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Annotated

import typer
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

_ROUTING_EVERY = 1.0
_AGAIN = 0.5
_LINE_EVERY = 10.0


def watch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
) -> None:
    """Show a project's progress live, until every item is labeled or you interrupt."""
    asyncio.run(_watch(connect_async(where(context).home), name))


async def _watch(client: AsyncCairn, name: str) -> None:
    async with client:
        await client.projects.get(name)  # an unknown project is a plain error, before the screen is drawn
        async with LiveBoard(client, name) as board:
            await board.complete.wait()


class LiveBoard:
    """A board that follows a project while its block runs; also a Screen for what goes on in there.

    `complete` is set when every item has a label, or when the project cannot be followed any more.
    """

    def __init__(self, client: AsyncCairn, name: str, *, title: str = "") -> None:
        self.complete = asyncio.Event()
        self._client = client
        self._name = name
        self._board = Board(title or last_part(name))
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
    """What is drawn: progress, the queue, and the model."""

    def __init__(self, name: str) -> None:
        self.name = name
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
        return Panel(Group(*lines), title=escape(self.name))

    def line(self) -> str:
        """The board in a line."""
        items, labeled = self.progress.items, self.progress.labeled_items
        parts = [self._stage(), f"{labeled:,} of {items:,} items labeled" if items else ""]
        return "; ".join(part for part in parts if part)

    def _stage(self) -> str:
        count = f" {self.done:,}" + (f" of {self.total:,}" if self.total else "") if self.done else ""
        return f"{self.stage}{count}"

    def _queue_table(self) -> Table:
        # Dispatch counts the reviews that were answered among its filled tasks; a labeled item waits for nothing.
        unlabeled = max(0, self.progress.items - self.progress.labeled_items)
        return _facts(
            ("answers wanted now", self.queue.open_slots),
            ("leases live", self.queue.live_leases),
            ("tasks open", self.queue.open_tasks),
            ("waiting for consensus", min(self.queue.filled_tasks, unlabeled)),
            ("reviews open", self.queue.open_reviews),
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


def _facts(*facts: tuple[str, object]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for title, value in facts:
        table.add_row(title, f"{value:,}" if isinstance(value, int) else str(value))
    return table
