"""Requests that arrive together run together; each gets its own answer, or hears that there are too many."""

import asyncio
import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from cairn_inference import scoring
from cairn_inference.scoring import MAX_BATCH, Batcher, LoadedModel, Scorer
from cairn_inference.training.exchange import TrainingRequest
from cairn_inference.training.head import train
from cairn_kit.errors import FailedPrecondition, ResourceExhausted

Floats = NDArray[np.float32]


class Doubling:
    """Stands where a session would: doubles its input, remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def __call__(self, features: Floats) -> Floats:
        self.may_run.wait(10)
        self.batches.append(len(features))
        return features * 2


def rows(value: float, count: int = 1) -> Floats:
    return np.full((count, 2), value, dtype=np.float32)


async def test_requests_share_a_run_and_keep_their_answers() -> None:
    model = Doubling()
    batcher = Batcher(model)
    answers = await asyncio.gather(*(batcher.score(rows(i, 1 + i % 3)) for i in range(100)))
    for i, answer in enumerate(answers):
        assert (answer == rows(2 * i, 1 + i % 3)).all()
    assert len(model.batches) < 10


async def test_a_batch_is_never_larger_than_the_largest() -> None:
    model = Doubling()
    batcher = Batcher(model)
    await asyncio.gather(*(batcher.score(rows(i, 200)) for i in range(10)))
    assert max(model.batches) <= MAX_BATCH


async def test_too_many_waiting_are_turned_away_at_once() -> None:
    model = Doubling()
    model.may_run.clear()
    batcher = Batcher(model)
    waiting = [asyncio.create_task(batcher.score(rows(1, 500))) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refused:
        await batcher.score(rows(1, 500))
    assert refused.value.retry_after
    model.may_run.set()
    assert all((answer == 2).all() for answer in await asyncio.gather(*waiting))


async def test_a_caller_that_leaves_harms_nobody() -> None:
    model = Doubling()
    model.may_run.clear()
    batcher = Batcher(model)
    leaving = asyncio.create_task(batcher.score(rows(1)))
    staying = asyncio.create_task(batcher.score(rows(2)))
    await asyncio.sleep(0.01)
    leaving.cancel()
    model.may_run.set()
    assert (await staying == 4).all()
    assert (await batcher.score(rows(3)) == 6).all()


async def test_an_error_reaches_every_caller_and_the_next_run_is_unharmed() -> None:
    calls = 0

    def failing_once(features: Floats) -> Floats:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("bad batch")
        return features

    batcher = Batcher(failing_once)
    results = await asyncio.gather(batcher.score(rows(1)), batcher.score(rows(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["bad batch", "bad batch"]
    assert (await batcher.score(rows(3)) == 3).all()


def trained() -> bytes:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    return train(TrainingRequest(sparse.csr_matrix(features), labels, np.ones(60), ("a", "b"), 1)).model


def test_padding_changes_no_answer() -> None:
    model = LoadedModel(trained(), 1)
    features = np.random.default_rng(1).normal(size=(700, 4)).astype(np.float32)
    whole = model.run(features)
    assert whole.shape == (700, 2)
    assert np.allclose(model.run(features[13:14]), whole[13:14], atol=1e-6)
    assert model.run(features[:0]).shape == (0, 2)


def test_a_run_that_never_ends_is_stopped(endless: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_LONGEST_RUN", 0.2)
    with pytest.raises(FailedPrecondition) as stopped:
        LoadedModel(endless, 1).run(np.zeros((1, 4), dtype=np.float32))
    assert stopped.value.reason == "MODEL_TOO_SLOW"


async def test_models_are_read_once_and_the_oldest_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_MAX_SESSIONS", 2)
    data, read = trained(), []

    async def fetch(tenant: str, project: str, sha256: str) -> bytes:
        read.append((tenant, project, sha256))
        return data

    scorer = Scorer(fetch, 1)
    one = np.zeros((1, 4), dtype=np.float32)
    await asyncio.gather(*(scorer.score("t", "p", "a", one) for _ in range(5)))
    await scorer.score("t", "p", "b", one)
    await scorer.score("other", "p", "a", one)
    await scorer.score("t", "p", "a", one)
    assert read == [("t", "p", "a"), ("t", "p", "b"), ("other", "p", "a"), ("t", "p", "a")]
