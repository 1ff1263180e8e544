"""The checker of a run finds each kind of broken promise, and nothing in a run that broke none."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.benchmarks.volume.history import (
    Answered,
    Exported,
    Granted,
    History,
    Kept,
    broken_promises,
    exported,
)

WANTED = 2


def run() -> tuple[History, Exported]:
    """Two items, two answers each; one more lease on `a` ran out before, and its place was given to another."""
    history = History(imported={"a", "b"})
    found = Exported(["a", "b"], [])
    history.granted["expired"] = Granted("a", "zoe", asked=0.0, seen=0.1, seconds=5.0)
    for n, (item, labeler) in enumerate([("a", "ann"), ("a", "bob"), ("b", "ann"), ("b", "bob")]):
        lease, name = f"lease-{n}", f"annotation-{n}"
        history.granted[lease] = Granted(item, labeler, asked=6.0 + n, seen=6.5 + n, seconds=60.0)
        history.tried.add(lease)
        history.kept[name] = Kept(lease, late=False)
        found.annotations.append(Answered(name, item, labeler, late=False))
    return history, found


def test_a_run_that_keeps_its_promises_breaks_none() -> None:
    assert broken_promises(*run(), WANTED) == []


def test_an_answer_whose_acknowledgement_was_lost_is_no_invention() -> None:
    history, found = run()
    del history.kept["annotation-0"]
    assert broken_promises(history, found, WANTED) == []


def lose(history: History, found: Exported) -> None:
    del found.annotations[0]


def mix_up(history: History, found: Exported) -> None:
    found.annotations[0] = Answered("annotation-0", "a", "zoe", late=False)


def export_twice(history: History, found: Exported) -> None:
    found.annotations.append(found.annotations[0])


def answer_twice(history: History, found: Exported) -> None:
    history.granted["again"] = Granted("a", "ann", 90.0, 90.1, 60.0)
    history.tried.add("again")
    history.kept["again"] = Kept("again", late=True)
    found.annotations.append(Answered("again", "a", "ann", late=True))


def invent(history: History, found: Exported) -> None:
    found.annotations.append(Answered("ghost", "a", "zoe", late=True))


def ask_once_too_often(history: History, found: Exported) -> None:
    history.granted["third"] = Granted("b", "zoe", 7.0, 8.0, 60.0)


def ask_again_too_early(history: History, found: Exported) -> None:
    history.granted["expired"] = Granted("a", "zoe", asked=0.0, seen=0.1, seconds=8.0)


def answer_once_too_often(history: History, found: Exported) -> None:
    history.granted["third"] = Granted("b", "zoe", 70.0, 70.1, 60.0)
    history.tried.add("third")
    history.kept["third"] = Kept("third", late=False)
    found.annotations.append(Answered("third", "b", "zoe", late=False))


def forget_an_item(history: History, found: Exported) -> None:
    history.imported.add("c")


def label_twice(history: History, found: Exported) -> None:
    found.labeled.append("a")


def label_a_stranger(history: History, found: Exported) -> None:
    found.labeled.append("x")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose, "is not exported"),
        (mix_up, "exported otherwise"),
        (export_twice, "exported 2 times"),
        (answer_twice, "ann answered a 2 times"),
        (invent, "sent by nobody"),
        (ask_once_too_often, "b was with 3 labelers at once"),
        (ask_again_too_early, "a was with 3 labelers at once"),
        (answer_once_too_often, "b has 3 answers in time"),
        (forget_an_item, "c was imported and has no label"),
        (label_twice, "a has 2 labels"),
        (label_a_stranger, "never imported"),
    ],
)
def test_each_broken_promise_is_found(harm: Callable[[History, Exported], None], words: str) -> None:
    history, found = run()
    harm(history, found)
    assert any(words in told for told in broken_promises(history, found, WANTED))


def test_an_export_is_read_line_by_line() -> None:
    annotations = [{"name": "n", "labeler": "labelers/ann", "late": True, "kind": "LABEL", "answer": "cat"}]
    line = json.dumps({"item": "a", "question": "q", "answer": "cat", "annotations": annotations}).encode()
    assert exported([line]) == Exported(["a"], [Answered("n", "a", "labelers/ann", late=True)])
