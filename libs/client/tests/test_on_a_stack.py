"""The client against all five services, on a private stack: what a newcomer does, from end to end."""

import asyncio
import json
import os
import pty
import random
import re
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn_client import (
    Abstain,
    AlreadyExists,
    Cairn,
    FailedPrecondition,
    InvalidArgument,
    NewItem,
    NotFound,
    Service,
    item_key,
    to_arrow,
    to_pandas,
)
from cairn_client.commands.watching import next_step
from cairn_client.demo.digits import png
from cairn_client.names import last_part
from cairn_kit.testing import eventually
from cairn_stack.testing import shared_stack

pytestmark = pytest.mark.timeout(400)

CAIRN = Path(sys.executable).with_name("cairn")
EXAMPLES = Path(__file__).parents[1] / "examples"
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def home() -> Path:
    return shared_stack().home


@pytest.fixture
def cairn(home: Path) -> Iterator[Cairn]:
    with Cairn(home=home) as client:
        yield client


def run(home: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [CAIRN, "--home", home, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_generated_stubs_and_a_token_are_enough(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "generated_stubs_only.py"],
        env={**os.environ, "CAIRN_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "review-2,sentiment,negative" in done.stdout


def test_the_sdk_goes_the_whole_way(cairn: Cairn, tmp_path: Path) -> None:
    cairn.projects.create(
        "walk", {"questions": [{"id": "ok", "choice": ["no", "yes"]}], "quality": {"min_answers": 1}}
    )
    result = cairn.import_items(
        "walk",
        [
            NewItem("a b/ü", text="one", metadata={"page": "1"}),
            {"key": "pic", "data": png(np.zeros((4, 6), np.uint8)), "media_type": "image/png"},
            {"key": "both", "text": "x" * 300_000},
        ],
    )
    assert (result.created, [failure.key for failure in result.failures]) == (2, ["both"])
    assert {item_key(item.name) for item in cairn.items("walk")} == {"a b/ü", "pic"}
    assert (cairn.item("walk", "pic").width, cairn.item("walk", "pic").height) == (6, 4)

    jobs = {job.key: job for job in cairn.lease("walk", 5, labeler="ann", wait=60)}
    with pytest.raises(InvalidArgument) as refused:
        cairn.submit(jobs["a b/ü"], {"ok": "perhaps"})
    assert refused.value.violations
    cairn.submit(jobs["a b/ü"], {"ok": "yes"})
    cairn.submit(jobs["pic"], {"ok": Abstain("nothing to see")})
    cairn.projects.conclude("walk")
    [label] = cairn.labels("walk")
    assert (item_key(label.name), label.answer.choice) == ("a b/ü", "yes")

    table = to_pandas(cairn.annotations("walk"))
    assert sorted(table["item"]) == ["a b/ü", "pic"]
    assert to_arrow(cairn.annotations("walk")).num_rows == 2
    assert cairn.projects.progress("walk").label_annotations == 2


def test_imports_and_exports_are_seen_and_cancelled(cairn: Cairn, home: Path, tmp_path: Path) -> None:
    cairn.projects.create("moves", {"questions": [{"id": "ok", "choice": ["no", "yes"]}]})
    first = cairn.import_items("moves", [("a", "one"), ("b", "two")], import_id="first")
    done = cairn.export("moves", tmp_path / "labels.jsonl")
    assert [one.name for one in cairn.imports.list("moves")] == [first.name]
    assert cairn.imports.get(first.name).created_items == 2
    assert [one.name for one in cairn.exports.list("moves")] == [done.name]
    assert cairn.exports.get(done.name).file == done.file
    for cancel, name in ((cairn.imports.cancel, first.name), (cairn.exports.cancel, done.name)):
        with pytest.raises(FailedPrecondition):
            cancel(name)

    # an import that is not at its end
    header = store.ImportHeader(parent="projects/moves", import_id="second")
    with grpc.insecure_channel(cairn.profile.addresses[Service.ANNOTATION_STORE]) as channel:
        stub = AnnotationStoreServiceStub(channel)
        begun = [store.ImportItemsRequest(header=header)]
        stub.ImportItems(
            iter(begun), metadata=[("authorization", f"Bearer {run(home, 'token').stdout.strip()}")]
        )

    listed = run(home, "transfers", "moves").stdout
    assert "projects/moves/imports/second running: 0 written" in listed
    assert f"{first.name} finished: 2 written, 0 there already, 0 refused" in listed
    assert f"{done.name} finished: 0 of 0 labels" in listed
    assert "Cancelled second: 0 items" in run(home, "cancel", "projects/moves/imports/second").stdout
    assert "running" not in run(home, "transfers", "moves").stdout
    assert "neither an import nor an export" in run(home, "cancel", "moves", code=1).stderr


def test_a_deleted_project_is_gone_from_every_service_and_history_still_verifies(
    home: Path, cairn: Cairn
) -> None:
    cairn.projects.create(
        "gone", {"questions": [{"id": "ok", "choice": ["no", "yes"]}], "quality": {"min_answers": 1}}
    )
    cairn.import_items("gone", [NewItem("a", text="a secret of quetzals")])
    [job] = cairn.lease("gone", 1, labeler="ann", wait=60)
    cairn.submit(job, {"ok": "yes"})
    cairn.projects.conclude("gone")
    refused = run(home, "project", "delete", "gone", "--yes", code=1)
    assert "archive it first" in refused.stdout + refused.stderr

    run(home, "project", "archive", "gone")
    assert "Deleted gone" in run(home, "project", "delete", "gone", "--yes").stdout
    assert "gone" not in [last_part(one.name) for one in cairn.projects.list()]

    def is_unknown(look: Callable[[], object]) -> bool:
        try:
            look()
        except NotFound:
            return True
        return False

    def says_nothing() -> bool:
        return not any(b"quetzals" in entry.record for entry in cairn.ledger.entries())

    for look in (
        lambda: cairn.queue("gone"),
        lambda: cairn.models.routing("gone"),
        lambda: list(cairn.labelers.reliabilities("gone")),
        lambda: cairn.audits.create("gone"),
    ):
        asyncio.run(eventually(lambda look=look: is_unknown(look), timeout=60))  # type: ignore[misc]
    asyncio.run(eventually(says_nothing, timeout=60))
    verified = run(home, "verify").stdout
    assert "Intact" in verified
    assert "Erased" in verified
    with pytest.raises(AlreadyExists):
        cairn.projects.create("gone", {"questions": [{"id": "ok", "choice": ["no", "yes"]}]})


def recording(folder: Path) -> Path:
    """Forty texts whose truth is in the text, and six labelers of whom one is wrong half of the time."""
    chance = random.Random(3)
    items = [(str(n), chance.choice(("cat", "dog"))) for n in range(40)]
    folder.mkdir()
    (folder / "items.csv").write_text("item,text\n" + "".join(f"{i},a {t} is here\n" for i, t in items))
    (folder / "truth.csv").write_text("item,label\n" + "".join(f"{i},{t}\n" for i, t in items))
    other = {"cat": "dog", "dog": "cat"}
    rows = [
        f"{item},labeler {n},{other[truth] if chance.random() < (0.5 if n == 0 else 0.03) else truth}\n"
        for item, truth in items
        for n in range(6)
    ]
    (folder / "answers.csv").write_text("item,annotator,label\n" + "".join([*rows, rows[0]]))
    return folder


def test_a_recorded_crowd_is_replayed_audited_and_reported(home: Path, tmp_path: Path) -> None:
    result, report = tmp_path / "result.json", tmp_path / "report.html"

    done = run(
        home,
        "replay",
        recording(tmp_path / "pets"),
        "--seed",
        5,
        "--audit",
        10,
        "--json",
        result,
        "--report",
        report,
    )

    told = json.loads(result.read_text())
    assert told["items"] == 40
    assert told["answers_recorded"] == 241
    assert told["detail"]["duplicates"] == 1
    assert told["answers_used"] < 240
    assert told["accuracy"] >= 0.95
    assert told["seed"] == 5
    assert "truth as reviewer" in done.stdout
    html = report.read_text()
    assert "Accuracy and coverage" in html
    assert "labeler 3" in html


def test_the_ledger_is_verified_here_and_offline_and_one_changed_byte_is_found(
    home: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "ledger"

    assert "Intact" in run(home, "verify", "--save", saved).stdout
    assert "Intact" in run(home, "verify", saved).stdout
    data = bytearray((saved / "ledger.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (saved / "ledger.bin").write_bytes(data)
    assert "NOT INTACT" in run(home, "verify", saved, code=1).stderr


def test_the_command_takes_a_project_from_file_to_file(home: Path, tmp_path: Path) -> None:
    schema, items = tmp_path / "schema.yaml", tmp_path / "items.csv"
    schema.write_text("questions: [{id: mood, choice: [bad, good]}]\n")
    items.write_bytes(b"\xef\xbb\xbfitem,text,gold\r\n1,fine,good\r\n2,\xff,bad\r\n")

    assert "Created moods" in run(home, "project", "create", "moods", "-f", schema).stdout
    refused = run(home, "import", "moods", items, code=1)
    assert "1 item written, 0 there already, 1 refused" in refused.stdout
    assert "not valid Unicode" in refused.stderr
    assert "moods" in run(home, "project", "list").stdout
    assert json.loads(run(home, "project", "show", "moods", "--json").stdout)["progress"]["items"] == "1"
    assert "0 labels written" in run(home, "export", "moods", tmp_path / "labels.csv").stdout
    assert "There is no projects/none" in run(home, "export", "none", tmp_path / "x.csv", code=1).stderr
    assert "exports jsonl and csv" in run(home, "export", "moods", tmp_path / "x.xml", code=1).stderr


def heredoc(file: str) -> str:
    """What the README has its reader write into a file."""
    found = re.search(rf"cat > {re.escape(file)} <<'(\w+)'\n(.*?)^\1$", README.read_text(), re.S | re.M)
    assert found, f"the README writes no {file}"
    return found[2]


def answer_at_a_terminal(home: Path, project: str, keys: dict[str, str]) -> str:
    """Answer `cairn label` by pressing, for an item that shows a text, its key; what the screen showed."""
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [CAIRN, "--home", home, "label", project], stdin=terminal, stdout=terminal, stderr=terminal
    ) as command:
        os.close(terminal)
        shown = begin = ""
        while command.poll() is None:
            try:
                shown += (read := os.read(screen, 4096).decode())
            except OSError:  # Linux: the last one who wrote there has closed it
                break
            begin += read
            asked = [key for text, key in keys.items() if text in begin and "2\x1b[0m positive" in begin]
            if asked or "any other key" in begin:
                deadline = time.monotonic() + 30  # a key pressed before it is waited for is thrown away
                while termios.tcgetattr(screen)[3] & termios.ICANON and time.monotonic() < deadline:
                    time.sleep(0.01)
                os.write(screen, (asked or [" "])[0].encode())
                begin = ""
        os.close(screen)
    assert command.returncode == 0, shown
    return shown


def advice_on(cairn: Cairn, project: str, beginning: str) -> str:
    """What `cairn watch` says is next, once it begins so."""
    said = next_step(project, cairn.projects.progress(project), cairn.queue(project))
    return said if said.startswith(beginning) else ""


def test_the_quick_start_of_the_readme_yields_labels(home: Path, cairn: Cairn, tmp_path: Path) -> None:
    schema, items, labels = tmp_path / "schema.yaml", tmp_path / "reviews.csv", tmp_path / "labels.jsonl"
    schema.write_text(heredoc("schema.yaml"))
    items.write_text(heredoc("reviews.csv"))

    run(home, "project", "create", "reviews", "-f", schema)
    run(home, "import", "reviews", items)
    shown = answer_at_a_terminal(home, "reviews", {"A delight": "2", "Two hours": "1"})
    advice = asyncio.run(eventually(lambda: advice_on(cairn, "reviews", "Labelers are done"), timeout=60))
    concluded = run(home, "project", "conclude", "reviews").stdout
    run(home, "watch", "reviews")
    run(home, "export", "reviews", labels)

    assert "2 answers given" in shown
    assert "cairn project conclude reviews" in shown
    assert "cairn project conclude reviews" in advice
    assert "2 votes by people, 2 labels new or changed" in concluded
    answers = {item_key(label.name): label.answer.choice for label in cairn.labels("reviews")}
    assert answers == {"1": "positive", "2": "negative"}
    assert len(labels.read_text().splitlines()) == 2
