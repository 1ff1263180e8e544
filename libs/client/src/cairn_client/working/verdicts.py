"""What a machine labeler is asked, what it may say, and what came of it all."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set, Sized
from dataclasses import dataclass
from typing import Any

from cairn_client.calls.job import Answers, Job
from cairn_client.errors import CairnError, InputError
from cairn_client.words import counted, quoted, shown


@dataclass(frozen=True, slots=True)
class Skip:
    """The labeler gives the task back for good, and says why: somebody else gets it."""

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise InputError(f"Skip takes a reason in words, not {shown(self.reason)}.")


@dataclass(frozen=True, slots=True)
class Release:
    """The labeler gives the task back; it may come again when nothing else is left."""


Verdict = Answers | Skip | Release
"""What is said of one job: `{question id: value}` as for `submit`, or that it is given back."""

Judge = Callable[[Sequence[Job]], Sequence[Verdict] | Awaitable[Sequence[Verdict]]]
"""One verdict for each job, in order. A plain function runs in a thread, so that leases are kept alive meanwhile."""


class JudgeFailed(CairnError):
    """The judge, not an item, is broken; the cause is its last failure.

    A judge that knows this of itself may raise it: the run ends at once, and what it holds is given back.
    """


@dataclass(slots=True)
class Worked:
    """What a run has done, in items."""

    answered: int = 0
    """Answers that are kept."""
    late: int = 0
    """Those of them that came after their lease's end."""
    skipped: int = 0
    """Given back for good because the judge said so."""
    released: int = 0
    """Given back, so that they may come again, because the judge said so, or not answered when the run ended: not judged
    yet, or failed and set aside. Leases that had ended by then do not count."""
    failed: int = 0
    """Given back for good because the judge, which answered others, raised at them or gave answers that were refused, or
    because they cannot be seen."""
    last_failure: str = ""
    """Which item failed last, and why; empty when none did."""
    lost: int = 0
    """Leases that ended before their item was judged, or items that the labeler had answered already."""


def check_judge(judge: Judge) -> None:
    """Raise InputError when this cannot be called with a list of jobs."""
    if not callable(judge):
        raise InputError(f"The judge must be a function of a list of jobs, judge(jobs), not {shown(judge)}.")
    try:
        taken = inspect.signature(judge)
    except ValueError:  # written in C, and not told
        return
    try:
        taken.bind([])
    except TypeError as error:
        raise InputError(
            f"The judge must be a function of a list of jobs, judge(jobs); this one takes {taken}: {error}."
        ) from None


async def asked(judge: Judge, jobs: Sequence[Job]) -> object:
    """What the judge says of these jobs: verdicts, if it keeps to what a judge is. Raises what it raises, JudgeFailed when
    it exits."""
    try:
        return await _called(judge, jobs)
    except SystemExit as error:  # it would end the event loop, and a blocking client wait for ever
        raise JudgeFailed(f"The judge called sys.exit({error.code!r}).") from error


async def _called(judge: Judge, jobs: Sequence[Job]) -> object:
    if inspect.iscoroutinefunction(judge):
        return await judge(jobs)

    def in_a_thread() -> object:
        try:
            return judge(jobs)
        except StopIteration as error:  # a future does not take it, and would wait for ever
            raise RuntimeError("the judge raised StopIteration") from error

    said = await asyncio.to_thread(in_a_thread)
    return await said if inspect.isawaitable(said) else said


def verdicts_in(said: object, jobs: Sequence[Job]) -> Sequence[Verdict]:
    """The verdicts that a judge said. Raises InputError when that is no list, nor anything else with a length and an order,
    or not of one for each job."""
    about = (
        quoted(jobs[0].key)
        if len(jobs) == 1
        else f"{counted(len(jobs), 'item')}, {quoted(jobs[0].key)} first,"
    )
    expected = f"The judge was asked about {about} and must return a list of as many verdicts"
    verdicts = _listed(said)
    if verdicts is None:
        raise InputError(f"{expected}, not {shown(said)}.")
    if len(verdicts) != len(jobs):
        raise InputError(f"{expected}, not of {len(verdicts):,}.")
    return verdicts


def _listed(said: object) -> list[Any] | None:
    if not isinstance(said, Sized) or isinstance(said, str | bytes | Mapping | Set):
        return None
    try:
        return list(said)  # type: ignore[call-overload, no-any-return]
    except TypeError:  # nor can an array of no dimension be gone through
        return None
