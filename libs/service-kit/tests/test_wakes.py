"""Bells are kept by those who wait for them."""

from __future__ import annotations

from cairn_kit.wakes import Wakes


def test_nothing_is_kept_of_projects_that_nobody_waits_for_any_more() -> None:
    wakes = Wakes()
    bell, same = wakes.listen("acme", "birds"), wakes.listen("acme", "birds")
    assert bell is same
    for number in range(100):
        wakes.listen("acme", f"invented-{number}")
    assert len(wakes._bells) == 1
    wakes.ring("acme", "birds")
    assert bell.is_set()
    assert wakes.listen("acme", "birds") is not bell
