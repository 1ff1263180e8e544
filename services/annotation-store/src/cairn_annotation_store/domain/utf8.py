"""Finds the texts of an encoded message that are not UTF-8, so that one bad item need not fail its whole chunk.

A protobuf parser refuses the message as a whole. Here the wire format is walked (Protocol Buffers, "Encoding"), bad
bytes are replaced, and where they were is told.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_LENGTHS = {1: 8, 5: 4}
_VARINT, _LENGTH_DELIMITED = 0, 2
_DEEPEST = 100
"""As deep as protobuf's own parsers go."""


def with_texts_repaired(descriptor: Descriptor, raw: bytes, depth: int = 0) -> tuple[bytes, list[str]]:
    """The encoded message with every text valid, and the paths of those that were not (`chunk.items[3].text`).

    Raises ValueError when it is not the wire format at all.
    """
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    out, bad = bytearray(), []
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
            bad += [f"{path}.{rest}" if rest else path for rest in inner]
        out += _encoded(tag) + _encoded(len(value)) + value
    if place != len(raw):
        raise ValueError("cut short")
    return bytes(out), bad


def _repaired(field: FieldDescriptor, value: bytes, depth: int) -> tuple[bytes, list[str]]:
    if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None:
        return with_texts_repaired(field.message_type, value, depth + 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            value.decode()
        except UnicodeDecodeError:
            return value.decode(errors="replace").encode(), [""]
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
