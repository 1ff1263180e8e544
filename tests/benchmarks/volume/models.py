"""Models to be asked, and the same models run directly: the reference of what asking them costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter, thread_time

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import sparse

from cairn.inference.v1 import inference_pb2 as api
from cairn_inference.loaded_model import session_options
from cairn_inference.training.exchange import TrainingRequest
from cairn_inference.training.head import train

Floats = NDArray[np.float32]

THREADS = 1
"""Of a run, as a stack on two cores has it."""

_HIDDEN = 512
_LABELS = 200
_CHUNK = 1_000_000
_SIZES = (1, 8, 32, 64, 128, 256, 512, 1024)


def trained_head(dim: int, class_ids: tuple[str, ...]) -> bytes:
    """A logistic head as inference trains and exports it, here on noise."""
    generator = np.random.default_rng(0)
    features = sparse.random(
        _LABELS, dim, density=0.1, format="csr", dtype=np.float32, random_state=generator
    )
    labels = np.arange(_LABELS, dtype=np.int64) % len(class_ids)
    return train(TrainingRequest(features, labels, np.ones(_LABELS), class_ids, 1)).model


def perceptron(dim: int, classes: int) -> bytes:
    """A multi-layer perceptron with one hidden layer, somebody's own model: a hundred times the work of a head."""
    generator = np.random.default_rng(1)
    shapes = {"w1": (dim, _HIDDEN), "b1": (_HIDDEN,), "w2": (_HIDDEN, classes), "b2": (classes,)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["p"], axis=1),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", dim])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", classes])],
        [
            numpy_helper.from_array(generator.normal(scale=0.05, size=shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def upload(
    parent: str, features: str, class_ids: tuple[str, ...], model: bytes
) -> Iterator[api.UploadModelVersionRequest]:
    """Yield the messages of an upload."""
    yield api.UploadModelVersionRequest(
        header=api.ModelHeader(parent=parent, features=features, class_ids=class_ids)
    )
    for start in range(0, len(model), _CHUNK):
        yield api.UploadModelVersionRequest(chunk=model[start : start + _CHUNK])


@dataclass(frozen=True, slots=True)
class Direct:
    """A model in this process: ``session.run`` and nothing else, or with what takes its features before it."""

    run: Callable[[], object]
    rows: int

    def measured(self, seconds: float) -> tuple[float, float]:
        """Rows a second over so many seconds, and processor seconds a row (a run stays on its thread)."""
        began, used, done = perf_counter(), thread_time(), 0
        while (taken := perf_counter() - began) < seconds:
            self.run()
            done += self.rows
        return done / taken, (thread_time() - used) / done


def at_its_best_batch(model: bytes, dim: int, seconds: float) -> Direct:
    """The model on so many rows a run as give the most rows a second, found by trying each size for so long."""
    session = onnxruntime.InferenceSession(
        model, session_options(THREADS), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    rows = vectors(max(_SIZES), dim)
    tried = [Direct(partial(session.run, None, {name: rows[:size]}), size) for size in _SIZES]
    return max(tried, key=lambda direct: direct.measured(seconds)[0])


def vectors(rows: int, dim: int) -> Floats:
    """Feature vectors ``(rows, dim)`` of noise."""
    return np.random.default_rng(2).random((rows, dim), dtype=np.float32)
