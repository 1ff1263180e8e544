"""What can go wrong when calling Cairn, as exceptions with the reason, the bad fields and the facts of the
error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

_STATUS_TRAILER = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request: its path, such as `items[3].key`, and what was expected of it."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


@dataclass(frozen=True, slots=True)
class Problem:
    """What a `google.rpc.Status` says: of a failed call, or of one element of a batch.

    `reason` is stable and part of the API; `message` is for people. `retry_after` is in seconds.
    """

    code: str
    reason: str
    message: str
    metadata: Mapping[str, str]
    violations: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None

    def __str__(self) -> str:
        told = [str(violation) for violation in self.violations]
        more = "; ".join(one.rstrip(".") for one in dict.fromkeys(told) if one not in self.message)
        return f"{self.message.rstrip('.')} ({more})." if more else self.message


class CairnError(Exception):
    """Anything that Cairn refuses or cannot do. `str()` is one sentence for people."""

    def __init__(self, problem: Problem | str) -> None:
        self.problem = problem if isinstance(problem, Problem) else Problem("", "", problem, {})
        super().__init__(str(self.problem))

    @property
    def reason(self) -> str:
        """The stable reason, such as `PROJECT_NOT_FOUND`; empty when the server gave none."""
        return self.problem.reason

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        """The bad fields, when the request was at fault."""
        return self.problem.violations

    @property
    def metadata(self) -> Mapping[str, str]:
        """Facts about the error, by name."""
        return self.problem.metadata


class NotFound(CairnError):
    """There is no such object, or it is not yours to see."""


class AlreadyExists(CairnError):
    """An object of that name exists and is different."""


class InvalidArgument(CairnError):
    """The request is wrong; `violations` names each bad field."""


class OutOfRange(InvalidArgument):
    """The request goes past the end of something."""


class FailedPrecondition(CairnError):
    """The object is not in a state that allows this."""


class Aborted(CairnError):
    """Somebody else changed it first: read it again, then retry."""


class PermissionDenied(CairnError):
    """The token does not allow this."""


class Unauthenticated(CairnError):
    """The token is missing, expired or not trusted."""


class ResourceExhausted(CairnError):
    """Too much at once, and still too much after all retries."""


class Unavailable(CairnError):
    """A service could not be reached, and still could not after all retries."""


class DeadlineExceeded(CairnError):
    """No answer came in time."""


class Cancelled(CairnError):
    """The call was given up by its caller."""


class ServerError(CairnError):
    """The server failed in a way it did not foresee; the message carries its trace id."""


class ProfileError(CairnError):
    """It is not known where Cairn runs, or with which key to speak to it."""


class InputError(CairnError):
    """A file or value given by the caller is wrong; the message names the place."""


class Classes:
    """The one table from gRPC codes to exceptions."""

    BY_CODE: ClassVar[Mapping[str, type[CairnError]]] = {
        "NOT_FOUND": NotFound,
        "ALREADY_EXISTS": AlreadyExists,
        "INVALID_ARGUMENT": InvalidArgument,
        "OUT_OF_RANGE": OutOfRange,
        "FAILED_PRECONDITION": FailedPrecondition,
        "ABORTED": Aborted,
        "PERMISSION_DENIED": PermissionDenied,
        "UNAUTHENTICATED": Unauthenticated,
        "RESOURCE_EXHAUSTED": ResourceExhausted,
        "UNAVAILABLE": Unavailable,
        "DEADLINE_EXCEEDED": DeadlineExceeded,
        "CANCELLED": Cancelled,
    }


def problem_of_status(status: status_pb2.Status) -> Problem:
    """What a `google.rpc.Status` says, its details unpacked."""
    reason, metadata, retry_after = "", {}, None
    violations: list[FieldViolation] = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations += [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    try:
        code = str(code_pb2.Code.Name(status.code))
    except ValueError:
        code = "UNKNOWN"
    return Problem(code, reason, status.message, metadata, tuple(violations), retry_after)


def reason_of_status(status: status_pb2.Status) -> str:
    """The reason alone: what a hot path asks of an element's error."""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def error_of_status(status: status_pb2.Status) -> CairnError:
    """The exception for a status, of the class of its code."""
    problem = problem_of_status(status)
    return Classes.BY_CODE.get(problem.code, ServerError)(problem)


def error_of_call(error: grpc.RpcError) -> CairnError:
    """The exception for a failed call, sync or async."""
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    details = error.details() if hasattr(error, "details") else str(error)
    for key, value in _trailers(error):
        if key == _STATUS_TRAILER and isinstance(value, bytes):
            try:
                found = error_of_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
            return found
    problem = Problem(code.name, "", details or f"The call failed with {code.name}.", {})
    return Classes.BY_CODE.get(code.name, ServerError)(problem)


def _trailers(error: grpc.RpcError) -> list[tuple[str, str | bytes]]:
    read = getattr(error, "trailing_metadata", None)
    return [(str(key), value) for key, value in (read() or ())] if read is not None else []
