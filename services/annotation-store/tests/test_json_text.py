"""JSON text of messages says what protobuf's own printer says, whatever the message."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.json_text import json_of

_VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_STRING: ("", "a", 'say "x"\\\n\t', "\x1f\u2028", "caf\u00e9 \u2603 \U0001f426"),
    FieldDescriptor.TYPE_BYTES: (b"", b"\0\xff", b"abcd"),
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_DOUBLE: (
        0.0, -0.0, 1.0, -2.5, 1e-7, 1e22, 5e-324, 0.1 + 0.2, float("nan"), float("inf"), float("-inf"),
    ),
    FieldDescriptor.TYPE_INT32: (0, -1, 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (0, -(2**63), 2**53 + 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (0, 1, 2, 77),
}  # fmt: skip


def filled(message: Any, random: Random, depth: int = 0) -> Any:
    """The message with about half of its fields set at random."""
    # Of a oneof, the last one set stays: in another order each time.
    for field in random.sample(list(message.DESCRIPTOR.fields), k=len(message.DESCRIPTOR.fields)):
        if random.random() < 0.5 or depth > 4:
            continue
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            for text in random.sample(_VALUES[FieldDescriptor.TYPE_STRING], 2):
                getattr(message, field.name)[text] = "value of " + text
        elif kind is not None and kind.file.package == "google.protobuf":
            if not field.is_repeated:
                getattr(message, field.name).SetInParent()
        elif kind is not None and field.is_repeated:
            for _ in range(random.randrange(3)):
                filled(getattr(message, field.name).add(), random, depth + 1)
        elif kind is not None:
            getattr(message, field.name).SetInParent()
            filled(getattr(message, field.name), random, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(random.choices(_VALUES[field.type], k=random.randrange(4)))
        else:
            setattr(message, field.name, random.choice(_VALUES[field.type]))
    return message


@pytest.mark.parametrize(
    "kind", [v.Answer, pb.Provenance, pb.Item, pb.Export, pb.Project, schema_pb.LabelSchema]
)
def test_it_is_what_protobuf_writes(kind: type[Message]) -> None:
    random = Random(kind.DESCRIPTOR.full_name)
    seen = set()
    for _ in range(300):
        message = filled(kind(), random)
        expected = json_format.MessageToDict(message, preserving_proto_field_name=True)
        written = json_of(kind, message.SerializeToString())
        # As text, for -0.0 is not 0.0; fields come in the order of the .proto, entries of a map in any.
        assert json.dumps(json.loads(written), sort_keys=True) == json.dumps(expected, sort_keys=True)
        assert list(json.loads(written)) == list(expected)
        seen.update(expected)
    assert seen == {field.name for field in kind.DESCRIPTOR.fields}, "every field was tried"


def test_text_is_left_as_it_is_where_json_allows_it() -> None:
    answer = v.Answer(question="q", text='\u2603 "\u00e9"')
    assert json_of(v.Answer, answer.SerializeToString()) == '{"question":"q","text":"\u2603 \\"\u00e9\\""}'
