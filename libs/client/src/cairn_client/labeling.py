"""Answering in a terminal: shows an item, takes keys, and holds the last answer back so that it can be undone."""

from __future__ import annotations

import contextlib
import string
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from cairn.label.v1.label_schema_pb2 import Condition, LabelClass, LabelSchema, Question
from cairn_client.answers import Abstain
from cairn_client.blocking import Cairn
from cairn_client.calls.job import Job
from cairn_client.errors import CairnError, InputError, InvalidArgument
from cairn_client.schema import classes_of

ASKABLE = ("choice", "choices", "number", "rating", "text")
_COMMANDS = "usq?"
_KEYS = [key for key in string.digits[1:] + string.ascii_lowercase if key not in _COMMANDS]


@dataclass(frozen=True, slots=True)
class _Held:
    """An answered job that is not submitted yet."""

    job: Job
    answers: dict[str, object]
    took: timedelta


class _Quit(Exception):
    """The labeler wants to stop."""


class _Undo(Exception):
    """The labeler wants the item before back."""


class _Skip(Exception):
    """The labeler gives the item back."""


class LabelingSession:
    """One labeler at one terminal.

    `key` returns one keystroke and `line` a typed line for a prompt. An answer is submitted when the next one is given
    or the session ends; until then `u` brings its item back.
    """

    def __init__(
        self,
        cairn: Cairn,
        project: str,
        console: Console,
        *,
        key: Callable[[], str],
        line: Callable[[str], str],
        labeler: str = "",
        reviews: bool = False,
    ) -> None:
        self._cairn = cairn
        self._project = project
        self._console = console
        self._key = key
        self._line = line
        self._labeler = labeler
        self._reviews = reviews
        self._held: _Held | None = None
        self._folder = Path()
        self.submitted = 0

    def run(self) -> int:
        """Ask until there is no more work or the labeler stops; how many answers were submitted.

        Items that are files are shown as files in a private folder, which is removed at the end.

        Raises InputError, before anything is leased, when a question cannot be answered in a terminal.
        """
        refuse_unaskable(self._cairn.projects.get(self._project).schema)
        # Nobody else at this machine may see the items, or have made their files before.
        with tempfile.TemporaryDirectory(prefix="cairn-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            return self._ask_until_done()

    def _ask_until_done(self) -> int:
        job: Job | None = None
        try:
            while (job := job or self._next() or self._last_word()) is not None:
                job = self._one(job)
        except _Quit:
            pass
        finally:
            # Whatever ended it, nobody should have to wait until the lease of the open item expires.
            if job is not None:
                with contextlib.suppress(CairnError):
                    self._cairn.release(job)
            self._submit_held()
        return self.submitted

    def _next(self) -> Job | None:
        jobs = self._cairn.lease(self._project, 1, labeler=self._labeler, reviews=self._reviews)
        return jobs[0] if jobs else None

    def _last_word(self) -> Job | None:
        """With nothing more to do, the answer that is held back may still be undone."""
        self._console.print("[green]There is nothing to do now.[/]")
        if self._held is None:
            return None
        self._console.print("[dim]u takes the last answer back; any other key ends.[/]")
        held = self._held
        if self._key() != "u":
            return None
        self._held = None
        return held.job

    def _one(self, job: Job) -> Job | None:
        """Have one job answered; returns the job to do next if that is already known."""
        self._show(job)
        began = time.monotonic()
        try:
            answers = self._answers(job)
        except _Undo:
            if self._held is None:
                self._console.print("[yellow]There is nothing to undo: the answer before was submitted.[/]")
                return job
            held, self._held = self._held, None
            self._cairn.release(job)
            return held.job
        except _Skip:
            reason = self._line("Why? ").strip()
            if not reason:
                return job
            self._cairn.skip(job, reason)
            return None
        if not answers:
            self._console.print("[yellow]Answer at least one question, or press s to skip.[/]")
            return job
        self._submit_held()
        self._held = _Held(job, answers, timedelta(seconds=time.monotonic() - began))
        return None

    def _submit_held(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            self._cairn.submit(held.job, held.answers, took=held.took)
            self.submitted += 1
        except InvalidArgument as error:
            self._console.print(f"[red]Refused:[/] {escape(str(error))}")
            self._cairn.release(held.job)

    def _show(self, job: Job) -> None:
        item = job.item
        if item is None:
            raise job.error or CairnError("The item cannot be shown.")
        self._console.print()
        if item.WhichOneof("content") == "blob":
            suffix = "." + item.blob.media_type.rpartition("/")[2]
            data = self._cairn.download(self._project, item.blob, lease_token=job.lease.token)
            file = self._folder / f"{item.blob.sha256[:16]}{suffix}"
            file.write_bytes(data)
            body = Text(f"{item.blob.media_type}, {len(data):,} bytes: {file}")
        else:
            body = Text(item.text)
        for candidate in item.candidates:
            body.append(f"\n[{candidate.id}] {candidate.text}")
        self._console.print(Panel(body, title=escape(job.key), subtitle="u undo · s skip · q quit"))

    def _answers(self, job: Job) -> dict[str, object]:
        refuse_unaskable(job.schema)  # it may have grown since the session began
        answers: dict[str, object] = {}
        for question in job.schema.questions:
            if not _is_asked(question.condition if question.HasField("condition") else None, answers):
                continue
            value = self._ask(question)
            if value is not None:
                answers[question.id] = value
        return answers

    def _ask(self, question: Question) -> object | None:
        title = question.title or question.id
        self._console.print(
            f"[bold]{escape(title)}[/]" + ("" if question.required else " [dim](Enter: none)[/]")
        )
        match question.WhichOneof("kind"):
            case "choice":
                return self._choose(question)
            case "choices":
                return self._choose_some(question)
            case "rating":
                span = f"{question.rating.minimum} to {question.rating.maximum}"
                return self._typed(question, f"{span}: ", int)
            case "number":
                return self._typed(question, f"number {question.number.unit}: ", float)
        return self._typed(question, "> ", str)

    def _legend(self, classes: list[LabelClass]) -> dict[str, LabelClass]:
        legend = dict(zip(_KEYS, classes, strict=False))
        self._console.print(
            "  ".join(f"[cyan]{key}[/] {escape(one.title or one.id)}" for key, one in legend.items())
        )
        return legend

    def _choose(self, question: Question) -> object | None:
        classes = classes_of(question)
        if len(classes) > len(_KEYS):
            return self._typed(question, "class id: ", str)
        legend = self._legend(classes)
        while True:
            key = self._command_or_key()
            if key in legend:
                self._console.print(f"→ {escape(legend[key].title or legend[key].id)}")
                return legend[key].id
            if key in ("\r", "\n") and not question.required:
                return None
            if key == "?":
                return Abstain(self._line("Why can it not be told? "))
            self._console.print("[dim]Press one of the keys above; ? for 'cannot tell'.[/]")

    def _choose_some(self, question: Question) -> object | None:
        legend = self._legend(classes_of(question))
        chosen: list[str] = []
        while True:
            key = self._command_or_key()
            if key in legend:
                ident = legend[key].id
                chosen = [one for one in chosen if one != ident] if ident in chosen else [*chosen, ident]
                self._console.print(f"→ {escape(', '.join(chosen)) or 'none'} [dim](Enter when done)[/]")
            elif key in ("\r", "\n"):
                return chosen

    def _typed(self, question: Question, prompt: str, kind: Callable[[str], object]) -> object | None:
        while True:
            text = self._line(prompt)
            if text.strip() in (":u", ":s", ":q"):
                self._command(text.strip()[1])
            if not text.strip() and not question.required:
                return None
            try:
                return kind(text)
            except ValueError:
                self._console.print("[dim]That is not a number. (:u undo, :s skip, :q quit)[/]")

    def _command_or_key(self) -> str:
        key = self._key()
        if key in ("\x03", "\x04"):
            raise _Quit
        self._command(key)
        return key

    @staticmethod
    def _command(key: str) -> None:
        if key == "q":
            raise _Quit
        if key == "u":
            raise _Undo
        if key == "s":
            raise _Skip


def refuse_unaskable(schema: LabelSchema) -> None:
    """Raise InputError naming the questions that need more than keys and lines, such as boxes on an image."""
    unaskable = [
        f"{question.id!r} ({question.WhichOneof('kind')})"
        for question in schema.questions
        if question.WhichOneof("kind") not in ASKABLE
    ]
    if unaskable:
        raise InputError(
            f"A terminal cannot take an answer to {' and '.join(unaskable)}, only to {', '.join(ASKABLE)}:"
            " use the SDK."
        )


def _is_asked(condition: Condition | None, answers: dict[str, object]) -> bool:
    if condition is None:
        return True
    given = answers.get(condition.question)
    chosen = given if isinstance(given, list) else [given]
    return any(one in condition.any_of for one in chosen)
