"""Real items with features and their truth, for what is measured with a model: text intents, photographs, scenes, reviews.

Features are static text embeddings (wordllama's wheel), VGG averages that come with labelme, and for CIFAR-10, of which
no embedding comes in a wheel here, responses to patches learnt by k-means (Coates & Ng 2011): sensible, not strong.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.truth.rows import folder

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_PATCH, _STEP, _FILTERS = 6, 2, 150


@dataclass(frozen=True, slots=True)
class Pool:
    """``features`` ``(n, d)``, ``truth`` ``(n,)``, and the inverse regularisation of a linear head on them."""

    features: Floats
    truth: Ints
    looseness: float

    @property
    def classes(self) -> int:
        """How many classes."""
        return int(self.truth.max()) + 1

    def head(self, rows: Ints, truth: Ints | None = None) -> Any:
        """Return a linear head trained on ``rows``, with their truth or what is taken for it."""
        from sklearn.linear_model import LogisticRegression

        known = self.truth[rows] if truth is None else truth
        return LogisticRegression(C=self.looseness, max_iter=100).fit(self.features[rows], known)

    def probabilities(self, head: Any, rows: Ints | slice = slice(None)) -> NDArray[np.float64]:
        """Return what a head says of ``rows``, ``(rows, classes)``; classes that it has never seen get 0."""
        said = head.predict_proba(self.features[rows])
        table = np.zeros((len(said), self.classes))
        table[:, head.classes_] = said
        return table


def banking77(data: Path) -> tuple[Pool, int]:
    """Return text intents, and how many of them, the first, are the training set."""
    rows: list[Mapping[str, str]] = []
    sizes = []
    for part in ("train", "test"):
        rows += _rows(folder(data, "banking77") / "original" / f"{part}.csv")
        sizes.append(len(rows))
    names = sorted({row["category"] for row in rows})
    truth = np.array([names.index(row["category"]) for row in rows])
    return Pool(text_embeddings([row["text"] for row in rows]), truth, 30.0), sizes[0]


def sentiment(data: Path) -> Pool:
    """Return sentences of film reviews."""
    home = folder(data, "sentiment_text")
    items = _rows(home / "items.csv")
    known = {row["item"]: int(row["label"]) for row in _rows(home / "truth.csv")}
    return Pool(
        text_embeddings([row["text"] for row in items]), np.array([known[row["item"]] for row in items]), 10.0
    )


def labelme(data: Path) -> Pool:
    """Return scenes."""
    home = folder(data, "labelme") / "original"
    parts = ("train", "valid", "test")
    features = np.concatenate([np.load(home / f"LabelMe_VGG_avg_{part}.npy") for part in parts])
    truth = np.concatenate([np.loadtxt(home / f"LabelMe_Z_{part}.txt", dtype=np.int64) for part in parts])
    return Pool(_scaled(features.reshape(len(truth), -1)), truth, 3.0)


def cifar10(data: Path) -> Pool:
    """Return photographs of 32x32."""
    from PIL import Image

    home = folder(data, "cifar10_test_images")
    index, pixels = _rows(home / "index.csv"), (home / "images.bin").read_bytes()
    images = []
    for row in index:
        start, length = int(row["offset"]), int(row["length"])
        images.append(np.asarray(Image.open(io.BytesIO(pixels[start : start + length])).convert("RGB")))
    truth = np.array([int(row["label"]) for row in index])
    return Pool(_principal(_scaled(_patch_features(np.stack(images).astype(np.float32))), 256), truth, 1.0)


def text_embeddings(texts: Sequence[str]) -> Floats:
    """Return static embeddings ``(n, 256)`` of unit length."""
    import wordllama

    # Told where its wheel keeps the tokenizer, it fetches nothing.
    found = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return np.asarray(found.embed(list(texts), norm=True), dtype=np.float32)


def _patch_features(images: Floats) -> Floats:
    """Return responses of ``(n, 32, 32, 3)`` to whitened patches' k-means centres, by quadrants, ``(n, 8 filters)``."""
    chance = np.random.default_rng(0)
    count = 30_000
    which = chance.integers(0, len(images), count)
    at = chance.integers(0, 33 - _PATCH, (count, 2))
    patches = np.stack(
        [
            images[i, r : r + _PATCH, c : c + _PATCH].ravel()
            for i, (r, c) in zip(which, at.tolist(), strict=True)
        ]
    )
    patches = _contrast(patches)
    mean = patches.mean(axis=0)
    size, direction = np.linalg.eigh(np.cov(patches.T))
    whiten = ((direction / np.sqrt(size + 0.1)) @ direction.T).astype(np.float32)
    filters = _spherical_k_means((patches - mean) @ whiten, chance)
    return np.concatenate(
        [
            _responses(images[start : start + 100], mean, whiten @ filters.T)
            for start in range(0, len(images), 100)
        ]
    )


def _responses(images: Floats, mean: Floats, project: Floats) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(images, (_PATCH, _PATCH), axis=(1, 2))
    windows = windows[:, ::_STEP, ::_STEP].transpose(0, 1, 2, 4, 5, 3)
    n, height, width = windows.shape[:3]
    answer = (_contrast(windows.reshape(-1, mean.size)) - mean) @ project
    both = np.concatenate([np.maximum(answer - 0.25, 0.0), np.maximum(-answer - 0.25, 0.0)], axis=1)
    both = both.reshape(n, height, width, -1)
    middle = height // 2
    quadrants = [
        both[:, rows, columns].mean(axis=(1, 2))
        for rows in (slice(None, middle), slice(middle, None))
        for columns in (slice(None, middle), slice(middle, None))
    ]
    return np.sqrt(np.concatenate(quadrants, axis=1))


def _contrast(patches: Floats) -> Floats:
    centred = patches - patches.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt(centred.var(axis=1, keepdims=True) + 10.0))


def _spherical_k_means(points: Floats, chance: np.random.Generator) -> Floats:
    centres = points[chance.choice(len(points), _FILTERS, replace=False)]
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    for _ in range(10):
        likeness = points @ centres.T
        nearest = np.abs(likeness).argmax(axis=1)
        weight = likeness[np.arange(len(points)), nearest]
        for at in range(_FILTERS):
            mine = nearest == at
            if mine.any():
                total = weight[mine] @ points[mine]
                centres[at] = total / np.linalg.norm(total)
    return centres


def _principal(features: Floats, dimensions: int) -> Floats:
    """Return the first principal components, without which a head on all of them takes most of the time."""
    _, direction = np.linalg.eigh(features.T @ features)
    return np.asarray(features @ direction[:, -dimensions:])


def _scaled(features: Floats) -> Floats:
    centred = features - features.mean(axis=0)
    return np.asarray(centred / (centred.std(axis=0) + 1e-6) / np.sqrt(centred.shape[1]), dtype=np.float32)


def _rows(path: Path) -> list[Mapping[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        return list(csv.DictReader(lines))


POOLS: Mapping[str, Callable[[Path], Pool]] = {
    "banking77": lambda data: banking77(data)[0],
    "cifar10": cifar10,
    "labelme": labelme,
    "sentiment_text": sentiment,
}
"""The pools by the folder that they come from."""
