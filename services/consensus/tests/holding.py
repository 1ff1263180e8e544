"""What takes long, for as long as a test wants it to."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cairn_consensus.domain.project_state import Fit, ProjectState
from cairn_consensus.fitting import Fitting, Making
from cairn_consensus.store import ProjectKey
from cairn_kit.database import Transaction


class Held:
    """Fits, of one project or of all, that go on only when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, project: str | None = None) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.times = self.given_up = 0
        """How often one was begun, and how often nobody waited for it any more."""
        begin = Fitting.begin

        async def holding(fitting: Fitting, tx: Transaction, key: ProjectKey, state: ProjectState) -> Making:
            make = await begin(fitting, tx, key, state)

            async def held() -> Fit:
                self.times += 1
                self.begun.set()
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.given_up += 1
                    raise
                return await make()

            return held if project in (None, key.project) else make

        monkeypatch.setattr(Fitting, "begin", holding)


class HeldItem:
    """A conclusion, or a refit, that comes to an item, and goes on only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, item: str, judging: str = "conclude") -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.concluded: list[str] = []
        """The items that were concluded, or judged, in order."""
        self._dead = False
        judge = getattr(ProjectState, judging)

        def held(state: ProjectState, key: Any) -> Any:
            if key == item and not self.go_on.is_set():
                self.begun.set()
                assert self.go_on.wait(60)
                if self._dead:
                    raise RuntimeError("nobody hears of this any more")
            self.concluded.append(key)
            return judge(state, key)

        monkeypatch.setattr(ProjectState, judging, held)

    def die(self) -> None:
        """Let what was held be of no consequence any more, as of a process that was killed, and what comes next pass."""
        self._dead = True
        self.concluded.clear()
        self.go_on.set()
