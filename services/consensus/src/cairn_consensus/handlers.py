"""One function a command or event: load, decide, store, announce."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from cairn.annotation.v1.annotation_store_pb2 import ANNOTATION_KIND_REVIEW, Project
from cairn.consensus.v1.consensus_pb2 import (
    ConcludeProjectRequest,
    ConcludeProjectResponse,
    Posterior,
    RefitProjectRequest,
    RefitProjectResponse,
    Reliability,
    UndecidedItem,
)
from cairn.events.v1.annotation_store_events_pb2 import (
    AnnotationSubmitted,
    ItemsImported,
    ProjectCreated,
    ProjectUpdated,
)
from cairn.events.v1.audit_events_pb2 import LabelCorrected
from cairn.events.v1.inference_events_pb2 import ROUTE_AUTO, ItemsRouted, ItemsScored
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus import deciding
from cairn_consensus.asking import Asking, Outcome
from cairn_consensus.computing import Computing
from cairn_consensus.deciding import Deciding
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Score, Sized, State, Truth, Vote
from cairn_consensus.domain.judging import stop_policy
from cairn_consensus.domain.project_state import ProjectState, Tests
from cairn_consensus.mask_blobs import MaskBlobs, Said, seen
from cairn_consensus.omitted_answers import OmittedAnswers
from cairn_consensus.refits import Refits
from cairn_consensus.shares import Shares
from cairn_consensus.states import States
from cairn_consensus.store import ConsensusStore, ProjectKey, TruthRank
from cairn_consensus.turns import Turns
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Violation,
    project_not_found,
    to_status,
)
from cairn_kit.events import NotYet, Received
from cairn_kit.shares import Elsewhere

M = TypeVar("M", ItemsImported, AnnotationSubmitted, ItemsScored, ItemsRouted, LabelCorrected)


class Handlers:
    """What consensus does when it is asked, and when it hears of something."""

    def __init__(
        self,
        database: Database,
        store: ConsensusStore,
        omitted_answers: OmittedAnswers,
        mask_blobs: MaskBlobs,
        shares: Shares,
        turns: Turns,
        states: States,
        computing: Computing,
        deciding: Deciding,
        refits: Refits,
        asking: Asking,
        largest_response: int,
    ) -> None:
        self._database = database
        self._store = store
        self._omitted_answers = omitted_answers
        self._mask_blobs = mask_blobs
        self._shares = shares
        self._turns = turns
        self._states = states
        self._computing = computing
        self._deciding = deciding
        self._refits = refits
        self._asking = asking
        self._largest_response = largest_response

    async def forget_deleted(self) -> None:
        """Forget the states of deleted projects that this replica has in memory: a periodic job."""
        for key in await self._store.deleted_among(self._database, self._states.known):
            self._states.drop(key)

    # --- events

    async def on_projects(
        self, tx: Transaction, events: Sequence[Received[ProjectCreated] | Received[ProjectUpdated]]
    ) -> None:
        """Keep the projects as they are now."""
        projects = [(ProjectKey(e.tenant, e.project), e.message.project) for e in events]
        await self._store.upsert_projects(
            tx, [(key, project, stop_policy(project.quality).min_answers) for key, project in projects]
        )

    async def on_items_imported(self, tx: Transaction, events: Sequence[Received[ItemsImported]]) -> None:
        """Gold: the truth that came with items."""
        gold = [event for event in events if any(item.gold_answers for item in event.message.items)]
        said = [(event, [a for item in event.message.items for a in item.gold_answers]) for event in gold]
        answers = await self._seen(tx, said)  # before any lock is held: it is a call
        for key, project, group in await self._by_project(tx, gold):
            truths = [
                (Truth(item, QuestionId(answer.question), answer), TruthRank.GOLD, event.time)
                for event in group
                for item, answer in zip(_keys_of_gold(event), answers[event.id], strict=True)
            ]
            await self._learn(tx, key, project, truths)

    async def on_labels_corrected(self, tx: Transaction, events: Sequence[Received[LabelCorrected]]) -> None:
        """What reviewers decided is the truth."""
        # Before any lock is held: these are calls.
        omitted = await self._omitted_answers.of_corrections(events)
        answers = await self._seen(tx, [(e, [omitted.get(e.id, e.message.answer)]) for e in events])
        for key, project, group in await self._by_project(tx, events):
            _await_schema(project, [(event, event.message.schema_version) for event in group])
            truths = [
                (Truth(_key(e.message.item), QuestionId(a.question), a), TruthRank.REVIEWED, e.time)
                for e in group
                for a in answers[e.id]
            ]
            await self._learn(tx, key, project, truths)

    async def on_annotations(self, tx: Transaction, events: Sequence[Received[AnnotationSubmitted]]) -> None:
        """Votes: what labelers said. A review is no vote."""
        asked = [event for event in events if event.message.annotation.kind != ANNOTATION_KIND_REVIEW]
        # Before any lock is held: these are calls.
        omitted = await self._omitted_answers.of_annotations(asked)
        answers = await self._seen(tx, [(e, omitted.get(e.id, e.message.annotation.answers)) for e in asked])
        for key, project, group in await self._by_project(tx, asked):
            _await_schema(project, [(event, event.message.annotation.schema_version) for event in group])
            state = await self._states.hold(tx, key, project)
            state.label_annotations += await self._store.insert_annotations(
                tx, key, [event.message.annotation for event in group]
            )
            votes: dict[ItemKey, list[Vote]] = {}
            causes: dict[ItemKey, Received[Any]] = {}
            for event in group:
                item = _key(event.message.item)
                votes.setdefault(item, []).extend(_votes(event, answers[event.id]))
                causes[item] = event
            sized = await self._sized(tx, key, state, votes)
            async for at_hand, items in self._deciding.in_parts(tx, key, state, sized, most=len(sized)):
                heard = [vote for item in items for vote in votes[item]]
                fresh = await self._store.insert_votes(tx, key, heard)
                touched = sorted({item for item, _, _ in fresh})
                for vote in heard:  # of two by one labeler in one batch the store kept the first
                    if (vote.item, vote.question, vote.labeler) in fresh:
                        fresh.remove((vote.item, vote.question, vote.labeler))
                        at_hand.vote(vote)
                await self._deciding.decide(tx, key, at_hand, touched, ProjectState.judge_each, causes)
                state = at_hand
            await self._refits.ask_if_due(tx, key, state)

    async def on_items_scored(self, tx: Transaction, events: Sequence[Received[ItemsScored]]) -> None:
        """A model's answers: votes of one more labeler."""
        for key, project, group in await self._by_project(tx, events):
            state = await self._states.hold(tx, key, project)
            for event in group:
                scored = event.message
                scores = [
                    Score(
                        _key(one.item),
                        QuestionId(scored.question),
                        scored.model_version,
                        tuple(one.probabilities),
                        tuple(scored.class_ids),
                    )
                    for one in scored.scores
                ]
                await self._states.bring(tx, key, state, (one.item for one in scores))
                newer = await self._store.upsert_scores(tx, key, scored.revision, scores) if scores else set()
                for one in scores:
                    if one.item in newer:
                        state.score(one)
                answered = sorted(filter(state.is_answered, newer))
                await self._deciding.decide(tx, key, state, answered, ProjectState.judge_each)
                state = await self._states.make_room(tx, key)

    async def on_items_routed(self, tx: Transaction, events: Sequence[Received[ItemsRouted]]) -> None:
        """Items that a model labeled alone are asked of nobody; one that goes back to people is judged again."""
        for key, project, group in await self._by_project(tx, events):
            state = await self._states.hold(tx, key, project)
            routes = [
                (_key(route.item), route.route == ROUTE_AUTO, route.revision)
                for event in group
                for route in event.message.routes
            ]
            newer = await self._store.route_items(tx, key, routes)
            to_people = [item for item, auto in newer.items() if not auto]
            back = await self._store.answered_among(tx, key, to_people)
            for item in newer.keys() & state.items.keys():
                state.items[item].auto = newer[item]
            async for at_hand, part in self._deciding.in_parts(tx, key, state, back):
                await self._deciding.decide(tx, key, at_hand, part, ProjectState.judge_each)

    # --- calls

    async def posteriors(
        self, tenant: str, project: str, question: str, items: Sequence[str]
    ) -> list[Posterior]:
        """What is known of each of these items; those that nobody has answered are left out.

        Raises InvalidArgument where it is more than one response may hold.
        """
        key = ProjectKey(tenant, project)
        async with self._turns.transaction(key) as tx:
            state = await self._read(tx, key)
            name = QuestionId(question)
            if name not in state.questions:
                raise NotFound(
                    "QUESTION_NOT_FOUND",
                    f"projects/{project} asks no question {question}.",
                    question=question,
                )
            wanted = list(dict.fromkeys(map(ItemKey, items)))
            left = [Sized(item, 0) for item in wanted if item in state.items]
            if missing := [item for item in wanted if item not in state.items]:
                left += await self._store.answered_among(tx, key, missing)
            known: dict[ItemKey, Posterior] = {}
            room = self._largest_response
            async for at_hand, part in self._deciding.in_parts(tx, key, state, left):
                for item in part:
                    if (found := at_hand.posterior(item, name)) is not None:
                        known[item] = found
                        room -= found.ByteSize()
                if room < 0:
                    raise _too_many_items(self._largest_response)
            return [known[item] for item in map(ItemKey, items) if item in known]

    async def reliabilities(self, tenant: str, project: str, question: str) -> list[Reliability]:
        """What is known of each labeler on one question, or on all of them, with what they did where the truth is known."""
        key = ProjectKey(tenant, project)
        async with self._database.transaction("repeatable_read") as tx:
            of = await self._project(tx, key)
            state = await self._states.apart(
                tx, key, of
            )  # others work on while all these items are looked at
            names = [QuestionId(question)] if question else list(state.questions)
            tests: dict[QuestionId, Tests] = {name: Counter() for name in names if name in state.questions}

            def test(seen: ProjectState, items: Sequence[ItemKey]) -> None:
                for name, of_question in tests.items():
                    of_question.update(seen.tested(name, items))

            after, more = "", True
            while more:
                found = await self._store.items_with_truth(tx, key, after, deciding.AT_ONCE + 1)
                items, more = deciding.part_of(found)
                if answered := [one.item for one in await self._store.answered_among(tx, key, items)]:
                    part = await self._states.apart(tx, key, of, answered)
                    await self._computing.result(tx, partial(test, part, answered))
                after = items[-1] if items else after
            return [one for name, seen in tests.items() for one in state.reliabilities(name, seen)]

    async def refit(self, tenant: str, request: RefitProjectRequest) -> RefitProjectResponse:
        """Fit everything now, and judge every item by it. Raises as `Asking.answer` does."""
        key = ProjectKey(tenant, request.project.removeprefix("projects/"))
        return await self._asking.answer(key, request, RefitProjectResponse, _refitted)

    async def conclude(self, tenant: str, request: ConcludeProjectRequest) -> ConcludeProjectResponse:
        """Decide every item with what there is.

        Raises FailedPrecondition where less was heard of than the caller expects, and as `Asking.answer` does.
        """
        key = ProjectKey(tenant, request.project.removeprefix("projects/"))

        def check(state: ProjectState) -> None:
            heard, expected = state.label_annotations, request.expected_annotations
            if heard < expected:
                raise FailedPrecondition(
                    "VOTES_NOT_IN",
                    f"{heard} of {expected} label annotations have been heard of so far.",
                    heard=str(heard),
                )

        return await self._asking.answer(
            key, request, ConcludeProjectResponse, partial(_concluded, key), check
        )

    # --- what they share

    async def _seen(self, tx: Transaction, said: Said) -> dict[UUID, list[Answer]]:
        """What each event says, by its id, with the masks that had to be read where they are kept."""
        kept = await self._mask_blobs.of(said)
        if not kept:
            return {event.id: list(answers) for event, answers in said}
        return await self._computing.result(tx, lambda: seen(said, kept))

    async def _sized(
        self, tx: Transaction, key: ProjectKey, state: ProjectState, votes: Mapping[ItemKey, Sequence[Vote]]
    ) -> list[Sized]:
        """Items that are answered, in order, with the bytes of what must be read of them, and of the new answers."""
        resting = [item for item in votes if item not in state.items]
        kept = dict(await self._store.answered_among(tx, key, resting)) if resting else {}
        return [
            Sized(item, kept.get(item, 0) + sum(vote.answer.ByteSize() for vote in votes[item]))
            for item in sorted(votes)
        ]

    async def _read(self, tx: Transaction, key: ProjectKey) -> ProjectState:
        return await self._states.read(tx, key, await self._project(tx, key))

    async def _project(self, tx: Transaction, key: ProjectKey) -> Project:
        project = await self._store.project(tx, key)
        if project is None:
            raise project_not_found(key.project)
        return project

    async def _by_project(
        self, tx: Transaction, events: Sequence[Received[M]]
    ) -> list[tuple[ProjectKey, Project, list[Received[M]]]]:
        """Events by project, whose turn it is at all of them, in one order for all transactions: so that none waits for
        another in a circle. Raises NotYet with the events of projects that are not known, and Elsewhere with those of
        projects that another replica keeps.
        """
        groups: dict[ProjectKey, list[Received[M]]] = {}
        for event in events:
            groups.setdefault(ProjectKey(event.tenant, event.project), []).append(event)
        keys = sorted(groups, key=lambda key: key.columns)
        known = await self._store.known_projects(tx, keys)
        unknown = [event for key in keys if key not in known for event in groups[key]]
        if unknown:
            raise NotYet("the project is not known yet", *unknown)
        kept = await self._shares.claim(tx, keys)
        elsewhere = [event for key in keys if key not in kept for event in groups[key]]
        if elsewhere:
            raise Elsewhere("another replica keeps the project", *elsewhere)
        await self._turns.take(tx, keys)
        return [(key, known[key], groups[key]) for key in keys]

    async def _learn(
        self,
        tx: Transaction,
        key: ProjectKey,
        project: Project,
        truths: list[tuple[Truth, TruthRank, datetime]],
    ) -> None:
        state = await self._states.hold(tx, key, project)
        reviewed = sorted({truth.item for truth, rank, _ in truths if rank is TruthRank.REVIEWED})
        await self._states.bring(tx, key, state, reviewed)
        changed = await self._store.upsert_truths(tx, key, truths)
        # The last word of a rank wins in the store; here, too.
        for truth, _, _ in sorted(truths, key=lambda one: (one[1], one[2])):
            if (truth.item, truth.question) in changed and truth.item in state.items:
                state.know(truth)
        for item in reviewed:
            state.item(item).state = State.DECIDED
        await self._deciding.save_items(tx, key, state, reviewed)


def _keys_of_gold(event: Received[ItemsImported]) -> list[ItemKey]:
    """The item of each gold answer that came with an import."""
    return [ItemKey(item.key) for item in event.message.items for _ in item.gold_answers]


def _votes(event: Received[AnnotationSubmitted], answers: Sequence[Answer]) -> list[Vote]:
    """An annotation's answers, one vote a question."""
    annotation, item = event.message.annotation, _key(event.message.item)
    return [
        Vote(item, QuestionId(a.question), LabelerName(annotation.labeler), annotation.name, a)
        for a in answers
    ]


def _await_schema(project: Project, events: Sequence[tuple[Received[Any], int]]) -> None:
    """An answer may name a class that was added a moment ago, and be heard of before it."""
    early = [event for event, version in events if version > project.schema_version]
    if early:
        raise NotYet("the schema that it follows is not known yet", *early)


def _too_many_items(largest_response: int) -> InvalidArgument:
    return InvalidArgument(
        "RESPONSE_TOO_LARGE",
        f"What is known of these items has more than the {largest_response} bytes of a response.",
        violations=[Violation("items", "ask about fewer at once")],
    )


def _refitted(done: Outcome) -> RefitProjectResponse:
    return RefitProjectResponse(refit=done.of.refit, votes=done.of.votes, changed_items=done.of.changed_items)


def _concluded(key: ProjectKey, done: Outcome) -> ConcludeProjectResponse:
    return ConcludeProjectResponse(
        refit=done.of.refit,
        votes=done.of.votes,
        announced_labels=done.of.announced_labels,
        undecided=[_undecided(key, item) for item in done.undecided],
    )


def _undecided(key: ProjectKey, item: ItemKey) -> UndecidedItem:
    name = f"projects/{key.project}/items/{item}"
    reason = FailedPrecondition(
        "NOT_DECIDABLE", f"The answers to {name} cannot be joined: a reviewer must decide."
    )
    return UndecidedItem(item=name, reason=to_status(reason))


def _key(item: str) -> ItemKey:
    return ItemKey(item.rsplit("/", 1)[1])
