"""Real items with features and their truth, for what is measured with a model: text intents, photographs, scenes, reviews.

Features are static text embeddings (wordllama's wheel), VGG averages that come with labelme, and for CIFAR-10 those of
EfficientNet-Lite0 (``images.py``), which has seen other photographs.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.rows import folder
from tests.benchmarks.truth.images import features as photograph_features

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


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
    """Return photographs of 32x32; a head on 1,500 of them is right on .74 of others."""
    home = folder(data, "cifar10_test_images")
    index, pixels = _rows(home / "index.csv"), (home / "images.bin").read_bytes()
    starts = [int(row["offset"]) for row in index]
    pictures = [pixels[start : start + int(row["length"])] for start, row in zip(starts, index, strict=True)]
    truth = np.array([int(row["label"]) for row in index])
    return Pool(_principal(_scaled(photograph_features(pictures)), 256), truth, 3.0)


def text_embeddings(texts: Sequence[str]) -> Floats:
    """Return static embeddings ``(n, 256)`` of unit length."""
    import wordllama

    # Told where its wheel keeps the tokenizer, it fetches nothing.
    found = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return np.asarray(found.embed(list(texts), norm=True), dtype=np.float32)


def _principal(features: Floats, dimensions: int) -> Floats:
    """Return the first principal components: a head on all 1,280 is half a point better, and takes thrice the time."""
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
