"""Finds the texts of an encoded message that cannot be kept, so that one bad item need not fail its whole chunk.

A protobuf parser refuses a message with a text that is not UTF-8 as a whole, and PostgreSQL a transaction with a text
that holds NUL. Here the wire format is walked (Protocol Buffers, "Encoding"), such texts are replaced by what can be
shown of them, and where they were is told.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from enum import Enum

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_LENGTHS = {1: 8, 5: 4}
_VARINT, _LENGTH_DELIMITED = 0, 2
_DEEPEST = 100
"""As deep as protobuf's own parsers go."""


class Fault(Enum):
    """Why a text cannot be kept, as its sender is told."""

    NOT_UTF8 = "the text is not UTF-8; expected UTF-8."
    NUL = "the text holds a NUL character; expected a text without it."


def texts_of(message: Message) -> Iterator[str]:
    """Every text in the message, at any depth."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            yield from value if field.is_repeated else (value,)
        elif isinstance(value, MutableMapping):
            yield from (text for entry in value.items() for text in entry if isinstance(text, str))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from texts_of(inner)


def with_texts_repaired(
    descriptor: Descriptor, raw: bytes, depth: int = 0
) -> tuple[bytes, list[tuple[str, Fault]]]:
    """The encoded message with every text such that it can be kept, and which were not (`chunk.items[3].text`).

    Raises ValueError when it is not the wire format at all.
    """
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    out = bytearray()
    bad: list[tuple[str, Fault]] = []
    counts: dict[int, int] = {}
    place = 0
    while place < len(raw):
        start = place
        tag, place = _varint(raw, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, place = _varint(raw, place)
        elif wire_type in _LENGTHS:
            place += _LENGTHS[wire_type]
        elif wire_type != _LENGTH_DELIMITED:
            raise ValueError(f"wire type {wire_type}")
        if wire_type != _LENGTH_DELIMITED:
            out += raw[start:place]
            continue
        length, content = _varint(raw, place)
        value, place = raw[content : content + length], content + length
        field = descriptor.fields_by_number.get(number)
        if field is not None:
            index = counts[number] = counts.get(number, -1) + 1
            path = f"{field.name}[{index}]" if field.is_repeated else field.name
            value, inner = _repaired(field, value, depth)
            bad += [(f"{path}.{rest}" if rest else path, fault) for rest, fault in inner]
        out += _encoded(tag) + _encoded(len(value)) + value
    if place != len(raw):
        raise ValueError("cut short")
    return bytes(out), bad


def _repaired(field: FieldDescriptor, value: bytes, depth: int) -> tuple[bytes, list[tuple[str, Fault]]]:
    if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None:
        return with_texts_repaired(field.message_type, value, depth + 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        fault = Fault.NUL if b"\0" in value else None
        try:
            value.decode()
        except UnicodeDecodeError:
            fault = Fault.NOT_UTF8
        if fault is not None:
            return value.replace(b"\0", b"\\0").decode(errors="replace").encode(), [("", fault)]
    return value, []


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(raw) and shift < 70:
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number without an end")


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
