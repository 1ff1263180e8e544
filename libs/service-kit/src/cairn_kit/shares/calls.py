"""Calls about a project, answered by its keeper whichever replica was asked.

The asked replica has checked who calls and what they may, and tells the keeper; the keeper runs the handler for the same
caller and says every second that it is still at it. When it falls silent the call is made again, of the next keeper:
every call is safe to repeat.

The keeper takes the asker's word for who calls: the lines are the service's own, and whoever may write to them could
announce its events just as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry import context as otel_context

from cairn_kit.auth.caller import Caller, caller, current_tenant, make_caller, set_caller
from cairn_kit.auth.permissions import Role
from cairn_kit.errors import Unauthenticated, Unavailable, from_status, to_status
from cairn_kit.rpc.deadline import remaining, set_deadline
from cairn_kit.rpc.resting import waiting
from cairn_kit.rpc.stating import stated
from cairn_kit.shares.lines import Lines, nobody_there
from cairn_kit.shares.share import Elsewhere, share_of
from cairn_kit.telemetry.logs import get_logger
from cairn_kit.telemetry.tracing import TRACEPARENT, context_of, traceparent

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

_log = get_logger(__name__)
_KIND = "call"
_SAYS, _TENANT, _CALLER, _LEFT = "cairn-says", "cairn-tenant", "cairn-caller", "cairn-time-left"
_WORKING, _PART, _DONE, _REFUSED, _ELSEWHERE = "working", "part", "done", "refused", "elsewhere"
_SIGN_OF_LIFE = 1.0
_SILENCE = 4.0
"""Seconds without a word after which a keeper is taken for dead."""
_LOOK_AGAIN = 0.1
_NOBODY = 10.0
"""Seconds that a share may be without a keeper before callers are told: taking one over takes about one."""
_MARGIN = 0.25
"""Kept of the caller's time, to say so."""
_LARGEST_PART = 512 * 1024
_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class _Method:
    request: type[Message]
    response: type[Message]
    answer: Callable[[str, Any], Awaitable[Message]]


@dataclass(slots=True)
class _Attempt:
    """When a call was made, and until when somebody was at it, by the loop's clock."""

    began: float
    kept_until: float


class KeeperCalls:
    """Answers calls here when this replica keeps the project's share, and has its keeper answer them when not."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._methods: dict[str, _Method] = {}
        self._waiting: dict[int, asyncio.Queue[Msg]] = {}
        self._asked = 0
        self._inbox = ""
        self._answering: set[asyncio.Task[None]] = set()
        lines.listen(_KIND, self._hear)

    def answer(
        self,
        request: type[Q],
        response: type[R],
        answer: Callable[[str, Q], Awaitable[R]],
        *,
        waits: bool = False,
    ) -> Callable[[str, Q], Awaitable[R]]:
        """What answers `answer(tenant, request)` wherever it is asked: `call(project, request)`.

        Raises from `call` what `answer` raises, and Unavailable when nobody keeps the share for ten seconds.
        ``waits``: it does little but wait for what others do, and takes no room from calls that are work meanwhile.
        """
        name = request.DESCRIPTOR.name
        self._methods[name] = _Method(request, response, answer)

        async def call(project: str, request: Q) -> R:
            with waiting() if waits else nullcontext():
                return cast(R, await self._call(name, current_tenant(), project, request))

        return call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answering:
            await asyncio.wait(self._answering, timeout=_GRACE)

    # --- asking

    async def _call(self, name: str, tenant: str, project: str, request: Message) -> Message:
        share, clock = share_of(tenant, project), asyncio.get_running_loop().time
        before, nobody = clock(), 0.0
        while True:
            attempt = _Attempt(now := clock(), now)
            here = self._lines.keeps(share)
            try:
                if here:
                    return await self._methods[name].answer(tenant, request)
                return await self._ask(attempt, share, name, tenant, request)
            except Elsewhere as elsewhere:
                now = clock()
                if here:
                    attempt.kept_until = now
                nobody, before = _without_keeper(nobody, before, attempt, now), now
                left = remaining()
                if nobody > _NOBODY or (left is not None and left < _MARGIN):
                    raise Unavailable(
                        "PROJECT_NOT_KEPT",
                        f"No replica of the service works on projects/{project} now: {elsewhere.why}.",
                        retry_after=_SIGN_OF_LIFE,
                    ) from None
            await asyncio.sleep(_LOOK_AGAIN)

    async def _ask(self, attempt: _Attempt, share: int, name: str, tenant: str, request: Message) -> Message:
        self._asked += 1
        number, said = self._asked, asyncio.Queue[Msg]()
        self._waiting[number] = said
        left = remaining()
        headers = {
            _TENANT: tenant,
            _CALLER: _said_of_caller(),
            TRACEPARENT: traceparent(),
            _LEFT: "" if left is None else f"{left:.3f}",
        }
        try:
            await self._send(share, name, request, f"{await self._own_inbox()}.{number}", headers)
            return self._methods[name].response.FromString(await _whole(said, attempt))
        finally:
            del self._waiting[number]

    async def _send(
        self, share: int, name: str, request: Message, reply: str, headers: dict[str, str]
    ) -> None:
        try:
            await self._lines.send(share, _KIND, name, request.SerializeToString(), reply, headers)
        except (NatsError, OSError) as error:
            raise Elsewhere(f"the bus is away ({error!r})") from error

    async def _own_inbox(self) -> str:
        if not self._inbox:
            self._inbox = self._lines.bus.client.new_inbox()
            await self._lines.bus.client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        return self._inbox

    async def _on_answer(self, message: Msg) -> None:
        waiting = self._waiting.get(int(message.subject.rpartition(".")[2]))
        if waiting is not None:
            waiting.put_nowait(message)

    # --- answering

    async def _hear(self, share: int, name: str, message: Msg) -> None:
        task = asyncio.create_task(self._answer(name, message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, name: str, message: Msg) -> None:
        headers = message.headers or {}
        otel_context.attach(context_of(headers.get(TRACEPARENT)))
        left = float(said) if (said := headers.get(_LEFT)) else None
        set_deadline(left)
        if said := headers.get(_CALLER):
            set_caller(_caller_of(headers[_TENANT], said))
        method = self._methods[name]
        working = asyncio.create_task(self._keep_saying(message.reply))
        try:
            async with asyncio.timeout(left):
                response = await method.answer(headers[_TENANT], method.request.FromString(message.data))
        except Elsewhere:
            await self._say(message.reply, _ELSEWHERE)
        except Exception as error:
            await self._say(message.reply, _REFUSED, to_status(stated(name, error)).SerializeToString())
        else:
            await self._say_all(message.reply, response.SerializeToString())
        finally:
            working.cancel()

    async def _keep_saying(self, reply: str) -> None:
        while True:
            await self._say(reply, _WORKING)
            await asyncio.sleep(_SIGN_OF_LIFE)

    async def _say_all(self, reply: str, body: bytes) -> None:
        last = max(len(body) - 1, 0) // _LARGEST_PART * _LARGEST_PART
        for start in range(0, last, _LARGEST_PART):
            await self._say(reply, _PART, body[start : start + _LARGEST_PART])
        await self._say(reply, _DONE, body[last:])

    async def _say(self, reply: str, says: str, body: bytes = b"") -> None:
        try:
            await self._lines.bus.client.publish(reply, body, headers={_SAYS: says})
        except (NatsError, OSError) as error:  # the asker hears nothing, and asks again
            _log.warning("shares.unsaid", says=says, error=repr(error))


def _without_keeper(nobody: float, before: float, attempt: _Attempt, now: float) -> float:
    """For how many seconds nobody has kept a share by now, of which so many were known when the attempt before had ended.

    Handovers that come soon after each other are added up; when somebody was at it for longer they are over.
    """
    if attempt.kept_until - attempt.began > _NOBODY:
        return now - attempt.kept_until
    return nobody + (attempt.began - before) + (now - attempt.kept_until)


def _said_of_caller() -> str:
    """Who calls, as a header: what handlers ask of them. Nothing where the service asks by itself."""
    try:
        who = caller()
    except Unauthenticated:
        return ""
    projects = None if who.projects is None else sorted(who.projects)
    said = {"subject": who.subject, "roles": sorted(role.value for role in who.roles), "projects": projects}
    return json.dumps(said)  # in ASCII, whatever the subject is called


def _caller_of(tenant: str, said: str) -> Caller:
    """Who calls, by the asker's word; a role that only a newer release knows grants nothing here."""
    who = json.loads(said)
    known = {role.value: role for role in Role}
    roles = frozenset(known[name] for name in who["roles"] if name in known)
    projects = who["projects"]
    return make_caller(tenant, who["subject"], roles, None if projects is None else frozenset(projects))


async def _whole(said: asyncio.Queue[Msg], attempt: _Attempt) -> bytes:
    """What a keeper answers, once it is all there. Raises Elsewhere, or what the keeper's handler raised."""
    parts: list[bytes] = []
    while True:
        try:
            async with asyncio.timeout(_SILENCE):
                message = await said.get()
        except TimeoutError:
            raise Elsewhere("its keeper has fallen silent") from None
        if nobody_there(message):
            raise Elsewhere("it has no keeper")
        attempt.kept_until = asyncio.get_running_loop().time()
        says = (message.headers or {}).get(_SAYS)
        if says == _ELSEWHERE:
            raise Elsewhere("it is being handed over")
        if says == _REFUSED:
            raise from_status(Status.FromString(message.data))
        if says in (_PART, _DONE):
            parts.append(message.data)
        if says == _DONE:
            return b"".join(parts)
