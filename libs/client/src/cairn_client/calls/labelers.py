"""Labelers: what they may do, and how reliable they have been."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from cairn.consensus.v1 import consensus_pb2 as consensus
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client.calls.room import Calls
from cairn_client.names import item_name, labeler_name, project_name
from cairn_client.parts import in_halves
from cairn_client.transport import new_request_id


class Labelers(Calls):
    """Calls about labelers."""

    async def get(self, labeler: str) -> dispatch.Labeler:
        """A labeler; one that was never set up has no skills."""
        request = dispatch.GetLabelerRequest(name=labeler_name(labeler))
        return await self._transport.call(self._transport.dispatch.GetLabeler, request)

    async def list(self) -> AsyncIterator[dispatch.Labeler]:
        """The tenant's labelers, by name."""
        request = dispatch.ListLabelersRequest(page_size=1000)
        method = self._transport.dispatch.ListLabelers
        async for page in self._transport.pages(method, request, lambda r: r.labelers):
            for labeler in page:
                yield labeler

    async def set_up(
        self,
        labeler: str,
        *,
        skills: Iterable[str] | None = None,
        suspended: bool | None = None,
        etag: str = "",
    ) -> dispatch.Labeler:
        """Say what a labeler is able to do, and whether they get work at all; what is not given stays as it is.

        With the `etag` of a labeler that was read before: raises Aborted when somebody else changed it since.
        """
        given = {"skills": skills, "suspended": suspended}
        request = dispatch.UpdateLabelerRequest(
            labeler=dispatch.Labeler(
                name=labeler_name(labeler), skills=skills or (), suspended=bool(suspended), etag=etag
            ),
            update_mask=FieldMask(paths=[field for field, value in given.items() if value is not None]),
            request_id=new_request_id(),
        )
        return await self._transport.call(self._transport.dispatch.UpdateLabeler, request)

    async def reliabilities(self, project: str, question: str = "") -> AsyncIterator[consensus.Reliability]:
        """How reliable each labeler of a project has been, models included."""
        request = consensus.ListReliabilitiesRequest(
            parent=project_name(project), question=question, page_size=1000
        )
        method = self._transport.consensus.ListReliabilities
        async for page in self._transport.pages(method, request, lambda r: r.reliabilities):
            for one in page:
                yield one

    async def posteriors(
        self, project: str, question: str, items: Sequence[str]
    ) -> AsyncIterator[consensus.Posterior]:
        """What consensus knows of items (keys or names); those nobody has answered are left out."""
        method = self._transport.consensus.BatchGetPosteriors

        async def known(some: Sequence[str]) -> Sequence[consensus.Posterior]:
            request = consensus.BatchGetPosteriorsRequest(
                parent=project_name(project),
                question=question,
                items=[item_name(project, key) for key in some],
            )
            return (await self._transport.call(method, request)).posteriors

        for start in range(0, len(items), 5000):
            for posterior in await in_halves(known, items[start : start + 5000]):
                yield posterior
