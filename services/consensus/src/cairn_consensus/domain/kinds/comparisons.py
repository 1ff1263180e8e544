"""Preferences and rankings: which of an item's candidates is better."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

from cairn.consensus.v1.consensus_pb2 import ClassProbability, Posterior
from cairn.label.v1.label_value_pb2 import Answer, Preference, Ranking, RankingTier
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.kinds.joined import JoinedState
from cairn_consensus.domain.kinds.question_state import Leading
from cairn_truth.values import preferences, rankings
from cairn_truth.values.preferences import JoinedPreference, LivePreferences
from cairn_truth.values.ranked_pairs import Tiers
from cairn_truth.values.rankings import JoinedRanking, LiveRankings


class PreferenceState(JoinedState[str, JoinedPreference]):
    """The better of two candidates, or neither."""

    algorithm = preferences.ALGORITHM
    algorithm_version = preferences.VERSION

    near = 1.0  # the same candidate

    def _empty(self) -> LivePreferences:
        return LivePreferences(ties=self.rules.ties_allowed)

    def _read(self, answer: Answer) -> str:
        return answer.preference.candidate_id

    def _written(self, item: ItemKey, joined: JoinedPreference) -> Leading:
        preference = Preference(candidate_id=joined.value)
        return Leading(Answer(question=self.id, preference=preference), joined.confidence)

    def _said(self, answer: str) -> str:
        return answer or "neither"

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        chances = self._live.posterior(item).probabilities
        posterior.classes.extend(
            ClassProbability(class_id=name, probability=chance)
            for name, chance in sorted(chances.items(), key=lambda pair: (-pair[1], pair[0]))
        )


class RankingState(JoinedState[Tiers, JoinedRanking]):
    """An order of candidates, or of the best of them."""

    algorithm = rankings.ALGORITHM
    algorithm_version = rankings.VERSION

    near = 1.0  # the same order

    def _empty(self) -> LiveRankings:
        return LiveRankings(ties=self.rules.ties_allowed, top=bool(self.rules.top))

    def _read(self, answer: Answer) -> Tiers:
        return tuple(tuple(tier.candidate_ids) for tier in answer.ranking.tiers)

    def _written(self, item: ItemKey, joined: JoinedRanking) -> Leading:
        tiers, placed = [], 0
        for tier in joined.value:
            if self.rules.top and placed >= self.rules.top:
                break  # what is below was asked of nobody
            tiers.append(RankingTier(candidate_ids=tier))
            placed += len(tier)
        return Leading(Answer(question=self.id, ranking=Ranking(tiers=tiers)), joined.confidence)

    def _said(self, answer: Tiers) -> str:
        return " > ".join(" = ".join(tier) for tier in answer)
