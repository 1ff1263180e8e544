"""The demonstration's images are real PNG files, its crowd errs as it says, and it tells what it came to."""

import asyncio
import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.stats import hypergeom

from cairn.annotation.v1.annotation_store_pb2 import ProjectProgress
from cairn.audit.v1.audit_pb2 import AUDIT_STATE_FAILED, Audit
from cairn.dispatch.v1.task_dispatch_pb2 import Queue
from cairn_client.aio import AsyncCairn
from cairn_client.commands import watching
from cairn_client.commands.demo import _when_piped, result_table
from cairn_client.commands.watching import Board, LiveBoard, next_step
from cairn_client.demo.crowd import LEAST_CARE, MOST_CARE, crowd, error_model
from cairn_client.demo.digits import load_digits, png
from cairn_client.demo.loop import ALPHA, AUDITED, Demonstrated
from cairn_client.errors import CairnError, NotFound
from cairn_client.profile import Service
from cairn_client.replay.outcome import FinalLabel, Grade
from cairn_truth.quality.audit_statistics import StratumFindings, estimate_error


def test_a_png_has_the_pixels_it_was_made_of() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_the_digits_are_the_1797_of_scikit_learn() -> None:
    digits = load_digits()

    assert len(digits.items) == len(digits.truth) == 1797
    assert set(digits.truth.values()) == set("0123456789")


def test_the_crowd_errs_as_stated() -> None:
    people = crowd(30, 3, seed=1)
    items = [(f"i{n}", str(n % 10)) for n in range(2000)]

    assert [person.spammer for person in people] == [True] * 3 + [False] * 27
    for person in people:
        right = sum(person.answer(item, truth) == truth for item, truth in items) / len(items)
        assert right == pytest.approx(0.1 if person.spammer else person.care, abs=0.04)
        assert LEAST_CARE <= person.care <= MOST_CARE
    assert people[5].answer("i1", "3") == people[5].answer("i1", "3")
    assert "27 labelers" in error_model(30, 3)
    assert "3 spammers" in error_model(30, 3)


def shown(renderable: object) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(renderable)
    return " ".join(console.export_text().replace("│", " ").split())


def test_the_audit_is_large_enough_to_show_the_bound_in_most_runs() -> None:
    def shows(wrong: int) -> bool:
        found = estimate_error([StratumFindings("all", 1797, AUDITED, wrong)], confidence=0.95)
        return found.upper <= ALPHA

    allowed = max(wrong for wrong in range(AUDITED) if shows(wrong))

    assert hypergeom.cdf(allowed, 1797, round(0.035 * 1797), AUDITED) > 0.98


def test_the_result_is_that_of_the_report_and_tells_the_verdict_of_the_audit() -> None:
    truth = {"a": "1", "b": "2", "c": "3", "d": "4"}
    before = {"a": FinalLabel("1", "consensus"), "b": FinalLabel("2", "auto"), "c": FinalLabel("8", "auto")}
    audit = Audit(state=AUDIT_STATE_FAILED, sampled=3, reviewed=3, verdict="at most 8.00% was not shown.")
    standing = {"consensus": Grade(1, 1, 1), "auto": Grade(1, 1, 1), "audit": Grade(1, 1, 1)}

    told = shown(
        result_table(Demonstrated(labels=before, audit=audit), Grade(3, 3, 3), standing, truth, 0.08, 1.0)
    )

    assert "items labeled 3 of 4" in told
    assert "accuracy of the labels that stand 100.00%" in told
    assert "before the audit corrected any 66.67%" in told
    assert "by the model alone (1 items) 100.00%" in told
    assert "corrected by the audit (1 items) 100.00%" in told
    assert "model's true error before the audit 50.00% of 2, bound 8%" in told
    assert "failed: at most 8.00% was not shown." in told


def test_no_labeled_item_is_shown_as_waiting_for_consensus() -> None:
    board = Board("digits")
    board.show(ProjectProgress(items=10, labeled_items=8))
    board.show(Queue(filled_tasks=5))

    assert "waiting for consensus 2" in shown(board)

    board.show(ProjectProgress(items=10, labeled_items=10))

    assert "waiting for consensus 0" in shown(board)


def test_a_review_is_no_answer_that_is_wanted_of_labelers() -> None:
    board = Board("reviews")
    board.show(ProjectProgress(items=10))
    board.show(Queue(open_tasks=5, open_reviews=3, open_slots=6, open_review_slots=2))

    assert "answers wanted now 4" in shown(board)
    assert "tasks open 2" in shown(board)
    assert "reviews wanted now 2" in shown(board)


@pytest.mark.parametrize(
    ("progress", "queue", "said"),
    [
        ({}, {}, "There are no items yet: cairn import moods"),
        ({"items": 2}, {"open_slots": 4}, "^4 answers wanted: cairn label moods$"),
        (
            {"items": 2, "annotations": 1},
            {"open_slots": 3},
            "3 answers wanted: cairn label moods; .*cairn project conclude moods",
        ),
        ({"items": 2}, {"open_slots": 3, "live_leases": 1}, "^$"),
        (
            {"items": 2, "annotations": 2},
            {"open_slots": 1, "open_review_slots": 1},
            "Labelers are done: cairn project conclude moods .*1 item: cairn label moods --reviews",
        ),
        (
            {"items": 2, "annotations": 2},
            {"filled_tasks": 2},
            "nothing left to hand out: cairn project conclude moods",
        ),
        ({"items": 2}, {}, "^$"),
        ({"items": 2, "labeled_items": 2, "annotations": 2}, {"open_slots": 1}, "^$"),
    ],
)
def test_it_is_said_what_moves_a_project_on(
    progress: dict[str, int], queue: dict[str, int], said: str
) -> None:
    assert re.search(said, next_step("moods", ProjectProgress(**progress), Queue(**queue)))


def test_what_to_do_next_is_said_when_nothing_has_moved_for_a_while() -> None:
    now = 100.0
    board = Board("moods", advises=True, clock=lambda: now)
    board.show(ProjectProgress(items=2, annotations=1))
    board.show(Queue(filled_tasks=1))
    assert "conclude" not in board.line()
    now += 2.0
    board.show(ProjectProgress(items=2, annotations=2))
    assert "conclude" not in board.line()
    now += 2.0
    assert "conclude" not in board.line(), "what was answered may still be on its way"
    now += 1.0
    assert "cairn project conclude moods" in board.line()
    assert "cairn project conclude moods" in shown(board)


@pytest.mark.parametrize(
    "told", [[], [ProjectProgress(items=2, annotations=2)], [Queue()]], ids=["nothing", "progress", "queue"]
)
def test_nothing_is_advised_and_no_count_shown_that_nobody_has_told(
    told: list[ProjectProgress | Queue],
) -> None:
    now = 100.0
    board = Board("moods", advises=True, clock=lambda: now)
    for counts in told:
        board.show(counts)
    now += 60.0
    assert "cairn" not in board.line()
    assert ("items labeled" in shown(board)) == (told != [] and told != [Queue()])
    assert ("leases live" in shown(board)) == (told == [Queue()])


def test_nothing_is_advised_on_counts_that_are_out_of_date_and_it_is_said_that_they_are() -> None:
    now = 100.0
    board = Board("moods", advises=True, clock=lambda: now)
    board.show(ProjectProgress(items=2, annotations=2))
    board.show(Queue())
    now += 60.0
    assert "cairn project conclude moods" in board.line()

    board.lose(Service.TASK_DISPATCH, CairnError("no route to host"))
    for said in (board.line(), shown(board)):
        assert "Not up to date: nothing is heard from task-dispatch (no route to host)." in said
        assert "conclude" not in said
    board.lose(Service.ANNOTATION_STORE, CairnError("nor there"))
    now += 60.0
    board.show(Queue())
    assert "nothing is heard from annotation-store (nor there)." in board.line()
    board.show(ProjectProgress(items=2, annotations=2))
    assert board.line() == "0 of 2 items labeled", "much may happen yet of which nothing was heard"
    now += 3.0
    assert "cairn project conclude moods" in board.line()


def test_a_project_that_is_about_to_be_made_is_not_out_of_date() -> None:
    board = Board("digits")
    board.lose(Service.ANNOTATION_STORE, NotFound("no such project"))
    assert board.line() == ""
    board.show(ProjectProgress(items=1))
    board.lose(Service.ANNOTATION_STORE, NotFound("no such project"))
    assert "Not up to date" in board.line()


def test_where_no_terminal_is_the_private_stacks_start_and_stop_are_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _when_piped(True, "Stopping the private stack")
    _when_piped(False, "Nothing, as the stack is not ours")

    assert capsys.readouterr().err == "Stopping the private stack.\n"


async def test_where_no_terminal_is_every_stage_and_now_and_then_the_progress_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "_LINE_EVERY", 0.0)
    board = LiveBoard(AsyncCairn(addresses="localhost:1", token="t"), "digits")

    board.stage("Importing", 3)

    assert capsys.readouterr().err == "Importing\n"

    board.advance(2)
    board._board.show(ProjectProgress(items=3, labeled_items=1))
    lines = asyncio.create_task(board._lines())
    told = ""
    while "\n" not in told:
        await asyncio.sleep(0)
        told += capsys.readouterr().err
    lines.cancel()

    assert told.startswith("Importing 2 of 3; 1 of 3 items labeled\n")
