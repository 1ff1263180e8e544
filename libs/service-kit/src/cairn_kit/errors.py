"""What can go wrong, as small exception classes, and the one table from them to gRPC (AIP-193).

Raise them where the cause is known: `raise NotFound("TASK_NOT_FOUND", "There is no ...", resource=name)`.
A reason, once published, is part of the API. The keyword arguments become `ErrorInfo.metadata`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "cairn"
PROJECT_NOT_FOUND = "PROJECT_NOT_FOUND"
_STATUS_TRAILER = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path (`claims[3].item`) and what was expected of it."""

    field: str
    description: str


class CairnError(Exception):
    """An error that the caller is meant to see: a stable reason, a sentence, and facts about it."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, reason: str, message: str, /, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = metadata

    def details(self) -> list[Message]:
        """What goes into the status besides ErrorInfo."""
        return []


class NotFound(CairnError):
    """There is no such object in the caller's tenant."""

    code = grpc.StatusCode.NOT_FOUND


def project_not_found(project: str) -> NotFound:
    """There is no such project in the caller's tenant. `project` is its id."""
    name = f"projects/{project}"
    return NotFound(PROJECT_NOT_FOUND, f"There is no {name}.", resource=name)


class AlreadyExists(CairnError):
    """An object of that name exists and is different."""

    code = grpc.StatusCode.ALREADY_EXISTS


class InvalidArgument(CairnError):
    """The request is wrong whatever the state of the system; `violations` names each bad field."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(
        self, reason: str, message: str, /, violations: Sequence[Violation] = (), **metadata: str
    ) -> None:
        super().__init__(reason, message, **metadata)
        self.violations = tuple(violations)

    def details(self) -> list[Message]:
        """BadRequest with one entry for each bad field."""
        if not self.violations:
            return []
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in self.violations
        ]
        return [error_details_pb2.BadRequest(field_violations=fields)]


class OutOfRange(CairnError):
    """The request goes past the end of something, such as a chunk out of order."""

    code = grpc.StatusCode.OUT_OF_RANGE


class FailedPrecondition(CairnError):
    """The object is not in a state that allows this; trying again without a change is useless."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def details(self) -> list[Message]:
        """PreconditionFailure naming the state that was not met."""
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=self.reason, subject=self.metadata.get("resource", ""), description=self.message
        )
        return [error_details_pb2.PreconditionFailure(violations=[violation])]


class Aborted(CairnError):
    """Somebody else changed it first (an etag mismatch); read again and retry."""

    code = grpc.StatusCode.ABORTED


class PermissionDenied(CairnError):
    """The caller is known and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(CairnError):
    """The caller's token is missing, expired or not to be trusted."""

    code = grpc.StatusCode.UNAUTHENTICATED


class ResourceExhausted(CairnError):
    """Too much at once; try again after `retry_after` seconds."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(
        self, reason: str, message: str, /, retry_after: float | None = None, **metadata: str
    ) -> None:
        super().__init__(reason, message, **metadata)
        self.retry_after = retry_after

    def details(self) -> list[Message]:
        """RetryInfo, when a delay was given."""
        return _retry_info(self.retry_after)


class Unavailable(CairnError):
    """Something this service needs is away; trying again after `retry_after` seconds may work."""

    code = grpc.StatusCode.UNAVAILABLE

    def __init__(
        self, reason: str, message: str, /, retry_after: float | None = None, **metadata: str
    ) -> None:
        super().__init__(reason, message, **metadata)
        self.retry_after = retry_after

    def details(self) -> list[Message]:
        """RetryInfo, when a delay was given."""
        return _retry_info(self.retry_after)


class DeadlineExceeded(CairnError):
    """The caller's time ran out before there was an answer."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unimplemented(CairnError):
    """The method exists in the API and this deployment does not offer it."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Cancelled(CairnError):
    """The caller, or an operator, called it off."""

    code = grpc.StatusCode.CANCELLED


class DataLoss(CairnError):
    """What is stored does not agree with its own digest or proof."""

    code = grpc.StatusCode.DATA_LOSS


class Internal(CairnError):
    """A defect on our side. Raised by the chassis only, with a trace id and nothing else."""

    code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[CairnError]] = {
    kind.code: kind
    for kind in (
        NotFound,
        AlreadyExists,
        InvalidArgument,
        OutOfRange,
        FailedPrecondition,
        Aborted,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        Cancelled,
        DataLoss,
        Internal,
    )
}


def _retry_info(seconds: float | None) -> list[Message]:
    if seconds is None:
        return []
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(round(seconds * 1000))
    return [info]


def to_status(error: CairnError) -> status_pb2.Status:
    """The error as `google.rpc.Status`: for one element of a batch, or the trailer of a call."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    code: int = error.code.value[0]
    return status_pb2.Status(
        code=code, message=error.message, details=[_any(detail) for detail in (info, *error.details())]
    )


error_to_status = to_status


def _any(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def from_status(status: status_pb2.Status) -> CairnError:
    """The exception that a `google.rpc.Status` stands for; unknown codes become Internal."""
    reason, metadata = "UNKNOWN", {}
    violations: list[Violation] = []
    retry_after: float | None = None
    for detail in status.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    code = next((c for c in grpc.StatusCode if c.value[0] == status.code), grpc.StatusCode.INTERNAL)
    kind = _BY_CODE.get(code, Internal)
    error = kind(reason, status.message, **metadata)
    if isinstance(error, InvalidArgument):
        error.violations = tuple(violations)
    elif isinstance(error, ResourceExhausted | Unavailable):
        error.retry_after = retry_after
    return error


def from_rpc_error(error: grpc.aio.AioRpcError) -> CairnError:
    """A neighbour's answer as one of our classes, with its reason and metadata when it gave any."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_TRAILER and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    kind = _BY_CODE.get(error.code(), Internal)
    return kind("UNKNOWN", error.details() or error.code().name)


def trailers(error: CairnError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the whole status to the caller."""
    return ((_STATUS_TRAILER, to_status(error).SerializeToString()),)
