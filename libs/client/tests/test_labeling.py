"""A labeler at a terminal can choose by key, undo before anything is sent, skip with a reason, and stop."""

import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from cairn.annotation.v1.annotation_store_pb2 import Item
from cairn.dispatch.v1.task_dispatch_pb2 import Lease
from cairn_client.answers import Abstain
from cairn_client.calls.work import Job
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


class Desk:
    """Hands out items and remembers what came back: the part of the client that a session uses."""

    def __init__(self, items: int) -> None:
        self.left = [f"item-{n}" for n in range(items)]
        self.log: list[tuple[Any, ...]] = []

    def lease(self, project: str, most: int, *, labeler: str, reviews: bool) -> list[Job]:
        if not self.left:
            return []
        key = self.left.pop(0)
        name = f"projects/p/items/{key}"
        return [
            Job(Lease(name=key, item=name, token=key), SCHEMA, Item(key=key, text=f"[red]{key}[/] is fine"))
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
    console = Console(file=screen, width=80, color_system=None)
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
