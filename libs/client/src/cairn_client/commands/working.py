"""`cairn work`: any program as a labeler."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import Annotated

import typer
from rich.markup import escape

from cairn.label.v1.label_value_pb2 import BlobRef
from cairn_client.commands.connection import connect_async, where
from cairn_client.commands.screen import say, tell
from cairn_client.words import counted
from cairn_client.working.command import CommandJudge
from cairn_client.working.hand import SHORTEST
from cairn_client.working.verdicts import Worked

_INTERRUPTED = 128 + signal.SIGINT
"""The exit code of a command that was interrupted, by custom."""


def work(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The program that judges.")],
    labeler: Annotated[str, typer.Option("--as", help="Who answers; by default you.")] = "",
    batch: Annotated[
        int, typer.Option(min=1, help="Items that the program gets before it must answer.")
    ] = 16,
    ahead: Annotated[
        int | None, typer.Option(min=1, help="The most leases held.", show_default="four batches")
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(min=0, help="End after so many seconds without work.", show_default="never"),
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(
            min=SHORTEST,
            help="Seconds that a lease lasts; it is extended while the program works.",
            show_default="the project's",
        ),
    ] = None,
    reviews: Annotated[
        bool, typer.Option("--reviews", help="Do reviews instead; needs the reviewer role.")
    ] = False,
) -> None:
    """Have a program answer a project's questions, for as long as there is work.

    The program reads a JSON object a line from stdin, an item with its `key` and its `text` (or the `path` of a file),
    and writes one a line to stdout, flushed, in any order: `{"key": ..., "answers": {question: value}}`, or with
    `"skip": "why"` or `"release": true` instead of the answers. Ctrl-C lets it finish what it has, Ctrl-C again does not.

    When it ends, or writes anything else, it is started again and given each item alone. An item that it fails at while
    it answers others is skipped, with what it said last as the reason: this labeler does not get it again. Where there
    are no others it is judged once more, after half of its lease or before the command ends as idle, and skipped if
    that fails, too, and the program still answers an item that it has answered before. When the program fails at that,
    at ten items in a row, or at all there are before its first answer, the command ends with what it said, and the
    items may come again.
    """
    duration = None if lease is None else timedelta(seconds=lease)

    async def working() -> Worked:
        stop, run = asyncio.Event(), asyncio.current_task()

        def end() -> None:
            if not stop.is_set():
                stop.set()
                tell("What is being judged is finished and submitted; Ctrl-C again ends that, too.")
            elif run is not None and not run.cancelling():
                run.cancel()

        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, end)
        async with connect_async(where(context).home) as cairn:

            async def download(blob: BlobRef, lease_token: str) -> bytes:
                return await cairn.download(name, blob, lease_token=lease_token)

            async with CommandJudge(command, download, lambda words: tell(escape(words))) as judge:
                return await cairn.work(
                    name,
                    judge,
                    labeler=labeler,
                    reviews=reviews,
                    batch=batch,
                    ahead=ahead,
                    idle=idle,
                    duration=duration,
                    stop=stop,
                )

    try:
        worked = asyncio.run(working())
    except asyncio.CancelledError:
        tell("[yellow]Ended before all was judged; what was not answered may come again.[/]")
        raise typer.Exit(_INTERRUPTED) from None
    say(
        f"{counted(worked.answered, 'answer')} given; {worked.skipped} skipped, {worked.released} given back."
    )
    if worked.late:
        tell(f"[yellow]{counted(worked.late, 'answer')} came after the lease's end: take longer leases.[/]")
    if worked.failed:
        tell(
            f"[yellow]{counted(worked.failed, 'item')} failed and skipped, the last[/] {escape(worked.last_failure)}"
        )
