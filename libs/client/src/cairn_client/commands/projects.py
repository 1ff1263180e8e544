"""`cairn project ...`, `import`, `export`, `token`: what goes in and comes out."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cairn.annotation.v1.annotation_store_pb2 import (
    Project,
    ProjectDeletion,
    ProjectProgress,
    ProjectState,
)
from cairn_client.commands.connection import connect, where
from cairn_client.commands.screen import RichScreen, err, out, say, tell
from cairn_client.errors import CairnError, InputError
from cairn_client.names import item_key, last_part
from cairn_client.profile import ALL_ROLES, discover
from cairn_client.schema import classes_of, load_spec
from cairn_client.tables import placed_records, read_csv
from cairn_client.tokens import Issuer
from cairn_client.words import counted, quoted, shortened

project = typer.Typer(help="Create, list, show, conclude, archive and delete projects.", no_args_is_help=True)

_SHOWN_FAILURES = 10


@project.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The project's id: a-z, 0-9 and -, such as 'reviews'.")],
    file: Annotated[
        Path, typer.Option("--file", "-f", help="The questions, as YAML (or the contract's JSON).")
    ],
) -> None:
    """Create a project from a schema file.

    A schema file says what is asked about each item, how many answers are bought, and whether a model may answer:

    ```yaml
    questions:
      - id: sentiment
        title: Is the sentence positive?
        choice: [negative, positive]
    quality: {min_answers: 2, max_answers: 7, target_confidence: 0.95}
    routing: {enabled: true, alpha: 0.05}
    ```
    """
    spec = load_spec(file)
    with connect(context) as cairn:
        made = cairn.projects.create(name, spec)
    say(f"Created [bold]{escape(last_part(made.name))}[/]: {_questions(made)}.")
    say(f"Next: cairn import {escape(name)} ITEMS.csv")


@project.command(name="list")
def list_projects(context: typer.Context) -> None:
    """List the projects."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("project", "questions", "state", "created"):
        table.add_column(column)
    with connect(context) as cairn:
        for one in cairn.projects.list():
            state = ProjectState.Name(one.state).removeprefix("PROJECT_STATE_").lower()
            created = one.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
            table.add_row(escape(last_part(one.name)), escape(_questions(one)), state, created)
    out.print(table if table.row_count else "There are no projects yet. Try: cairn project create --help")


@project.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The project.")],
    as_json: Annotated[bool, typer.Option("--json", help="The project and its progress as JSON.")] = False,
) -> None:
    """Show a project's questions, policies and progress."""
    with connect(context) as cairn:
        found = cairn.projects.get(name)
        progress = cairn.projects.progress(name)
    if as_json:
        told = {"project": MessageToDict(found), "progress": MessageToDict(progress)}
        typer.echo(json.dumps(told, indent=2))  # in ASCII: nothing in it can speak to a terminal
        return
    out.print(Panel(progress_table(progress), title=escape(found.display_name or last_part(found.name))))
    for question in found.schema.questions:
        kind = question.WhichOneof("kind") or ""
        classes = ", ".join(one.id for one in classes_of(question)[:20])
        say(f"[bold]{escape(question.id)}[/] [dim]{kind}[/] {escape(question.title)} {escape(classes)}")
    quality, routing = found.quality, found.routing
    say(
        f"[dim]{quality.min_answers or 2} to {quality.max_answers or 10} answers an item until"
        f" {quality.target_confidence or 0.95:.0%} sure; "
        + (f"a model may answer with error ≤ {routing.alpha or 0.05:g}" if routing.enabled else "no model")
        + "[/]"
    )


@project.command()
def conclude(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The project.")],
) -> None:
    """Say that nobody will answer any more: what there is becomes labels.

    Items on which one more answer would be worth its cost wait for it. When none will come, this gives every item with
    an answer the most probable label, with the confidence it honestly has. Returns when those labels stand.
    """
    with connect(context) as cairn, err.status("Weighing the answers"):
        concluded = cairn.projects.conclude(name)
    say(
        f"Concluded {escape(name)}: {counted(concluded.votes, 'vote')} by people,"
        f" {counted(concluded.announced_labels, 'label')} new or changed."
    )
    for one in concluded.undecided[:_SHOWN_FAILURES]:
        tell(
            f"[yellow]without a label[/] {escape(shortened(item_key(one.item)))}: {escape(one.reason.message)}"
        )
    if len(concluded.undecided) > _SHOWN_FAILURES:
        tell(f"... and {len(concluded.undecided) - _SHOWN_FAILURES:,} more.")


@project.command()
def archive(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The project.")],
) -> None:
    """Close a project to new items and answers; what it holds stays readable."""
    with connect(context) as cairn:
        cairn.projects.archive(name)
    say(f"Archived {escape(name)}.")


@project.command()
def delete(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The project; archived before.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: there is no way back.")] = False,
) -> None:
    """Delete an archived project: its items, answers, labels, files, models and audits, for good.

    In the ledger its entries keep their places and hashes, and lose what they say. What was announced goes with the
    retention of events, at the latest after two weeks. Interrupting this command stops nothing.
    """
    if not yes:
        typer.confirm(f"Delete {name!r} and everything in it, for good?", abort=True, err=True)
    with connect(context) as cairn, RichScreen() as screen:
        screen.stage(f"Deleting {name}")

        def show(now: ProjectDeletion) -> None:
            screen.advance(now.deleted_rows, f"of {now.total_rows:,}")

        cairn.projects.delete(name, wait=True, progress=show)
    say(f"Deleted {escape(name)}.")


def progress_table(progress: ProjectProgress) -> Table:
    """What a project holds, by where its labels came from."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for title, count in (
        ("items", progress.items),
        ("labeled", progress.labeled_items),
        ("  by people", progress.consensus_items),
        ("  by a model alone", progress.auto_items),
        ("  by a reviewer", progress.corrected_items),
        ("  gold", progress.gold_items),
        ("annotations", progress.annotations),
        ("  late", progress.late_annotations),
    ):
        table.add_row(title, f"{count:,}")
    return table


def _questions(one: Project) -> str:
    return ", ".join(f"{question.id} ({question.WhichOneof('kind')})" for question in one.schema.questions)


def import_items(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    source: Annotated[Path, typer.Argument(help="A .csv or .jsonl file, or a folder of images.")],
    gold: Annotated[
        Path | None, typer.Option(help="A CSV item,label (or one column a question): these become gold.")
    ] = None,
    import_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="The import's id, a-z, 0-9 and -: the same again goes on where it broke off."
        ),
    ] = None,
) -> None:
    """Import items into a project.

    A CSV needs a column 'item' (or 'key', 'id') and one of 'text' or 'path' (a file, relative to the CSV); any other
    column is kept as metadata. Of a folder, every image becomes an item whose key is its path. Importing the same
    items again changes nothing; a refused item is named, and the others are written.
    """
    with connect(context) as cairn:
        found = cairn.projects.get(name)
        truth = {} if gold is None else _gold(gold, [question.id for question in found.schema.questions])
        placed = list(placed_records(source))
        records = [
            {**record, "gold": truth[key]} if (key := str(record["key"])) in truth else record
            for record in (_keyed(record) for _, record in placed)
        ]
        with RichScreen() as screen:
            screen.stage(f"Importing {source.name}", len(records))
            result = cairn.import_items(name, records, progress=screen.advance, import_id=import_id)
    say(
        f"{counted(result.created, 'item')} written, {result.unchanged:,} there already, {result.failed:,} refused."
    )
    for failure in result.failures[:_SHOWN_FAILURES]:
        where, key = placed[failure.place][0], f" ({quoted(failure.key)})" if failure.key else ""
        tell(f"[red]refused[/] {escape(f'{where}{key}: {failure.problem}')}")
    if result.failed > _SHOWN_FAILURES:
        tell(f"... and {result.failed - _SHOWN_FAILURES:,} more.")
    if result.failed:
        raise typer.Exit(1)


def _keyed(record: dict[str, object]) -> dict[str, object]:
    return record if record.get("key") else {**record, "key": record.get("item") or record.get("id")}


def _gold(file: Path, questions: list[str]) -> dict[str, dict[str, object]]:
    table = read_csv(file)
    item = table.column(("item", "key", "id"))
    asked = [question for question in questions if question in table.columns]
    if not asked:
        column = table.column(("label", "answer", "truth", *questions))
        return {row.cells[item]: {questions[0]: row.cells[column]} for row in table.rows}
    return {
        row.cells[item]: {question: row.cells[question] for question in asked if row.cells[question]}
        for row in table.rows
    }


def export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    file: Annotated[Path, typer.Argument(help="Where to: a .jsonl or .csv file.")],
    format: Annotated[str, typer.Option(help="jsonl or csv; by default what the file's name ends in.")] = "",
    annotations: Annotated[
        bool, typer.Option("--annotations", help="With every annotation beside its item's labels (jsonl).")
    ] = False,
) -> None:
    """Write a project's labels to a file, each with confidence, source and provenance."""
    if not file.parent.is_dir():
        raise InputError(f"There is no folder {file.parent}.")
    with connect(context) as cairn, RichScreen() as screen:
        screen.stage(f"Exporting {name}", 1)
        done = cairn.export(name, file, format=format, include_annotations=annotations)
        screen.advance(1)
    say(f"{counted(done.exported_labels, 'label')} written to {escape(str(file))}.")


def token(
    context: typer.Context,
    subject: Annotated[str, typer.Option(help="Who the token is for.")] = "admin",
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="admin, manager, operator, labeler, reviewer or viewer; may be given several times."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--project", help="Restrict the token to this project; repeatable.")
    ] = None,
    hours: Annotated[float, typer.Option(help="How long it is valid.", min=0.01)] = 12.0,
) -> None:
    """Mint a bearer token with the local stack's issuer key, for programs that speak gRPC themselves.

    Send it as metadata: `authorization: Bearer TOKEN`. The subject of a labeler's token is the labeler.
    """
    profile = discover(where(context).home)
    if profile.issuer_key is None:
        raise CairnError(
            f"There is no issuer key here ({profile.source}); tokens come from your identity provider."
        )
    typer.echo(
        Issuer(profile.issuer_key, profile.issuer).mint(
            tenant=profile.tenant,
            subject=subject,
            roles=role or ALL_ROLES,
            projects=only,
            lifetime=timedelta(hours=hours).total_seconds(),
        )
    )
