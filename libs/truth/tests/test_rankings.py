"""Rankings: places shared and left out, labelers of uneven care, and the ranking most pairs agree with."""

from __future__ import annotations

from cairn_truth.values.rankings import LiveRankings
from libs.truth.tests.live_contract import check_live_state


def test_it_keeps_the_promises_of_all_live_states() -> None:
    answers = {
        "x": {"ann": (("a",), ("b", "c")), "bob": (("b",), ("a",), ("c",)), "cat": (("a", "b"),)},
        "y": {"ann": (("a",), ("d",)), "bob": (("d",),)},
        "z": {"cat": (("p",), ("q",), ("r",), ("s",))},
    }
    check_live_state(LiveRankings, answers, wrong=(("a",), ("a",)))
