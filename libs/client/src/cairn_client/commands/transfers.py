"""`cairn transfers`, `cairn cancel`: imports and exports while they run."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape

from cairn.annotation.v1.annotation_store_pb2 import ExportState, ImportState
from cairn_client.commands.connection import connect
from cairn_client.commands.screen import say
from cairn_client.errors import InputError
from cairn_client.names import last_part
from cairn_client.words import counted, quoted


def transfers(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
) -> None:
    """List a project's imports and exports, each newest first, and how far they are."""
    nothing = True
    with connect(context) as cairn:
        for one in cairn.imports.list(name):
            nothing = False
            state = ImportState.Name(one.state).removeprefix("IMPORT_STATE_").lower()
            counts = f"{one.created_items:,} written, {one.unchanged_items:,} there already, {one.failed_items:,} refused"
            say(_line(one.name, state, counts, one.update_time))
        for export in cairn.exports.list(name):
            nothing = False
            state = ExportState.Name(export.state).removeprefix("EXPORT_STATE_").lower()
            counts = f"{export.exported_labels:,} of {export.total_labels:,} labels"
            say(
                _line(
                    export.name,
                    state,
                    counts,
                    export.end_time if export.HasField("end_time") else export.create_time,
                )
            )
    if nothing:
        say("Nothing was imported or exported yet. Try: cairn import --help")


def cancel(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="An import or an export, by the name that 'cairn transfers' tells.")
    ],
) -> None:
    """End an import or an export that runs. What an import has written stays; an export leaves nothing."""
    with connect(context) as cairn:
        if "/imports/" in name:
            ended = cairn.imports.cancel(name)
            left = f"{counted(ended.created_items, 'item')} written before stay"
        elif "/exports/" in name:
            cairn.exports.cancel(name)
            left = "nothing of it is left"
        else:
            raise InputError(
                f"{quoted(name)} names neither an import nor an export: see cairn transfers PROJECT."
            )
    say(f"Cancelled [bold]{escape(last_part(name))}[/]: {left}.")


def _line(name: str, state: str, counts: str, moment: Timestamp) -> str:
    when = moment.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
    return f"[bold]{escape(name)}[/] {state}: {counts} [dim]{when}[/]"
