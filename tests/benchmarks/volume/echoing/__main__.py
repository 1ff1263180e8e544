"""Inference as it is, and an echo on its server: the messages of Predict and PredictFeatures, with nothing done for them.

An echo stands behind the same gate as every call: trace, identity, permission, rules, deadline. What a call costs beyond
its echo is what inference does for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc

from cairn.inference.v1 import inference_pb2 as api
from cairn_inference import __main__ as inference
from cairn_inference.config import InferenceSettings
from cairn_kit.auth.permissions import PERMISSIONS
from cairn_kit.lifecycle import Chassis
from tests.benchmarks.volume.echoing import CLASSES, DIM, SERVICE_NAME

_ECHOED = "cairn.inference.v1.InferenceService"
_CLASS_IDS = [f"class-{n}" for n in range(CLASSES)]
_SAID = api.PredictResponse(
    model_version="projects/volume-00000000/models/text-head/versions/1",
    results=[
        api.PredictResult(
            prediction=api.Prediction(class_id=_CLASS_IDS[0], score=0.1, probabilities=[0.1] * CLASSES)
        )
    ],
)


async def _predict(request: api.PredictRequest, context: Any) -> api.PredictResponse:
    """The same answer to each single input."""
    return _SAID


async def _predict_features(request: api.PredictFeaturesRequest, context: Any) -> api.PredictFeaturesResponse:
    """As many zeros as there would be probabilities."""
    rows = len(request.vectors) // (4 * DIM)
    return api.PredictFeaturesResponse(
        model_version=_SAID.model_version, probabilities=bytes(4 * CLASSES * rows)
    )


def _add_to_server(methods: dict[str, Any], server: grpc.aio.Server) -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, methods),))


async def wire(chassis: Chassis[InferenceSettings]) -> None:
    """Inference, and the echo beside it."""
    await inference.wire(chassis)
    methods = {
        "Predict": grpc.unary_unary_rpc_method_handler(
            _predict, api.PredictRequest.FromString, api.PredictResponse.SerializeToString
        ),
        "PredictFeatures": grpc.unary_unary_rpc_method_handler(
            _predict_features,
            api.PredictFeaturesRequest.FromString,
            api.PredictFeaturesResponse.SerializeToString,
        ),
    }
    chassis.serve(methods, _add_to_server)


_PERMITTED = {
    f"/{SERVICE_NAME}/{name}": PERMISSIONS[f"/{_ECHOED}/{name}"] for name in ("Predict", "PredictFeatures")
}

if __name__ == "__main__":
    replace(inference.SERVICE, wire=wire, permissions={**PERMISSIONS, **_PERMITTED}).main()
