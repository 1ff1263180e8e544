"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

_PAUSE = 0.02
PATIENCE = 60.0
"""Seconds until what should have come is missed: a machine that others use may run at a tenth of its pace."""

_ANYTHING_TRUE = object()


async def eventually(
    look: Callable[[], Any | Awaitable[Any]], expected: Any = _ANYTHING_TRUE, *, timeout: float = PATIENCE
) -> Any:
    """Look again and again until the answer is true, or equals `expected`; returns it.

    Exceptions count as "not yet". Fails with the last answer, or the last exception, when time is out.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        problem: BaseException | None = None
        answer: Any = None
        try:
            answer = look()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer == expected if expected is not _ANYTHING_TRUE else answer:
                return answer
        except Exception as error:
            problem = error
        if asyncio.get_running_loop().time() > deadline:
            wanted = "something true" if expected is _ANYTHING_TRUE else repr(expected)
            raise AssertionError(
                f"after {timeout:.0f} s: wanted {wanted}, got {problem or answer!r}"
            ) from problem
        await asyncio.sleep(_PAUSE)
