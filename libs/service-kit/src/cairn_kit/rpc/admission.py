"""How many calls a service takes on at once, and how many of them may be one caller's or one tenant's.

A fixed limit is a guess about a machine: too high, and every call that is admitted waits for all the others; too low,
and a fast machine refuses what it could do. Here the limit follows what is measured: by Little's law a call takes as
long as there are calls in flight for each that is answered in a second.

Who may have the room is one rule: a caller's calls in flight stay below three times what is still free, a tenant's below
seven times (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One flood alone
stops at three quarters of the room, two at three sevenths each: some is free for whoever calls next, and nothing has to be
counted or configured for it. Never held back is a call that returns what was given out, such as the answer to a lease:
refusing it would waste the work that it brings, and keep what it sets free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cairn_kit.auth.caller import Caller

LEAST = 96
"""Calls at once that are always taken on, 72 of one caller, say of a gateway: more than the largest flush holds. With fewer
than half of it in flight the rate says how many came, not how many could have."""

_WINDOW = 0.5  # seconds over which the rate is counted
_NEWEST = 0.5  # the share of the newest window in what is believed
_A_CALLER, _A_TENANT = 3, 7  # times what is free


class Room:
    """Counts the calls in flight and says whether there is room for one more: for calls that last as long as they like."""

    __slots__ = ("_held", "_held_waiting", "_most", "_resting", "_waiting", "in_flight", "limit")

    def __init__(self, most: int) -> None:
        self.in_flight = 0
        self._most = most
        self._resting = self._waiting = 0
        self.limit = most
        """How many may be in flight."""
        self._held: dict[object, int] = {}
        self._held_waiting: dict[object, int] = {}

    def enter(self, who: Caller, *, returns: bool = False) -> bool:
        """Take on one more call of whoever calls, if there is room; all of it for one that ``returns`` something."""
        if self.limit <= self.in_flight or not (returns or self._is_shared_with(who)):
            return False
        self._count(who, 1)
        return True

    def _is_shared_with(self, who: Caller) -> bool:
        """Whether their calls leave enough for others: those that are work of the limit, all of them of the most."""
        taken = self.in_flight + self._resting
        of_limit, of_most = self.limit - taken, self._most - taken - self._waiting
        return all(
            held - self._held_waiting.get(holder, 0) < times * of_limit and held < times * of_most
            for holder, times in zip(_holders(who), (_A_CALLER, _A_TENANT), strict=True)
            for held in (self._held.get(holder, 0),)
        )

    def leave(self, who: Caller, now: float) -> None:
        """A call of this caller was answered, at this second of one clock."""
        self._count(who, -1)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A call that waits on purpose is not in flight meanwhile: there is room for what returns something.

        It comes back, so that whoever asks for more is answered as if it were: a flood of them stops where others do.
        """
        self.in_flight -= 1
        self._resting += 1
        try:
            yield
        finally:
            self._resting -= 1
            self.in_flight += 1

    @contextmanager
    def waiting(self, who: Caller) -> Iterator[None]:
        """The same for a call of this caller that comes back with its answer: it may wait for minutes, and is no work then.

        Of all that may ever be in flight it has its part, so that a flood stops; of what the limit has come down to, none.
        """
        self.in_flight -= 1
        self._waiting += 1
        _add(self._held_waiting, who, 1)
        try:
            yield
        finally:
            _add(self._held_waiting, who, -1)
            self._waiting -= 1
            self.in_flight += 1

    def _count(self, who: Caller, by: int) -> None:
        self.in_flight += by
        _add(self._held, who, by)


def _holders(who: Caller) -> tuple[object, object]:
    """The caller and the tenant, as calls are counted for them."""
    return (who.tenant, who.subject), who.tenant


def _add(held: dict[object, int], who: Caller, by: int) -> None:
    for holder in _holders(who):
        now = held.pop(holder, 0) + by
        if now:
            held[holder] = now


class Admission(Room):
    """The same for calls that are to be answered, with a limit that follows how many are answered in a second."""

    __slots__ = ("_answered", "_back", "_busy", "_longest", "_rate", "_since")

    def __init__(self, most: int, longest_wait: float, now: float) -> None:
        super().__init__(most)
        self._longest = longest_wait
        self._since = now
        self._answered = 0
        self._back = 0
        self._busy = False
        self._rate = 0.0

    def leave(self, who: Caller, now: float) -> None:
        super().leave(who, now)
        if self._back:
            self._back -= 1
        else:
            self._answered += 1
        self._busy = self._busy and self.in_flight >= min(LEAST, self._most) // 2
        if now - self._since >= _WINDOW:
            self._learn(self._answered / (now - self._since))
            self._since, self._answered = now, 0
            self._busy = self.in_flight >= min(LEAST, self._most) // 2

    @contextmanager
    def waiting(self, who: Caller) -> Iterator[None]:
        """The same; its answer, which comes at once then, is none of those by which the limit is found."""
        try:
            with super().waiting(who):
                yield
        finally:
            self._back += 1

    def _learn(self, rate: float) -> None:
        if not self._busy:
            return
        self._rate = _NEWEST * rate + (1.0 - _NEWEST) * self._rate if self._rate else rate
        self.limit = min(max(round(self._rate * self._longest), LEAST), self._most)
