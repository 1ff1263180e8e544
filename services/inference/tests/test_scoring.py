"""Requests that arrive together run together; each gets its own answer, or hears that there are too many."""

import asyncio
import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from cairn_inference import loaded_model, scoring
from cairn_inference.batching import Batcher
from cairn_inference.loaded_model import MAX_BATCH, LoadedModel, parted
from cairn_inference.scoring import Scorer
from cairn_inference.training.exchange import TrainingRequest
from cairn_inference.training.head import train
from cairn_kit.errors import FailedPrecondition, ResourceExhausted

Floats = NDArray[np.float32]


class Doubling:
    """Stands where a session would: doubles its input, remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.begun, self.may_run = threading.Event(), threading.Event()
        self.may_run.set()

    def __call__(self, asked: list[Floats]) -> list[Floats]:
        self.begun.set()
        self.may_run.wait(10)
        self.batches.append(sum(len(features) for features in asked))
        return [features * 2 for features in asked]


def rows(value: float, count: int = 1) -> Floats:
    return np.full((count, 2), value, dtype=np.float32)


async def test_requests_share_a_run_and_keep_their_answers() -> None:
    model = Doubling()
    batcher = Batcher(model, MAX_BATCH)
    answers = await asyncio.gather(*(batcher.ask(rows(i, 1 + i % 3)) for i in range(100)))
    for i, answer in enumerate(answers):
        assert (answer == rows(2 * i, 1 + i % 3)).all()
    assert len(model.batches) < 10


async def test_whoever_comes_while_a_run_is_under_way_shares_the_next_one() -> None:
    model = Doubling()
    model.may_run.clear()
    batcher = Batcher(model, MAX_BATCH)
    first = asyncio.create_task(batcher.ask(rows(1)))
    assert await asyncio.to_thread(model.begun.wait, 10)
    later = [asyncio.create_task(batcher.ask(rows(i))) for i in range(20)]
    await asyncio.sleep(0)
    model.may_run.set()
    await asyncio.gather(first, *later)
    assert model.batches == [1, 20]


async def test_a_batch_is_never_larger_than_the_largest() -> None:
    model = Doubling()
    batcher = Batcher(model, MAX_BATCH)
    await asyncio.gather(*(batcher.ask(rows(i, 200)) for i in range(10)))
    assert max(model.batches) <= MAX_BATCH


async def test_too_many_waiting_are_turned_away_at_once() -> None:
    model = Doubling()
    model.may_run.clear()
    batcher = Batcher(model, MAX_BATCH)
    waiting = [asyncio.create_task(batcher.ask(rows(1, 500))) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refused:
        await batcher.ask(rows(1, 500))
    assert refused.value.retry_after
    model.may_run.set()
    assert all((answer == 2).all() for answer in await asyncio.gather(*waiting))


async def test_a_caller_that_leaves_harms_nobody() -> None:
    model = Doubling()
    model.may_run.clear()
    batcher = Batcher(model, MAX_BATCH)
    leaving = asyncio.create_task(batcher.ask(rows(1)))
    staying = asyncio.create_task(batcher.ask(rows(2)))
    await asyncio.sleep(0.01)
    leaving.cancel()
    model.may_run.set()
    assert (await staying == 4).all()
    assert (await batcher.ask(rows(3)) == 6).all()


async def test_an_error_reaches_every_caller_and_the_next_run_is_unharmed() -> None:
    calls = 0

    def failing_once(asked: list[Floats]) -> list[Floats]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("bad batch")
        return asked

    batcher = Batcher(failing_once, MAX_BATCH)
    results = await asyncio.gather(batcher.ask(rows(1)), batcher.ask(rows(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["bad batch", "bad batch"]
    assert (await batcher.ask(rows(3)) == 3).all()


def trained() -> bytes:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    return train(TrainingRequest(sparse.csr_matrix(features), labels, np.ones(60), ("a", "b"), 1)).model


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 300, 512, 513, 700])
def test_any_number_of_rows_has_the_answers_of_each_row_by_itself(count: int) -> None:
    model = LoadedModel(trained(), 1)
    features = np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    answers = model.run(features)
    assert answers.shape == (count, 2)
    assert np.allclose(answers, [model.run(row[None])[0] for row in features] or answers, atol=1e-6)


def test_requests_run_together_have_their_own_answers() -> None:
    model = LoadedModel(trained(), 1)
    features = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    asked = parted(features, [1, 3, 5])
    for one, answer in zip(asked, model.run_together(asked), strict=True):
        assert np.allclose(answer, model.run(one), atol=1e-6)


def test_a_run_that_never_ends_is_stopped(endless: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded_model, "_LONGEST_RUN", 0.2)
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
