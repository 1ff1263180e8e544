"""Takes chunks of an import apart item by item where their texts cannot be kept, so that a bad item is refused alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as api
from cairn_annotation_store.domain.texts import Fault, texts_of, with_texts_repaired

_IN_AN_ITEM = re.compile(r"chunk\.items\[(\d+)\]\.(.+)")
_MARKS = {Fault.NOT_UTF8: (1 << 29) - 1, Fault.NUL: (1 << 29) - 2}
"""Numbers of unknown fields that name a text of the item that cannot be kept. Who sends one has the item refused."""

_FAULTS = {number: fault for fault, number in _MARKS.items()}
_TAGS = {Fault.NOT_UTF8: b"\xfa\xff\xff\xff\x0f", Fault.NUL: b"\xf2\xff\xff\xff\x0f"}


def import_request(raw: bytes) -> pb.ImportItemsRequest:
    """A message of an import. Items with texts that cannot be kept are marked; else what is broken raises DecodeError."""
    try:
        request = pb.ImportItemsRequest.FromString(raw)
        # A zero byte is hardly ever of a text but of a number, and to walk the wire takes several times as long.
        if b"\0" not in raw or not any("\0" in text for text in texts_of(request.chunk)):
            return request
    except DecodeError:
        pass  # told below, if it is not for an item's text
    try:
        repaired, faults = with_texts_repaired(pb.ImportItemsRequest.DESCRIPTOR, raw)
    except ValueError:
        raise DecodeError("The message is not an ImportItemsRequest.") from None
    request = pb.ImportItemsRequest.FromString(repaired)
    for path, fault in faults:
        match = _IN_AN_ITEM.fullmatch(path)
        if match is None:
            raise DecodeError(f"{path}: {fault.value}")
        name = match[2].encode()[:120]
        request.chunk.items[int(match[1])].MergeFromString(_TAGS[fault] + bytes([len(name)]) + name)
    return request


def broken_texts(item: pb.Item) -> list[tuple[str, Fault]]:
    """The paths of the item's texts that cannot be kept, and why."""
    unknown = UnknownFieldSet(item)
    fields = [unknown[i] for i in range(len(unknown))]
    return [
        (bytes(field.data).decode(errors="replace"), _FAULTS[field.field_number])
        for field in fields
        if field.field_number in _FAULTS and isinstance(field.data, bytes)
    ]


def add_to_server(servicer: api.AnnotationStoreServiceServicer, server: Any) -> None:
    """The generated registration, but that ImportItems reads its messages as above."""
    api.add_AnnotationStoreServiceServicer_to_server(servicer, _Registering(server))  # type: ignore[arg-type]


class _Registering:
    """What generated code registers with, on its way to the server."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same handlers come once more, by name, below."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        behaviour = handlers["ImportItems"].stream_unary
        if behaviour is None:
            raise TypeError("ImportItems takes a stream")
        imports = grpc.stream_unary_rpc_method_handler(
            behaviour,
            request_deserializer=import_request,
            response_serializer=handlers["ImportItems"].response_serializer,
        )
        generic = grpc.method_handlers_generic_handler(service, {**handlers, "ImportItems": imports})
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, {**handlers, "ImportItems": imports})
