"""What leases are granted on, and the tokens that prove them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.duration_pb2 import Duration

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.auth import LeaseClaims
from cairn_kit.errors import FailedPrecondition
from cairn_task_dispatch.domain.leases import SHORTEST, Lease
from cairn_task_dispatch.domain.states import TaskKind
from cairn_task_dispatch.domain.wishes import ProjectPolicy
from cairn_task_dispatch.messages import lease_message
from cairn_task_dispatch.store import Granting


class LeaseTerms:
    """How long leases last, and their tokens. ``grace``: seconds from a lease's end until it is asked about."""

    def __init__(self, sign: Callable[[Sequence[LeaseClaims]], Sequence[str]], grace: float) -> None:
        self._sign = sign
        self._grace = grace

    def granting(self, policy: ProjectPolicy, wished: Duration | None) -> Granting:
        """How long a lease is given for: what the call wishes, or what the project says."""
        seconds = policy.lease_seconds if wished is None else wished.ToNanoseconds() / 1e9
        return Granting(max(seconds, SHORTEST), self._grace)

    def with_tokens(self, leases: Sequence[Lease]) -> list[pb.Lease]:
        """Leases that are given together, with the proof that annotation-store wants."""
        tokens = self._sign([_claims(lease) for lease in leases])
        return [lease_message(lease, token) for lease, token in zip(leases, tokens, strict=True)]


def _claims(lease: Lease) -> LeaseClaims:
    # The token is signed, not encrypted: its bearer can read it. So gold is a label there too, and the store
    # knows by its own items which answers measure labelers.
    kind = "REVIEW" if lease.kind is TaskKind.REVIEW else "LABEL"
    return LeaseClaims(
        tenant=lease.tenant,
        project=lease.project,
        item=lease.item,
        task=str(lease.task),
        lease=str(lease.lease),
        labeler=lease.labeler,
        kind=kind,  # type: ignore[arg-type]
        expires_at=lease.expires_at.timestamp(),
        audit=lease.audit,
    )


def wished_duration(
    request: pb.LeaseTasksRequest | pb.ClaimItemsRequest | pb.ExtendLeaseRequest,
) -> Duration | None:
    """How long the call wishes its leases to last, if it says."""
    return request.lease_duration if request.HasField("lease_duration") else None


def must_be_open(project: str, policy: ProjectPolicy) -> None:
    """Raise FailedPrecondition PROJECT_ARCHIVED when the project takes no new work."""
    if policy.archived:
        raise FailedPrecondition(
            "PROJECT_ARCHIVED", f"projects/{project} is archived.", resource=f"projects/{project}"
        )
