"""What an import takes in: each item of a chunk is new, there twice, or refused alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.items import BlobFacts, NewItem, check_item, new_item, normalised
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_annotation_store.domain.texts import Fault
from cairn_kit.errors import AlreadyExists, CairnError, InvalidArgument, Violation


@dataclass(frozen=True, slots=True)
class Refusal:
    """An item that is not taken in: its place in the import, from 0, its key as given, and why."""

    offset: int
    key: str
    error: CairnError


class Intake:
    """Items of an import, from offset `begins` up to before `ends`, sorted by all that is known before writing.

    It holds for one version of the schema, which gold answers are checked against.
    """

    def __init__(
        self,
        project: str,
        schema_version: int,
        rules: SchemaRules,
        blobs: Mapping[str, BlobFacts],
        begins: int,
    ) -> None:
        self._project = project
        self._rules = rules
        self._blobs = blobs
        self.schema_version = schema_version
        self.begins = self.ends = begins
        self.fresh: dict[str, NewItem] = {}
        """By key, in the order given."""
        self.offsets: dict[str, int] = {}
        """Where each of `fresh` stands in the import."""
        self.unchanged = 0
        """Items that came twice, the same both times."""
        self.refused: list[Refusal] = []

    def take(self, given: pb.Item, faults: Sequence[tuple[str, Fault]] = ()) -> None:
        """Sort the next item; `faults` are its texts that cannot be kept."""
        offset = self.ends
        self.ends += 1
        item = normalised(given, self._blobs)
        error = _unkeepable(faults) or check_item(item, self._rules, self._blobs)
        if error is not None:
            self.refused.append(Refusal(offset, given.key, error))
            return
        new = new_item(item, self._blobs)
        earlier = self.fresh.get(new.key)
        if earlier is None:
            self.fresh[new.key] = new
            self.offsets[new.key] = offset
        elif earlier.encoded == new.encoded:
            self.unchanged += 1
        else:
            self.refused.append(Refusal(offset, new.key, conflict(self._project, new.key)))

    def meets(self, there: Mapping[str, NewItem]) -> tuple[int, list[Refusal]]:
        """Of those of `fresh` that turn out to be in the project: how many are the same, and the others, refused."""
        refused = [
            Refusal(self.offsets[key], key, conflict(self._project, key))
            for key, kept in there.items()
            if kept.digest != self.fresh[key].digest and kept.body != self.fresh[key].body
        ]
        return len(there) - len(refused), refused


def conflict(project: str, key: str) -> AlreadyExists:
    """Why an item is refused whose key another one has."""
    name = f"projects/{project}/items/{key}"
    return AlreadyExists("ITEM_CONFLICT", f"{name} exists with other content.", resource=name)


def _unkeepable(faults: Sequence[tuple[str, Fault]]) -> CairnError | None:
    if not faults:
        return None
    violations = [Violation(path, fault.value) for path, fault in faults]
    first = violations[0]
    return InvalidArgument(
        "ITEM_INVALID", f"The item is refused: {first.field}: {first.description}", violations=violations
    )
