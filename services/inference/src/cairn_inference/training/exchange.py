"""What goes into the training process and what comes out: plain arrays and JSON, never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cairn_inference.domain.calibration import Evaluation

if TYPE_CHECKING:
    from scipy import sparse  # a second of imports that the service does without

MODEL_FILE = "model.onnx"
PREDICTIONS_FILE = "out_of_fold.npy"
REPORT_FILE = "report.json"
ERROR_FILE = "error.txt"


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Features ``(n, dim)``, labels as class indices ``(n,)``, their weights ``(n,)`` in (0, 1], the class ids in
    the order of the model's outputs, and the seed of the folds."""

    features: sparse.csr_matrix
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]
    class_ids: tuple[str, ...]
    seed: int


def write_request(path: Path, request: TrainingRequest) -> None:
    """Write a request as one uncompressed .npz file."""
    with path.open("wb") as file:
        np.savez(
            file,
            data=request.features.data,
            indices=request.features.indices,
            indptr=request.features.indptr,
            shape=np.array(request.features.shape),
            labels=request.labels,
            weights=request.weights,
            class_ids=np.array(request.class_ids, dtype=np.str_),
            seed=np.array(request.seed),
        )


def read_request(path: Path) -> TrainingRequest:
    """Read a request. Raises ValueError or KeyError for a file that is not one."""
    from scipy import sparse

    with np.load(path, allow_pickle=False) as stored:
        features = sparse.csr_matrix(
            (stored["data"], stored["indices"], stored["indptr"]), shape=tuple(stored["shape"])
        )
        return TrainingRequest(
            features=features,
            labels=stored["labels"].astype(np.int64),
            weights=stored["weights"].astype(np.float64),
            class_ids=tuple(str(class_id) for class_id in stored["class_ids"]),
            seed=int(stored["seed"]),
        )


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The ONNX file, calibrated out-of-fold probabilities ``(n, classes)``, and how the head did on them."""

    model: bytes
    out_of_fold: NDArray[np.float32]
    evaluation: Evaluation


def write_outcome(folder: Path, outcome: TrainingOutcome) -> None:
    """Write model, predictions and report into a folder."""
    (folder / MODEL_FILE).write_bytes(outcome.model)
    np.save(folder / PREDICTIONS_FILE, outcome.out_of_fold, allow_pickle=False)
    (folder / REPORT_FILE).write_text(json.dumps(asdict(outcome.evaluation), indent=1, sort_keys=True) + "\n")


def read_outcome(folder: Path) -> TrainingOutcome:
    """Read what a training process left. Raises OSError or ValueError when it is incomplete."""
    report = json.loads((folder / REPORT_FILE).read_text())
    return TrainingOutcome(
        model=(folder / MODEL_FILE).read_bytes(),
        out_of_fold=np.load(folder / PREDICTIONS_FILE, allow_pickle=False).astype(np.float32),
        evaluation=Evaluation(**report),
    )
