"""What the answers to one question say: one state for each kind of answer, around a live state of `cairn_truth`."""

from cairn_consensus.domain.kinds.question_state import Leading, Part, QuestionState
from cairn_consensus.domain.kinds.relations import RelationsState
from cairn_consensus.domain.kinds.states_of_kinds import state_of, states_of

__all__ = ["Leading", "Part", "QuestionState", "RelationsState", "state_of", "states_of"]
