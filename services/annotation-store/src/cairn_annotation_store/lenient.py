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
_MARK = re.compile(rb"(\d{1,9})\.(.*)", re.DOTALL)
_FAULTS = {(1 << 29) - 1: Fault.NOT_UTF8, (1 << 29) - 2: Fault.NUL}
"""Numbers of unknown fields of a request, each of which says of an item, by its index, which text of it cannot be kept."""

_TAGS = {Fault.NOT_UTF8: b"\xfa\xff\xff\xff\x0f", Fault.NUL: b"\xf2\xff\xff\xff\x0f"}


def import_request(raw: bytes) -> pb.ImportItemsRequest:
    """A message of an import, marked with the items whose texts cannot be kept; else what is broken raises DecodeError."""
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
        mark = f"{match[1]}.{match[2]}".encode()[:120]
        request.MergeFromString(_TAGS[fault] + bytes([len(mark)]) + mark)
    return request


def broken_texts(request: pb.ImportItemsRequest) -> dict[int, list[tuple[str, Fault]]]:
    """The paths of texts that cannot be kept, and why, by the index of their item in the chunk."""
    found: dict[int, list[tuple[str, Fault]]] = {}
    unknown = UnknownFieldSet(request)
    for field in (unknown[i] for i in range(len(unknown))):
        fault = _FAULTS.get(field.field_number)
        # Who sends such a field has the item refused that it names.
        if fault is not None and isinstance(field.data, bytes) and (mark := _MARK.fullmatch(field.data)):
            found.setdefault(int(mark[1]), []).append((mark[2].decode(errors="replace"), fault))
    return found


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
