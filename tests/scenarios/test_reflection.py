"""Any gRPC tool finds its way about: reflection and health answer without a token."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cairn_stack import PrivateStack

SERVICES = {
    "annotation-store": "cairn.annotation.v1.AnnotationStoreService",
    "task-dispatch": "cairn.dispatch.v1.TaskDispatchService",
    "consensus": "cairn.consensus.v1.ConsensusService",
    "inference": "cairn.inference.v1.InferenceService",
    "audit": "cairn.audit.v1.AuditService",
}


@pytest.mark.parametrize(("process", "service"), SERVICES.items())
def test_a_stranger_can_ask_what_there_is(stack: PrivateStack, process: str, service: str) -> None:
    with grpc.insecure_channel(stack.status.addresses[process]) as channel:
        reflection = ProtoReflectionDescriptorDatabase(channel)
        assert service in reflection.get_services()
        file = reflection.FindFileContainingSymbol(service)
        assert f"{file.package}.{file.service[0].name}" == service
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        assert health.status == health_pb2.HealthCheckResponse.SERVING
