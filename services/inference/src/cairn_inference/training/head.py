"""A linear head on frozen features: fitted, cross-validated, calibrated, and exported as one ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy import sparse
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.linear_model import LogisticRegression

from cairn_inference.domain.calibration import evaluate, fit_temperature, log_softmax
from cairn_inference.training.exchange import TrainingOutcome, TrainingRequest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STRENGTHS = (0.1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that are tried; text likes 1 to 10, images 0.1 to 10."""

_TUNING_ROWS = 2000
"""Rows used to choose the strength: enough to tell a factor of ten."""

_UNSEEN = -30.0
"""Logit of a class that no label names yet: it has probability 0 for every purpose."""

_DENSE_ABOVE = 0.3
"""Share of non-zeros above which a dense matrix is the faster one."""


def train(request: TrainingRequest) -> TrainingOutcome:
    """Fit the head on everything, predict each label by a head that has not seen it, calibrate on that, export.

    The same request gives the same bytes. Raises ValueError when there are fewer than two classes to learn.
    """
    seen = np.unique(request.labels)
    if seen.size < 2:
        raise ValueError(f"{seen.size} class has labels; a head needs two.")
    features = _best_layout(request.features)
    strength = _choose_strength(features, request)
    folds = 5 if request.labels.size <= 5000 else 3
    logits = np.empty((request.labels.size, len(request.class_ids)))
    for fit_on, predict in _folds(request.labels, folds, request.seed):
        head = _fit(features, request, fit_on, strength)
        logits[predict] = _logits(*head, features[predict])
    temperature = fit_temperature(logits, request.labels, request.weights)
    out_of_fold = np.exp(log_softmax(logits / temperature))
    weights, bias = _fit(features, request, np.arange(request.labels.size), strength)
    return TrainingOutcome(
        model=_export(weights / temperature, bias / temperature, request.seed),
        out_of_fold=out_of_fold.astype(np.float32),
        evaluation=evaluate(out_of_fold, request.labels, request.weights, temperature),
    )


def _best_layout(features: sparse.csr_matrix) -> Any:
    density = features.nnz / max(features.shape[0] * features.shape[1], 1)
    return features.toarray() if density > _DENSE_ABOVE else features


def _choose_strength(features: Any, request: TrainingRequest) -> float:
    """The penalty whose head, calibrated, best predicts a third of the labels from the others."""
    rows = np.random.default_rng(request.seed).permutation(request.labels.size)[:_TUNING_ROWS]
    fit_on, judge = rows[rows.size // 3 :], rows[: rows.size // 3]
    losses = []
    for strength in _STRENGTHS:
        if np.unique(request.labels[fit_on]).size < 2:
            return 1.0
        logits = _logits(*_fit(features, request, fit_on, strength), features[judge])
        labels, weights = request.labels[judge], request.weights[judge]
        temperature = fit_temperature(logits, labels, weights)
        judged = evaluate(np.exp(log_softmax(logits / temperature)), labels, weights)
        losses.append(judged.log_loss)
    return _STRENGTHS[int(np.argmin(losses))]


def _folds(labels: Ints, count: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of rows to fit on and to predict; each class is spread evenly over the folds."""
    generator = np.random.default_rng(seed)
    order = np.lexsort((generator.random(labels.size), labels))
    fold = np.empty(labels.size, dtype=np.int64)
    fold[order] = np.arange(labels.size) % count
    for number in range(count):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _fit(features: Any, request: TrainingRequest, rows: Ints, strength: float) -> tuple[Floats, Floats]:
    """Weights ``(classes, dim)`` and bias ``(classes,)`` of a multinomial head over all classes of the request."""
    classes, dim = len(request.class_ids), features.shape[1]
    weights, bias = np.zeros((classes, dim)), np.full(classes, _UNSEEN)
    labels = request.labels[rows]
    seen = np.unique(labels)
    if seen.size == 1:
        bias[seen[0]] = 0.0
        return weights, bias
    head = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
    head.fit(features[rows], labels, sample_weight=request.weights[rows])
    if seen.size == 2:  # scikit-learn keeps one row for two classes: half of it each way is the same softmax
        weights[seen] = np.vstack([-head.coef_ / 2, head.coef_ / 2])
        bias[seen] = np.concatenate([-head.intercept_ / 2, head.intercept_ / 2])
    else:
        weights[seen], bias[seen] = head.coef_, head.intercept_
    return weights, bias


def _logits(weights: Floats, bias: Floats, features: Any) -> Floats:
    return np.asarray(features @ weights.T + bias)


def _export(weights: Floats, bias: Floats, seed: int) -> bytes:
    """One ONNX file: `features` (rows, dim) float32 in, `probabilities` (rows, classes) float32 out.

    The temperature is inside the weights, so that every runtime gives calibrated probabilities.
    """
    classes, dim = weights.shape
    head = LogisticRegression(max_iter=1)
    if classes == 2:  # scikit-learn's form of it: the log-odds of the second class
        weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
    head.classes_ = np.arange(classes)
    head.coef_, head.intercept_ = weights.astype(np.float32), bias.astype(np.float32)
    head.n_features_in_ = dim
    model = to_onnx(
        head,
        initial_types=[("features", FloatTensorType([None, dim]))],
        options={"zipmap": False, "raw_scores": False},
        name=f"head-{seed}",  # the default name is random, and the same request shall give the same bytes
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    pruned = select_model_inputs_outputs(model, outputs=["probabilities"])
    # Selecting outputs forgets their types and doubles the operator sets.
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", classes])
    pruned.graph.output[0].CopyFrom(output)
    operator_sets = {imported.domain: imported.version for imported in model.opset_import}
    del pruned.opset_import[:]
    pruned.opset_import.extend(
        helper.make_opsetid(domain, version) for domain, version in operator_sets.items()
    )
    serialized: bytes = pruned.SerializeToString(deterministic=True)
    return serialized
