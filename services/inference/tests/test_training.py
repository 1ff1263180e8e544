"""A head is trained the same way each time, in a process of its own, and leaves an honest ONNX file."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from scipy import sparse
from threadpoolctl import threadpool_limits

from cairn_inference.domain.calibration import evaluate, fit_temperature, is_better, log_softmax
from cairn_inference.domain.features import IMAGE_SPEC, pack, unpack_sparse
from cairn_inference.domain.image_features import image_features
from cairn_inference.loaded_model import LoadedModel
from cairn_inference.model_check import check_model
from cairn_inference.training.__main__ import TRAINED, train_files
from cairn_inference.training.exchange import TrainingRequest, read_outcome, write_request
from cairn_inference.training.head import train
from cairn_inference.training_process import TrainingDied, TrainingProcess
from cairn_kit.testing import eventually


def problem(classes: int, rows: int = 300, dim: int = 12, seed: int = 0) -> TrainingRequest:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, dim)).astype(np.float32)
    labels = (
        features @ generator.normal(size=(dim, classes)) + generator.normal(size=(rows, classes))
    ).argmax(1)
    return TrainingRequest(
        sparse.csr_matrix(features),
        labels.astype(np.int64),
        np.ones(rows),
        tuple(f"c{i}" for i in range(classes)),
        1,
    )


@pytest.mark.parametrize("classes", [2, 3, 7])
async def test_the_file_is_let_in_and_gives_calibrated_probabilities(classes: int) -> None:
    request = problem(classes, rows=1500)
    outcome = train(request)
    await check_model(outcome.model, dim=12, classes=classes)
    answers = LoadedModel(outcome.model, 1).run(request.features.toarray())
    assert np.allclose(answers.sum(axis=1), 1.0, atol=1e-4)
    assert (answers.argmax(1) == request.labels).mean() > 0.6
    assert outcome.evaluation.calibration_error < 0.06
    assert outcome.out_of_fold.shape == (1500, classes)
    # The file says what the out-of-fold heads say, for they differ by a fifth of the labels only.
    assert np.abs(answers - outcome.out_of_fold).mean() < 0.05


def test_the_same_labels_give_the_same_bytes() -> None:
    assert train(problem(4)).model == train(problem(4)).model


def test_out_of_fold_predictions_have_not_seen_their_labels() -> None:
    """Labels of pure noise can only be predicted by who has seen them."""
    generator = np.random.default_rng(0)
    features = sparse.csr_matrix(generator.normal(size=(200, 400)).astype(np.float32))
    request = TrainingRequest(features, generator.integers(0, 2, 200), np.ones(200), ("a", "b"), 1)
    outcome = train(request)
    assert outcome.evaluation.accuracy < 0.65
    assert outcome.evaluation.log_loss < 0.8, "calibration says that it does not know"


async def test_a_class_without_labels_gets_no_probability_but_its_place() -> None:
    request = problem(3)
    wider = TrainingRequest(request.features, request.labels, request.weights, ("c0", "c1", "c2", "new"), 1)
    outcome = train(wider)
    await check_model(outcome.model, dim=12, classes=4)
    assert outcome.out_of_fold[:, 3].max() < 1e-3


def test_one_class_alone_cannot_be_learnt() -> None:
    request = TrainingRequest(
        sparse.csr_matrix(np.ones((20, 2))), np.zeros(20, dtype=np.int64), np.ones(20), ("a", "b"), 1
    )
    with pytest.raises(ValueError, match="a head needs two"):
        train(request)


def test_doubtful_labels_weigh_less() -> None:
    request = problem(2, rows=400)
    wrong = np.arange(400) < 120
    labels = np.where(wrong, 1 - request.labels, request.labels)
    doubted = TrainingRequest(request.features, labels, np.where(wrong, 0.05, 1.0), request.class_ids, 1)
    believed = TrainingRequest(request.features, labels, np.ones(400), request.class_ids, 1)

    def right(asked: TrainingRequest) -> float:
        answers = LoadedModel(train(asked).model, 1).run(request.features.toarray())
        return float((answers.argmax(1) == request.labels).mean())

    assert right(doubted) > right(believed)


def test_digits_are_read_from_a_thousand_labels() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = [
        np.asarray(
            Image.fromarray((d * 15.9).astype(np.uint8))
            .convert("RGB")
            .resize((32, 32), Image.Resampling.BICUBIC)
        )
        for d in digits.images
    ]
    packed = [pack(row) for row in image_features(np.stack(images))]
    order = np.random.default_rng(0).permutation(len(packed))
    fit_on, judge = order[:1000], order[1000:]
    request = TrainingRequest(
        unpack_sparse([packed[i] for i in fit_on], IMAGE_SPEC.dim),
        digits.target[fit_on].astype(np.int64),
        np.ones(1000),
        tuple("0123456789"),
        1,
    )
    outcome = train(request)
    answers = LoadedModel(outcome.model, 1).run(
        unpack_sparse([packed[i] for i in judge], IMAGE_SPEC.dim).toarray()
    )
    judged = evaluate(answers.astype(np.float64), digits.target[judge], np.ones(len(judge)))
    assert judged.accuracy >= 0.97
    assert judged.calibration_error < 0.03


# --- the process


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the training process."""
    with threadpool_limits(1):
        yield


async def test_the_process_leaves_what_the_function_returns(tmp_path: Path) -> None:
    request = problem(3)
    write_request(tmp_path / "request.npz", request)
    async with TrainingProcess(tmp_path) as process:
        for folder in ("one", "two"):
            assert await process.train(tmp_path / "request.npz", tmp_path / folder) == TRAINED
            left, made = read_outcome(tmp_path / folder), train(request)
            assert left.model == made.model
            assert (left.out_of_fold == made.out_of_fold).all()
            assert left.evaluation == made.evaluation


async def test_a_process_that_was_killed_says_so_and_is_started_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.npz")  # reading it blocks: the training hangs for ever
    async with TrainingProcess(tmp_path) as process:
        hanging = asyncio.create_task(process.train(tmp_path / "never.npz", tmp_path))
        await eventually(lambda: process._process is not None)
        assert process._process is not None
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(TrainingDied, match="code -9"):
            await hanging


def test_what_cannot_be_trained_on_is_said_in_words(tmp_path: Path) -> None:
    request = problem(2)
    write_request(
        tmp_path / "request.npz",
        TrainingRequest(request.features, np.zeros(300, dtype=np.int64), request.weights, ("a", "b"), 1),
    )
    assert train_files(tmp_path / "request.npz", tmp_path) == 2
    assert "a head needs two" in (tmp_path / "error.txt").read_text()


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    write_request(tmp_path / "request.npz", problem(2))
    with np.load(tmp_path / "request.npz") as stored:
        fields = dict(stored) | {"labels": np.array([{"a": 1}], dtype=object)}
    np.savez(tmp_path / "evil.npz", **fields)
    assert train_files(tmp_path / "evil.npz", tmp_path) == 2
    assert "allow_pickle" in (tmp_path / "error.txt").read_text()


async def test_the_process_dies_with_its_parent(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cairn_inference.training", "--serve", stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    os.mkfifo(tmp_path / "never.npz")
    process.stdin.write(f"{tmp_path / 'never.npz'}\t{tmp_path}\n".encode())
    process.stdin.close()  # what the kernel does to the pipe of a parent that was killed
    assert await asyncio.wait_for(process.wait(), 30) == 3


# --- calibration


def test_the_temperature_is_found() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(20_000, 3)) * 2
    chance = np.exp(log_softmax(logits))
    truth = (generator.random((20_000, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(logits * 3.0, truth, np.ones(20_000)) == pytest.approx(3.0, rel=0.05)


def test_a_better_version_must_be_better_by_the_margin() -> None:
    truth = np.array([0, 1] * 50)
    sure = np.where(truth[:, None] == np.arange(2), 0.9, 0.1)
    surer = np.where(truth[:, None] == np.arange(2), 0.901, 0.099)
    best = np.where(truth[:, None] == np.arange(2), 0.95, 0.05)
    weights = np.ones(100)
    assert is_better(best, sure, truth, weights, margin=0.05)
    assert not is_better(surer, sure, truth, weights, margin=0.05)
    assert not is_better(sure, best, truth, weights, margin=0.05)


def test_the_export_is_softmax_of_the_scikit_learn_head() -> None:
    """skl2onnx has more than one form for a multinomial head; only one of them is ours."""
    request = problem(5)
    model = onnx.load_model_from_string(train(request).model)
    [node] = [node for node in model.graph.node if node.op_type == "LinearClassifier"]
    attributes = {a.name: a for a in node.attribute}
    weights = np.array(attributes["coefficients"].floats).reshape(5, 12)
    logits = request.features.toarray() @ weights.T + np.array(attributes["intercepts"].floats)
    answers = LoadedModel(model.SerializeToString(), 1).run(request.features.toarray())
    assert np.allclose(answers, np.exp(log_softmax(logits)), atol=1e-4)
