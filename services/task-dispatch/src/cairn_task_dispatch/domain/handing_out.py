"""Which open slots go to whom, when several ask at once; and how long who asks for many waits for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cairn_task_dispatch.domain.names import TaskId

_IN_TIME = 1.0
"""Seconds after which an answer is usually heard of, at the latest."""
_LONGEST_PAUSE = 2.0
"""Well within the time that callers have for a call."""
FEW = 10
"""Tasks that people ask for at a time, at most."""


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """An answer that is wanted, and not yet asked of anybody."""

    task: TaskId
    number: int
    item: str
    skill: str


@dataclass(frozen=True, slots=True)
class Want:
    """One call: so many tasks for a labeler who can serve these skills ('' for none asked)."""

    labeler: str
    skills: frozenset[str]
    tasks: int


def hand_out(
    front: Sequence[OpenSlot], wants: Sequence[Want], seen: Collection[tuple[str, str]]
) -> list[list[OpenSlot]]:
    """Return what each gets of the slots at the front of the queue, most urgent first; who asked first chooses first.

    ``seen`` are (labeler, item) that had to do with each other before. Nobody gets an item twice.
    """
    left = list(front)
    had = set(seen)
    handed: list[list[OpenSlot]] = []
    for want in wants:
        chosen: list[OpenSlot] = []
        for slot in left:
            if len(chosen) == want.tasks:
                break
            if slot.skill in want.skills and (want.labeler, slot.item) not in had:
                chosen.append(slot)
                had.add((want.labeler, slot.item))
        taken = set(chosen)
        left = [slot for slot in left if slot not in taken]
        handed.append(chosen)
    return handed


def pause(late: float, tasks: int) -> float:
    """Return the seconds that a call for so many tasks waits while answers are heard of so many seconds late.

    Machines answer as fast as they are given tasks; nothing but this slows them when more is answered than is taken in. Who
    asks for a few tasks does not wait.
    """
    if tasks <= FEW:
        return 0.0
    return min(max(late - _IN_TIME, 0.0), _LONGEST_PAUSE)
