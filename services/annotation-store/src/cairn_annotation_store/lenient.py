"""Takes chunks of an import apart item by item when the parser refuses them, so that a bad item is refused alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as api
from cairn_annotation_store.domain.utf8 import with_texts_repaired

_IN_AN_ITEM = re.compile(r"chunk\.items\[(\d+)\]\.(.+)")
_MARK = (1 << 29) - 1
"""Number of an unknown field that names a text of the item that was not UTF-8. Who sends it has the item refused."""

_MARK_TAG = b"\xfa\xff\xff\xff\x0f"


def import_request(raw: bytes) -> pb.ImportItemsRequest:
    """A message of an import. Items with broken text are marked; anything else broken raises DecodeError."""
    try:
        return pb.ImportItemsRequest.FromString(raw)
    except DecodeError:
        try:
            repaired, paths = with_texts_repaired(pb.ImportItemsRequest.DESCRIPTOR, raw)
        except ValueError:
            raise DecodeError("The message is not an ImportItemsRequest.") from None
        request = pb.ImportItemsRequest.FromString(repaired)
        for path in paths:
            match = _IN_AN_ITEM.fullmatch(path)
            if match is None:
                raise
            name = match[2].encode()[:120]
            request.chunk.items[int(match[1])].MergeFromString(_MARK_TAG + bytes([len(name)]) + name)
        return request


def broken_texts(item: pb.Item) -> list[str]:
    """The paths of the item's texts that were not UTF-8."""
    unknown = UnknownFieldSet(item)
    fields = [unknown[i] for i in range(len(unknown))]
    return [bytes(field.data).decode(errors="replace") for field in fields if _is_mark(field)]


def _is_mark(field: Any) -> bool:
    return bool(field.field_number == _MARK and isinstance(field.data, bytes))


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
