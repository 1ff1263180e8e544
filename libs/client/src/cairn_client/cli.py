"""The `cairn` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cairn_client.commands import demo as demo_command
from cairn_client.commands import (
    labeling,
    projects,
    replaying,
    reporting,
    stack,
    transfers,
    verifying,
    watching,
    working,
)
from cairn_client.commands.connection import Where
from cairn_client.commands.screen import tell
from cairn_client.errors import CairnError

app = typer.Typer(
    help="Cairn: ground truth from people and models, with the evidence for both.\n\n"
    "Begin with `cairn demo`, or `cairn up`, `cairn project create`, `cairn import`, `cairn label`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_HERE, _DATA, _TRUTH = "This machine", "Items and labels", "How good is it?"


@app.callback()
def _root(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(envvar="CAIRN_HOME", help="The local stack's folder.", show_default="~/.cairn"),
    ] = None,
) -> None:
    context.obj = Where(home)


app.command(rich_help_panel=_HERE)(stack.up)
app.command(rich_help_panel=_HERE)(stack.down)
app.command(rich_help_panel=_HERE)(stack.status)
app.command(rich_help_panel=_HERE)(stack.logs)
app.command(rich_help_panel=_HERE)(projects.token)
app.command("demo", rich_help_panel=_HERE)(demo_command.demo)
app.add_typer(projects.project, name="project", rich_help_panel=_DATA)
app.command("import", rich_help_panel=_DATA)(projects.import_items)
app.command(rich_help_panel=_DATA)(labeling.label)
app.command(rich_help_panel=_DATA)(working.work)
app.command(rich_help_panel=_DATA)(watching.watch)
app.command(rich_help_panel=_DATA)(projects.export)
app.command(rich_help_panel=_DATA)(transfers.transfers)
app.command(rich_help_panel=_DATA)(transfers.cancel)
app.command(rich_help_panel=_TRUTH)(reporting.report)
app.command(rich_help_panel=_TRUTH)(verifying.verify)
app.command("replay", rich_help_panel=_TRUTH)(replaying.replay_command)


def main() -> None:
    """Run the command; what goes wrong is one plain sentence and exit code 1."""
    try:
        app()
    except* CairnError as group:
        _fail(group)
    except* Exception as group:
        if not all(type(one).__module__.startswith("cairn_stack") for one in _leaves(group)):
            raise
        _fail(group)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found


def _fail(group: BaseExceptionGroup[BaseException]) -> None:
    tell(f"[red]Error:[/] {escape(str(_leaves(group)[0]))}")
    sys.exit(1)
