"""Which share a project falls into, and how many shares a replica is due."""

from __future__ import annotations

from zlib import crc32

from cairn_kit.events.subscription import NotYet

SHARES = 16
"""Fixed for ever: replicas of two releases must agree on it."""


class Elsewhere(NotYet):
    """Another replica keeps the project's share, or none does just now."""

    understood = True


def share_of(tenant: str, project: str) -> int:
    """The share, from 0 to 15, that a project falls into."""
    return crc32(f"{tenant}/{project}".encode()) % SHARES


def fair_number(rank: int, replicas: int) -> int:
    """How many shares the replica of a rank, from 0, is due: all together they are due all of them."""
    return SHARES // replicas + (rank < SHARES % replicas)
