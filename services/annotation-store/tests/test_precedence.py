"""Which label stands: a pure rule, so every order of arrival can be tried."""

from __future__ import annotations

from itertools import permutations
from uuid import UUID

from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.labels import (
    LabelKey,
    LabelRevision,
    Proposal,
    Rank,
    Source,
    completeness,
    next_revision,
)

KEY = LabelKey("acme", "birds", "k", "q")  # type: ignore[arg-type]
ranks = st.builds(Rank, st.sampled_from(Source), st.integers(0, 3), st.builds(UUID, int=st.integers(0, 3)))


def proposal(rank: Rank) -> Proposal:
    return Proposal(KEY, rank, v.Answer(choice=f"{rank.source}-{rank.order}"), 0.9, pb.Provenance())


def after(proposals: list[Proposal]) -> LabelRevision | None:
    standing = None
    for one in proposals:
        standing = next_revision(standing, one) or standing
    return standing


@given(st.lists(ranks, min_size=1, max_size=4))
def test_the_same_label_stands_in_whatever_order_the_sources_speak(given_ranks: list[Rank]) -> None:
    ends = {after(list(order)).rank for order in permutations(map(proposal, given_ranks))}  # type: ignore[union-attr]
    assert len(ends) == 1
    [end] = ends
    assert end.source == max(rank.source for rank in given_ranks)
    rivals = [rank for rank in given_ranks if rank.source == end.source]
    assert (end.order, end.event_id) == max((rank.order, rank.event_id) for rank in rivals)


@given(st.lists(ranks, min_size=1, max_size=6))
def test_revisions_count_from_one_and_saying_it_twice_adds_none(given_ranks: list[Rank]) -> None:
    standing = None
    for rank in given_ranks:
        made = next_revision(standing, proposal(rank))
        if made is not None:
            assert made.revision == (1 if standing is None else standing.revision + 1)
            standing = made
        assert next_revision(standing, proposal(rank)) is None


SCHEMA = text_format.Parse(
    """questions { id: "bird" required: true choice { classes { id: "yes" } classes { id: "no" } } }
       questions { id: "kind" required: true condition { question: "bird" any_of: "yes" } text { } }
       questions { id: "note" text { } }""",
    schema_pb.LabelSchema(),
)


def standing(**labels: tuple[Source, v.Answer]) -> dict[str, LabelRevision]:
    return {
        question: LabelRevision(KEY, 1, Rank(source, 0, UUID(int=0)), answer, 1.0, pb.Provenance())
        for question, (source, answer) in labels.items()
    }


def test_an_item_is_complete_by_the_least_sure_of_the_labels_it_needs() -> None:
    yes, no, wren = v.Answer(choice="yes"), v.Answer(choice="no"), v.Answer(text="wren")
    assert completeness(SCHEMA, {}) is None
    assert completeness(SCHEMA, standing(note=(Source.GOLD, wren))) is None
    assert completeness(SCHEMA, standing(bird=(Source.GOLD, no))) is Source.GOLD
    assert completeness(SCHEMA, standing(bird=(Source.GOLD, yes))) is None
    both = standing(bird=(Source.GOLD, yes), kind=(Source.CONSENSUS, wren), note=(Source.AUTO, wren))
    assert completeness(SCHEMA, both) is Source.CONSENSUS


def test_when_nothing_is_required_any_label_completes() -> None:
    optional = text_format.Parse('questions { id: "note" text { } }', schema_pb.LabelSchema())
    assert completeness(optional, {}) is None
    assert completeness(optional, standing(note=(Source.AUTO, v.Answer(text="x")))) is Source.AUTO
