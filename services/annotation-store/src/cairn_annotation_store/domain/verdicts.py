"""What an examination of answers finds: whether they fit, and what of the schema they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import check_answers
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_annotation_store.domain.schema_change import Use, uses_of
from cairn_kit.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. It holds for one version of the schema; an item stays as it is."""

    schema_version: int
    error: InvalidArgument | None
    uses: frozenset[Use]
    """Of answers that do not fit, none."""


def verdict_on(
    answers: Sequence[value_pb.Answer], schema_version: int, rules: SchemaRules, item: ItemFacts
) -> Verdict:
    """Examine one annotation's answers: half a second for each MiB, where they are many small shapes or spans."""
    error = check_answers(answers, rules, item)
    return Verdict(schema_version, error, frozenset() if error else frozenset(uses_of(answers)))
