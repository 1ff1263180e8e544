"""Calls to the other services: whose work it is, how long it may take, and another try when nobody answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context

from cairn_kit.auth.caller import current_tenant
from cairn_kit.auth.tokens import Signer
from cairn_kit.errors import DeadlineExceeded
from cairn_kit.rpc.deadline import remaining
from cairn_kit.telemetry.tracing import TRACEPARENT, traceparent

S = TypeVar("S")
_LONGEST_UNARY = 30.0
_MARGIN = 0.05
"""Kept of the caller's time, to answer the caller with what the neighbour said."""

# Every mutating request carries a request_id, so that a second try of one that did arrive changes nothing. CANCELLED is
# what a neighbour's core says of calls that it has too many of.
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)


class UnknownPeer(Exception):
    """No address was given for a service that this one calls."""


class Peers:
    """The other services, by name."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        signer: Signer | None,
        tracer: Tracer,
        *,
        max_message_bytes: int,
        certificate_authority: Path | None = None,
    ) -> None:
        self._addresses = addresses
        self._signer = signer
        self._tracer = tracer
        self._max_message_bytes = max_message_bytes
        self._certificate_authority = certificate_authority
        self._channels: dict[str, grpc.aio.Channel] = {}

    def stub(self, stub: Callable[[grpc.aio.Channel], S], service: str) -> S:
        """A stub whose calls carry token, deadline and trace by themselves. Call it inside the running loop."""
        if self._signer is None:
            raise UnknownPeer("Calls to other services need a private key: set CAIRN_SERVICE_KEY_FILE.")
        return stub(_PeerChannel(self._channel(service), service, self._signer, self._tracer))  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close(0.5)

    def _channel(self, service: str) -> grpc.aio.Channel:
        if service not in self._addresses:
            variable = f"CAIRN_PEERS__{service.upper().replace('-', '_')}"
            raise UnknownPeer(f"Where is {service}? Set {variable}=host:port.")
        if service not in self._channels:
            self._channels[service] = self._open(self._addresses[service])
        return self._channels[service]

    def _open(self, address: str) -> grpc.aio.Channel:
        options = [
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.enable_retries", 1),
            ("grpc.max_receive_message_length", self._max_message_bytes),
            ("grpc.max_send_message_length", self._max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        target = f"ipv4:{address}" if "," in address else f"dns:///{address}"
        if self._certificate_authority is None:
            return grpc.aio.insecure_channel(target, options=options)
        roots = grpc.ssl_channel_credentials(self._certificate_authority.read_bytes())
        return grpc.aio.secure_channel(target, roots, options=options)


class _PeerChannel:
    """What a generated stub needs of a channel; every callable it makes adds what a call must carry.

    Not grpc.aio's client interceptors: those wrap each call in tasks of their own, at a third of its cost.
    """

    def __init__(self, channel: grpc.aio.Channel, service: str, signer: Signer, tracer: Tracer) -> None:
        self._channel = channel
        self._service = service
        self._signer = signer
        self._tracer = tracer

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._calling(method, self._channel.unary_unary(method, *args, **kwargs), _LONGEST_UNARY)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._calling(method, self._channel.stream_unary(method, *args, **kwargs), None)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._calling(method, self._channel.unary_stream(method, *args, **kwargs), None)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._calling(method, self._channel.stream_stream(method, *args, **kwargs), None)

    def _calling(self, method: str, inner: Any, longest: float | None) -> Any:
        name = f"{self._service} {method.rpartition('/')[2]}"

        def call(request: Any = None, *, timeout: float | None = None, metadata: Any = ()) -> Any:
            time = _time_for(timeout if timeout is not None else longest)
            span = self._tracer.start_span(name, kind=SpanKind.CLIENT)
            carried = [
                ("authorization", f"Bearer {self._signer.service_token(current_tenant())}"),
                (TRACEPARENT, traceparent(set_span_in_context(span))),
                *metadata,
            ]
            answer = inner(request, timeout=time, metadata=carried)

            def done(_: Any) -> None:
                if not answer.cancelled() and answer.done() and (status := _code_of(answer)) is not None:
                    span.set_status(Status(StatusCode.ERROR, status))
                span.end()

            answer.add_done_callback(done)
            return answer

        return call


def _code_of(answer: Any) -> str | None:
    code = getattr(answer, "_cython_call", None)
    status = getattr(code, "_status", None)
    value = status.code() if status is not None else None
    return None if value in (None, 0) else str(value)


def _time_for(wanted: float | None) -> float | None:
    """The time a call may take: what was asked for, but not more than the caller still has, less a margin."""
    left = remaining()
    if left is None:
        return wanted
    left -= _MARGIN
    if left <= 0:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "There was no time left to ask another service.")
    return left if wanted is None else min(left, wanted)
