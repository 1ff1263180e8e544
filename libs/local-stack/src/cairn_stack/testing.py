"""A whole stack for tests: started at its first use in a test process, shared by all that ask, gone with the process."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from functools import cache

from cairn_kit.testing.scratch import scratch_folder
from cairn_stack.private import PrivateStack


@cache
def shared_stack() -> PrivateStack:
    """The stack of this test process. Each test makes projects of its own; who breaks a service waits for its return."""
    exits = ExitStack()
    atexit.register(exits.close)
    stack = PrivateStack(exits.enter_context(scratch_folder()), timeout=300.0)
    exits.callback(stack.stop)  # before the folder goes
    stack.start()
    return stack
