"""Asking models: batch calls beside the model run directly, single calls of many callers beside an echo on the same server.

A call names a promoted version's project and brings feature vectors (`PredictFeatures`), texts or the names of items
(`Predict`); of texts the service takes the features, of items it has them. What is compared is taken in turns on one
machine. Clients, service and database share its cores, while a model that is run directly has them alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.inference.v1 import inference_pb2 as api
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, Question
from cairn_inference.domain.features import IMAGE_SPEC, TEXT_SPEC
from cairn_inference.loaded_model import LoadedModel
from cairn_inference.text_encoder import TextEncoder
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume import echoing
from tests.benchmarks.volume.load import drive, each, until
from tests.benchmarks.volume.machine import processor_seconds
from tests.benchmarks.volume.models import (
    THREADS,
    Direct,
    at_its_best_batch,
    perceptron,
    trained_head,
    upload,
    vectors,
)
from tests.benchmarks.volume.targets import CairnStack, cairn_running, parts_of_an_import, text_item

_ROUNDS = 5
_ITEMS = 500
_BATCH, _BATCH_CALLERS = 512, 4
_SINGLE_CALLERS = 64
_WARM = 2.0
_PATIENCE, _DEADLINE = 120.0, 60.0
_BATCH_LEAST, _SINGLE_LEAST = 0.85, 0.8
_CLASS_IDS = tuple(f"class-{n}" for n in range(echoing.CLASSES))
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class _Asking:
    """A method that is asked again and again: the ``n``-th caller asks with ``requests[n]``, of so many rows."""

    method: Any
    requests: Sequence[Any]
    auth: Any

    async def cycle(self, caller: int, rows: int) -> int:
        """Ask once."""
        await self.method(self.requests[caller % len(self.requests)], metadata=self.auth, timeout=_DEADLINE)
        return rows


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of the benchmark's project: its name, what it reads, its file."""

    name: str
    features: str
    data: bytes


class _Bench:
    """The running service, a project in it, and who asks."""

    def __init__(self, cairn: CairnStack, project: str, seconds: float) -> None:
        self._cairn, self.project, self.seconds = cairn, project, seconds
        self._pid = cairn.stack.pid("inference") or 0
        self._echo = cairn.channel("inference")

    async def promote(self, model: _Model) -> None:
        """Have the project served by this model."""
        parent = f"{self.project}/models/{model.name}"
        made = await self._cairn.inference.UploadModelVersion(
            upload(parent, model.features, _CLASS_IDS, model.data), metadata=self._cairn.auth
        )
        await self._cairn.inference.PromoteModelVersion(
            api.PromoteModelVersionRequest(name=made.name), metadata=self._cairn.auth
        )

    def asking(self, method: str, requests: Sequence[Any]) -> _Asking:
        """Ask the service."""
        return _Asking(getattr(self._cairn.inference, method), requests, self._cairn.auth)

    def echoing(self, method: str, requests: Sequence[Any]) -> _Asking:
        """Ask the echo with the same."""
        answers: dict[str, type[Message]] = {
            "Predict": api.PredictResponse,
            "PredictFeatures": api.PredictFeaturesResponse,
        }
        called: Any = self._echo.unary_unary(
            f"/{echoing.SERVICE_NAME}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answers[method].FromString,
        )
        return _Asking(called, requests, self._cairn.auth)

    async def turn(self, asking: _Asking, callers: int, rows: int, seconds: float | None = None) -> _Turn:
        """Let callers ask for a while."""
        used = processor_seconds([self._pid])
        measured = await drive(asking, callers, rows, seconds or self.seconds)
        used = processor_seconds([self._pid]) - used
        return _Turn(measured.rate, used / measured.tasks, measured.percentile(0.99))

    async def directly(self, direct: Direct) -> _Turn:
        """Run the model in this process for as long."""
        return _Turn(*await asyncio.to_thread(direct.measured, self.seconds))


@dataclass(frozen=True, slots=True)
class _Turn:
    """Rows a second, processor seconds of whoever answers a row, and the slowest of a hundred calls in seconds."""

    rate: float
    each: float
    p99: float = 0.0


def rows(full: bool) -> Rows:
    """Yield rates and ratios. ``full``: turns of ten seconds instead of three."""
    for found in each(_measure(10.0 if full else 3.0)):
        yield from found


async def _measure(seconds: float) -> AsyncGenerator[list[Row], None]:
    head = _Model("image-head", IMAGE_SPEC.name, trained_head(IMAGE_SPEC.dim, _CLASS_IDS))
    layers = _Model("image-layers", IMAGE_SPEC.name, perceptron(IMAGE_SPEC.dim, echoing.CLASSES))
    words = _Model("text-head", TEXT_SPEC.name, trained_head(TEXT_SPEC.dim, _CLASS_IDS))
    os.environ |= {
        "PYTHONPATH": str(_ROOT),  # the service runs in a folder of its own and must find the echo
        "CAIRN_THREADS": str(THREADS),  # as many as a model has that is run here
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # as cairn_kit sets it, which the echo's imports come before
    }
    with tempfile.TemporaryDirectory() as folder:
        async with cairn_running(Path(folder), modules={"inference": echoing.__name__}) as cairn:
            bench = _Bench(cairn, await _project(cairn), seconds)
            for model, what in ((head, "logistic head"), (layers, "perceptron")):
                await bench.promote(model)
                direct = at_its_best_batch(model.data, IMAGE_SPEC.dim, seconds / 10.0)
                yield await _batches(bench, f"{_BATCH} vectors, {what}", _vectors(bench, _BATCH), direct)
                yield await _singles(
                    bench, f"a vector, {what}", "PredictFeatures", _vectors(bench, 1), least=_SINGLE_LEAST
                )
            await bench.promote(words)
            await _featured(cairn, bench.project)
            direct = await asyncio.to_thread(_reading, words, Path(folder))
            yield await _texts(bench, direct)
            yield await _singles(bench, "a text, logistic head", "Predict", _texts_of(bench, 1))
            yield await _singles(bench, "an item, logistic head", "Predict", _items_of(bench))


async def _project(cairn: CairnStack) -> str:
    """A project of texts that routes its question; its name, once inference has heard of it."""
    question = Question(
        id="digit", required=True, choice=ChoiceQuestion(classes=[LabelClass(id=c) for c in _CLASS_IDS])
    )
    made = await cairn.store.CreateProject(
        store.CreateProjectRequest(
            project_id="scoring",
            project=store.Project(
                schema=LabelSchema(questions=[question]),
                routing=store.RoutingPolicy(enabled=True, promotion=store.PROMOTION_POLICY_MANUAL),
            ),
        ),
        metadata=cairn.auth,
    )
    await cairn.store.ImportItems(parts_of_an_import(made.name, _ITEMS), metadata=cairn.auth)

    async def known() -> bool:
        try:
            await cairn.inference.GetRouting(api.GetRoutingRequest(project=made.name), metadata=cairn.auth)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    await until(known, True, every=0.1, patience=_PATIENCE)
    return str(made.name)


async def _featured(cairn: CairnStack, project: str) -> None:
    """Wait until all items have their features."""
    inputs = [api.PredictInput(item=f"{project}/items/{text_item(n).key}") for n in range(_ITEMS)]

    async def answered() -> int:
        request = api.PredictRequest(parent=project, inputs=inputs)
        said = await cairn.inference.Predict(request, metadata=cairn.auth, timeout=_DEADLINE)
        return sum(result.HasField("prediction") for result in said.results)

    await until(answered, _ITEMS, every=0.5, patience=_PATIENCE)


def _vectors(bench: _Bench, each: int) -> list[api.PredictFeaturesRequest]:
    data = vectors(each, IMAGE_SPEC.dim).tobytes()
    return [api.PredictFeaturesRequest(parent=bench.project, features=IMAGE_SPEC.name, vectors=data)]


def _texts_of(bench: _Bench, each: int) -> list[api.PredictRequest]:
    """Texts that differ in a number: a request for each caller."""
    return [
        api.PredictRequest(
            parent=bench.project,
            inputs=[api.PredictInput(text=text_item(each * caller + n).text) for n in range(each)],
        )
        for caller in range(_SINGLE_CALLERS)
    ]


def _items_of(bench: _Bench) -> list[api.PredictRequest]:
    return [
        api.PredictRequest(
            parent=bench.project,
            inputs=[api.PredictInput(item=f"{bench.project}/items/{text_item(caller).key}")],
        )
        for caller in range(_SINGLE_CALLERS)
    ]


def _reading(model: _Model, folder: Path) -> Direct:
    """The extraction and then the model on a batch of texts."""
    encoder, loaded = TextEncoder(folder / "embedding", THREADS), LoadedModel(model.data, THREADS)
    texts = [text_item(n).text for n in range(_BATCH)]

    def run() -> None:
        loaded.run(encoder.features(texts))

    run()
    return Direct(run, _BATCH)


async def _batches(bench: _Bench, what: str, requests: Sequence[Any], direct: Direct) -> list[Row]:
    """Vectors in batch calls: beside the model itself, and beside what the wire carries."""
    asking, echo = bench.asking("PredictFeatures", requests), bench.echoing("PredictFeatures", requests)
    await bench.turn(asking, _BATCH_CALLERS, _BATCH, _WARM)
    rounds = [
        (
            await bench.turn(asking, _BATCH_CALLERS, _BATCH),
            await bench.turn(echo, _BATCH_CALLERS, _BATCH),
            await bench.directly(direct),
        )
        for _ in range(_ROUNDS)
    ]
    ours, echoes, directly = zip(*rounds, strict=True)
    what, raw = f"batch calls of {what}", f"session.run of {direct.rows} rows"
    return [
        *_compared(what, "row", ours, directly, raw, _BATCH_LEAST),
        *_compared(what, "row", ours, echoes, "an echo"),
        *_compared(f"{what}, an echo", "row", echoes, directly, raw),
    ]


async def _texts(bench: _Bench, direct: Direct) -> list[Row]:
    """Texts in batch calls, beside extraction and model by themselves."""
    asking = bench.asking("Predict", _texts_of(bench, _BATCH))
    await bench.turn(asking, _BATCH_CALLERS, _BATCH, _WARM)
    pairs = [
        (await bench.turn(asking, _BATCH_CALLERS, _BATCH), await bench.directly(direct))
        for _ in range(_ROUNDS)
    ]
    ours, directly = zip(*pairs, strict=True)
    what = f"batch calls of {_BATCH} texts, logistic head"
    return list(_compared(what, "row", ours, directly, "extraction and session.run", _BATCH_LEAST))


async def _singles(
    bench: _Bench, what: str, method: str, requests: Sequence[Any], least: float | None = None
) -> list[Row]:
    """Single calls of many callers, beside an echo of the same."""
    asking, echo = bench.asking(method, requests), bench.echoing(method, requests)
    await bench.turn(asking, _SINGLE_CALLERS, 1, _WARM)
    pairs = [
        (await bench.turn(asking, _SINGLE_CALLERS, 1), await bench.turn(echo, _SINGLE_CALLERS, 1))
        for _ in range(_ROUNDS)
    ]
    ours, echoes = zip(*pairs, strict=True)
    what = f"single calls of {what}, {_SINGLE_CALLERS} callers"
    p99, peers = (1e3 * median(turn.p99 for turn in turns) for turns in (ours, echoes))
    return [
        *_compared(what, "call", ours, echoes, "an echo", least),
        Row(f"{what}: p99", "ms", p99, peers, "an echo"),
    ]


def _compared(
    what: str,
    one: str,
    ours: Sequence[_Turn],
    theirs: Sequence[_Turn],
    peer: str,
    least: float | None = None,
) -> Iterator[Row]:
    rates = [a.rate / b.rate for a, b in zip(ours, theirs, strict=True)]
    costs = [a.each / b.each for a, b in zip(ours, theirs, strict=True)]
    yield Row(what, f"{one}s/s", median(t.rate for t in ours), median(t.rate for t in theirs), peer)
    yield Row(f"{what}: of the rate of {peer}", "x", median(rates), least=least, spread=_spread(rates))
    yield Row(
        f"{what}: the service's processor time a {one}",
        "us",
        1e6 * median(t.each for t in ours),
        1e6 * median(t.each for t in theirs),
        peer,
    )
    yield Row(f"{what}: times the processor time of {peer}", "x", median(costs), spread=_spread(costs))


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
