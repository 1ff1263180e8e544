"""Messages as JSON text, field names as in the .proto: as `json_format.MessageToJson` writes them, in a tenth of its time.

Protobuf's own printer asks of every field what it is, in Python. `protobuf-py`, on which protovalidate stands, reads and
prints in Rust, a message in one call each. Its types are its own; they are made here of the descriptors that we have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from json.encoder import encode_basestring
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from protobuf.wkt import FileDescriptorProto as NativeFile
from protobuf.wkt import FileDescriptorSet

quoted: Callable[[str], str] = encode_basestring
"""A text as JSON, in UTF-8."""


def json_of(kind: type[Message], encoded: bytes) -> str:
    """A message of this kind, given as its bytes, as a JSON object of what is set in it."""
    text: str = _native(kind.DESCRIPTOR).from_binary(encoded).to_json(use_proto_field_name=True)
    return text


def list_of(values: Iterable[Any], one: Callable[[Any], str]) -> str:
    """The values as a JSON list."""
    return f"[{','.join([one(value) for value in values])}]"


def number(value: float) -> str:
    """A double as JSON; what is no number, as text (ProtoJSON)."""
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


@cache
def _native(described: Any) -> Any:
    """The type that reads and prints the messages of a descriptor."""
    registry = FileDescriptorSet(file=[*_files(described.file, set())]).to_registry()
    found = registry.message(described.full_name)
    if found is None:
        raise LookupError(f"{described.full_name} is not in {described.file.name}")
    return found.type


def _files(file: Any, listed: set[str]) -> Iterator[NativeFile]:
    """A file after those that it imports, each once."""
    if file.name in listed:
        return
    listed.add(file.name)
    for imported in file.dependencies:
        yield from _files(imported, listed)
    described = FileDescriptorProto()
    file.CopyToProto(described)
    yield NativeFile.from_binary(described.SerializeToString())
