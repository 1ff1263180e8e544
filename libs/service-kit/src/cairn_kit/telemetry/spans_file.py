"""Finished spans as JSON lines in a file: what a laptop and the tests read instead of a collector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_LARGEST = 64 * 1024 * 1024
"""Bytes after which the file becomes `<name>.1` and a new one begins: a laptop's disk is not a trace store."""


class JsonLinesExporter(SpanExporter):
    """Appends one JSON object a finished span: service, name, ids, parent, times in nanoseconds, attributes."""

    def __init__(self, path: Path, largest: int = _LARGEST) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._largest = largest
        self._file = path.open("a", encoding="utf-8")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans and flush, so that another process can read them."""
        self._file.write("".join(json.dumps(_as_json(span)) + "\n" for span in spans))
        self._file.flush()
        if self._file.tell() > self._largest:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("a", encoding="utf-8")
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        self._file.close()


def _as_json(span: ReadableSpan) -> dict[str, object]:
    context = span.get_span_context()
    return {
        "service": span.resource.attributes.get("service.name"),
        "name": span.name,
        "kind": span.kind.name.lower(),
        "trace_id": format(context.trace_id, "032x") if context else None,
        "span_id": format(context.span_id, "016x") if context else None,
        "parent_id": format(span.parent.span_id, "016x") if span.parent else None,
        "start": span.start_time,
        "end": span.end_time,
        "status": span.status.status_code.name.lower(),
        "attributes": dict(span.attributes or {}),
    }
