"""Feature vectors that the caller has taken: the same answers as by any other way, or what is wrong with them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cairn.inference.v1 import inference_pb2 as api
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.text_encoder import TextEncoder
from cairn_kit.errors import from_rpc_error
from cairn_kit.testing import eventually
from services.inference.tests.stage import (
    PROJECT,
    Stage,
    created,
    head,
    model_that_always_says,
    texts,
    upload,
)


def vectors(rows: Any) -> api.PredictFeaturesRequest:
    data = np.asarray(rows, dtype="<f4").tobytes()
    return api.PredictFeaturesRequest(parent=PROJECT, features=TEXT_SPEC.name, vectors=data)


async def test_vectors_get_the_answers_of_the_texts_they_were_taken_from(
    stage: Stage, embeddings: Path
) -> None:
    await stage.world.publish(created())
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM project"), 1)
    version = await upload(stage, head())
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    phrases = [item.text for item in texts(5)]
    said = await stage.api.Predict(
        api.PredictRequest(parent=PROJECT, inputs=[api.PredictInput(text=phrase) for phrase in phrases])
    )
    answer = await stage.api.PredictFeatures(vectors(TextEncoder(embeddings).features(phrases)))
    assert answer.model_version == version.name
    probabilities = np.frombuffer(answer.probabilities, dtype="<f4").reshape(5, 2)
    expected = [list(result.prediction.probabilities) for result in said.results]
    assert np.allclose(probabilities, expected, atol=1e-6)


async def test_vectors_of_another_kind_or_length_are_refused_and_the_bad_row_is_named(stage: Stage) -> None:
    await stage.world.publish(created())
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM project"), 1)
    version = await upload(stage, head())
    good = np.zeros((3, TEXT_SPEC.dim))
    other = vectors(good)
    other.features = "image-hog-1552"
    bad = good.copy()
    bad[1, 5] = np.nan
    for request, reason, words in (
        (vectors(good), "NO_MODEL", "No model serves"),
        (other, "FEATURES_DIFFER", "not image-hog-1552"),
        (vectors(good[:, 1:]), "VECTORS_INVALID", f"rows of {TEXT_SPEC.dim} float32"),
        (vectors(bad), "VECTORS_INVALID", "row 1 "),
    ):
        if reason != "NO_MODEL":
            request.model_version = version.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stage.api.PredictFeatures(request)
        error = from_rpc_error(refused.value)
        assert (error.reason, words in error.message) == (reason, True), error.message


async def test_calls_that_ask_together_each_hear_of_their_own_version(stage: Stage) -> None:
    await stage.world.publish(created())
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM project"), 1)
    sure, unsure = [await upload(stage, model_that_always_says(1, 2, p)) for p in (0.9, 0.6)]
    names = [sure.name, unsure.name, f"{PROJECT}/models/mine/versions/9", "projects/none/models/m/versions/1"]
    vector = np.zeros((1, TEXT_SPEC.dim))

    async def asked(name: str) -> str:
        request = vectors(vector)
        request.model_version = name
        try:
            answer = await stage.api.PredictFeatures(request)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
        said = np.frombuffer(answer.probabilities, dtype="<f4")[1]
        return f"{answer.model_version} {said:.1f}"

    found = await asyncio.gather(*(asked(name) for name in names * 4))
    missing = "MODEL_VERSION_NOT_FOUND"
    assert found == [f"{sure.name} 0.9", f"{unsure.name} 0.6", missing, missing] * 4
