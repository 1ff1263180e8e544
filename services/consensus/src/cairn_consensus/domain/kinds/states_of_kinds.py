"""Which state is behind a question of which kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cairn.label.v1.label_schema_pb2 import Question
from cairn_consensus.domain.ids import QuestionId
from cairn_consensus.domain.kinds.classes import ChoicesState, ChoiceState
from cairn_consensus.domain.kinds.comparisons import PreferenceState, RankingState
from cairn_consensus.domain.kinds.masks import MasksState
from cairn_consensus.domain.kinds.question_state import QuestionState
from cairn_consensus.domain.kinds.relations import RelationsState
from cairn_consensus.domain.kinds.shapes import (
    BoxesState,
    CuboidsState,
    EllipsesState,
    PolygonsState,
    PolylinesState,
    RegionsState,
    RotatedBoxesState,
    SkeletonsState,
)
from cairn_consensus.domain.kinds.stretches import SegmentsState, SpansState
from cairn_consensus.domain.kinds.tracks import TracksState
from cairn_consensus.domain.kinds.values import NumberState, TextState, rating_state

_STATES: Mapping[str, Callable[[Question], QuestionState]] = {
    "choice": ChoiceState,
    "choices": ChoicesState,
    "number": NumberState,
    "rating": rating_state,
    "text": TextState,
    "ranking": RankingState,
    "preference": PreferenceState,
    "boxes": BoxesState,
    "rotated_boxes": RotatedBoxesState,
    "ellipses": EllipsesState,
    "polygons": PolygonsState,
    "polylines": PolylinesState,
    "keypoints": SkeletonsState,
    "cuboids": CuboidsState,
    "mask": MasksState,
    "spans": SpansState,
    "relations": RelationsState,
    "regions": RegionsState,
    "segments": SegmentsState,
    "tracks": TracksState,
}


def state_of(question: Question) -> QuestionState:
    """An empty state for a question of any kind."""
    return _STATES[question.WhichOneof("kind") or ""](question)


def states_of(questions: Iterable[Question]) -> list[QuestionState]:
    """An empty state for each question; relations follow the spans they link."""
    states = [state_of(question) for question in questions]
    by_id = {state.id: state for state in states}
    for state in states:
        if isinstance(state, RelationsState) and state.spans_question in by_id:
            state.follow(by_id[QuestionId(state.spans_question)])
    return states
