"""Protobuf to domain and back, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from cairn.audit.v1 import audit_pb2 as pb
from cairn.audit.v1.audit_pb2_grpc import AuditServiceServicer
from cairn_audit.domain import names
from cairn_audit.domain.checkpoint import origin_of
from cairn_audit.domain.names import AuditId, Tenant
from cairn_audit.handlers import Handlers
from cairn_audit.ledger import Ledger
from cairn_audit.messages import checkpoint_message, entry_message, finding_message, key_message
from cairn_audit.store import AuditKey
from cairn_kit.auth import caller
from cairn_kit.errors import InvalidArgument, Violation
from cairn_kit.rpc import page_of, page_size, read_page_token, write_page_token

_BEYOND_ANY = 1 << 62
"""Above the size of any ledger."""


class AuditRpc(AuditServiceServicer):
    """The service as its callers see it."""

    def __init__(self, handlers: Handlers, ledger: Ledger) -> None:
        self._handlers = handlers
        self._ledger = ledger

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: Any) -> pb.Checkpoint:
        """The newest signed head."""
        return checkpoint_message(await self._ledger.checkpoint(_tenant(), request.min_size))

    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: Any
    ) -> pb.ListCheckpointsResponse:
        """The signed heads, newest first."""
        (before,) = read_page_token(request) or (_BEYOND_ANY,)
        size = page_size(request.page_size, default=50)
        found = await self._ledger.checkpoints_before(_tenant(), before, size + 1)
        page = page_of(map(checkpoint_message, found), size)
        return pb.ListCheckpointsResponse(
            checkpoints=page,
            next_page_token=write_page_token(request, page[-1].size) if len(page) < len(found) else "",
        )

    async def ReadLedger(
        self, request: pb.ReadLedgerRequest, context: Any
    ) -> AsyncIterator[pb.ReadLedgerResponse]:
        """The entries, in order."""
        async for entries in self._ledger.read(_tenant(), request.start, request.end):
            yield pb.ReadLedgerResponse(entries=[entry_message(entry) for entry in entries])

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: Any
    ) -> pb.InclusionProof:
        """That an event is in the ledger."""
        proof = await self._ledger.inclusion(_tenant(), _event_id(request.event_id), request.tree_size)
        return pb.InclusionProof(
            index=proof.entry.index, tree_size=proof.size, path=proof.path, entry=entry_message(proof.entry)
        )

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: Any
    ) -> pb.ConsistencyProof:
        """That one ledger is the beginning of another."""
        proof = await self._ledger.consistency(_tenant(), request.first_size, request.second_size)
        return pb.ConsistencyProof(first_size=proof.first, second_size=proof.second, path=proof.path)

    async def VerifyLedger(self, request: pb.VerifyLedgerRequest, context: Any) -> pb.VerifyLedgerResponse:
        """The whole ledger computed again."""
        found = await self._ledger.verify(_tenant())
        return pb.VerifyLedgerResponse(
            intact=found.intact,
            entries=found.entries,
            checkpoints=found.checkpoints,
            problems=found.problems,
            erased_entries=found.erased,
        )

    async def GetLedgerKeys(self, request: pb.GetLedgerKeysRequest, context: Any) -> pb.GetLedgerKeysResponse:
        """The public keys, the one in use first."""
        origin = origin_of(_tenant())
        return pb.GetLedgerKeysResponse(keys=[key_message(key, origin) for key in await self._ledger.keys()])

    async def CreateAudit(self, request: pb.CreateAuditRequest, context: Any) -> pb.Audit:
        """Draw a sample and have it reviewed."""
        return await self._handlers.create_audit(_tenant(), request)

    async def GetAudit(self, request: pb.GetAuditRequest, context: Any) -> pb.Audit:
        """An audit as far as it has come."""
        return await self._handlers.get_audit(_audit_key(request.name))

    async def ListAudits(self, request: pb.ListAuditsRequest, context: Any) -> pb.ListAuditsResponse:
        """A project's audits, newest first."""
        (before,) = read_page_token(request) or ("",)
        size = page_size(request.page_size, default=50)
        project = names.project_of(request.parent)
        audits = await self._handlers.list_audits(_tenant(), project, before, size + 1)
        page = page_of(audits, size)
        more = len(page) < len(audits)
        return pb.ListAuditsResponse(
            audits=page,
            next_page_token=write_page_token(request, names.last_part(page[-1].name)) if more else "",
        )

    async def CancelAudit(self, request: pb.CancelAuditRequest, context: Any) -> pb.Audit:
        """End an audit early."""
        return await self._handlers.cancel_audit(_audit_key(request.name), request)

    async def ListFindings(self, request: pb.ListFindingsRequest, context: Any) -> pb.ListFindingsResponse:
        """What an audit's reviewers saw."""
        (after,) = read_page_token(request) or ("",)
        size = page_size(request.page_size)
        audit, rows = await self._handlers.list_findings(
            _audit_key(request.parent), after, request.wrong_only, size + 1
        )
        page = page_of((finding_message(audit, row) for row in rows), size)
        more = len(page) < len(rows)
        return pb.ListFindingsResponse(
            findings=page,
            next_page_token=write_page_token(request, names.last_part(page[-1].name)) if more else "",
        )


def _tenant() -> Tenant:
    return Tenant(caller().tenant)


def _audit_key(name: str) -> AuditKey:
    return AuditKey(_tenant(), names.project_of(name), AuditId(names.last_part(name)))


def _event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(
            "EVENT_ID_INVALID",
            f"{text!r} is not the id of an event.",
            violations=[Violation("event_id", "must be a UUID, as in the event's ce-id")],
        ) from None
