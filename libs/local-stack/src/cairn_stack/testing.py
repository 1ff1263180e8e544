"""A whole stack for tests: started at its first use in a test process, shared by all that ask, gone with the process."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path

from cairn_stack.private import PrivateStack


@cache
def shared_stack() -> PrivateStack:
    """The stack of this test process. Each test makes projects of its own; who breaks a service waits for its return."""
    folder = tempfile.TemporaryDirectory(prefix="cairn-stack-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    stack = PrivateStack(Path(folder.name), timeout=300.0)
    atexit.register(stack.stop)  # before the folder goes: atexit runs backwards
    stack.start()
    return stack
