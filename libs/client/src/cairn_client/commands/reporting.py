"""`cairn report`: one page about a project."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cairn_client.commands.connection import connect_async, where
from cairn_client.commands.screen import err, say
from cairn_client.errors import InputError
from cairn_client.report.build import write_report
from cairn_client.tables import ITEM, LABEL, read_csv


def report(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    file: Annotated[Path, typer.Argument(help="Where to: an .html file.")] = Path("report.html"),
    truth: Annotated[
        Path | None, typer.Option(help="CSV item,label with what is right: adds accuracies.")
    ] = None,
    question: Annotated[str, typer.Option(help="The question; by default the first.")] = "",
    price: Annotated[float, typer.Option(help="What one answer costs, for the cost table.", min=0.0)] = 0.0,
) -> None:
    """Write one self-contained HTML page about a project.

    Accuracy (or confidence) and coverage against people's answers spent, model versions and their thresholds, the
    reliability of labelers, audits with their intervals, and cost. It loads nothing and can be mailed.
    """
    if not file.resolve().parent.is_dir():
        raise InputError(f"There is no folder {file.parent}.")
    asyncio.run(_write(where(context).home, name, file, _truth(truth), question, price))
    say(f"Report: {escape(str(file))}")


def _truth(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    table = read_csv(file)
    item, label = table.column(ITEM), table.column(LABEL)
    return {row.cells[item]: row.cells[label] for row in table.rows}


async def _write(
    home: Path | None, name: str, file: Path, truth: dict[str, str], question: str, price: float
) -> None:
    async with connect_async(home) as client:
        with err.status("Reading the ledger"):
            await write_report(client, name, file, truth=truth, question=question, price=price)
