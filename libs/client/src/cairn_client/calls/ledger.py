"""The ledger: every event of the tenant, with proofs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cairn.audit.v1 import audit_pb2 as audit
from cairn_client.calls.room import Calls


class Ledger(Calls):
    """Calls about the tenant's ledger."""

    async def checkpoint(self, min_size: int = 0) -> audit.Checkpoint:
        """The newest signed head, covering at least `min_size` entries."""
        request = audit.GetCheckpointRequest(min_size=min_size)
        return await self._transport.call(self._transport.audit.GetCheckpoint, request)

    async def checkpoints(self) -> AsyncIterator[audit.Checkpoint]:
        """All signed heads, newest first."""
        request = audit.ListCheckpointsRequest(page_size=1000)
        method = self._transport.audit.ListCheckpoints
        async for page in self._transport.pages(method, request, lambda r: r.checkpoints):
            for checkpoint in page:
                yield checkpoint

    async def public_keys(self) -> list[audit.LedgerKey]:
        """The public keys with which heads are or were signed, the one in use first."""
        answer = await self._transport.call(self._transport.audit.GetLedgerKeys, audit.GetLedgerKeysRequest())
        return list(answer.keys)

    async def entries(self, start: int = 0, end: int = 0) -> AsyncIterator[audit.LedgerEntry]:
        """The entries in order, from `start` up to `end` (0: all there are); goes on after a broken
        stream."""
        following = start

        def request() -> audit.ReadLedgerRequest:
            return audit.ReadLedgerRequest(start=following, end=end)

        async for message in self._transport.following(self._transport.audit.ReadLedger, request):
            for entry in message.entries:
                following = entry.index + 1
                yield entry

    async def verify(self) -> audit.VerifyLedgerResponse:
        """The server's own check of its ledger; `cairn verify` checks without trusting it."""
        request = audit.VerifyLedgerRequest()
        return await self._transport.call(self._transport.audit.VerifyLedger, request, timeout=600.0)
