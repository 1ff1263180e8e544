"""Calls over gRPC: the token on each, deadlines, retries with back-off, pages, and streams that come back."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.audit.v1.audit_pb2_grpc import AuditServiceStub
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceStub
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn_client.errors import CairnError, DeadlineExceeded, ProfileError, Unavailable, error_of_call
from cairn_client.profile import Profile, Service
from cairn_client.tokens import TokenProvider

if TYPE_CHECKING:
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub
    from cairn.audit.v1.audit_pb2_grpc import AuditServiceAsyncStub
    from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceAsyncStub
    from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceAsyncStub
    from cairn.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
E = TypeVar("E")
S = TypeVar("S")
T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

_CHANNEL_OPTIONS = (
    # Calls are spread over all replicas, and go to the others when one is away.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    # A service that was restarted should be met again within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on when a service does not answer; all in seconds.

    Every call is safe to repeat (reads are, and writes carry a request id), so all of them are repeated on
    UNAVAILABLE and RESOURCE_EXHAUSTED, with full jitter between `first_delay` and `longest_delay`, or after
    the delay the server asked for. `call` is for the whole; `attempt` for each try. `in_vain` is asked when a
    service cannot be reached: why it will not come back, or None when it may.
    """

    call: float = 60.0
    attempt: float = 30.0
    first_delay: float = 0.05
    longest_delay: float = 2.0
    in_vain: Callable[[], str | None] | None = None

    def delay(self, tries: int, asked_for: float | None) -> float:
        """Seconds to wait after the n-th failed try, from 1."""
        ceiling = min(self.longest_delay, self.first_delay * 2 ** min(tries - 1, 20))
        return float(max(asked_for or 0.0, ceiling * random.uniform(0.5, 1.0)))

    def check(self, error: CairnError) -> None:
        """Raise Unavailable when a service is away and waiting for it is in vain."""
        away = error.problem.code == "UNAVAILABLE" and not error.reason
        why = self.in_vain() if away and self.in_vain is not None else None
        if why is not None:
            raise Unavailable(replace(error.problem, message=why))


class _UnaryUnary(Protocol[Q, R]):
    def __call__(
        self, request: Q, /, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> grpc.aio.UnaryUnaryCall[Q, R]: ...


class _UnaryStream(Protocol[Q, R]):
    def __call__(
        self, request: Q, /, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> grpc.aio.UnaryStreamCall[Q, R]: ...


class _StreamUnary(Protocol[Q, R]):
    def __call__(
        self,
        request_iterator: AsyncIterator[Q] | None = None,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
    ) -> grpc.aio.StreamUnaryCall[Q, R]: ...


def new_request_id() -> str:
    """A fresh request id: what makes a repeated write harmless (AIP-155)."""
    return uuid.uuid4().hex


def too_large(error: CairnError) -> bool:
    """Whether a request, or its answer, has more bytes than a call takes."""
    by_grpc = not error.reason and "larger than max" in error.problem.message
    return by_grpc or error.reason == "RESPONSE_TOO_LARGE"


def worth_repeating(error: CairnError) -> bool:
    """Whether the same call may succeed later without anybody changing anything."""
    code, message = error.problem.code, error.problem.message
    if too_large(error):
        return False
    return code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED") or (
        # A killed server's half-written answer arrives as one of these, without our details; and whatever a server said
        # while the client was still writing arrives as the last of them.
        code in ("INTERNAL", "UNKNOWN")
        and not error.reason
        and any(sign in message for sign in ("RST_STREAM", "Stream removed", "Internal error from Core"))
    )


_STOOD = 60.0
"""Seconds after which a stream that has not broken is there, though it has brought nothing: one that cannot be opened,
or leads nowhere, breaks before (`_CHANNEL_OPTIONS`)."""


class _Breaks:
    """How often a stream has broken since it last stood or brought something, and since when."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._tries = 0
        self._since = self._opened_at = 0.0

    def opens(self) -> None:
        """It is opened, the first time or again."""
        self._opened_at = time.monotonic()

    def progressed(self) -> None:
        """It has brought something."""
        self._tries = 0

    def delay(self, error: CairnError, renewed: bool = False) -> float:
        """Seconds to wait before the next try; raises the error when there is no sense in one.

        Where the stream outlived its token and there is a fresh one (`renewed`), that is at once; but not a second time
        in a row: the clock of who makes the tokens may be so far behind that each has expired.
        """
        now = time.monotonic()
        if now - self._opened_at > _STOOD:
            self._tries = 0
        if self._tries == 0:
            self._since = now
            self._patience.check(error)
        self._tries += 1
        if not (renewed or worth_repeating(error)) or now - self._since > self._patience.call:
            raise error
        if renewed and self._tries == 1:
            return 0.0
        return self._patience.delay(self._tries, error.problem.retry_after)


class Transport:
    """The channels to the five services, opened at the first call in the running loop."""

    def __init__(self, profile: Profile, token: TokenProvider, patience: Patience | None = None) -> None:
        self.profile = profile
        self.patience = patience or Patience()
        self._token = token
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[Service, object] = {}
        self._metadata: tuple[str, Metadata] = ("", ())

    @property
    def store(self) -> AnnotationStoreServiceAsyncStub:
        """annotation-store."""
        return self._stub(Service.ANNOTATION_STORE, AnnotationStoreServiceStub)

    @property
    def dispatch(self) -> TaskDispatchServiceAsyncStub:
        """task-dispatch."""
        return self._stub(Service.TASK_DISPATCH, TaskDispatchServiceStub)

    @property
    def consensus(self) -> ConsensusServiceAsyncStub:
        """consensus."""
        return self._stub(Service.CONSENSUS, ConsensusServiceStub)

    @property
    def inference(self) -> InferenceServiceAsyncStub:
        """inference."""
        return self._stub(Service.INFERENCE, InferenceServiceStub)

    @property
    def audit(self) -> AuditServiceAsyncStub:
        """audit."""
        return self._stub(Service.AUDIT, AuditServiceStub)

    def _stub(self, service: Service, make: Callable[[grpc.aio.Channel], S]) -> S:
        """The service's stub, made once: to make one takes as long as a small call."""
        made = self._stubs.get(service)
        if made is None:
            made = self._stubs[service] = make(self._channel(service))
        return cast(S, made)

    def _channel(self, service: Service) -> grpc.aio.Channel:
        address = self.profile.addresses[service]
        channel = self._channels.get(address)
        if channel is None:
            channel = self._open(address)
            self._channels[address] = channel
        return channel

    def _open(self, address: str) -> grpc.aio.Channel:
        target = f"ipv4:{address}" if "," in address else address
        if not self.profile.tls:
            return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(
            target, grpc.ssl_channel_credentials(_roots(self.profile.ca_file)), options=_CHANNEL_OPTIONS
        )

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels, self._stubs = list(self._channels.values()), {}, {}
        await asyncio.gather(*(channel.close() for channel in channels))

    def metadata(self) -> Metadata:
        """What goes with every call: the bearer token."""
        token = self._token()
        if self._metadata[0] != token:
            self._metadata = (token, (("authorization", f"Bearer {token}"),))
        return self._metadata[1]

    async def call(self, method: _UnaryUnary[Q, R], request: Q, *, timeout: float | None = None) -> R:
        """Call, and call again while it is worth it. `timeout` (seconds) is for everything together.

        Raises the CairnError of the last answer.
        """

        async def attempt(seconds: float) -> R:
            return await method(request, timeout=seconds, metadata=self.metadata())

        return await self.repeating(attempt, timeout)

    async def call_for(self, method: _UnaryUnary[Q, R], request: Q, seconds: float) -> R:
        """Call a method that waits for a job, again and again for so long as the service works on it: takes each try, and
        has not answered when that is over. Where it does not, with the patience of any call.

        Raises the CairnError of the last answer.
        """
        until = time.monotonic() + seconds

        async def attempt(_: float) -> R | None:
            try:  # each in full: a try of a moment would not tell whether the service took it
                return await method(request, timeout=self.patience.attempt, metadata=self.metadata())
            except grpc.RpcError as failed:
                error = error_of_call(failed)
                ours = isinstance(error, DeadlineExceeded) and not error.reason  # else the service gave it up
                if ours and time.monotonic() < until:
                    return None
                raise

        while (answer := await self.repeating(attempt)) is None:
            pass
        return answer

    async def send(
        self,
        method: _StreamUnary[Q, R],
        messages: Callable[[], AsyncIterator[Q]],
        *,
        timeout: float | None = None,
    ) -> R:
        """A client stream, sent from its beginning at every try: `messages()` starts it anew."""

        async def attempt(seconds: float) -> R:
            return await method(messages(), timeout=seconds, metadata=self.metadata())

        return await self.repeating(attempt, timeout)

    async def repeating(
        self,
        attempt: Callable[[float], Awaitable[T]],
        timeout: float | None = None,
        attempt_timeout: float | None = None,
    ) -> T:
        """Run `attempt(seconds it may take)` until it succeeds, or fails for good, or time is up."""
        deadline = time.monotonic() + (self.patience.call if timeout is None else timeout)
        longest = attempt_timeout or self.patience.attempt
        tries = 0
        said: CairnError | None = None
        while True:
            tries += 1
            left = deadline - time.monotonic()
            try:
                return await attempt(max(0.001, min(left, longest)))
            except grpc.RpcError as failed:
                error = error_of_call(failed)
                if tries == 1:
                    self.patience.check(error)
                if isinstance(error, DeadlineExceeded):
                    # Our own clock ended this try: what an earlier one was told says more.
                    error, over = said or error, left <= longest
                else:
                    said, over = error, not worth_repeating(error)
                delay = self.patience.delay(tries, error.problem.retry_after)
                if over or time.monotonic() + delay >= deadline:
                    raise _with_address(error, self.profile) from None
            await asyncio.sleep(delay)

    async def receive(
        self, method: _UnaryStream[Q, R], request: Q, *, timeout: float | None = None
    ) -> AsyncIterator[R]:
        """A server stream, once: who can resume it calls again with a new request."""
        call = method(request, timeout=timeout, metadata=self.metadata())
        try:
            async for message in call:
                yield message
        except grpc.RpcError as failed:
            raise error_of_call(failed) from None
        finally:
            call.cancel()

    async def following(
        self,
        method: _UnaryStream[Q, R],
        request: Callable[[], Q],
        broke: Callable[[CairnError], None] | None = None,
    ) -> AsyncIterator[R]:
        """A server stream without end: after a break, which `broke` is told of, `request()` says where to go on, until
        patience runs out."""
        breaks = _Breaks(self.patience)
        while True:
            token = self._token()
            breaks.opens()
            try:
                async for message in self.receive(method, request()):
                    breaks.progressed()
                    yield message
                return
            except CairnError as error:
                delay = breaks.delay(error, self._renewed(error, token))
                if broke is not None and delay:
                    broke(error)
            await asyncio.sleep(delay)

    async def persisting(self, session: Callable[[Callable[[], None]], Awaitable[T]]) -> T:
        """Run a session of streams both ways to its end, and anew when it breaks, until patience runs out.

        `session(progressed)` calls `progressed()` with each message that it receives. Raises the CairnError of the last
        break.
        """
        breaks = _Breaks(self.patience)
        while True:
            token = self._token()
            breaks.opens()
            try:
                return await session(breaks.progressed)
            except grpc.RpcError as failed:
                error = error_of_call(failed)
                try:
                    delay = breaks.delay(error, self._renewed(error, token))
                except CairnError as last:
                    raise _with_address(last, self.profile) from None
            await asyncio.sleep(delay)

    def _renewed(self, error: CairnError, token: str) -> bool:
        """Whether this token has expired, and there is another."""
        return error.reason == "TOKEN_EXPIRED" and self._token() != token

    async def pages(
        self, method: _UnaryUnary[Q, R], request: Q, elements: Callable[[R], Sequence[E]]
    ) -> AsyncIterator[Sequence[E]]:
        """The pages of a List method, to the last. `request` is changed: its page_token moves."""
        while True:
            page = await self.call(method, request)
            yield elements(page)
            token: str = page.next_page_token  # type: ignore[attr-defined]
            if not token:
                return
            request.page_token = token  # type: ignore[attr-defined]


def _roots(ca_file: Path | None) -> bytes | None:
    try:
        return None if ca_file is None else ca_file.read_bytes()
    except OSError as error:
        raise ProfileError(f"The CA file {ca_file} cannot be read: {error.strerror}.") from None


def _with_address(error: CairnError, profile: Profile) -> CairnError:
    if error.problem.code != "UNAVAILABLE" or error.reason:
        return error
    told = f"Cairn does not answer: {error.problem.message} ({profile.source})."
    return type(error)(replace(error.problem, message=f"{told} Is it running? See 'cairn status'."))
