"""Audits: how good the labels are, judged on a sample by reviewers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cairn.annotation.v1.annotation_store_pb2 import LABEL_SOURCE_UNSPECIFIED, LabelSource
from cairn.audit.v1 import audit_pb2 as audit
from cairn_client.calls.room import Calls
from cairn_client.names import project_name
from cairn_client.transport import new_request_id


class Audits(Calls):
    """Calls about audits. An audit is named in full, as its message says."""

    async def create(
        self,
        project: str,
        sample_size: int = 0,
        *,
        question: str = "",
        source: LabelSource.ValueType = LABEL_SOURCE_UNSPECIFIED,
        max_error: float = 0.0,
        confidence: float = 0.0,
        seed: int = 0,
    ) -> audit.Audit:
        """Draw a stratified sample of labels and ask for their reviews; zeros mean the defaults of AuditPlan.

        Raises FailedPrecondition (`NO_LABELS`) when there is nothing to draw from.
        """
        plan = audit.AuditPlan(
            question=question,
            source=source,
            sample_size=sample_size,
            max_error=max_error,
            confidence=confidence,
            seed=seed,
        )
        request = audit.CreateAuditRequest(
            parent=project_name(project), plan=plan, request_id=new_request_id()
        )
        return await self._transport.call(self._transport.audit.CreateAudit, request)

    async def get(self, name: str) -> audit.Audit:
        """An audit, with its estimate as far as it has come."""
        return await self._transport.call(self._transport.audit.GetAudit, audit.GetAuditRequest(name=name))

    async def list(self, project: str) -> AsyncIterator[audit.Audit]:
        """A project's audits, newest first."""
        request = audit.ListAuditsRequest(parent=project_name(project))
        async for page in self._transport.pages(
            self._transport.audit.ListAudits, request, lambda r: r.audits
        ):
            for one in page:
                yield one

    async def cancel(self, name: str) -> audit.Audit:
        """End an audit early; it gives no verdict."""
        request = audit.CancelAuditRequest(name=name, request_id=new_request_id())
        return await self._transport.call(self._transport.audit.CancelAudit, request)

    async def findings(self, name: str, *, wrong_only: bool = False) -> AsyncIterator[audit.Finding]:
        """What an audit's reviewers saw."""
        request = audit.ListFindingsRequest(parent=name, wrong_only=wrong_only, page_size=1000)
        method = self._transport.audit.ListFindings
        async for page in self._transport.pages(method, request, lambda r: r.findings):
            for finding in page:
                yield finding
