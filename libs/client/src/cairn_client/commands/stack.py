"""`cairn up`, `down`, `status`, `logs`: the stack on this machine. Needs cairn-local-stack, the SDK does not."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cairn_client.commands.connection import where
from cairn_client.commands.screen import err, out, say, tell
from cairn_client.errors import CairnError

_COLOURS = {"ready": "green", "starting": "yellow", "degraded": "yellow", "stopped": "dim"}


def stack_module() -> Any:
    """The embedded stack's package, imported when it is needed."""
    try:
        importlib.import_module("cairn_stack.api")
        return importlib.import_module("cairn_stack")
    except ImportError:
        raise CairnError(
            "The local stack is not installed here: install cairn-local-stack, or point CAIRN_PROFILE at a stack."
        ) from None


def up(
    context: typer.Context,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="How many of each service, on one database and bus.")
    ] = 1,
) -> None:
    """Start Cairn on this machine: PostgreSQL, NATS and the five services.

    Waits until all are ready. Data live in `~/.cairn` (or `--home`, or CAIRN_HOME) and survive a restart.
    """
    with err.status("Starting") as spinner:
        status = stack_module().api.up(
            where(context).home, replicas=replicas, progress=lambda text: spinner.update(escape(text))
        )
    _show(status)
    say("Try: [bold]cairn demo[/], or [bold]cairn project create --help[/]")


def down(context: typer.Context) -> None:
    """Stop the stack on this machine. Its data stay."""
    with err.status("Stopping"):
        ran = stack_module().api.down(where(context).home)
    say("Stopped." if ran else "Nothing was running.")


def status(context: typer.Context) -> None:
    """Show what runs on this machine, where it listens, how far behind it is, and what is wrong with it.

    The lag is that of a service's events: seconds that the oldest has waited, and how many wait, announced but not yet
    on the bus (out) or on the bus but not yet handled (in).
    """
    api = stack_module().api
    found = api.status(where(context).home)
    _show(found, api.lags(found))
    if found.problems:
        raise typer.Exit(1)


def logs(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A service, 'postgres', 'nats' or 'supervisor'; all when left out.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until interrupted.")
    ] = False,
) -> None:
    """Show the logs of the stack on this machine."""
    for source, line in stack_module().api.logs(where(context).home, name, lines=lines, follow=follow):
        say(f"[dim]{escape(source)}[/] {escape(line)}")


def _show(status: Any, lags: Mapping[str, Any] | None = None) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("process", "state", "listens at", "pid", "restarts", *(() if lags is None else ("lag",))):
        table.add_column(column)
    for process in status.processes:
        state = str(process.state)
        table.add_row(
            process.name,
            f"[{_COLOURS.get(state, 'red')}]{escape(state)}[/]",
            escape(process.address),
            str(process.pid or ""),
            str(process.restarts or ""),
            *(() if lags is None else (lag_words(lags.get(process.name)),)),
        )
    state = str(status.state)
    out.print(table)
    say(f"The stack in {escape(str(status.home))} is [{_COLOURS.get(state, 'red')}]{escape(state)}[/].")
    for problem in status.problems:
        tell(f"[yellow]![/] {escape(str(problem))}")


def lag_words(lag: Any) -> str:
    """How a service's lag is shown; nothing when it tells none."""
    if lag is None:
        return ""
    waiting = [
        f"{count:,} {where}" for count, where in ((lag.unpublished, "out"), (lag.unhandled, "in")) if count
    ]
    return " ".join([f"{lag.seconds:.1f} s", *([f"({', '.join(waiting)})"] if waiting else [])])
