"""Collects what is wrong with a message: exact path, what was found, what was expected."""

from __future__ import annotations

from cairn_kit.errors import CairnError, InvalidArgument, Violation

MAX_VIOLATIONS = 100
"""More than this helps nobody and would outgrow the 8 KiB that many gRPC stacks allow for trailers."""

_MAX_SHOWN = 60


def shown(value: object) -> str:
    """A value as it is quoted in a message: short, and always printable."""
    text = value if isinstance(value, str) else repr(value)
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
    return repr(cut) if isinstance(value, str) else cut


def listed(values: object, limit: int = 8) -> str:
    """Some values of a collection, for 'expected one of ...'."""
    names = sorted(str(value) for value in values)  # type: ignore[attr-defined]
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


class Report:
    """The violations found so far; stops collecting at `MAX_VIOLATIONS`."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def __bool__(self) -> bool:
        return bool(self._violations)

    @property
    def full(self) -> bool:
        """Whether looking further is useless."""
        return len(self._violations) >= MAX_VIOLATIONS

    def add(self, path: str, wrong: str, expected: str) -> None:
        """Note that the field at `path` is wrong."""
        if not self.full:
            self._violations.append(Violation(path, f"{wrong}; expected {expected}."))

    def violations(self) -> tuple[Violation, ...]:
        """Everything noted, in the order of the message."""
        return tuple(self._violations)


def shortened(error: CairnError, most: int) -> CairnError:
    """The error with the first `most` of its violations; where there are more, its message says how many."""
    if not isinstance(error, InvalidArgument) or len(error.violations) <= most:
        return error
    more = len(error.violations) - most
    told = f"{more} or more" if len(error.violations) >= MAX_VIOLATIONS else f"{more}"
    return InvalidArgument(
        error.reason,
        f"{error.message} ({told} are not shown)",
        violations=error.violations[:most],
        **error.metadata,
    )
