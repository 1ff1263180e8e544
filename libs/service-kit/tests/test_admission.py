"""How many calls are taken on follows what can be answered in bearable time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import ExitStack

from cairn_kit.auth.caller import Caller, make_caller
from cairn_kit.rpc.admission import LEAST, Admission, Room
from cairn_kit.rpc.deadline import set_deadline
from cairn_kit.rpc.resting import rest, set_place

MOST, LONGEST = 512, 2.0


def callers(tenant: str, number: int) -> list[Caller]:
    return [make_caller(tenant, f"labeler-{n}", frozenset(), None, 1e12) for n in range(number)]


MANY = callers("acme", 8)
ONE, *OTHERS = MANY


def overrun(
    admission: Admission, rate: float, seconds: float, *, offered: float, begin: float = 0.0
) -> list[float]:
    """Offer so many calls a second to a server that answers so many, in order; returns how long each answered one took."""
    steps = 1000
    waiting: deque[float] = deque()
    took = []
    owed = answers = 0.0
    for step in range(int(seconds * steps)):
        now = begin + step / steps
        owed += offered / steps
        while owed >= 1.0:
            owed -= 1.0
            if admission.enter(ONE, returns=True):
                waiting.append(now)
        answers = min(answers + rate / steps, 1.0) if not waiting else answers + rate / steps
        while answers >= 1.0 and waiting:
            answers -= 1.0
            took.append(now - waiting.popleft())
            admission.leave(ONE, now)
    return took


def test_an_idle_service_takes_what_the_fixed_limit_allows() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    assert [admission.enter(ONE, returns=True) for _ in range(MOST + 1)] == [True] * MOST + [False]


def test_under_five_times_the_load_what_is_admitted_is_answered_in_bearable_time() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    took = overrun(admission, rate=80.0, seconds=30.0, offered=400.0)
    settled = took[len(took) // 2 :]
    assert max(settled) <= 1.1 * LONGEST
    assert len(took) >= 0.95 * 80.0 * 30.0, "the server is kept busy all the time"
    assert min(settled) > 0.5 * LONGEST, "and the limit is no lower than it must be"


def test_the_limit_rises_again_when_the_machine_is_faster() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    overrun(admission, rate=50.0, seconds=20.0, offered=1000.0)
    slow = admission.limit
    overrun(admission, rate=200.0, seconds=20.0, offered=1000.0, begin=20.0)
    assert 90 <= slow <= 110
    assert 350 <= admission.limit <= 450


def test_few_calls_that_take_long_are_never_refused() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    for second in range(100):
        assert all(admission.enter(ONE) for _ in range(LEAST // 4))
        for _ in range(LEAST // 4):
            admission.leave(ONE, 10.0 * second)
    assert admission.limit == MOST


def test_the_limit_never_leaves_its_bounds() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    overrun(admission, rate=1.0, seconds=200.0, offered=50.0)
    assert admission.limit == LEAST
    overrun(admission, rate=5000.0, seconds=5.0, offered=20_000.0, begin=200.0)
    assert admission.limit == MOST


def taken(room: Room, *floods: Caller) -> list[int]:
    """How many calls of each the room takes, when all of them ask for ever more in turn."""
    held = [0] * len(floods)
    for _ in range(room.limit):
        for place, who in enumerate(floods):
            held[place] += room.enter(who)
    return held


def test_one_caller_alone_gets_three_quarters_and_leaves_room_for_whoever_is_next() -> None:
    room = Room(64)
    assert taken(room, ONE) == [48]
    assert room.enter(OTHERS[0])
    assert not room.enter(ONE)


def test_callers_who_ask_for_too_much_get_the_same() -> None:
    assert taken(Room(70), *MANY[:2]) == [30, 30]
    held = taken(Room(100), *MANY)
    assert max(held) - min(held) <= 1


def test_a_tenant_of_many_callers_leaves_room_for_another_tenant() -> None:
    room = Room(64)
    assert sum(taken(room, *MANY)) == 56
    assert room.enter(*callers("fish", 1))


def test_what_returns_something_may_have_all_the_room_there_is() -> None:
    room = Room(64)
    taken(room, ONE)
    assert [room.enter(ONE, returns=True) for _ in range(17)] == [True] * 16 + [False]


def test_who_has_left_is_forgotten() -> None:
    room = Room(64)
    for _ in range(3):
        assert taken(room, ONE) == [48]
        for _ in range(48):
            room.leave(ONE, 0.0)
    assert room.in_flight == 0
    assert not room._held


async def test_a_flood_of_calls_that_rest_stops_where_others_do_and_takes_no_room_from_what_returns() -> None:
    room = Room(64)
    set_place(room)
    resting = []
    while room.enter(ONE):
        resting.append(asyncio.create_task(rest(3600.0)))
        await asyncio.sleep(0)
    assert (len(resting), room.in_flight) == (48, 0)
    assert room.enter(OTHERS[0]), "a quarter is for others"
    assert [room.enter(ONE, returns=True) for _ in range(64)] == [True] * 63 + [False]
    for call in resting:
        call.cancel()
    await asyncio.wait(resting)
    assert room.in_flight == 64 + 48, "there is always room to come back"


def test_calls_that_wait_for_minutes_shut_nobody_out_however_few_are_taken_on_meanwhile() -> None:
    admission, now, [other] = Admission(512, 2.5, 0.0), 0.0, callers("fish", 1)
    with ExitStack() as waiting:
        while admission.enter(ONE):
            waiting.enter_context(admission.waiting(ONE))
        assert (admission.in_flight, admission.limit) == (0, 512)
        while admission.in_flight < 60:
            assert admission.enter(other)
        for _ in range(400):  # so slowly that the limit falls
            now += 0.05
            admission.leave(other, now)
            assert admission.enter(other)
        assert admission.limit == LEAST
        assert not admission.enter(ONE)
    assert admission.in_flight == 384 + 60
    for _ in range(384):
        admission.leave(ONE, now)
    admission.leave(other, now + 1.0)
    assert admission.limit == LEAST, "answers that were waited for do not tell how fast others are"


def test_calls_that_wait_shut_out_neither_their_caller_nor_their_tenant() -> None:
    admission, one, mate = Admission(512, 2.5, 0.0), ONE, OTHERS[0]
    with ExitStack() as waiting:
        for _ in range(300):
            assert admission.enter(one)
            waiting.enter_context(admission.waiting(one))
        admission.limit = LEAST
        assert [admission.enter(who) for who in (one, mate) for _ in range(30)] == [True] * 60
        for who in (one, mate):
            for _ in range(30):
                admission.leave(who, 0.0)
        assert taken(admission, one) == [72], "as many as of a caller none of whose calls wait"
    for _ in range(372):
        admission.leave(one, 0.0)
    assert not admission._held
    assert not admission._held_waiting


async def test_nobody_rests_for_longer_than_half_of_the_callers_time() -> None:
    set_deadline(0.2)
    began = time.monotonic()
    await asyncio.wait_for(rest(3600.0), 60.0)
    assert time.monotonic() - began >= 0.05
