"""How subcommands reach Cairn: `--home` of the command itself, or the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from cairn_client.aio import AsyncCairn
from cairn_client.blocking import Cairn
from cairn_client.transport import Patience


@dataclass(frozen=True, slots=True)
class Where:
    """What was said before the subcommand."""

    home: Path | None = None


def where(context: typer.Context) -> Where:
    """The options before the subcommand."""
    found = context.find_object(Where)
    return found if found is not None else Where()


def connect(context: typer.Context) -> Cairn:
    """A blocking client."""
    return Cairn(home=where(context).home)


def connect_async(home: Path | None, patience: Patience | None = None) -> AsyncCairn:
    """An asyncio client."""
    return AsyncCairn(home=home, patience=patience)
