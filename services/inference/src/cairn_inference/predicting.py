"""What a version says of given texts, images, items and feature vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cairn.inference.v1.inference_pb2 import PredictInput
from cairn_inference.asked_versions import AskedVersions
from cairn_inference.domain.features import IMAGE_SPEC, SPECS, TEXT_SPEC, rows_of, unpack_dense
from cairn_inference.domain.names import item_key, project_id
from cairn_inference.featurising import Extractors
from cairn_inference.image_decoder import NotAnImage
from cairn_inference.records import Featured, ItemRef, Version
from cairn_inference.scoring import Scorer
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database
from cairn_kit.errors import CairnError, FailedPrecondition, InvalidArgument, NotFound, Violation
from cairn_kit.rpc import Coalescer, Submitted

Floats = NDArray[np.float32]

_FEW_ITEMS = 16
"""Items of a call whose features are read together with other calls'; more are a statement of their own, for the features
of all must fit in memory."""


class Predictor:
    """Features and scores for Predict and PredictFeatures."""

    def __init__(
        self, database: Database, store: InferenceStore, extractors: Extractors, scorer: Scorer
    ) -> None:
        self._database = database
        self._store = store
        self._versions = AskedVersions(database, store)
        self._looks = Coalescer(self._look)
        self._extractors = extractors
        self._scorer = scorer

    async def predict(
        self, tenant: str, project: str, name: str, inputs: Sequence[PredictInput]
    ) -> tuple[Version, list[Floats | CairnError]]:
        """The version that answers, and for each input its probabilities ``(classes,)`` or why there are none.

        Raises as `AskedVersions.get` does.
        """
        version = await self._versions.get(tenant, project, name)
        results: dict[int, Floats | CairnError] = {}
        vectors: dict[int, Floats] = {}
        await self._texts(inputs, version, vectors)
        await self._images(inputs, version, vectors, results)
        await self._items(tenant, project, inputs, version, vectors, results)
        if vectors:
            rows = sorted(vectors)
            features = np.concatenate([vectors[row] for row in rows])
            answers = await self._scorer.score(tenant, project, version.made.sha256, features)
            results |= zip(rows, answers, strict=True)
        return version, [
            results[row] if row in results else _unread(one, version) for row, one in enumerate(inputs)
        ]

    async def predict_features(
        self, tenant: str, project: str, name: str, features: str, vectors: bytes
    ) -> tuple[Version, Floats]:
        """The version that answers, and probabilities ``(rows, classes)`` of vectors taken by an extraction.

        Raises as `predict`, and InvalidArgument FEATURES_DIFFER or VECTORS_INVALID.
        """
        version = await self._versions.get(tenant, project, name)
        if features not in SPECS or features != version.made.features:
            problem = f"The model reads {version.made.features}, not {features}."
            raise InvalidArgument("FEATURES_DIFFER", problem, violations=[Violation("features", problem)])
        try:
            rows = rows_of(vectors, SPECS[features].dim)
        except ValueError as error:
            raise InvalidArgument(
                "VECTORS_INVALID", f"{error}.", violations=[Violation("vectors", str(error))]
            ) from error
        return version, await self._scorer.score(tenant, project, version.made.sha256, rows)

    async def _texts(
        self, inputs: Sequence[PredictInput], version: Version, vectors: dict[int, Floats]
    ) -> None:
        rows = [row for row, one in enumerate(inputs) if one.WhichOneof("input") == "text"]
        if rows and version.made.features == TEXT_SPEC.name:
            made = await self._extractors.texts_together([inputs[row].text for row in rows])
            vectors |= {row: made[at : at + 1] for at, row in enumerate(rows)}

    async def _images(
        self,
        inputs: Sequence[PredictInput],
        version: Version,
        vectors: dict[int, Floats],
        results: dict[int, Floats | CairnError],
    ) -> None:
        rows = [row for row, one in enumerate(inputs) if one.WhichOneof("input") == "image"]
        if version.made.features != IMAGE_SPEC.name:
            return
        made = await asyncio.gather(
            *(self._extractors.image(inputs[row].image) for row in rows), return_exceptions=True
        )
        for row, features in zip(rows, made, strict=True):
            if isinstance(features, NotAnImage):
                results[row] = InvalidArgument("IMAGE_INVALID", str(features))
            elif isinstance(features, BaseException):
                raise features
            else:
                vectors[row] = features

    async def _items(
        self,
        tenant: str,
        project: str,
        inputs: Sequence[PredictInput],
        version: Version,
        vectors: dict[int, Floats],
        results: dict[int, Floats | CairnError],
    ) -> None:
        keys: dict[int, str] = {}
        for row, one in enumerate(inputs):
            if one.WhichOneof("input") != "item":
                continue
            try:
                keys[row] = item_key(one.item)
                if project_id(one.item) != project:
                    raise ValueError(f"{one.item!r} is not of projects/{project}")
            except ValueError as error:
                keys.pop(row, None)
                results[row] = InvalidArgument("NAME_INVALID", str(error))
        if not keys:
            return
        refs = {key: ItemRef(tenant, project, key) for key in sorted(set(keys.values()))}
        found = await self._stored([*refs.values()])
        for row, key in keys.items():
            stored = found.get(refs[key])
            problem = _problem(stored, key, version)
            if problem is not None:
                results[row] = problem
            elif stored is not None and stored.vector is not None:
                vectors[row] = unpack_dense([stored.vector], SPECS[version.made.features].dim)

    async def _stored(self, refs: Sequence[ItemRef]) -> dict[ItemRef, Featured]:
        if len(refs) > _FEW_ITEMS:
            return await self._store.features_of(self._database, refs)
        return await self._looks.submit(refs)

    async def _look(self, batch: Sequence[Submitted[Sequence[ItemRef]]]) -> list[dict[ItemRef, Featured]]:
        refs = dict.fromkeys(ref for submitted in batch for ref in submitted.request)
        return [await self._store.features_of(self._database, [*refs])] * len(batch)


def _problem(stored: Featured | None, key: str, version: Version) -> CairnError | None:
    if stored is None:
        return NotFound("ITEM_NOT_FOUND", f"There is no item {key}.")
    if stored.error:
        return FailedPrecondition("NO_FEATURES", stored.error)
    if stored.vector is None:
        return FailedPrecondition("FEATURES_PENDING", "The item's features are not there yet.")
    if stored.spec != version.made.features:
        return FailedPrecondition(
            "FEATURES_DIFFER", f"The item has {stored.spec}; the model reads {version.made.features}."
        )
    return None


def _unread(one: PredictInput, version: Version) -> CairnError:
    """What stands when nothing better is found: the model does not read this kind of input."""
    return InvalidArgument(
        "FEATURES_DIFFER", f"The model reads {version.made.features}, not {one.WhichOneof('input')}."
    )
