"""Why a batch did not commit: for one of its events, for a server that is away, or for who worked beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import grpc

from cairn_kit.database.pool import CONFLICTS, is_outage
from cairn_kit.errors import Unavailable
from cairn_kit.events.batch import HandlerFailed
from cairn_kit.events.envelope import Received
from cairn_kit.events.subscription import NotYet

# Raised inside a handler, these tell of a lost server, not of a bad event. (Outside handlers any outage does.) But for a
# ValueError: asyncpg says so of a value that it cannot encode.
_OUTAGES_IN_HANDLER = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.DiskFullError,
    asyncpg.PostgresSystemError,
    Unavailable,
)
# Beside handlers, what the server lacks is never an event's doing; in one, the event may ask for too much memory.
_LACKING = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)


class Outage(Exception):
    """A server is away, or takes nothing; the batch waits. The cause is what was raised."""


def blame(error: BaseException, events: Sequence[Received[Any]], *, opened: bool) -> BaseException:
    """What the consumer is told of an error that rolled back the transaction of these events.

    HandlerFailed where one of them may be to blame, be it in a handler, in a hook before the commit or at the commit
    itself; Outage where a server is, or none of them was handled yet: `opened` says that their inbox was read.
    Conflicts, NotYet and what is no Exception are told as they are.
    """
    if isinstance(error, HandlerFailed):
        cause = error.__cause__
        if isinstance(cause, CONFLICTS):
            return cause
        away = isinstance(cause, _OUTAGES_IN_HANDLER) and not isinstance(cause, ValueError)
        if away or _is_unavailable(cause):
            return _for(Outage(), cause)
        return error
    if not isinstance(error, Exception) or isinstance(error, (NotYet, *CONFLICTS)):
        return error
    if not opened or isinstance(error, _LACKING) or is_outage(error):
        return _for(Outage(), error)
    return _for(HandlerFailed(events), error)


def _for(told: Exception, cause: BaseException | None) -> Exception:
    told.__cause__ = cause
    return told


def _is_unavailable(error: BaseException | None) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,  # by the neighbour's core, for too many wait there
    )
