"""What a version says of given texts, images and items, each answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cairn.inference.v1.inference_pb2 import PredictInput
from cairn_inference.domain.features import IMAGE_SPEC, SPECS, TEXT_SPEC, unpack_dense
from cairn_inference.domain.names import item_key, project_id, project_name, version_of
from cairn_inference.featurising import Extractors
from cairn_inference.image_decoder import NotAnImage
from cairn_inference.records import Featured, Version
from cairn_inference.scoring import Scorer
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database
from cairn_kit.errors import CairnError, FailedPrecondition, InvalidArgument, NotFound

Floats = NDArray[np.float32]


class Predictor:
    """Features and scores for Predict."""

    def __init__(
        self, database: Database, store: InferenceStore, extractors: Extractors, scorer: Scorer
    ) -> None:
        self._database = database
        self._store = store
        self._extractors = extractors
        self._scorer = scorer

    async def predict(
        self, tenant: str, project: str, name: str, inputs: Sequence[PredictInput]
    ) -> tuple[Version, list[Floats | CairnError]]:
        """The version that answers, and for each input its probabilities ``(classes,)`` or why there are none.

        Raises NotFound for an unknown project or version, FailedPrecondition NO_MODEL when none serves.
        """
        version = await self._version(tenant, project, name)
        results: list[Floats | CairnError] = [_unread(one, version) for one in inputs]
        vectors: dict[int, Floats] = {}
        await self._texts(inputs, version, vectors)
        await self._images(inputs, version, vectors, results)
        await self._items(tenant, project, inputs, version, vectors, results)
        if vectors:
            rows = sorted(vectors)
            features = np.concatenate([vectors[row] for row in rows])
            answers = await self._scorer.score(tenant, project, version.made.sha256, features)
            for row, answer in zip(rows, answers, strict=True):
                results[row] = answer
        return version, results

    async def _version(self, tenant: str, project: str, name: str) -> Version:
        found = (await self._store.projects(self._database, [(tenant, project)])).get((tenant, project))
        if found is None:
            raise NotFound(
                "PROJECT_NOT_FOUND", f"There is no projects/{project}.", resource=project_name(project)
            )
        if not name:
            serving = await self._store.serving(self._database, found)
            if serving is None:
                raise FailedPrecondition(
                    "NO_MODEL", f"No model serves projects/{project} yet.", resource=project_name(project)
                )
            return serving
        try:
            of, model, number = version_of(name)
        except ValueError as error:
            raise InvalidArgument("NAME_INVALID", str(error)) from error
        version = await self._store.version(self._database, tenant, project, model, number)
        if of != project or version is None:
            raise NotFound("MODEL_VERSION_NOT_FOUND", f"There is no {name}.", resource=name)
        return version

    async def _texts(
        self, inputs: Sequence[PredictInput], version: Version, vectors: dict[int, Floats]
    ) -> None:
        rows = [row for row, one in enumerate(inputs) if one.WhichOneof("input") == "text"]
        if rows and version.made.features == TEXT_SPEC.name:
            made = await self._extractors.texts([inputs[row].text for row in rows])
            vectors |= {row: made[at : at + 1] for at, row in enumerate(rows)}

    async def _images(
        self,
        inputs: Sequence[PredictInput],
        version: Version,
        vectors: dict[int, Floats],
        results: list[Floats | CairnError],
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
        results: list[Floats | CairnError],
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
        found = await self._store.features_of(self._database, tenant, project, sorted(set(keys.values())))
        for row, key in keys.items():
            stored = found.get(key)
            problem = _problem(stored, key, version)
            if problem is not None:
                results[row] = problem
            elif stored is not None and stored.vector is not None:
                vectors[row] = unpack_dense([stored.vector], SPECS[version.made.features].dim)


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
