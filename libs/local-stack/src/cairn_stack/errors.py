"""The one error that people see: a plain sentence."""

from __future__ import annotations

import errno

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "disk full")


ALREADY_SUPERVISED = 75
"""The exit code of a supervisor that found another at work (EX_TEMPFAIL of sysexits.h)."""


class StackError(Exception):
    """The stack could not do what was asked; the text says what was wrong and what to do."""


def means_full_disk(error: BaseException | str) -> bool:
    """Whether an error, or the end of a program's log, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error).lower() for words in _FULL_WORDS)
