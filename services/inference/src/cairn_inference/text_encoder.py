"""The static text embedding as an ONNX graph, made from the weights that come in wordllama's wheel.

Nothing is fetched: weights and tokenizer are files of an installed package. The graph is Gather, masked mean,
L2 normalisation; it is written once into a folder, under the SHA-256 of the weights it was made from.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from cairn_inference.domain.text_features import EMBEDDING_DIM, MAX_CHARACTERS, hash_words, join, rarity
from cairn_inference.loaded_model import parted, session_options

Floats = NDArray[np.float32]

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"
_GRAPH_VERSION = 1
"""Part of the cached file's name: a change of the graph makes a new file."""

_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Token counts are padded up to one of these, so that the runtime's arena stays small."""

_BATCH_TOKENS = 64 * 1024


def _wheel_file(relative: str) -> Path:
    """A file of the installed wordllama package, found without importing it."""
    found = importlib.util.find_spec("wordllama")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("The package wordllama, which brings the text embedding, is not installed.")
    return Path(found.submodule_search_locations[0]) / relative


def convert(weights: Floats) -> bytes:
    """The graph over an embedding table ``(vocabulary, dim)``.

    In: `tokens` int64 ``(n, length)`` and `mask` float32 of the same shape (1 for a token, 0 for padding).
    Out: `embedding` float32 ``(n, dim)`` of unit length; a text without tokens is all zeros.
    """
    import onnx  # only the first start of all converts

    helper, kind = onnx.helper, onnx.TensorProto
    constants = [
        onnx.numpy_helper.from_array(weights.astype(np.float32), "table"),
        onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "over_tokens"),
        onnx.numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
        onnx.numpy_helper.from_array(np.array(1e-9, dtype=np.float32), "tiny"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["vectors"], axis=0),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["vectors", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "over_tokens"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "over_tokens"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "tiny"], ["some"]),
        helper.make_node("Div", ["total", "some"], ["mean"]),
        helper.make_node("ReduceL2", ["mean", "over_tokens"], ["length"], keepdims=1),
        helper.make_node("Max", ["length", "tiny"], ["positive"]),
        helper.make_node("Div", ["mean", "positive"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "text-static",
        [
            helper.make_tensor_value_info("tokens", kind.INT64, ["n", "length"]),
            helper.make_tensor_value_info("mask", kind.FLOAT, ["n", "length"]),
        ],
        [helper.make_tensor_value_info("embedding", kind.FLOAT, ["n", weights.shape[1]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def cached_graph(folder: Path) -> Path:
    """The graph's file in `folder`, written first if it is not there."""
    stored = _wheel_file(_WEIGHTS).read_bytes()
    digest = hashlib.sha256(stored).hexdigest()
    path = folder / f"text-static-{EMBEDDING_DIM}-v{_GRAPH_VERSION}-{digest[:16]}.onnx"
    if not path.exists():
        from safetensors.numpy import load as load_tensors

        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(convert(load_tensors(stored)[_TENSOR].astype(np.float32)))
        unfinished.replace(path)
    return path


class TextEncoder:
    """Turns texts into feature vectors. Thread-safe; use it off the event loop."""

    def __init__(self, cache: Path, threads: int = 1) -> None:
        self._tokenizer = Tokenizer.from_file(str(_wheel_file(_TOKENIZER)))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_LENGTHS[-1])
        self._vocabulary = self._tokenizer.get_vocab_size()
        self._boundary = self._tokenizer.token_to_id("▁")
        self._session = onnxruntime.InferenceSession(
            str(cached_graph(cache)), session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._rarity = lru_cache(maxsize=100_000)(self._rarity_of)

    def features(self, texts: Sequence[str]) -> Floats:
        """Feature vectors ``(n, dim)`` of the texts; see `cairn_inference.domain.text_features`."""
        # A lone surrogate cannot be encoded; what cannot be read is left out, not refused.
        clean = [text[:MAX_CHARACTERS].encode("utf-8", "ignore").decode("utf-8") for text in texts]
        hashed = [hash_words(text, self._rarity) for text in clean]
        return join(self.embed(clean), np.array(hashed, dtype=np.float32).reshape(len(clean), -1))

    def features_together(self, asked: Sequence[Sequence[str]]) -> list[Floats]:
        """Feature vectors of each of several lots of texts, as one."""
        features = self.features([text for texts in asked for text in texts])
        return parted(features, [len(texts) for texts in asked])

    def embed(self, texts: Sequence[str]) -> Floats:
        """Embeddings ``(n, EMBEDDING_DIM)`` of unit length."""
        tokens = [
            found.ids for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]
        embeddings = np.zeros((len(texts), EMBEDDING_DIM), dtype=np.float32)
        for length in _LENGTHS:
            shorter = _LENGTHS[_LENGTHS.index(length) - 1] if length > _LENGTHS[0] else 0
            rows = [at for at, ids in enumerate(tokens) if shorter < len(ids) <= length]
            step = max(1, _BATCH_TOKENS // length)
            for start in range(0, len(rows), step):
                chosen = rows[start : start + step]
                embeddings[chosen] = self._run([tokens[at] for at in chosen], length)
        return embeddings

    def _run(self, tokens: Sequence[Sequence[int]], length: int) -> Floats:
        padded = np.zeros((len(tokens), length), dtype=np.int64)
        mask = np.zeros((len(tokens), length), dtype=np.float32)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1.0
        return np.asarray(self._session.run(None, {"tokens": padded, "mask": mask})[0])

    def _rarity_of(self, word: str) -> float:
        ids = self._tokenizer.encode(word, add_special_tokens=False).ids
        return rarity([token for token in ids if token != self._boundary], self._vocabulary)
