"""What callers are told of what a handler raised: errors of ours as they are, nothing of our insides."""

from __future__ import annotations

import grpc

from cairn_kit.database.pool import is_outage
from cairn_kit.errors import CairnError, DeadlineExceeded, Internal, Unavailable, from_rpc_error
from cairn_kit.telemetry.logs import get_logger
from cairn_kit.telemetry.tracing import trace_id

_log = get_logger(__name__)
_RETRY_AFTER = 1.0


def stated(method: str, error: BaseException) -> CairnError:
    """The error as the API states it; what a neighbour said is passed on, and what nobody expected is logged."""
    if isinstance(error, CairnError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        neighbour = from_rpc_error(error)
        if not isinstance(neighbour, Internal):
            return neighbour
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("DEADLINE_EXCEEDED", "There was no answer in time.")
    if is_outage(error):
        _log.warning("rpc.unavailable", method=method, error=repr(error))
        return Unavailable("STORAGE_UNAVAILABLE", "The service's database is away.", retry_after=_RETRY_AFTER)
    _log.error("rpc.unexpected", method=method, exc_info=error)
    trace = trace_id()
    return Internal("INTERNAL", f"An unexpected error; trace {trace}.", trace_id=trace)
