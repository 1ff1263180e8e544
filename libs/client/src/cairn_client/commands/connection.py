"""How subcommands reach Cairn: `--home` of the command itself, or the environment."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from cairn_client.aio import AsyncCairn
from cairn_client.blocking import Cairn
from cairn_client.profile import Profile, discover
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
    profile = discover(where(context).home)
    return Cairn(profile=profile, patience=_unless_stopped(profile, Patience()))


def connect_async(home: Path | None, patience: Patience | None = None) -> AsyncCairn:
    """An asyncio client."""
    profile = discover(home)
    return AsyncCairn(profile=profile, patience=_unless_stopped(profile, patience or Patience()))


def _unless_stopped(profile: Profile, patience: Patience) -> Patience:
    return replace(patience, in_vain=lambda: _stopped_stack(profile))


def _stopped_stack(profile: Profile) -> str | None:
    """That the profile is of a stack on this machine which nothing runs, so that nobody waits for it.

    Asked only after a call failed: importing the stack's package takes longer than most commands.
    """
    file = Path(profile.source)
    if profile.issuer_key is None or not file.is_file():
        return None
    try:
        api = importlib.import_module("cairn_stack.api")
    except ImportError:
        return None
    found = api.status(file.parent)
    # A folder without processes to tell of was never a stack's: somebody copied the profile there.
    if str(found.state) != "stopped" or not found.processes or any(one.process for one in found.processes):
        return None
    return f"The stack in {file.parent} is stopped; start it with `cairn up`."
