"""Whose fault a failure is: told by what was answered after it, in the order in which it was judged."""

import pytest

from cairn_client.working.doubts import Doubt, Doubts

NONE = float("-inf")


def failed(key: str, judged_at: float) -> Doubt[str]:
    return Doubt(key, key, ValueError("no such picture"), judged_at)


def doubts(*judged_at: float, enough: int = 3, sound_at: float | None = None) -> Doubts[str]:
    made: Doubts[str] = Doubts(enough)
    if sound_at is not None:
        made.kept(sound_at)
    for n, at in enumerate(judged_at):
        assert made.add(failed(f"i{n}", at))
    return made


def test_an_answer_that_is_kept_tells_of_what_failed_before_it_and_of_nothing_else() -> None:
    some = doubts(1.0, 2.0, 3.0)
    assert [doubt.of for doubt in some.kept(2.0)] == ["i0", "i1"]
    assert (len(some), some.last.of) == (1, "i2")
    assert not some.kept(1.5)
    assert not some.add(failed("late", 2.0)), "it was refused after another of its batch was kept"
    assert not some.add(failed("late", 1.0))
    assert some.add(failed("i3", 2.5))


def test_enough_failures_in_a_row_are_the_judges() -> None:
    assert not doubts(1.0, 2.0).condemn_the_judge(NONE, dry=False)
    assert doubts(1.0, 2.0, 3.0).condemn_the_judge(NONE, dry=False)
    interrupted = doubts(1.0, 2.0)
    interrupted.kept(2.0)
    interrupted.add(failed("i2", 3.0))
    assert not interrupted.condemn_the_judge(NONE, dry=False)


@pytest.mark.parametrize(
    ("unacknowledged", "condemned"), [(0.5, True), (1.0, False), (2.5, False), (4.0, False)]
)
def test_nobody_is_blamed_while_an_answer_is_on_its_way_that_may_tell(
    unacknowledged: float, condemned: bool
) -> None:
    some = doubts(1.0, 2.0, 3.0)
    assert some.enough
    assert some.condemn_the_judge(unacknowledged, dry=False) == condemned


def test_an_item_counts_once_however_often_it_fails() -> None:
    some = doubts(1.0, 2.0)
    some.add(failed("i0", 3.0))
    some.add(failed("i0", 4.0))  # under another lease
    assert (len(some), some.last.judged_at) == (2, 4.0)
    assert not some.condemn_the_judge(NONE, dry=False)
    assert [doubt.of for doubt in some.kept(2.0)] == ["i1"], (
        "of the last failure at the other nothing is known"
    )


def test_a_second_failure_tells_no_more_than_the_first() -> None:
    sound = doubts(1.0, 2.0, sound_at=0.5)
    assert not sound.condemn_the_judge(NONE, dry=True)
    assert sound.add(failed("i0", 3.0)), "the judge may have broken down since"
    sound.add(failed("i2", 4.0))
    assert sound.condemn_the_judge(NONE, dry=True), "what was settled before an answer was kept counts"


def test_nobody_is_blamed_while_something_is_being_judged() -> None:
    assert not doubts(1.0, 2.0, 3.0).condemn_the_judge(float("inf"), dry=False)


def test_a_judge_that_never_answered_is_at_fault_where_there_is_no_other_item() -> None:
    assert doubts(1.0).condemn_the_judge(NONE, dry=True)
    assert not doubts().condemn_the_judge(NONE, dry=True)
    assert not doubts(sound_at=1.0).condemn_the_judge(NONE, dry=True)
