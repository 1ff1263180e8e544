"""The whole ledger computed again from its rows, and compared with everything that is kept about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from cairn_audit.domain import merkle
from cairn_audit.domain.checkpoint import LedgerPublicKey, SignedHead, note_defect
from cairn_audit.domain.merkle import Hash, NodeId
from cairn_audit.domain.records import Entry, is_deletion, record_defect

_MOST_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class FoundDamage:
    """What a check of the ledger found."""

    entries: int
    checkpoints: int
    erased: int
    """Of the entries, those whose place is proven and whose content is gone."""
    problems: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether everything is as it must be."""
        return not self.problems


class LedgerCheck:
    """One pass over the rows of a ledger, in order, and over its checkpoints along with them.

    Its steps compute: they are for a thread, one at a time.
    """

    def __init__(self, tenant: str, size: int, keys: Sequence[LedgerPublicKey]) -> None:
        self._tenant = tenant
        self._size = size
        self._keys = keys
        self._checkpoints = 0
        self._roots: dict[int, SignedHead] = {}
        """The checkpoints of the sizes that the entries at hand complete."""
        self._entries = 0
        self._place = 0
        self._frontier: tuple[Hash, ...] = ()
        self._problems: list[str] = []
        self._deletions: set[UUID] = set()
        self._erased: Counter[UUID] = Counter()

    @property
    def entries(self) -> int:
        """How many entries were added."""
        return self._entries

    def node_ranges(self, entries: int) -> list[tuple[int, int, int]]:
        """The nodes that the next so many entries complete: (level, low, high)."""
        start, end = self._entries, self._entries + entries
        return [
            (level, start >> level, end >> level)
            for level in range(1, end.bit_length())
            if start >> level < end >> level
        ]

    def add(
        self, entries: Sequence[Entry], nodes: Mapping[NodeId, Hash], checkpoints: Sequence[SignedHead]
    ) -> None:
        """Check the next entries, the kept nodes that they complete, and the checkpoints of the sizes to which they bring
        the ledger; to size 0 none do."""
        self._check_notes(checkpoints)
        self._roots = {signed.head.size: signed for signed in checkpoints}
        self._settle()
        for entry in entries:
            if entry.index != self._place:
                self._tell(f"entry {self._place} is missing")
                self._place = entry.index
            hashed = self._leaf(entry)
            growth = merkle.grow(self._entries, self._frontier, [hashed])
            for node, expected in growth.nodes:
                if nodes.get(node) != expected:
                    how = "is missing" if node not in nodes else "is wrong"
                    self._tell(f"node {node.place} of level {node.level} {how}")
            self._frontier, self._entries, self._place = growth.frontier, growth.size, entry.index + 1
            self._settle()

    def _leaf(self, entry: Entry) -> Hash:
        """The hash that the entry's bytes have; where they were erased, the one they had, which the roots then prove."""
        if entry.erasure is not None:
            self._erased[entry.erasure.event_id] += 1
            if entry.record:
                self._tell(f"entry {entry.index}: it is said to be erased, and is not")
            return entry.leaf_hash
        hashed = merkle.leaf_hash(entry.record)
        if hashed != entry.leaf_hash:
            self._tell(f"entry {entry.index} was changed: its bytes do not have its hash")
        defect = record_defect(entry, self._tenant)
        if defect is not None:
            self._tell(f"entry {entry.index}: {defect}")
        elif is_deletion(entry.record):
            self._deletions.add(entry.event_id)
        return hashed

    def add_later(self, checkpoints: Sequence[SignedHead]) -> None:
        """Check, after the last entry, checkpoints of sizes to which the entries have not brought the ledger."""
        self._check_notes(checkpoints)
        for signed in checkpoints:
            self._tell(f"checkpoint {signed.head.size}: the ledger is cut off after {self._entries} entries")

    def finish(self, kept_nodes: int) -> FoundDamage:
        """What was found, once everything was added."""
        if self._entries != self._size:
            self._tell(f"the ledger has {self._entries} entries, not {self._size}")
        expected = sum(self._entries >> level for level in range(1, self._entries.bit_length()))
        if kept_nodes != expected:
            self._tell(f"the ledger has {kept_nodes} nodes, not {expected}")
        for event_id in sorted(self._erased.keys() - self._deletions):
            self._tell(
                f"{self._erased[event_id]} entries were erased for the event {event_id}, which deleted no project"
            )
        return FoundDamage(self._entries, self._checkpoints, self._erased.total(), tuple(self._problems))

    def _settle(self) -> None:
        """Compare with what was signed at this size."""
        signed = self._roots.get(self._entries)
        if signed is not None and merkle.fold(self._frontier) != signed.head.root:
            self._tell(f"checkpoint {signed.head.size}: the entries do not have the root that was signed")

    def _check_notes(self, checkpoints: Sequence[SignedHead]) -> None:
        self._checkpoints += len(checkpoints)
        for signed in checkpoints:
            defect = note_defect(signed.head, signed.note, self._keys)
            if defect is not None:
                self._tell(f"checkpoint {signed.head.size}: {defect}")

    def _tell(self, problem: str) -> None:
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(problem)
