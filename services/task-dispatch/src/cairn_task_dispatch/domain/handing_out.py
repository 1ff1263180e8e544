"""Which open slots go to whom, when several ask at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cairn_task_dispatch.domain.names import TaskId


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
