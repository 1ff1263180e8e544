"""The connection to NATS: it comes back by itself, for ever, and says whether it is there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.protocol.parser import AUTHORIZATION_VIOLATION, PERMISSIONS_ERR

from cairn_kit.events.credentials import signature, user_jwt
from cairn_kit.events.topology import STREAM
from cairn_kit.telemetry.logs import get_logger

_log = get_logger(__name__)
_CONNECT_TIMEOUT = 3.0
_REQUEST_TIMEOUT = 5.0
_NO_STREAM = "no stream answers"
_WORTH_A_WHOLE, _LARGEST_WHOLE = 20, 1000
"""Events from which on a batch is cheaper than they are one by one, and how many the server takes in one."""
_WHOLES_DISABLED = 10174
"""JSAtomicPublishDisabledErr: the stream was made without `allow_atomic`."""


class BusError(Exception):
    """The bus did not do what was asked; trying again later may help."""


@dataclass(frozen=True, slots=True)
class BusAddress:
    """Where NATS is and how to prove who we are."""

    url: str
    token: str | None = None
    user: str | None = None
    password: str | None = None
    credentials: str | None = None


class _Client(Client):
    """nats-py, but it comes back whatever the server says, and reads credentials that are renewed.

    It also reads headers in a sixth of the time: an event has ten, and each service reads every one.
    """

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes for good at an expired credential, at one that is refused while the server's accounts are
        # loaded anew, at a message that is too large: it is for us to say when to give up, and we never do.
        if PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)
            return
        refused = AUTHORIZATION_VIOLATION in err_msg
        error = AuthorizationError() if refused else NatsError("nats: " + err_msg.strip("'"))
        await self._error_cb(error)
        await self._process_op_err(error)

    def _setup_nkeys_connect(self) -> None:
        path = Path(str(self._user_credentials))
        self._user_jwt_cb = lambda: user_jwt(path)
        self._signature_cb = lambda nonce: signature(path, nonce)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        lines = (line.partition(":") for line in raw.decode("utf-8", "replace").split("\r\n"))
        return {name.strip(): value.strip() for name, colon, value in lines if colon}

    def _build_message(self, sid: int, subject: bytes, *rest: Any) -> Any:
        # The server takes any bytes for a subject. nats-py would stop reading at one that is not UTF-8, for good.
        return super()._build_message(sid, subject.decode("utf-8", "replace").encode(), *rest)


class Bus:
    """One connection, shared by relay and consumer of a service."""

    def __init__(self, address: BusAddress, name: str) -> None:
        self._address = address
        self._name = name
        self._client = _Client()
        self.generation = 0
        """Grows with each reconnection: what a server was asked for before is forgotten by it."""
        self._up = asyncio.Event()
        self._last_error: Exception | None = None
        self._opened = False
        self._told: set[str] = set()
        """Why the line is down, said once each until it is up again."""

    @property
    def connected(self) -> bool:
        """Whether the line is up now."""
        return bool(self._client.is_connected)

    @property
    def client(self) -> Client:
        """The raw client."""
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        """The JetStream API, for streams and consumers."""
        return self._client.jetstream(timeout=_REQUEST_TIMEOUT)

    async def open(self) -> None:
        """Connect; raises BusError when there is no server after three seconds."""
        options: dict[str, Any] = {
            "servers": [self._address.url],
            "name": self._name,
            "token": self._address.token,
            "user": self._address.user,
            "password": self._address.password,
            "user_credentials": self._address.credentials,
            "connect_timeout": 2,
            "reconnect_time_wait": 0.2,
            "max_reconnect_attempts": -1,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            # A whole batch of the relay fits, so that publishing it never waits for the line in the middle.
            "pending_size": 64 * 1024 * 1024,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
        }
        where = f"NATS cannot be reached at {self._address.url}"
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await self._client.connect(**{k: v for k, v in options.items() if v is not None})
        except TimeoutError:
            raise BusError(f"{where}: {self._last_error or 'no answer'}") from None
        except (OSError, NatsError) as error:
            raise BusError(f"{where}: {error}") from error
        self._opened = True
        self._up.set()

    async def close(self) -> None:
        """Send what is buffered and disconnect, within two seconds."""
        if self._client.is_connected:
            with suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._client.flush(1)
        with suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(2):
                await self._client.close()

    async def until_connected(self) -> None:
        """Wait for the line to be up."""
        while not self.connected:
            self._up.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._up.wait()

    async def _on_error(self, error: Exception) -> None:
        # A server that refuses hangs up as well, and now and then only the hanging up is seen: its words tell more.
        if isinstance(error, NatsError) or not isinstance(self._last_error, NatsError):
            self._last_error = error
        told = repr(error)
        if self.connected or not self._opened or told in self._told:
            _log.debug("bus.error", error=told)
        else:
            self._told.add(told)
            _log.warning("bus.error", error=told)

    async def _on_disconnected(self) -> None:
        self._up.clear()
        if not self._client.is_closed:
            _log.warning("bus.disconnected")

    async def _on_reconnected(self) -> None:
        self.generation += 1
        self._told.clear()
        self._up.set()
        _log.warning("bus.reconnected")


class StreamMissing(BusError):
    """There is no stream to publish to."""


class Publisher:
    """Publishes many events at once and waits for all acknowledgements together.

    nats-py's own `publish_async` takes a semaphore, a timer and two dictionaries an event; this takes a number.

    A server that syncs before it acknowledges does so for every message, 0.4 to 3 ms each, whoever waits for it. Many
    events therefore go as one atomic batch (NATS ADR-50), which is synced once and acknowledged as a whole; few go one
    by one, for a batch costs as much as some twenty messages. A batch that the server does not take (it refuses all for
    one event that it has already; servers before 2.12 know no batches) goes one by one as well.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = ""
        self._open_batch: _Batch | None = None
        self._batches = 0
        self._no_wholes_in = -1
        """The generation of the connection to a stream that takes no batches."""

    async def publish(
        self, events: Sequence[tuple[str, Mapping[str, str], bytes]], timeout: float = 5.0
    ) -> list[bool]:
        """Publish (subject, headers, body) in order; which of them the stream has acknowledged.

        Raises StreamMissing when there is no stream, BusError when the line is down.
        """
        if _WORTH_A_WHOLE <= len(events) <= _LARGEST_WHOLE and self._no_wholes_in != self._bus.generation:
            whole = await self._publish(events, timeout, whole=True)
            if not whole.refused:
                return whole.acknowledged
            if whole.code == _WHOLES_DISABLED:
                self._no_wholes_in = self._bus.generation
        one_by_one = await self._publish(events, timeout, whole=False)
        if one_by_one.refused:
            _log.warning("bus.refused", error=one_by_one.refused)
        return one_by_one.acknowledged

    async def _publish(
        self, events: Sequence[tuple[str, Mapping[str, str], bytes]], timeout: float, *, whole: bool
    ) -> _Batch:
        client = self._bus.client
        if not self._bus.connected:
            raise BusError("not connected")
        if not self._inbox:
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*.*", cb=self._on_ack)
        self._batches += 1
        batch = self._open_batch = _Batch(self._batches, len(events), whole=whole)
        generation = self._bus.generation
        try:
            for place, (subject, headers, body) in enumerate(events):
                reply = f"{self._inbox}.{batch.number}.{place}" if batch.answers(place) else ""
                await client.publish(subject, body, reply=reply, headers={**headers, **batch.headers(place)})
            deadline = time.monotonic() + timeout
            while not batch.complete.is_set() and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.25):
                        await batch.complete.wait()
                if self._bus.generation != generation or not self._bus.connected:
                    break  # the acknowledgements went with the old line
        except NatsError as error:
            raise BusError(f"publishing failed: {error}") from error
        finally:
            self._open_batch = None
        if batch.stream_missing:
            raise StreamMissing(_NO_STREAM)
        return batch

    async def _on_ack(self, message: Msg) -> None:
        batch = self._open_batch
        *_, number, place = message.subject.rsplit(".", 2)
        if batch is not None and batch.number == int(number):
            batch.settle(int(place), message)


class _Batch:
    """Events on their way, each acknowledged for itself, or as a ``whole`` by the answer to the last of them."""

    def __init__(self, number: int, size: int, *, whole: bool) -> None:
        self.number = number
        self.acknowledged = [False] * size
        self.complete = asyncio.Event()
        self.refused = ""
        """What the server said of events that it did not take, or of the whole."""
        self.code = 0
        self.stream_missing = False
        self._whole = uuid4().hex if whole else ""
        self._open = 1 if whole else size

    def answers(self, place: int) -> bool:
        """Whether the server is to answer the event at this place."""
        return not self._whole or place == len(self.acknowledged) - 1

    def headers(self, place: int) -> dict[str, str]:
        """What tells the server that the event is part of a whole."""
        if not self._whole:
            return {}
        part = {"Nats-Batch-Id": self._whole, "Nats-Batch-Sequence": str(place + 1)}
        return part | {"Nats-Batch-Commit": "1"} if self.answers(place) else part

    def settle(self, place: int, message: Msg) -> None:
        """Take the server's answer to the event at this place."""
        self._open -= 1
        if message.headers and message.headers.get("Status") == "503":
            self.stream_missing = True
        else:
            answer = json.loads(message.data)
            if "error" in answer:
                self.refused, self.code = str(answer["error"]), int(answer["error"].get("err_code", 0))
            elif self._whole:
                kept = answer.get("stream") == STREAM and answer.get("count") == len(self.acknowledged)
                self.acknowledged = [kept] * len(self.acknowledged)
            else:
                self.acknowledged[place] = answer.get("stream") == STREAM
        if self._open == 0 or self.stream_missing:
            self.complete.set()
