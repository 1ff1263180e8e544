"""The limits that the README names are those of the contract and of the services."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.consensus.v1 import consensus_pb2 as consensus
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.inference.v1 import inference_pb2 as inference
from cairn.label.v1 import label_schema_pb2 as schema
from cairn_annotation_store.config import AnnotationStoreSettings
from cairn_inference.domain.learning import MOST_CLASSES
from cairn_inference.model_store import MAX_MODEL_BYTES
from cairn_kit.rpc.paging import LARGEST_SIZE
from cairn_kit.settings import ChassisSettings

README = Path(__file__).parents[3] / "README.md"

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def rules(message: type[Message], field: str) -> Any:
    return message.DESCRIPTOR.fields_by_name[field].GetOptions().Extensions[validate_pb2.field]


def most(message: type[Message], field: str) -> int:
    """The most elements of a repeated field."""
    return int(rules(message, field).repeated.max_items)


def default(settings: type[ChassisSettings], name: str) -> int:
    return int(settings.model_fields[name].default)


def told() -> dict[str, str]:
    """The README's table of limits: what, and at most how much."""
    table = README.read_text().partition("## Limits\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.M))


metadata = rules(store.Item, "metadata").map
leased, claimed, answered = (
    rules(dispatch.LeaseTasksRequest, "max_tasks").int32.lte,
    most(dispatch.ClaimItemsRequest, "claims"),
    most(store.SubmitAnnotationsRequest, "requests"),
)

LIMITS = {
    "a call, its answer, a message of a stream": (
        f"{default(ChassisSettings, 'max_message_bytes') // MIB} MiB (`CAIRN_MAX_MESSAGE_BYTES`)"
    ),
    "an item's text": f"{rules(store.Item, 'text').string.max_bytes // KIB} KiB; longer texts are files",
    "a file": f"{default(AnnotationStoreSettings, 'max_blob_bytes') // GIB} GiB (`CAIRN_MAX_BLOB_BYTES`)",
    "an item's key": (
        re.findall(r"\d+(?=\}\$)", rules(store.Item, "key").string.pattern)[0]
        + " characters, percent-encoded"
    ),
    "an item's metadata": f"{metadata.max_pairs} values of {metadata.values.string.max_len:,} characters",
    "an item's candidates": f"{most(store.Item, 'candidates'):,}",
    "a project's questions": f"{most(schema.LabelSchema, 'questions')}",
    "a question's classes": (
        f"{most(schema.ChoiceQuestion, 'classes'):,}; {MOST_CLASSES:,} where Cairn is to train a model"
    ),
    "answers wanted on an item": f"{rules(store.QualityPolicy, 'max_answers').int32.lte:,}",
    "how long a lease lasts": (
        f"{rules(dispatch.LeaseTasksRequest, 'lease_duration').duration.lte.seconds // 3600} hours"
    ),
    "tasks leased, items claimed, answers submitted in a call": f"{leased:,}",
    "leases ahead in a stream": f"{rules(dispatch.StreamLeasesRequest, 'credit').int32.lte:,}",
    "items in a chunk of an import": f"{most(store.ImportChunk, 'items'):,}",
    "posteriors in a call": f"{most(consensus.BatchGetPosteriorsRequest, 'items'):,}",
    "predictions in a call": f"{most(inference.PredictRequest, 'inputs'):,}",
    "a model of your own": f"{MAX_MODEL_BYTES // MIB} MiB",
    "a page of a list": f"{LARGEST_SIZE:,}",
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_readme_tells_the_limit_that_is_kept(what: str) -> None:
    assert told().get(what) == LIMITS[what]


def test_the_readme_tells_no_other_limits() -> None:
    assert told().keys() - {"what"} == LIMITS.keys()


def test_what_is_told_of_together_has_one_limit() -> None:
    assert leased == claimed == answered
