"""One annotation is one trace, from the call that brought it to the label that it made."""

import json
from pathlib import Path
from typing import Any

import pytest

from cairn.annotation.v1.annotation_store_pb2 import STOP_RULE_FIXED, QualityPolicy
from cairn_client import AsyncCairn
from cairn_kit.testing import eventually
from cairn_stack import PrivateStack

SCHEMA = {"questions": [{"id": "animal", "choice": ["cat", "dog"]}]}


def spans(stack: PrivateStack) -> list[dict[str, Any]]:
    """Every span that the services have finished so far."""
    folder: Path = stack.spans("consensus").parent
    return [
        json.loads(line) | {"service": file.stem}
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text().splitlines()
        if line.endswith("}")
    ]


@pytest.mark.timeout(180)
async def test_an_annotation_is_followed_from_its_call_to_its_label(
    stack: PrivateStack, client: AsyncCairn, project: str
) -> None:
    await client.projects.create(
        project, SCHEMA, quality=QualityPolicy(min_answers=1, max_answers=1, stop_rule=STOP_RULE_FIXED)
    )
    await client.import_items(project, [{"key": "one", "text": "it purrs"}])

    async def leased() -> int:
        jobs.extend(await client.lease(project, 1, labeler="ann"))
        return len(jobs)

    jobs: list[Any] = []
    await eventually(leased, 1)
    await client.submit(jobs[0], {"animal": "cat"})

    async def labels() -> int:
        return len([label async for label in client.labels(project)])

    await eventually(labels, 1)

    def traced() -> set[tuple[str, str]]:
        found = spans(stack)
        submits = [s for s in found if s["service"] == "annotation-store" and "SubmitAnnotation" in s["name"]]
        traces = {s["trace_id"] for s in submits}
        return {(s["service"], s["name"].rsplit(".", 1)[-1]) for s in found if s["trace_id"] in traces}

    def whole() -> bool:
        seen = traced()
        stations = [
            ("annotation-store", "Submit"),
            ("consensus", "AnnotationSubmitted"),
            ("task-dispatch", "AnnotationSubmitted"),
            ("annotation-store", "ConsensusReached"),
            ("audit", "LabelFinalized"),
        ]
        return all(any(service == s and what in name for s, name in seen) for service, what in stations)

    await eventually(whole, True)
