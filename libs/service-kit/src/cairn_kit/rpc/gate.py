"""The one interceptor: identity, limit, trace, permission, validation, deadline, errors, in this order.

Everything that the design asks of each call is here and nowhere else; a servicer only answers, or raises. Whoever is
refused for want of room has cost a look at a token that is mostly known, and nothing that comes after it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from cairn_kit.auth.caller import Caller, set_caller
from cairn_kit.auth.permissions import OPEN_METHODS, TENANT_WIDE, Rule
from cairn_kit.auth.tokens import LEEWAY, Verifier
from cairn_kit.errors import (
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    trailers,
)
from cairn_kit.rpc.admission import Admission, Room
from cairn_kit.rpc.deadline import set_deadline
from cairn_kit.rpc.newcomers import ProjectSource, awaited
from cairn_kit.rpc.resting import set_place
from cairn_kit.rpc.stating import stated
from cairn_kit.rpc.turns import Turns
from cairn_kit.rpc.validation import abide, examined
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import TRACEPARENT, context_of

_BEARER = "bearer "
_RETRY_AFTER = 0.5
_DRAINING_RETRY_AFTER = 1.0
_LARGE = 64 * 1024
"""Bytes of a request from which on it is examined beside the loop: it takes up to half a second a megabyte."""
_AGES = 1e8  # seconds; what is further away is no deadline, and more than timers count
_OUTBOX_RETRY_AFTER, _OUTBOX_LOOK = 2.0, 0.1
Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R")


class Gate(grpc.aio.ServerInterceptor):
    """Stands before every method of a server."""

    def __init__(
        self,
        verifier: Verifier,
        permissions: Mapping[str, Rule],
        metrics: Metrics,
        tracer: Tracer,
        *,
        max_concurrent: int,
        max_streams: int,
        longest_wait: float,
        default_deadline: float,
        outbox_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._verifier = verifier
        self._permissions = permissions
        self._metrics = metrics
        self._tracer = tracer
        # The rest is for what they wait before they come here (server.py), and for moments when the machine stands still.
        self._calls = Admission(max_concurrent, longest_wait / 4.0, time.perf_counter())
        self._streams = Room(max_streams)
        self._default_deadline = default_deadline
        self._outbox_full = outbox_full
        metrics.rpcs_in_flight.set_function(lambda: self._calls.in_flight + self._streams.in_flight)
        metrics.rpcs_limit.set_function(lambda: self._calls.limit)
        self._wrapped: dict[str, Any] = {}
        # Of its own, so that no flood of large requests keeps the threads from others; one, for they share an interpreter.
        self._beside = ThreadPoolExecutor(1, "examine")
        self._examining = Turns()
        self._lasting: set[asyncio.Task[Any]] = set()
        self._draining = False
        self.elements: dict[str, str] = {}
        """Full method -> the repeated field whose wrong elements do not fail the batch."""
        self.projects: ProjectSource | None = None
        """Who knows of projects first; None where projects are made, or asked for by the service itself."""

    def end_lasting(self) -> None:
        """End every call that would last for ever with UNAVAILABLE: their callers come back."""
        self._draining = True
        for task in self._lasting:
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler behind the gate; built once a method."""
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(OPEN_METHODS):
            return handler
        self._wrapped[method] = _behind(_Method(self, method, handler), handler)
        return self._wrapped[method]


class _Method:
    """The gate as one method sees it."""

    def __init__(self, gate: Gate, name: str, handler: Any) -> None:
        self.gate = gate
        self.name = name
        self.span_name = name.lstrip("/").rpartition(".")[2]
        self.streams = handler.request_streaming or handler.response_streaming
        self.room = gate._streams if self.streams else gate._calls
        self.lasts = handler.response_streaming and (
            handler.request_streaming or name.rpartition("/")[2].startswith("Watch")
        )
        """Whether a call goes on until its caller, or this service, ends it."""
        self.rule = gate._permissions.get(name)
        self.sheds = self.rule is not None and self.rule.sheds
        self.returns = self.rule is not None and self.rule.returns
        self.elements = gate.elements.get(name)
        self.seconds = gate._metrics.rpc_seconds.labels(name)
        self.ok = gate._metrics.rpcs.labels(name, "OK")

    def enter(self, context: Context) -> _Call:
        """Take the call on, with its span begun; raises Unauthenticated, and ResourceExhausted without room."""
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        who = self.identify(metadata.get("authorization", ""))
        if not self.room.enter(who, returns=self.returns):
            raise ResourceExhausted(
                "TOO_MANY_CALLS",
                "The service is at its limit of calls at once, or at what it gives one caller or tenant of it.",
                retry_after=_RETRY_AFTER,
            )
        set_place(self.room)
        parent = context_of(metadata.get(TRACEPARENT))
        span = self.gate._tracer.start_span(self.span_name, parent, SpanKind.SERVER)
        otel_context.attach(set_span_in_context(span, parent))
        return _Call(self, span, who)

    def identify(self, authorization: str) -> Caller:
        """Who calls."""
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("TOKEN_MISSING", "Send `authorization: Bearer <token>`.")
        return self.gate._verifier.verify(authorization[len(_BEARER) :].strip())

    def admit(self, who: Caller, context: Context) -> None:
        """That they may call this; sets caller, tenant and deadline for the rest of the call."""
        if self.rule is None:
            raise PermissionDenied("METHOD_NOT_PERMITTED", f"Nobody may call {self.name}.")
        who.require(self.rule.permission)
        if self.sheds and self.gate._outbox_full():
            raise ResourceExhausted(
                "OUTBOX_FULL",
                "Too many events of this service wait for the bus; nothing that makes more is taken on.",
                retry_after=_OUTBOX_RETRY_AFTER,
            )
        if who.projects is not None and self.rule.project == TENANT_WIDE:
            raise PermissionDenied(
                "TOKEN_RESTRICTED", "A token restricted to projects may not touch what belongs to none."
            )
        set_caller(who)
        left: float | None = context.time_remaining()  # the stubs forget the None
        if left is None and not self.streams:
            left = self.gate._default_deadline
        set_deadline(left)

    async def examine(self, who: Caller, request: Message | _Malformed, *, first: bool = True) -> None:
        """That the request is well-formed and stays within the token's projects."""
        if isinstance(request, _Malformed):
            raise InvalidArgument("REQUEST_MALFORMED", f"The request cannot be read: {request.why}.")
        if request.ByteSize() > _LARGE:
            loop, beside = asyncio.get_running_loop(), self.gate._beside
            async with self.gate._examining.turn((who.tenant, who.subject)):
                verdict = await loop.run_in_executor(beside, examined, request, self.elements)
            abide(verdict)
        else:
            abide(examined(request, self.elements))
        if first and who.projects is not None and self.rule is not None:
            for project in self.rule.projects_of(request):
                who.require_project(project)

    async def examined(self, who: Caller, requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
        """A client's stream, each message examined as it comes."""
        first = True
        async for request in requests:
            while self.sheds and self.gate._outbox_full():  # noqa: ASYNC110 - it is counted now and then
                await asyncio.sleep(_OUTBOX_LOOK)  # what is not read holds up whoever sends it
            await self.examine(who, request, first=first)
            first = False
            yield request


@dataclass(frozen=True, slots=True)
class _Malformed:
    """Stands for a request that is not what the method takes, until the gate can say so."""

    why: str


def _tolerant(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer whose failure is an answer of ours: grpc.aio would say UNKNOWN, with the text of the exception."""

    def read(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except (DecodeError, ValueError) as error:
            return _Malformed(str(error) or type(error).__name__)

    return read


class _Call:
    """One call in flight."""

    __slots__ = ("began", "method", "span", "who")

    def __init__(self, method: _Method, span: Span, who: Caller) -> None:
        self.method = method
        self.span = span
        self.who = who
        self.began = time.perf_counter()

    def leave(self, code: str | None = None) -> None:
        method, metrics = self.method, self.method.gate._metrics
        now = time.perf_counter()
        method.room.leave(self.who, now)
        if not method.lasts:  # how long a caller stays says nothing of how long an answer takes
            method.seconds.observe(now - self.began)
        if code is None:
            method.ok.inc()
        else:
            metrics.rpcs.labels(method.name, code).inc()
            self.span.set_status(Status(StatusCode.ERROR, code))
        self.span.end()


def _behind(method: _Method, handler: Any) -> Any:
    """The handler with the gate before it, of the same kind."""
    if handler.request_streaming and handler.response_streaming:
        kind, behaviour, wrap = grpc.stream_stream_rpc_method_handler, handler.stream_stream, _streaming
    elif handler.request_streaming:
        kind, behaviour, wrap = grpc.stream_unary_rpc_method_handler, handler.stream_unary, _single
    elif handler.response_streaming:
        kind, behaviour, wrap = grpc.unary_stream_rpc_method_handler, handler.unary_stream, _streaming
    else:
        kind, behaviour, wrap = grpc.unary_unary_rpc_method_handler, handler.unary_unary, _single
    projects = method.gate.projects
    if projects is not None and wrap is _single:
        behaviour = awaited(projects, behaviour)
    return kind(
        wrap(method, behaviour, handler.request_streaming),
        _tolerant(handler.request_deserializer),
        handler.response_serializer,
    )


def _single(method: _Method, behaviour: Callable[..., Awaitable[Any]], streamed_request: bool) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        call: _Call | None = None
        try:
            call = method.enter(context)
            who = call.who
            method.admit(who, context)
            if streamed_request:
                response = await behaviour(method.examined(who, request), context)
            else:
                await method.examine(who, request)
                if context.time_remaining() is None:
                    async with asyncio.timeout(method.gate._default_deadline):
                        response = await behaviour(request, context)
                else:
                    response = await behaviour(request, context)
        except BaseException as error:
            await _refuse(method, call, context, error)
            raise
        call.leave()
        return response

    return answer


def _streaming(method: _Method, behaviour: Callable[..., Any], streamed_request: bool) -> Any:
    is_generator = inspect.isasyncgenfunction(inspect.unwrap(behaviour))

    async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
        call: _Call | None = None
        task = asyncio.current_task()
        if method.lasts and task is not None:
            method.gate._lasting.add(task)
            task.add_done_callback(method.gate._lasting.discard)
        try:
            if method.lasts and method.gate._draining:
                raise _draining()  # it came too late to be ended with the others
            call = method.enter(context)
            who = call.who
            method.admit(who, context)
            if streamed_request:
                request = method.examined(who, request)
            else:
                await method.examine(who, request)
            if not is_generator:
                async with _while_token_lasts(who):
                    await behaviour(request, context)
            elif method.lasts:
                async for response in _responses_while_token_lasts(who, behaviour(request, context)):
                    yield response
            else:
                async for response in behaviour(request, context):
                    yield response
        except BaseException as error:
            await _refuse(method, call, context, error)
            raise
        call.leave()

    return answer


@asynccontextmanager
async def _while_token_lasts(who: Caller) -> AsyncIterator[None]:
    """End the block with Unauthenticated TOKEN_EXPIRED when the caller's token is over: a stream may outlive it."""
    left = who.expires_at + LEEWAY - time.time()
    try:
        async with asyncio.timeout(left if left < _AGES else None) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise Unauthenticated("TOKEN_EXPIRED", "The token has expired; call again with a new one.") from None


async def _responses_while_token_lasts(who: Caller, responses: AsyncIterator[R]) -> AsyncIterator[R]:
    """The responses, as long as the caller's token lasts; raises Unauthenticated then."""
    while True:
        async with _while_token_lasts(who):
            try:
                response = await anext(responses)
            except StopAsyncIteration:
                return
        yield response


def _draining() -> Unavailable:
    return Unavailable(
        "SERVICE_DRAINING", "The service is going away; call again.", retry_after=_DRAINING_RETRY_AFTER
    )


async def _refuse(method: _Method, call: _Call | None, context: Context, error: BaseException) -> None:
    """End the call with the error as the API states it; returns only for what is not ours to state."""
    if isinstance(error, asyncio.CancelledError) and method.lasts and method.gate._draining:
        error = _draining()
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        if call is not None:
            call.leave("CANCELLED")  # the caller has gone, or its time is over
        return
    if isinstance(error, grpc.aio.AbortError):
        if call is not None:
            call.leave(str(getattr(context.code(), "name", context.code())))
        return
    told = stated(method.name, error)
    if call is not None:
        call.leave(told.code.name)
    else:
        method.gate._metrics.rpcs.labels(method.name, told.code.name).inc()
    await context.abort(told.code, told.message, trailers(told))
