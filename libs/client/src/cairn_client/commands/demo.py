"""`cairn demo`: the whole loop on real images, in a private stack, while you watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cairn.audit.v1.audit_pb2 import AuditState
from cairn_client.commands.connection import connect_async, where
from cairn_client.commands.replaying import stack_home
from cairn_client.commands.screen import err, out, tell
from cairn_client.commands.watching import LiveBoard
from cairn_client.demo.crowd import crowd, error_model
from cairn_client.demo.digits import load_digits
from cairn_client.demo.loop import ALPHA, AUDITED, PROJECT, QUESTION, Demonstrated, demonstrate
from cairn_client.errors import InputError
from cairn_client.replay.outcome import Grade, grade, grade_by_source, majority
from cairn_client.replay.question import Kind
from cairn_client.report.build import Material, write_report

_FIXED = 5
"""What the answers are compared with: so many for every item, the usual practice."""
_SOURCES = {"consensus": "by people", "auto": "by the model alone", "audit": "corrected by the audit"}


def demo(
    context: typer.Context,
    report: Annotated[Path, typer.Option(help="Where the HTML report goes.")] = Path("demo-report.html"),
    labelers: Annotated[int, typer.Option(help="People in the simulated crowd.", min=8, max=500)] = 30,
    spammers: Annotated[int, typer.Option(help="Of these, who answer at random.", min=0)] = 3,
    audited: Annotated[int, typer.Option("--audit", help="Labels to audit at the end.", min=0)] = AUDITED,
    alpha: Annotated[
        float, typer.Option(help="Most error among automatic labels.", min=0.0, max=0.5)
    ] = ALPHA,
    seed: Annotated[int, typer.Option(help="Seed of the crowd.")] = 0,
    here: Annotated[
        bool,
        typer.Option("--here", help="Use the running stack and keep the project, instead of a private one."),
    ] = False,
) -> None:
    """Show the whole loop on 1,797 real handwritten digits, in about a minute.

    Starts a private stack, imports the images, lets a simulated crowd answer what dispatch hands out, trains a model on
    the finished labels, lets it answer alone where its error is bounded, audits, and writes a report.
    """
    if not report.resolve().parent.is_dir():
        raise InputError(f"There is no folder {report.parent}.")
    digits = load_digits()
    err.print(
        Panel(
            f"{len(digits.items):,} real handwritten digits (scikit-learn), 8x8 pixels, as PNG items.\n"
            + error_model(labelers, spammers)
            + f"\nA model may answer alone where its error is at most {alpha:.0%} with confidence 90%.",
            title="Cairn: from images to ground truth",
        )
    )
    people = crowd(labelers, spammers, seed)
    _when_piped(not here, "Starting a private stack")
    with stack_home(where(context).home, private=not here) as home:

        async def run() -> tuple[Demonstrated, Material, float]:
            began = time.monotonic()
            async with connect_async(home) as client:
                project = f"{PROJECT}-{int(time.time())}" if here else PROJECT
                async with LiveBoard(client, project, title="Handwritten digits") as board:
                    done = await demonstrate(
                        client,
                        digits,
                        people,
                        board,
                        project=project,
                        alpha=alpha,
                        audited=audited,
                        seed=seed,
                    )
                took = time.monotonic() - began
                material = await write_report(client, project, report, truth=digits.truth, question=QUESTION)
                return done, material, took

        done, material, took = asyncio.run(run())
        out.line()
        out.print(result_table(done, material.standing, material.by_source, digits.truth, alpha, took))
        tell(f"Report: {escape(str(report))}")
        _when_piped(not here, "Stopping the private stack")


def _when_piped(private: bool, text: str) -> None:
    """What the private stack's spinner says, where no terminal shows it."""
    if private and not err.is_terminal:
        tell(f"{text}.")


def result_table(
    done: Demonstrated,
    standing: Grade,
    by_source: Mapping[str, Grade],
    truth: Mapping[str, str],
    alpha: float,
    took: float,
) -> Table:
    """What the demonstration came to. `standing` and `by_source` are the report's: the labels after the audit."""
    table = Table(show_header=False, min_width=70)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    votes = majority(Kind.CHOICE, done.answers, seed=0)
    right = sum(votes[key] == truth[key] for key in votes)
    fixed = _FIXED * len(truth)
    table.add_row("items labeled", f"{standing.labels:,} of {len(truth):,}")
    table.add_row("accuracy of the labels that stand", _accuracy(standing))
    for source, name in _SOURCES.items():
        if source in by_source:
            table.add_row(f"  {name} ({by_source[source].labels:,} items)", _accuracy(by_source[source]))
    table.add_row("  before the audit corrected any", _accuracy(grade(Kind.CHOICE, done.labels, truth)))
    auto = grade_by_source(Kind.CHOICE, done.labels, truth).get("auto")
    table.add_row(
        "model's true error before the audit",
        f"{1 - auto.right / auto.judged:.2%} of {auto.labels:,}, bound {alpha:.0%}" if auto else "–",
    )
    table.add_row(
        "majority vote of the same answers", f"{right / max(1, len(votes)):.2%} of {len(votes):,} items"
    )
    table.add_row("answers bought (reviews not counted)", f"{len(done.answers):,}")
    table.add_row(f"  of what {_FIXED} answers an item would cost", f"{len(done.answers) / fixed:.1%}")
    if done.audit is not None:
        state = AuditState.Name(done.audit.state).removeprefix("AUDIT_STATE_").lower()
        table.add_row(
            f"audit of {done.audit.sampled:,} labels (truth as expert)",
            escape(f"{state}: {done.audit.verdict}"),
        )
    table.add_row("seconds", f"{took:.0f}")
    return table


def _accuracy(found: Grade) -> str:
    return "–" if found.accuracy is None else f"{found.accuracy:.2%}"
