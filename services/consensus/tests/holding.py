"""What takes long, for as long as a test wants it to."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cairn_consensus.domain.whole import Whole


class Held:
    """Fits that go on only when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        fit = Whole.fit

        def held(everything: Whole, after: int) -> Any:
            self.begun.set()
            assert self.go_on.wait(60)
            return fit(everything, after)

        monkeypatch.setattr(Whole, "fit", held)
