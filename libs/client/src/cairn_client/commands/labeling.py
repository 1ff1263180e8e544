"""`cairn label`: answer in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import click
import typer
from rich.markup import escape
from rich.text import Text

from cairn_client.commands.connection import connect
from cairn_client.commands.screen import out, say
from cairn_client.errors import CairnError
from cairn_client.labeling import LabelingSession
from cairn_client.words import counted


def label(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    labeler: Annotated[str, typer.Option("--as", help="Who answers; by default you.")] = "",
    reviews: Annotated[
        bool, typer.Option("--reviews", help="Do reviews instead; needs the reviewer role.")
    ] = False,
) -> None:
    """Answer a project's questions in this terminal.

    The most urgent item comes first. Press a class's key to choose it; `u` takes the last answer back (it is sent
    when the next one is given), `s` skips with a reason, `?` says that it cannot be told, `q` stops. At a typed
    answer these are `:u`, `:s` and `:q`.
    """
    if not sys.stdin.isatty():
        raise CairnError("cairn label needs a terminal; programs answer with the SDK.")
    with connect(context) as cairn:
        session = LabelingSession(
            cairn,
            name,
            out,
            key=click.getchar,
            line=lambda prompt: out.input(Text(prompt, style="cyan")),
            labeler=labeler,
            reviews=reviews,
        )
        count = session.run()
    say(f"{counted(count, 'answer')} given. Thank you.")
    if count and not reviews:
        say(f"When nobody will answer any more: cairn project conclude {escape(name)}")
