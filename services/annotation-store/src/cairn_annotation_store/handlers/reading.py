"""Questions: items, annotations, labels and their log, as they are now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.items import EVERY_ITEM
from cairn_annotation_store.domain.labels import LabelKey
from cairn_annotation_store.domain.names import (
    AnnotationName,
    ItemName,
    LabelName,
    LeaseName,
    ProjectId,
    QuestionId,
    Tenant,
    project_id,
)
from cairn_annotation_store.handlers.found import as_uuid, found, hidden_source, parsed
from cairn_annotation_store.handlers.submissions import LeaseGate
from cairn_annotation_store.store import AnnotationStore, ItemStore, LabelRow, LabelStore, ProjectStore
from cairn_annotation_store.store.annotations import FIRST
from cairn_annotation_store.wire import annotation_message, item_message, label_message
from cairn_kit.auth import Caller, LeaseClaims, Permission
from cairn_kit.database import Database
from cairn_kit.errors import CairnError, NotFound, to_status
from cairn_kit.rpc import page_of, page_size, read_page_token, write_page_token

_BEYOND_REVISIONS = (1 << 63) - 1


class ReadingHandlers:
    """Answers questions; changes nothing."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        items: ItemStore,
        annotations: AnnotationStore,
        labels: LabelStore,
        gate: LeaseGate,
    ) -> None:
        self._database = database
        self._projects = projects
        self._items = items
        self._annotations = annotations
        self._labels = labels
        self._gate = gate

    async def item(self, who: Caller, name: str) -> pb.Item:
        """An item; whole only for those who may see gold."""
        key = parsed(ItemName.parse, name, "name")
        there = await self._items.get(self._database, who.tenant, key.project, [key.item])
        row = found(there.get(key.item), "item", name)
        await self._project(who, f"projects/{key.project}")
        return item_message(key.project, row.body, row.created_at, with_gold=who.may(Permission.READ_GOLD))

    async def items(self, who: Caller, request: pb.ListItemsRequest) -> pb.ListItemsResponse:
        """A page of a project's items, by key."""
        project = await self._project(who, request.parent)
        size = page_size(request.page_size)
        (after,) = read_page_token(request) or ("",)
        rows = await self._items.list_after(self._database, who.tenant, project, after, size + 1)
        with_gold = who.may(Permission.READ_GOLD)
        items = page_of(
            (item_message(project, row.body, row.created_at, with_gold=with_gold) for row in rows), size
        )
        more = len(items) < len(rows)
        return pb.ListItemsResponse(
            items=items, next_page_token=write_page_token(request, items[-1].key) if more else ""
        )

    async def leased_items(self, who: Caller, request: pb.GetLeasedItemsRequest) -> pb.GetLeasedItemsResponse:
        """What the holder of these leases is to judge, and the questions to answer."""
        results: list[LeaseClaims | CairnError] = []
        for token in request.lease_tokens:
            try:
                results.append(self._gate.claims(who, token, allow_expired=False))
            except CairnError as error:
                results.append(error)
        keys = {(c.tenant, c.project, c.item) for c in results if isinstance(c, LeaseClaims)}
        rows = await self._items.of_leases(self._database, keys) if keys else {}
        projects = {
            project: known
            for project in sorted({key[1] for key in rows})
            if (known := await self._projects.get(self._database, who.tenant, project)) is not None
        }
        response = pb.GetLeasedItemsResponse()
        for result in results:
            shown = response.items.add()
            if isinstance(result, CairnError):
                shown.error.CopyFrom(to_status(result))
                continue
            row = rows.get((result.tenant, result.project, result.item))
            if row is None or result.project not in projects:
                name = f"projects/{result.project}/items/{result.item}"
                missing = NotFound("ITEM_NOT_FOUND", f"There is no {name}.", resource=name)
                shown.error.CopyFrom(to_status(missing))
            else:
                shown.item.CopyFrom(item_message(result.project, row.body, row.created_at, with_gold=False))
        for project, known in projects.items():
            response.projects.add(
                project=f"projects/{project}", schema=known.body.schema, schema_version=known.schema_version
            )
        return response

    async def annotation(self, who: Caller, name: str) -> pb.Annotation:
        """An annotation."""
        key = parsed(AnnotationName.parse, name, "name")
        row = await self._annotations.get(
            self._database, who.tenant, key.project, key.item, as_uuid(key.annotation, "annotation", name)
        )
        kept = found(row, "annotation", name)
        await self._project(who, f"projects/{key.project}")
        return annotation_message(kept, with_gold=who.may(Permission.READ_GOLD))

    async def annotations(
        self, who: Caller, request: pb.ListAnnotationsRequest
    ) -> pb.ListAnnotationsResponse:
        """A page of the annotations of an item, or of all items, oldest first."""
        key = parsed(ItemName.parse, request.parent, "parent")
        await self._project(who, f"projects/{key.project}")
        size = page_size(request.page_size)
        (after,) = read_page_token(request) or (str(FIRST),)
        item = None if key.item == EVERY_ITEM else key.item
        if item is not None:
            there = await self._items.get(self._database, who.tenant, key.project, [item])
            found(there.get(item), "item", request.parent)
        rows = await self._annotations.list_after(
            self._database, who.tenant, key.project, item, UUID(after), size + 1
        )
        with_gold = who.may(Permission.READ_GOLD)
        annotations = page_of((annotation_message(row, with_gold=with_gold) for row in rows), size)
        last = rows[len(annotations) - 1] if len(annotations) < len(rows) else None
        return pb.ListAnnotationsResponse(
            annotations=annotations,
            next_page_token=write_page_token(request, str(last.annotation)) if last else "",
        )

    async def answered_leases(
        self, who: Caller, request: pb.BatchGetAnsweredLeasesRequest
    ) -> pb.BatchGetAnsweredLeasesResponse:
        """Those of the leases that were answered, in the order asked."""
        names = [parsed(LeaseName.parse, name, f"leases[{i}]") for i, name in enumerate(request.leases)]
        there = await self._annotations.answered(self._database, who.tenant, [n.lease for n in names])
        response = pb.BatchGetAnsweredLeasesResponse()
        for name in names:
            row = there.get(name.lease)
            if row is not None and (row.project, row.task) == (name.project, name.task):
                response.answered_leases.append(str(name))
                response.late.append(row.late)
        return response

    async def label(self, who: Caller, name: str) -> pb.Label:
        """The label that stands, or the revision after `@`."""
        key = parsed(LabelName.parse, name, "name")
        row = await self._labels.get(
            self._database, _label_key(who, key), key.revision, hidden=hidden_source(who)
        )
        there = found(row, "label", name)
        await self._project(who, f"projects/{key.project}")
        return label_message(there.label, there.created_at)

    async def labels(self, who: Caller, request: pb.ListLabelsRequest) -> pb.ListLabelsResponse:
        """A page of the labels that stand in a project, or for an item."""
        size = page_size(request.page_size)
        item, question = read_page_token(request) or ("", "")
        if "/items/" in request.parent:
            key = parsed(ItemName.parse, request.parent, "parent")
            there = await self._items.get(self._database, who.tenant, key.project, [key.item])
            found(there.get(key.item), "item", request.parent)
            await self._project(who, f"projects/{key.project}")
            rows = await self._labels.list_of_item(
                self._database,
                who.tenant,
                key.project,
                key.item,
                question,
                size + 1,
                request.source,
                hidden=hidden_source(who),
            )
        else:
            project = await self._project(who, request.parent)
            rows = await self._labels.list_after(
                self._database,
                who.tenant,
                project,
                (item, question),
                size + 1,
                request.source,
                hidden=hidden_source(who),
            )
        labels = page_of(_messages(rows), size)
        last = rows[len(labels) - 1].label.key if len(labels) < len(rows) else None
        return pb.ListLabelsResponse(
            labels=labels,
            next_page_token=write_page_token(request, last.item, last.question) if last else "",
        )

    async def label_revisions(
        self, who: Caller, request: pb.ListLabelRevisionsRequest
    ) -> pb.ListLabelRevisionsResponse:
        """A page of a label's revisions, newest first."""
        key = _label_key(who, parsed(LabelName.parse, request.name, "name"))
        size = page_size(request.page_size)
        (before,) = read_page_token(request) or (_BEYOND_REVISIONS,)
        rows = await self._labels.revisions_before(
            self._database, key, before, size + 1, hidden=hidden_source(who)
        )
        if not rows and before == _BEYOND_REVISIONS:
            raise NotFound("LABEL_NOT_FOUND", f"There is no {request.name}.", resource=request.name)
        await self._project(who, f"projects/{key.project}")
        labels = page_of(_messages(rows), size)
        more = len(labels) < len(rows)
        return pb.ListLabelRevisionsResponse(
            labels=labels, next_page_token=write_page_token(request, labels[-1].revision) if more else ""
        )

    async def _project(self, who: Caller, name: str) -> ProjectId:
        """The project's id; raises NotFound when there is none, or none any more: what is in it may still be there."""
        project = parsed(project_id, name, "parent")
        found(await self._projects.get(self._database, who.tenant, project), "project", name)
        return project


def _label_key(who: Caller, name: LabelName) -> LabelKey:
    return LabelKey(Tenant(who.tenant), name.project, name.item, QuestionId(name.question))


def _messages(rows: Sequence[LabelRow]) -> Iterator[pb.Label]:
    return (label_message(row.label, row.created_at) for row in rows)
