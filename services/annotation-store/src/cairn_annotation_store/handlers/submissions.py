"""Submissions: an answer under a lease is checked, kept and announced, once, whoever asks however often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from opentelemetry.context import Context, get_current

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import MAX_ANSWERS_BYTES
from cairn_annotation_store.domain.items import BlobFacts, facts_of
from cairn_annotation_store.domain.masks import check_mask_blobs, mask_blobs_of
from cairn_annotation_store.domain.schema_change import Use
from cairn_annotation_store.domain.verdicts import Verdict
from cairn_annotation_store.handlers.examining import Examiner
from cairn_annotation_store.handlers.found import active, found
from cairn_annotation_store.store import (
    AnnotationRow,
    AnnotationStore,
    ItemStore,
    NewAnnotation,
    ProjectRow,
    ProjectStore,
)
from cairn_annotation_store.store.annotations import encode_answers
from cairn_annotation_store.store.items import LeasedItemRow
from cairn_annotation_store.wire import annotation_message
from cairn_kit.auth import Caller, LeaseClaims, Permission, Verifier
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import OUTAGES, is_outage
from cairn_kit.errors import (
    AlreadyExists,
    CairnError,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
    Violation,
)
from cairn_kit.events import Event, announce
from cairn_kit.ids import uuid7
from cairn_kit.rpc import Coalescer, Submitted, once_many
from cairn_kit.wakes import Wakes

_LARGEST_IN_EVENT = 200 * 1024
"""Bytes of answers that still fit into an event with all else there is to say."""

_LONGEST_SECONDS = 10
"""From a submission's first statement to its commit. Whether an answer is late is judged at its INSERT, and
task-dispatch, which asks for it once after the lease's end (`expiry_grace`, above this and the clocks' difference),
sees it at its commit: one that is in time must not come to light after its slot was given to somebody else (P2). It is
a thousand times what a submission takes, and whoever is refused may send it again."""

_SINGLE_AT_ONCE = 64
_MANY_AT_ONCE = 256
"""Submissions in one transaction, far from the seconds that it may take; a call or message with more goes by itself."""

_BYTES_AT_ONCE = 1 << 20
"""Bytes of submissions in one transaction; one that has more goes by itself. To examine so many takes up to a second."""

_BREATHER = 50
"""Lease tokens checked before other calls get a turn on the event loop."""

_LATEST_EXPIRY = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_KINDS = {
    "LABEL": pb.ANNOTATION_KIND_LABEL,
    "GOLD": pb.ANNOTATION_KIND_GOLD,
    "REVIEW": pb.ANNOTATION_KIND_REVIEW,
}


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission whose lease is genuine and the caller's own to use."""

    who: Caller
    request: pb.SubmitAnnotationRequest
    claims: LeaseClaims
    cause: Context
    size: int
    """Bytes of the request."""
    verdict: Verdict | None = None
    """What was found of its answers already."""

    @property
    def item(self) -> tuple[str, str, str]:
        """Tenant, project and item key."""
        return self.claims.tenant, self.claims.project, self.claims.item

    @property
    def lease(self) -> tuple[str, str]:
        """Tenant and lease id."""
        return self.claims.tenant, self.claims.lease


class LeaseGate:
    """Who may use which lease."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def claims(self, who: Caller, token: str, *, allow_expired: bool) -> LeaseClaims:
        """What a lease says, if it is genuine, of the caller's tenant, and the caller's own or one to act for.

        Raises PermissionDenied LEASE_TOKEN_INVALID, FailedPrecondition LEASE_TOKEN_EXPIRED, or NotFound for a project
        outside the caller's token.
        """
        claims = self._verifier.verify_lease(token, allow_expired=allow_expired)
        if claims.tenant != who.tenant:
            raise PermissionDenied("LEASE_TOKEN_INVALID", "The lease token is of another tenant.")
        who.require_project(claims.project)
        if claims.labeler != who.labeler() and not who.may(Permission.ACT_FOR_OTHERS):
            raise PermissionDenied("LEASE_TOKEN_INVALID", "The lease was given to another labeler.")
        if claims.kind == "REVIEW":
            who.require(Permission.REVIEW)
        return claims


class SubmissionHandlers:
    """Keeps annotations. Calls and messages of streams that arrive together are committed together."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        items: ItemStore,
        annotations: AnnotationStore,
        wakes: Wakes,
        gate: LeaseGate,
    ) -> None:
        self._database = database
        self._projects = projects
        self._items = items
        self._annotations = annotations
        self._wakes = wakes
        self._gate = gate
        # By themselves: a person's answer should not wait behind a machine's thousands.
        self._examiner, self._examiner_of_many = (Examiner(database, projects, items) for _ in range(2))
        self._single: Coalescer[Submission, pb.Annotation] = Coalescer(
            self._keep_single, max_batch=_BYTES_AT_ONCE, parallel=3, weigh=_weighing(_SINGLE_AT_ONCE)
        )
        weight = _weighing(_MANY_AT_ONCE)
        self._many: Coalescer[Sequence[Submission], list[pb.Annotation | CairnError]] = Coalescer(
            self._keep_all, max_batch=_BYTES_AT_ONCE, parallel=3, weigh=lambda call: sum(map(weight, call))
        )

    async def submit(self, who: Caller, request: pb.SubmitAnnotationRequest) -> pb.Annotation:
        """Keep one annotation."""
        return await self._single.submit(await _examined(self._examiner, self.admit(who, request)))

    async def submit_many(
        self,
        who: Caller,
        requests: Sequence[pb.SubmitAnnotationRequest],
        bad: Mapping[int, InvalidArgument],
    ) -> list[pb.Annotation | CairnError]:
        """Keep many, each for itself; `bad` are those known to be malformed."""
        results: dict[int, pb.Annotation | CairnError] = dict(bad)
        admitted: dict[int, Submission] = {}
        for i, request in enumerate(requests):
            if i in results:
                continue
            try:
                admitted[i] = self.admit(who, request)
            except CairnError as error:
                results[i] = error
            if i % _BREATHER == _BREATHER - 1:
                await asyncio.sleep(0)
        for part in _parts(admitted):
            kept = await self._many.submit(
                [await _examined(self._examiner_of_many, admitted[i]) for i in part]
            )
            results.update(zip(part, kept, strict=True))
        return [results[i] for i in range(len(requests))]

    def admit(self, who: Caller, request: pb.SubmitAnnotationRequest) -> Submission:
        """The submission, if its lease is genuine and the caller's to use; raises what it deserves if not."""
        claims = self._gate.claims(who, request.lease_token, allow_expired=True)
        size = request.ByteSize()
        if size > MAX_ANSWERS_BYTES:
            told = f"the answers have {size} bytes; expected at most {MAX_ANSWERS_BYTES}: put rasters into a blob."
            raise InvalidArgument(
                "ANSWERS_TOO_LARGE", told[0].upper() + told[1:], violations=[Violation("answers", told)]
            )
        return Submission(who, request, claims, get_current(), size)

    async def _keep_single(
        self, calls: Sequence[Submitted[Submission]]
    ) -> Sequence[pb.Annotation | CairnError]:
        return await self._keep([call.request for call in calls])

    async def _keep_all(
        self, calls: Sequence[Submitted[Sequence[Submission]]]
    ) -> list[list[pb.Annotation | CairnError]]:
        kept = iter(await self._keep([submission for call in calls for submission in call.request]))
        return [list(islice(kept, len(call.request))) for call in calls]

    async def _keep(self, batch: Sequence[Submission]) -> list[pb.Annotation | CairnError]:
        """Keep what was admitted, all in one transaction, each for itself. Raises Unavailable when time is out."""

        async def work(tx: Transaction) -> list[pb.Annotation | Exception]:
            await self._annotations.end_within(tx, _LONGEST_SECONDS)

            async def effect(fresh: Sequence[int]) -> Sequence[pb.Annotation | Exception]:
                return await self._keep_fresh(tx, [batch[i] for i in fresh])

            requests = [(submission.who, submission.request) for submission in batch]
            # A lease has one answer, whatever the id that it came with: no need to keep it twice.
            return await once_many(tx, requests, pb.Annotation, effect, repeatable=True)

        try:
            # The server's own limit is for when this process stands still.
            async with asyncio.timeout(_LONGEST_SECONDS):
                results = await self._database.retrying(work)
        except OUTAGES as error:
            if not (is_outage(error) or isinstance(error, TimeoutError)):
                raise
            # Said here: the gate would take our own time limit for the deadline of the caller.
            raise Unavailable(
                "STORAGE_UNAVAILABLE", "The answer could not be kept in time; send it again."
            ) from error
        return [_stated(result) for result in results]

    async def _keep_fresh(
        self, tx: Transaction, batch: Sequence[Submission]
    ) -> list[pb.Annotation | Exception]:
        # --- load
        projects = await self._projects.in_use(tx, {submission.item[:2] for submission in batch})
        items = await self._items.of_leases(tx, {submission.item for submission in batch})
        blobs = await self._items.blobs_of_projects(
            tx,
            {(*s.item[:2], sha256) for s in batch for sha256 in mask_blobs_of(s.request.answers)},
        )
        # --- decide
        new: dict[int, NewAnnotation] = {}
        uses: dict[int, frozenset[Use]] = {}
        errors: dict[int, CairnError] = {}
        for i, submission in enumerate(batch):
            try:
                project, item = _there(submission, projects, items)
                facts = facts_of(item.body, item.text_length)
                verdict = await self._verdict(submission, project, facts)
                _check(submission, verdict, facts, blobs)
                new[i], uses[i] = _annotation(submission, project, item), verdict.uses
            except CairnError as error:
                errors[i] = error
        # --- store
        kept = await self._annotations.insert(tx, list(new.values())) if new else {}
        mine = {
            i for i, a in new.items() if (row := kept.get(batch[i].lease)) and row.annotation == a.annotation
        }
        earlier = await self._annotations.of_leases(
            tx, sorted({batch[i].lease for i in range(len(batch)) if i not in mine})
        )
        await self._projects.add_uses(tx, [(batch[i].item[:2], use) for i in mine for use in uses[i]])
        # --- announce
        for i in sorted(mine):
            announce(tx, _submitted(kept[batch[i].lease]), cause=batch[i].cause)
        for key in {batch[i].item[:2] for i in mine}:
            tx.after_commit(lambda key=key: self._wakes.ring(*key))  # type: ignore[misc]
        return [
            annotation_message(kept[submission.lease], with_gold=False)
            if i in mine
            else _again(submission, earlier.get(submission.lease), errors.get(i))
            for i, submission in enumerate(batch)
        ]

    async def _verdict(self, submission: Submission, project: ProjectRow, facts: ItemFacts) -> Verdict:
        """What its answers are worth by the schema that stays until the transaction ends."""
        known = submission.verdict
        if known is not None and known.schema_version == project.schema_version:
            return known
        return await self._examiner.verdict(submission.request.answers, submission.size, project, facts)


async def _examined(examiner: Examiner, submission: Submission) -> Submission:
    """The submission, examined if it is large."""
    verdict = await examiner.ahead(submission.item, submission.request.answers, submission.size)
    return submission if verdict is None else replace(submission, verdict=verdict)


def _weighing(at_once: int) -> Callable[[Submission], int]:
    """What a submission weighs of `_BYTES_AT_ONCE`: its bytes, but never so little that more than `at_once` fit."""
    least = _BYTES_AT_ONCE // at_once
    return lambda submission: max(least, submission.size)


def _parts(admitted: Mapping[int, Submission]) -> Iterator[list[int]]:
    """The submissions of one call, in order, in parts of as many bytes as one transaction takes."""
    part: list[int] = []
    size = 0
    for i, submission in admitted.items():
        if part and size + submission.size > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(i)
        size += submission.size
    if part:
        yield part


def _there(
    submission: Submission,
    projects: Mapping[tuple[str, str], ProjectRow],
    items: Mapping[tuple[str, str, str], LeasedItemRow],
) -> tuple[ProjectRow, LeasedItemRow]:
    """The project and the item that are answered; raises what the submission deserves when they take no answer."""
    name = f"projects/{submission.claims.project}"
    project = active(projects.get(submission.item[:2]), name)
    item = found(items.get(submission.item), "item", f"{name}/items/{submission.claims.item}")
    return project, item


def _check(
    submission: Submission,
    verdict: Verdict,
    facts: ItemFacts,
    blobs: Mapping[tuple[str, str, str], BlobFacts],
) -> None:
    """Raises what the submission deserves when its answers do not fit."""
    own_blobs = {key[2]: blob for key, blob in blobs.items() if key[:2] == submission.item[:2]}
    error = verdict.error or check_mask_blobs(submission.request.answers, facts, own_blobs)
    if error is not None:
        raise error


def _annotation(submission: Submission, project: ProjectRow, item: LeasedItemRow) -> NewAnnotation:
    """The annotation to keep."""
    claims, request = submission.claims, submission.request
    kind = _KINDS[claims.kind]
    if item.is_gold and kind == pb.ANNOTATION_KIND_LABEL:
        kind = (
            pb.ANNOTATION_KIND_GOLD
        )  # the labeler holds the token, and must not read there that the item is gold
    has_duration = request.HasField("work_duration")
    return NewAnnotation(
        tenant=claims.tenant,
        project=claims.project,
        annotation=uuid7(),
        item=claims.item,
        task=claims.task,
        lease=claims.lease,
        labeler=claims.labeler,
        kind=kind,
        audit=claims.audit,
        answers=encode_answers(request),
        schema_version=project.schema_version,
        work_us=request.work_duration.ToMicroseconds() if has_duration else None,
        expires_at=datetime.fromtimestamp(0, UTC) + timedelta(seconds=min(claims.expires_at, _LATEST_EXPIRY)),
    )


def _again(
    submission: Submission, earlier: AnnotationRow | None, error: CairnError | None
) -> pb.Annotation | Exception:
    """The answer to a submission that was not kept now: the first annotation, or why there is none."""
    claims = submission.claims
    if earlier is None:
        return error or _answered_before(claims)
    if earlier.answers == encode_answers(submission.request) and earlier.item == claims.item:
        return annotation_message(earlier, with_gold=False)
    name = f"projects/{claims.project}/tasks/{claims.task}/leases/{claims.lease}"
    return AlreadyExists("LEASE_ALREADY_ANSWERED", f"Another answer was kept under {name}.", resource=name)


def _answered_before(claims: LeaseClaims) -> FailedPrecondition:
    """A second answer of one person to one item is no new evidence, by whichever lease it comes."""
    name = f"projects/{claims.project}/items/{claims.item}"
    return FailedPrecondition(
        "ALREADY_ANSWERED",
        f"{claims.labeler} has answered {name} under another lease; an item takes one answer of each labeler.",
        resource=name,
    )


def _submitted(row: AnnotationRow) -> Event:
    annotation = annotation_message(row, with_gold=True)
    omitted = len(row.answers) > _LARGEST_IN_EVENT
    if omitted:
        annotation.ClearField("answers")
    return Event(
        events_pb.AnnotationSubmitted(
            annotation=annotation,
            item=f"projects/{row.project}/items/{row.item}",
            audit=row.audit,
            answers_omitted=omitted,
        ),
        tenant=row.tenant,
        project=row.project,
        resource=annotation.name,
        revision=1,
    )


def _stated(result: pb.Annotation | Exception) -> pb.Annotation | CairnError:
    if isinstance(result, pb.Annotation | CairnError):
        return result
    raise result
