"""`cairn replay`: a recorded crowd, played through the public API."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from cairn_client.commands.connection import connect_async, where
from cairn_client.commands.screen import RichScreen, err, out, tell
from cairn_client.commands.stack import stack_module
from cairn_client.errors import InputError
from cairn_client.replay.outcome import Outcome
from cairn_client.replay.question import Kind
from cairn_client.replay.recording import Recording, load_recording
from cairn_client.replay.run import Replayed, ReplayOptions, replay
from cairn_client.transport import Patience
from cairn_client.words import counted

_PATIENT = Patience(call=300.0)
"""A service that is killed during a replay comes back; the replay waits for it."""


def replay_command(
    context: typer.Context,
    answers: Annotated[
        Path,
        typer.Argument(
            help="A folder with answers.csv, truth.csv and perhaps items.csv; or an answers file."
        ),
    ],
    items: Annotated[Path | None, typer.Option(help="CSV item,text or item,path.")] = None,
    truth: Annotated[Path | None, typer.Option(help="CSV item,label: what is right.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order in which answers are offered.")] = 0,
    alpha: Annotated[float, typer.Option(help="Most error among automatic labels.", min=0.0, max=0.5)] = 0.05,
    target: Annotated[
        float,
        typer.Option(help="Confidence at which an item is decided; 0: the default.", min=0.0, max=0.9999),
    ] = 0.0,
    min_answers: Annotated[int, typer.Option(help="Fewest answers an item gets; 0: 2.", min=0)] = 0,
    max_answers: Annotated[
        int, typer.Option(help="Most answers an item gets; 0: as many as the best-covered item has.", min=0)
    ] = 0,
    fixed: Annotated[
        bool, typer.Option("--fixed-redundancy", help="Ask for max-answers on every item: the comparison.")
    ] = False,
    no_model: Annotated[bool, typer.Option("--no-model", help="People alone, no model in the loop.")] = False,
    audit: Annotated[
        int,
        typer.Option(
            help="Audit so many labels at the end, the recorded truth standing in for an expert.", min=0
        ),
    ] = 0,
    schema: Annotated[
        Path | None, typer.Option(help="A schema file with the question; else it is guessed.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="The kind of question; else it is guessed.")] = None,
    project: Annotated[str | None, typer.Option(help="The project to use; by default a new one.")] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as one JSON object here.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Start a private stack for this run and remove it afterwards.")
    ] = False,
) -> None:
    """Play a recorded crowd through the public API and measure what Cairn makes of it.

    Imports the items; then, answer by answer in a seeded random order, claims that item for that labeler and submits
    what they answered. When no more answers are wanted on an item, the recorded ones left over count as saved.

    Columns: answers.csv item,annotator,label; truth.csv item,label; items.csv item,text or item,path.
    """
    for file in (as_json, report):
        if file is not None and not file.resolve().parent.is_dir():
            raise InputError(f"There is no folder {file.parent} to write {file.name} into.")
    recording = load_recording(answers, items, truth)
    options = ReplayOptions(
        seed=seed,
        alpha=alpha,
        target=target,
        min_answers=min_answers,
        max_answers=max_answers,
        fixed=fixed,
        model=not no_model,
        audit=audit,
        project=project,
        schema=schema or _beside(answers),
        kind=kind,
    )
    covered = f", {len(recording.truth):,} of known truth" if recording.truth else ", no truth"
    tell(
        f"[bold]{escape(recording.name)}[/]: {counted(len(recording.items), 'item')},"
        f" {counted(recording.recorded, 'answer')}{covered}"
    )
    with stack_home(where(context).home, private=stack) as home:
        done = asyncio.run(_run(home, recording, options, report))
        _tell(done, as_json, report)


def _beside(answers: Path) -> Path | None:
    file = answers / "schema.yaml" if answers.is_dir() else answers.parent / "schema.yaml"
    return file if file.exists() else None


@contextmanager
def stack_home(home: Path | None, *, private: bool) -> Iterator[Path | None]:
    """The home of the stack to use; a private one is started for the time and then removed."""
    if not private:
        yield home
        return
    before = signal.signal(signal.SIGTERM, _leave)  # so that what was started is also stopped and removed
    try:
        with tempfile.TemporaryDirectory(prefix="cairn-") as folder, err.status("") as spinner:
            show = lambda text: spinner.update(f"Starting a private stack: {escape(text)}")  # noqa: E731
            with stack_module().PrivateStack(Path(folder), progress=show) as running:
                spinner.stop()
                yield running.home
                spinner.start()
                spinner.update("Stopping the private stack")
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


async def _run(
    home: Path | None, recording: Recording, options: ReplayOptions, report: Path | None
) -> Replayed:
    async with connect_async(home, _PATIENT) as client:
        with RichScreen() as screen:
            done = await replay(client, recording, options, screen)
            if report is not None:
                from cairn_client.report.build import write_report

                screen.stage("Writing the report")
                await write_report(
                    client,
                    done.project,
                    report,
                    truth=done.truth_ids,
                    outcome=done.outcome,
                    question=done.question,
                )
    return done


def _tell(done: Replayed, as_json: Path | None, report: Path | None) -> None:
    if as_json is not None:
        as_json.write_text(json.dumps(done.outcome.as_json(), indent=2) + "\n", encoding="utf-8")
    out.print(outcome_table(done))
    for note in done.outcome.notes:
        tell(f"[yellow]![/] {escape(note)}")
    for title, file in (("Report", report), ("JSON", as_json)):
        if file is not None:
            tell(f"{title}: {escape(str(file))}")


def outcome_table(done: Replayed) -> Table:
    """The result of a replay."""
    outcome = done.outcome
    table = Table(
        title=f"{counted(outcome.items, 'item')}, seed {outcome.seed}", show_header=False, min_width=60
    )
    table.add_column()
    table.add_column(justify="right")
    for title, value in outcome_rows(outcome):
        table.add_row(title, value)
    if done.audit is not None:
        table.add_row("audit, truth as reviewer", escape(done.audit.verdict))
    return table


def outcome_rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """The result in words and figures."""
    yield "accuracy of the labels", _percent(outcome.accuracy)
    for source, accuracy in outcome.accuracy_by_source.items():
        count = outcome.labels_by_source.get(source, 0)
        yield f"  from {source} ({counted(count, 'label')})", _percent(accuracy)
    if outcome.unlabeled:
        yield "  without a label (count as wrong)", f"{outcome.unlabeled:,}"
    yield "majority vote on all answers", _percent(outcome.majority_accuracy)
    if outcome.rmse is not None:
        yield "RMSE of the labels", f"{outcome.rmse:.3f}"
    if outcome.majority_rmse is not None:
        yield "RMSE of the mean of all answers", f"{outcome.majority_rmse:.3f}"
    share = outcome.answers_used / outcome.answers_recorded if outcome.answers_recorded else 0.0
    yield "answers used", f"{outcome.answers_used:,} of {outcome.answers_recorded:,} ({share:.1%})"
    yield "items labeled by a model alone", f"{outcome.auto_labeled:,}"
    if outcome.auto_error is not None:
        yield f"  their true error (alpha {outcome.alpha:g})", _percent(outcome.auto_error)
    if outcome.duplicates:
        yield "duplicates in the recording, skipped", f"{outcome.duplicates:,}"
    if outcome.given_up:
        yield "answers given up, as no slot opened", f"{outcome.given_up:,}"
    yield "seconds", f"{outcome.seconds:.1f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
