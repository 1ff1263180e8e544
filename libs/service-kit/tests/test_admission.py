"""How many calls are taken on follows what can be answered in bearable time."""

from __future__ import annotations

from collections import deque

from cairn_kit.rpc.admission import LEAST, Admission

MOST, LONGEST = 512, 2.0


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
            if admission.enter():
                waiting.append(now)
        answers = min(answers + rate / steps, 1.0) if not waiting else answers + rate / steps
        while answers >= 1.0 and waiting:
            answers -= 1.0
            took.append(now - waiting.popleft())
            admission.leave(now)
    return took


def test_an_idle_service_takes_what_the_fixed_limit_allows() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    assert [admission.enter() for _ in range(MOST + 1)] == [True] * MOST + [False]


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
        assert all(admission.enter() for _ in range(LEAST // 4))
        for _ in range(LEAST // 4):
            admission.leave(10.0 * second)
    assert admission.limit == MOST


def test_the_limit_never_leaves_its_bounds() -> None:
    admission = Admission(MOST, LONGEST, 0.0)
    overrun(admission, rate=1.0, seconds=200.0, offered=50.0)
    assert admission.limit == LEAST
    overrun(admission, rate=5000.0, seconds=5.0, offered=20_000.0, begin=200.0)
    assert admission.limit == MOST
