"""One trace from a call to the last event it causes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_span_in_context

from cairn.dispatch.v1 import task_dispatch_pb2 as api
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api_grpc
from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.events import announce
from cairn_kit.telemetry import configure_logging, context_of, current_context, trace_id, traceparent
from cairn_kit.telemetry.spans_file import JsonLinesExporter
from cairn_kit.telemetry.tracing import configure_tracing, is_dropped, well_formed
from cairn_kit.testing import World, eventually


async def test_a_call_its_event_and_what_that_causes_are_one_trace(
    world: World, sample: Any, make_annotation: Any
) -> None:
    incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with world.run(sample.service, spans_file=world.folder / "spans.jsonl") as service:
        heard = await world.listen(announced_pb2.TasksClosed)
        stub = service.stub(api_grpc.TaskDispatchServiceStub)
        await stub.CancelTask(
            api.CancelTaskRequest(name="projects/birds/tasks/1"), metadata=(("traceparent", incoming),)
        )
        [event] = await heard.count(1)
        assert trace_id(event.context()) == incoming.split("-")[1]

        async with service.database.transaction() as tx:
            announce(tx, make_annotation("a"), cause=context_of(incoming))
            announce(tx, make_annotation("b"))
        await heard.count(3)
        by_resource = {event.resource: trace_id(event.context()) for event in heard.events}
        assert by_resource["a"] == incoming.split("-")[1]
        assert by_resource["b"] != by_resource["a"], "each event of a batch has a trace of its own"

    ours = [span for span in world.spans() if span["trace_id"] == incoming.split("-")[1]]
    names = [span["name"] for span in ours]
    assert sorted(names) == [
        "TaskDispatchService/CancelTask",
        "handle AnnotationSubmitted",
        "publish AnnotationSubmitted",
        "publish TasksClosed",
        "publish TasksClosed",
    ]
    server = next(span for span in ours if span["kind"] == "server")
    assert server["parent_id"] == incoming.split("-")[2]
    assert {span["service"] for span in ours} == {"sample"}


async def test_without_an_exporter_ids_still_travel(world: World, sample: Any) -> None:
    incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with world.run(sample.service) as service:
        heard = await world.listen(announced_pb2.TasksClosed)
        await service.stub(api_grpc.TaskDispatchServiceStub).CancelTask(
            api.CancelTaskRequest(name="projects/birds/tasks/1"), metadata=(("traceparent", incoming),)
        )
        [event] = await heard.count(1)
        assert trace_id(event.context()) == incoming.split("-")[1]


_NO_TRACE = f"00-{'0' * 32}-{'0' * 16}-01"
_LONG = f"00-{'a' * 32}-{'b' * 16}-{'f' * 7_000}"  # what is carried on is part of every event


@pytest.mark.parametrize("broken", ["", "nonsense", "00-xyz-1-01", _NO_TRACE, _LONG])
def test_a_broken_traceparent_is_no_trace(broken: str) -> None:
    assert traceparent(context_of(broken)) == ""
    assert well_formed(broken) == ""
    assert trace_id(current_context()) == ""


@pytest.mark.parametrize(
    ("flags", "dropped"), [("00", True), ("01", False), ("02", True), ("03", False), ("fe", True)]
)
def test_a_trace_is_dropped_whatever_else_its_flags_say(flags: str, dropped: bool) -> None:
    assert is_dropped(f"00-{'a' * 32}-{'b' * 16}-{flags}") is dropped


@pytest.mark.parametrize("carried", ["", "nonsense", "0"])
def test_what_is_no_trace_is_not_dropped(carried: str) -> None:
    assert not is_dropped(carried)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_trace_is_dropped_where_the_recorder_drops_it(tmp_path: Path, ratio: float) -> None:
    provider = configure_tracing("sample", spans_file=tmp_path / "spans.jsonl", ratio=ratio)
    span = provider.get_tracer("sample").start_span("a call")
    assert is_dropped(traceparent(set_span_in_context(span))) is not span.is_recording()
    assert span.is_recording() is (ratio == 1.0)
    provider.shutdown()


def test_logs_are_json_with_their_traceback_and_without_its_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = logging.getLogger().handlers
    configure_logging("sample")
    try:
        token = "a-secret"
        try:
            raise ValueError("broken" + token[:0])
        except ValueError:
            logging.getLogger("some.library").exception("it failed")
    finally:
        logging.getLogger().handlers = before
    line = capsys.readouterr().err
    assert json.loads(line)["event"] == "it failed"
    assert json.loads(line)["service"] == "sample"
    assert "ValueError" in line
    assert "a-secret" not in line


async def test_the_numbers_of_a_service_are_told(world: World, sample: Any, make_annotation: Any) -> None:
    async with world.run(sample.service) as service:
        await world.publish(make_annotation("a"))
        metrics = service.chassis.metrics

        def consumed() -> bool:
            return (
                b'cairn_events_consumed_total{type="cairn.events.v1.AnnotationSubmitted"} 1.0'
                in metrics.render()
            )

        await eventually(consumed)
        await eventually(lambda: b"cairn_events_published_total 1.0" in metrics.render())


def test_a_spans_file_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    exporter = JsonLinesExporter(path, largest=1000)
    tracer = TracerProvider().get_tracer("test")
    for number in range(20):
        span = tracer.start_span(f"span-{number}")
        span.end()
        exporter.export([span])  # type: ignore[list-item]
    exporter.shutdown()
    assert path.stat().st_size < 2000
    assert (tmp_path / "spans.jsonl.1").stat().st_size < 2000
