"""The crowd plays while something strikes; what every run must keep, and what must be equal in all of them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cairn.audit.v1.audit_pb2 import LedgerRecord
from cairn_client import AsyncCairn
from cairn_client.replay.player import Pace
from cairn_client.replay.run import Replayed, ReplayOptions, replay
from tests.faults.crowd import recording

CROWD = recording()
ANSWERS = len(CROWD.answers)
SERVICES = ("task-dispatch", "annotation-store", "consensus", "inference", "audit")


@dataclass(frozen=True)
class Outcome:
    """What a run left behind, in terms that do not depend on when things happened."""

    labels: dict[str, str]
    posteriors: dict[str, tuple[tuple[str, float], ...]]


class Trigger:
    """A screen that starts a fault, once, when part of the answers have been taken."""

    def __init__(self, at: int, fault: Callable[[], object]) -> None:
        self._at, self._fault = at, fault
        self._stage = ""
        self.done: asyncio.Task[object] | None = None

    def stage(self, text: str, total: int | None = None) -> None:
        self._stage = text

    def advance(self, done: int, note: str = "") -> None:
        if self._stage.startswith("Playing") and done >= self._at and self.done is None:
            self.done = asyncio.create_task(asyncio.to_thread(self._fault))

    def say(self, text: str) -> None:
        pass


async def play(client: AsyncCairn, project: str, fault: Callable[[], object] = lambda: None) -> Replayed:
    trigger = Trigger(ANSWERS // 3, fault)
    options = ReplayOptions(
        seed=3,
        fixed=True,
        max_answers=5,
        model=False,
        project=project,
        pace=Pace(batch=20, workers=4, round_size=100),
    )
    replayed = await replay(client, CROWD, options, trigger)
    assert trigger.done is not None, "the fault never struck"
    await trigger.done
    return replayed


async def outcome(client: AsyncCairn, replayed: Replayed) -> Outcome:
    keys = [item.key for item in CROWD.items]
    return Outcome(
        labels={key: label.value or "" for key, label in replayed.labels.items()},
        posteriors={
            one.item.rsplit("/", 1)[1]: tuple(sorted((c.class_id, c.probability) for c in one.classes))
            async for one in client.labelers.posteriors(replayed.project, replayed.question, keys)
        },
    )


async def check_promises(client: AsyncCairn, replayed: Replayed) -> None:
    """No OK was lost, no slot over-filled, no effect doubled."""
    project = replayed.project
    kept = [annotation async for annotation in client.annotations(project)]
    answered = Counter((a.name.split("/")[3], a.labeler.removeprefix("labelers/")) for a in kept)
    assert replayed.tally.used == len(kept) == ANSWERS, (
        "an acknowledged answer is missing, or one was kept twice"
    )
    assert set(answered) == {(one.item, one.labeler) for one in CROWD.answers}

    tasks = [task async for task in client.tasks(project)]
    assert len({task.item for task in tasks}) == len(tasks) == len(CROWD.items)
    for task in tasks:
        assert task.answers_given + task.live_leases <= task.answers_wanted, f"{task.name} was over-asked"

    posteriors = client.labelers.posteriors(project, replayed.question, [item.key for item in CROWD.items])
    assert {one.votes async for one in posteriors} == {5}, "an answer counts twice, or not at all"

    revisions = Counter()
    async for label in client.labels(project):
        revisions[label.name] = label.revision
    for name, newest in list(revisions.items())[:20]:
        item, question = name.split("/")[3], name.split("/")[5]
        seen = [label.revision async for label in client.label_revisions(project, item, question)]
        assert seen == list(range(newest, 0, -1))


async def submitted_in_ledger(client: AsyncCairn, project: str) -> Counter[str]:
    events: Counter[str] = Counter()
    async for entry in client.ledger.entries():
        record = LedgerRecord.FromString(entry.record)
        if record.project == project and record.event_type == "cairn.events.v1.AnnotationSubmitted":
            events[record.event_id] += 1
    return events


async def compare(client: AsyncCairn, replayed: Replayed, undisturbed: dict[str, Outcome]) -> None:
    if "outcome" not in undisturbed:
        calm = await play(client, "undisturbed")
        await check_promises(client, calm)
        undisturbed["outcome"] = await outcome(client, calm)
        assert len(undisturbed["outcome"].labels) == len(CROWD.items)
    assert await outcome(client, replayed) == undisturbed["outcome"]
