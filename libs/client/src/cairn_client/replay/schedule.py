"""Which recorded answer is offered next: pure bookkeeping, no I/O.

Answers are offered in a seeded random order. Per item that order is strict: an answer is offered only when
every earlier one of its item has been given (or was skipped as a duplicate), so that which answers an item
gets is always the beginning of its own random order, whatever the timing.

    READY --taken--> OFFERED --given--> READY (the item's next answer), or EXHAUSTED
                     OFFERED --no slot yet--> WAITING --try_waiting--> READY
                     OFFERED --closed--> CLOSED --reopen_closed--> READY
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import NewType

ItemIndex = NewType("ItemIndex", int)
AnswerIndex = NewType("AnswerIndex", int)


class Schedule:
    """The order of offering. Answers and items are dense integers."""

    def __init__(self, item_of_answer: Sequence[int], seed: int) -> None:
        """`item_of_answer`: the item of each answer, `(answers,)`."""
        order = list(range(len(item_of_answer)))
        random.Random(seed).shuffle(order)
        self._place = [0] * len(order)
        self._line: dict[int, list[int]] = {}
        for place, answer in enumerate(order):
            self._place[answer] = place
            self._line.setdefault(item_of_answer[answer], []).append(answer)
        self._item = item_of_answer
        self._next = dict.fromkeys(self._line, 0)
        self._ready = [(self._place[line[0]], item) for item, line in self._line.items()]
        heapq.heapify(self._ready)
        self._waiting: list[int] = []
        self._closed: set[int] = set()

    def take(self, most: int) -> list[AnswerIndex]:
        """Up to `most` answers to offer now, earliest first, no two of one item; each must be reported
        back."""
        taken: list[AnswerIndex] = []
        while self._ready and len(taken) < most:
            _, item = heapq.heappop(self._ready)
            taken.append(AnswerIndex(self._line[item][self._next[item]]))
        return taken

    def given(self, answer: AnswerIndex) -> None:
        """The answer was given, or need not be: its item's next comes up."""
        item = self._item[answer]
        self._next[item] += 1
        self._come_up(item)

    def no_slot(self, answer: AnswerIndex) -> None:
        """No slot is open for it yet: it waits for `try_waiting`."""
        self._waiting.append(self._item[answer])

    def closed(self, answer: AnswerIndex) -> None:
        """No more answers are wanted on its item."""
        self._closed.add(self._item[answer])

    def try_waiting(self) -> int:
        """Make those that wait ready again; how many."""
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            self._come_up(item)
        return len(waiting)

    def reopen_closed(self) -> int:
        """Offer the next answer of each closed item once more; how many."""
        closed, self._closed = self._closed, set()
        for item in closed:
            self._come_up(item)
        return len(closed)

    def _come_up(self, item: int) -> None:
        line = self._line[item]
        if self._next[item] < len(line):
            heapq.heappush(self._ready, (self._place[line[self._next[item]]], item))

    @property
    def has_ready(self) -> bool:
        """Whether anything can be offered now."""
        return bool(self._ready)

    @property
    def waiting(self) -> int:
        """Items whose next answer waits for a slot."""
        return len(self._waiting)

    @property
    def closed_items(self) -> int:
        """Items that were closed with answers left over."""
        return len(self._closed)

    def left_over(self, items: str = "closed") -> int:
        """Answers not offered successfully, of the closed items or of the waiting ones."""
        chosen = self._closed if items == "closed" else self._waiting
        return sum(len(self._line[item]) - self._next[item] for item in chosen)
