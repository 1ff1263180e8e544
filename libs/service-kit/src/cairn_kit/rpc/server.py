"""The gRPC server: options, TLS, health and reflection, with the gate before everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from cairn_kit.rpc.gate import Gate
from cairn_kit.rpc.newcomers import ProjectSource
from cairn_kit.settings import ChassisSettings

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_LONGEST_WAITING = 4.0  # times `longest_wait`; grpc's own default is thirty seconds
_LEAST_WAITING = 64  # calls of a method: callers whose calls are committed together come back together


class StartError(Exception):
    """The service cannot start, for a reason that an operator can mend; the text is all they need."""


class RpcServer:
    """One server with its services."""

    def __init__(self, settings: ChassisSettings, gate: Gate) -> None:
        self._settings = settings
        self._gate = gate
        self._server = grpc.aio.server(interceptors=[gate], options=_options(settings))
        self._health = health_aio.HealthServicer()
        self._services: list[str] = []
        self.port = 0
        """The port it listens on, once started."""

    def add(
        self,
        servicer: Any,
        add_to_server: Callable[[Any, grpc.aio.Server], None],
        elements: Mapping[str, str],
        projects: ProjectSource | None,
    ) -> None:
        """Serve a servicer. `elements`: method -> the repeated field whose bad elements are the handler's."""
        self._gate.projects = projects
        recorder = _Recorder(self._server)
        add_to_server(servicer, recorder)  # type: ignore[arg-type]
        for name in recorder.services:
            self._services.append(name)
            for method, field in elements.items():
                self._gate.elements[f"/{name}/{method}"] = field

    async def start(self) -> None:
        """Listen; raises StartError when the address is taken or the TLS files are wrong."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for name in ("", *self._services):
            await self._health.set(name, _NOT_SERVING)
        names = (*self._services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection(
            (*names, reflection.SERVICE_NAME), self._server, pool=descriptor_pool.Default()
        )
        try:
            self.port = self._listen()
        except RuntimeError as error:
            raise StartError(f"Cannot listen on {self._settings.listen}: the address is taken.") from error
        await self._server.start()

    def _listen(self) -> int:
        settings = self._settings
        if settings.tls_certificate is None or settings.tls_key is None:
            return self._server.add_insecure_port(settings.listen)
        try:
            pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
        except OSError as error:
            raise StartError(f"The TLS key or certificate cannot be read: {error}") from error
        return self._server.add_secure_port(settings.listen, grpc.ssl_server_credentials([pair]))

    async def set_serving(self, serving: bool) -> None:
        """What health says from now on."""
        for name in ("", *self._services):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Take no more calls, end those that last, let the others finish for so many seconds, then cancel them."""
        self._gate.end_lasting()
        await self._server.stop(grace)


class _Recorder:
    """Passes a generated `add_..._to_server` through and notes the services it adds."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.services += [handler.service_name() for handler in handlers]
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service, handlers)


def _options(settings: ChassisSettings) -> list[tuple[str, Any]]:
    waiting = max(settings.max_concurrent_rpcs // 4, _LEAST_WAITING)
    return [
        # grpc.aio takes up the calls of a method one after the other, each after some turns of the loop. So under load
        # they wait in the core, before any code of ours. What is too much the core refuses: of each method so many may
        # wait, of those on top ever more are turned away. Its own defaults are a thousand and three thousand. The time
        # that a call may wait is for when numbers do not bind: machines that send a hundred answers a call wait for each
        # other for longer than the calls of people ever do, and are no overload.
        ("grpc.server.max_pending_requests", waiting),
        ("grpc.server.max_pending_requests_hard_limit", waiting + waiting // 2),
        (
            "grpc.server_max_unrequested_time_in_server",
            max(round(_LONGEST_WAITING * settings.longest_wait), 1),
        ),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),  # a taken port is an error, not a silent sharing
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        # Long-lived channels stick to one pod: let them go now and then. The grace lets long streams finish.
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.max_connection_age_grace_ms", 3_600_000),
    ]
