"""Cairn without its SDK: the generated stubs, a bearer token, and nothing else.

What a program in any language does. Start a stack and run it:

    cairn up
    python libs/client/examples/generated_stubs_only.py

It reads the addresses from the stack's profile.json and takes the token from `cairn token` (or CAIRN_TOKEN).
"""

# ruff: noqa: T201, S603 -- an example speaks, and runs the command beside its interpreter

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.consensus.v1 import consensus_pb2 as consensus
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceStub
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer

ITEMS = {
    "review-1": ("A warm, funny, generous film.", "positive"),
    "review-2": ("Two hours I will not get back.", "negative"),
    "review-3": ("The best performance of her career.", "positive"),
}
LABELERS = ("labelers/ann", "labelers/bob")
DEADLINE = 30.0


def main() -> None:
    """Create a project, import items, lease and answer them as two labelers, conclude, and export the labels."""
    home = Path(os.environ.get("CAIRN_HOME") or Path.home() / ".cairn")
    addresses = json.loads((home / "profile.json").read_text(encoding="utf-8"))["services"]
    auth = (("authorization", f"Bearer {token()}"),)
    annotation_store = AnnotationStoreServiceStub(grpc.insecure_channel(addresses["annotation-store"]))
    task_dispatch = TaskDispatchServiceStub(grpc.insecure_channel(addresses["task-dispatch"]))
    decisions = ConsensusServiceStub(grpc.insecure_channel(addresses["consensus"]))

    # 1. A project asks its questions.
    question = Question(
        id="sentiment",
        title="Is the sentence positive?",
        required=True,
        choice=ChoiceQuestion(classes=[LabelClass(id="negative"), LabelClass(id="positive")]),
    )
    project = annotation_store.CreateProject(
        store.CreateProjectRequest(
            project_id=f"stubs-{uuid.uuid4().hex[:8]}",
            project=store.Project(
                display_name="Made with generated stubs",
                schema=LabelSchema(questions=[question]),
                quality=store.QualityPolicy(min_answers=2, max_answers=2),
            ),
            request_id=uuid.uuid4().hex,
        ),
        metadata=auth,
        timeout=DEADLINE,
    )
    print("created ", project.name)

    # 2. Items are streamed: a header, then chunks.
    imported = annotation_store.ImportItems(import_of(project.name), metadata=auth, timeout=DEADLINE)
    print("imported", imported.created_items, "items")

    # 3. Each labeler leases tasks and answers them under the lease's token.
    for labeler in LABELERS:
        answered: set[str] = set()
        for _ in until_deadline():
            leases = task_dispatch.LeaseTasks(
                dispatch.LeaseTasksRequest(
                    parent=project.name, labeler=labeler, max_tasks=10, request_id=uuid.uuid4().hex
                ),
                metadata=auth,
                timeout=DEADLINE,
            ).leases
            for lease in leases:
                key = lease.item.rpartition("/")[2]
                answer = Answer(question="sentiment", choice=ITEMS[key][1])
                annotation_store.SubmitAnnotation(
                    store.SubmitAnnotationRequest(lease_token=lease.token, answers=[answer]),
                    metadata=auth,
                    timeout=DEADLINE,
                )
                answered.add(key)
            if answered == set(ITEMS):
                break
        print("answered", len(answered), "items as", labeler)

    # 4. No more answers will come: every item with a vote gets its label.
    for _ in until_deadline():
        try:
            decisions.ConcludeProject(
                consensus.ConcludeProjectRequest(
                    project=project.name, expected_annotations=len(ITEMS) * len(LABELERS)
                ),
                metadata=auth,
                timeout=DEADLINE,
            )
            break
        except grpc.RpcError as error:
            if (
                error.code() is not grpc.StatusCode.FAILED_PRECONDITION
            ):  # VOTES_NOT_IN: events are on their way
                raise
    progress = store.GetProjectProgressRequest(name=project.name)
    for _ in until_deadline():
        if annotation_store.GetProjectProgress(
            progress, metadata=auth, timeout=DEADLINE
        ).labeled_items == len(ITEMS):
            break

    # 5. The labels, as a file.
    export = annotation_store.CreateExport(
        store.CreateExportRequest(
            parent=project.name, format=store.EXPORT_FORMAT_CSV, request_id=uuid.uuid4().hex
        ),
        metadata=auth,
        timeout=DEADLINE,
    )
    for _ in until_deadline():
        export = annotation_store.GetExport(
            store.GetExportRequest(name=export.name), metadata=auth, timeout=DEADLINE
        )
        if export.state == store.EXPORT_STATE_FINISHED:
            break
    parts = annotation_store.DownloadExport(
        store.DownloadExportRequest(name=export.name), metadata=auth, timeout=DEADLINE
    )
    text = b"".join(part.chunk for part in parts).decode()
    print(text, end="")
    rows = [line.split(",") for line in text.splitlines()[1:]]
    if {(row[0], row[2]) for row in rows} != {(key, label) for key, (_, label) in ITEMS.items()}:
        sys.exit("The labels are not what the labelers said.")


def token() -> str:
    """A bearer token: given in the environment, or minted by `cairn token`."""
    given = os.environ.get("CAIRN_TOKEN")
    if given:
        return given
    command = Path(sys.executable).with_name("cairn")
    return subprocess.run([command, "token"], check=True, capture_output=True, text=True).stdout.strip()


def import_of(project: str) -> Iterator[store.ImportItemsRequest]:
    """The messages of an import."""
    yield store.ImportItemsRequest(header=store.ImportHeader(parent=project, import_id="first"))
    items = [store.Item(key=key, text=text) for key, (text, _) in ITEMS.items()]
    yield store.ImportItemsRequest(chunk=store.ImportChunk(offset=0, items=items, last=True))


def until_deadline() -> Iterator[int]:
    """Numbers, a fifth of a second apart, for as long as it is worth waiting."""
    for attempt in range(int(DEADLINE * 5)):
        yield attempt
        time.sleep(0.2)
    sys.exit("It took too long.")


if __name__ == "__main__":
    main()
