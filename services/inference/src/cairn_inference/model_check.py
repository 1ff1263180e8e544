"""What is let in as a model: an ONNX file of known operators, one input and one output of the declared shapes.

A model is a stranger's program. It is read as protobuf only, never unpickled; it may not reach for other files,
nor bring operators of its own; and it is first run where it can do no harm.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError

from cairn_inference.loaded_model import MAX_BATCH
from cairn_inference.model_store import MAX_MODEL_BYTES
from cairn_inference.model_trial import MEMORY

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""The standard operators, and those of classical machine learning."""

_TRIAL_SECONDS = 20
"""A good model of the largest size allowed takes one or two on a core of its own."""


class BadModel(ValueError):
    """The bytes are not a model that may serve; the message says what is wrong and what was expected."""


async def check_model(data: bytes, *, dim: int, classes: int) -> None:
    """Check that `data` is a model from features ``(n, dim)`` float32 to probabilities ``(n, classes)`` float32.

    Raises BadModel.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise BadModel(f"The file has {len(data)} bytes; {MAX_MODEL_BYTES} are allowed.")
    await asyncio.to_thread(_check_file, data, dim, classes)
    await _check_it_runs(data, dim, classes)


def _check_file(data: bytes, dim: int, classes: int) -> None:
    model = _parse(data)
    _check_closed(model)
    _check_input(model, dim)
    _check_output(model, classes)


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise BadModel("The file is not ONNX: it cannot be parsed.") from None
    if not model.ir_version or not model.opset_import or not model.graph.node:
        raise BadModel("The file is not ONNX: it has no version, no operator set or no graph.")
    return model


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its control flow."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_closed(model: onnx.ModelProto) -> None:
    """Refuse what reaches outside the file or brings code of its own."""
    if model.functions:
        raise BadModel(f"The model defines {len(model.functions)} functions of its own; none are allowed.")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in ALLOWED_DOMAINS:
                raise BadModel(
                    f"The operator {node.op_type} is of the domain {node.domain!r}; allowed are ai.onnx and ai.onnx.ml."
                )
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise BadModel(
                    f"The tensor {tensor.name!r} keeps its data outside the file; that is not allowed."
                )


def _last_dim(value: onnx.ValueInfoProto) -> tuple[int, int]:
    """Rank and last dimension (0 when it is not fixed)."""
    shape = value.type.tensor_type.shape.dim
    return len(shape), shape[-1].dim_value if shape else 0


def _check_tensor(value: onnx.ValueInfoProto, role: str, width: int) -> None:
    if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise BadModel(f"The {role} {value.name!r} is not a float32 tensor.")
    rank, last = _last_dim(value)
    if rank != 2 or last not in {0, width}:
        raise BadModel(
            f"The {role} {value.name!r} has {rank} dimensions, the last of {last}; expected (rows, {width})."
        )


def _check_input(model: onnx.ModelProto, dim: int) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise BadModel(f"The model has {len(inputs)} inputs; expected one, of shape (rows, {dim}).")
    _check_tensor(inputs[0], "input", dim)


def _check_output(model: onnx.ModelProto, classes: int) -> None:
    outputs = list(model.graph.output)
    if len(outputs) != 1:
        raise BadModel(f"The model has {len(outputs)} outputs; expected one, of shape (rows, {classes}).")
    if not outputs[0].type.HasField("tensor_type"):
        raise BadModel(f"The output {outputs[0].name!r} is not a tensor (export it without a ZipMap).")
    _check_tensor(outputs[0], "output", classes)


async def _check_it_runs(data: bytes, dim: int, classes: int) -> None:
    """Try it out in a process that has none of our secrets, a deadline, and a limit to its memory."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cairn_inference.model_trial", str(dim), str(classes), str(_TRIAL_SECONDS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        said, _ = await child.communicate(data)
    finally:
        if child.returncode is None:  # whoever asked has gone away
            child.kill()
            await child.wait()
    if child.returncode:
        raise BadModel(
            f"The model does not run: {MAX_BATCH} rows may take {_TRIAL_SECONDS} s and {MEMORY >> 20} MiB of memory."
        )
    if said:
        raise BadModel(said.decode())
