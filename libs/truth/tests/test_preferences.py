"""Preferences: candidates with strengths, labelers with habits, and what is right between two."""

from __future__ import annotations

import os
from pathlib import Path

from cairn_truth.values.preferences import LivePreferences
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_it_keeps_the_promises_of_all_live_states() -> None:
    answers = {
        "x": {"ann": "a", "bob": "b", "cat": "a"},
        "y": {"ann": "", "bob": "c"},
        "z": {"cat": "d"},
        "w": {"bob": ""},
    }
    check_live_state(LivePreferences, answers, wrong=7)
