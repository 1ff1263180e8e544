"""A labeler at a terminal can choose by key, undo before anything is sent, skip with a reason, and stop."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cairn.annotation.v1.annotation_store_pb2 import Item, Project
from cairn.dispatch.v1.task_dispatch_pb2 import Lease
from cairn.label.v1.label_value_pb2 import BlobRef
from cairn_client.answers import Abstain
from cairn_client.calls.job import Job
from cairn_client.commands.screen import PlainConsole
from cairn_client.errors import InputError, NotFound
from cairn_client.labeling import LabelingSession
from cairn_client.schema import spec_from

SCHEMA = spec_from(
    {
        "questions": [
            {"id": "mood", "choice": ["bad", "good"]},
            {"id": "why", "text": {}, "required": False, "when": {"mood": "bad"}},
        ]
    }
).schema
GROWN = spec_from(
    {"questions": [{"id": "mood", "choice": ["bad", "good"]}, {"id": "where", "boxes": ["face"]}]}
).schema


class Desk:
    """Hands out items and remembers what came back: the part of the client that a session uses."""

    def __init__(self, items: int) -> None:
        self.schema = SCHEMA
        self.projects = SimpleNamespace(get=lambda name: Project(schema=self.schema))
        self.text = "[red]{}[/] is fine"
        self.left = [f"item-{n}" for n in range(items)]
        self.log: list[tuple[Any, ...]] = []

    def lease(self, project: str, most: int, *, labeler: str, reviews: bool) -> list[Job]:
        if not self.left:
            return []
        key = self.left.pop(0)
        name = f"projects/p/items/{key}"
        return [
            Job(
                Lease(name=key, item=name, token=key),
                self.schema,
                Item(key=key, text=self.text.format(key)),
            )
        ]

    def submit(self, job: Job, answers: dict[str, object], *, took: object) -> None:
        self.log.append(("submit", job.key, answers))

    def skip(self, job: Job, reason: str) -> None:
        self.log.append(("skip", job.key, reason))

    def release(self, job: Job) -> None:
        self.log.append(("release", job.key))
        self.left.insert(0, job.key)


def session(desk: Desk, keys: str, lines: list[str] | None = None) -> tuple[LabelingSession, io.StringIO]:
    typed: Iterator[str] = iter(keys)
    said: Iterator[str] = iter(lines or [])
    screen = io.StringIO()
    console = PlainConsole(file=screen, width=80, color_system=None)
    made = LabelingSession(
        desk,
        "p",
        console,
        key=lambda: next(typed),
        line=lambda prompt: next(said),  # type: ignore[arg-type]
    )
    return made, screen


def test_a_key_chooses_a_class_and_the_item_is_shown_as_it_is() -> None:
    desk = Desk(2)
    made, screen = session(desk, "22.")

    assert made.run() == 2
    assert desk.log == [("submit", "item-0", {"mood": "good"}), ("submit", "item-1", {"mood": "good"})]
    assert "[red]item-0[/] is fine" in screen.getvalue()


def test_undo_brings_the_last_item_back_before_anything_was_sent() -> None:
    desk = Desk(2)
    made, _ = session(desk, "2u12.", ["because"])

    made.run()

    assert desk.log == [
        ("release", "item-1"),
        ("submit", "item-0", {"mood": "bad", "why": "because"}),
        ("submit", "item-1", {"mood": "good"}),
    ]


def test_undo_with_nothing_to_undo_says_so() -> None:
    made, screen = session(Desk(1), "u2.")

    assert made.run() == 1
    assert "nothing to undo" in screen.getvalue()


def test_skip_asks_for_a_reason_and_quit_sends_what_was_answered() -> None:
    desk = Desk(3)
    made, _ = session(desk, "s2q", ["cannot read it"])

    assert made.run() == 1
    assert desk.log == [
        ("skip", "item-0", "cannot read it"),
        ("release", "item-2"),
        ("submit", "item-1", {"mood": "good"}),
    ]


def test_cannot_tell_is_an_answer() -> None:
    desk = Desk(1)
    made, _ = session(desk, "x?.", ["too dark"])

    made.run()

    assert desk.log == [("submit", "item-0", {"mood": Abstain("too dark")})]


def test_even_the_last_answer_can_be_undone() -> None:
    desk = Desk(1)
    made, _ = session(desk, "1u2.", ["no reason"])

    made.run()

    assert desk.log == [("submit", "item-0", {"mood": "good"})]


def test_a_question_that_a_terminal_cannot_ask_is_named_before_anything_is_leased() -> None:
    desk = Desk(1)
    desk.schema = GROWN
    made, _ = session(desk, "")

    with pytest.raises(InputError, match=r"'where' \(boxes\)"):
        made.run()

    assert desk.left == ["item-0"]


def test_an_item_that_cannot_be_answered_after_all_is_given_back() -> None:
    desk = Desk(2)
    made, _ = session(desk, "2")
    lease = desk.lease

    def grows(*args: Any, **others: Any) -> list[Job]:
        if len(desk.left) == 1:
            desk.schema = GROWN
        return lease(*args, **others)

    desk.lease = grows  # type: ignore[method-assign]

    with pytest.raises(InputError, match="'where'"):
        made.run()

    assert desk.log == [("release", "item-1"), ("submit", "item-0", {"mood": "good"})]


def test_an_item_that_may_not_be_seen_is_given_back() -> None:
    desk = Desk(0)
    gone = Job(Lease(name="x", item="projects/p/items/x"), SCHEMA, None, NotFound("It is gone."))
    desk.lease = lambda *args, **others: [gone]  # type: ignore[method-assign]
    made, _ = session(desk, "")

    with pytest.raises(NotFound):
        made.run()

    assert desk.log == [("release", "x")]


def test_an_image_lies_in_a_private_folder_until_the_session_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    desk = Desk(0)
    image = Item(key="photo", blob=BlobRef(sha256="a" * 64, media_type="image/png"))
    jobs = [Job(Lease(name="x", item="projects/p/items/photo", token="x"), SCHEMA, image)]
    desk.lease = lambda *args, **others: [jobs.pop()] if jobs else []  # type: ignore[method-assign]
    desk.download = lambda *args, **others: b"pixels"  # type: ignore[attr-defined]
    made, screen = session(desk, "")
    seen: list[tuple[bytes, int]] = []

    def look() -> str:
        [file] = tmp_path.rglob("*.png")
        assert str(file) in screen.getvalue().replace("\n", "").replace("│", "").replace(" ", "")
        seen.append((file.read_bytes(), file.parent.stat().st_mode & 0o777))
        return "q"

    made._key = look

    made.run()

    assert seen == [(b"pixels", 0o700)]
    assert not list(tmp_path.iterdir())


def test_what_others_wrote_cannot_speak_to_the_terminal() -> None:
    desk = Desk(1)
    desk.text = "\x1b]0;owned\x07\x1b[2Jplain\x9b31m\r\ttext\u200d{}"
    desk.schema = spec_from(
        {
            "questions": [
                {"id": "n", "title": "[red]how\x1b[1m many", "number": {"unit": "[blink]mm"}},
            ]
        }
    ).schema
    made, screen = session(desk, ".", ["3"])

    made.run()

    shown = screen.getvalue()
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(shown)
    assert "[2Jplain" in shown
    assert "text\u200d" in shown
    assert "[red]how[1m many" in shown
    assert desk.log == [("submit", "item-0", {"n": 3.0})]
