"""Text of many words: transcriptions, translations, whatever several people write of one thing.

Joined in one of three ways:

- *exact*: where people, more often than not, write the same word for word, the text is one of the answers, right or
  wrong as a whole (as in `LiveTexts`).
- *words* (ROVER, Fiscus 1997): elsewhere answers are laid word over word (`alignment`) and voted on slot by slot, each
  labeler with the rates of errors learnt (`word_votes`). Nobody need have written the text that comes out.
- *whole* (the medoid with learnt weights, as RASA chooses it, Li & Fukumoto 2019): where asked for, or where the words
  voted for are none, the answer with the least word errors against all.

On recorded transcriptions and translations alike the votes on words made fewer errors than the medoid, even where
the medoid was the nearer to the answers: so it has no say unless a text must be readable before it is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ..columns import Floats, checked_name
from ..live_answers import Answered, Evidence, LabelerAccuracy, LiveAnswers, heaviest_first
from .alignment import GAP, Ints, Versions, networks
from .texts import UNKNOWN_ACCURACY, ChosenText, as_text, chosen, fit_accuracies, normalise
from .word_votes import WordRates, WordVotes, answer_rates, fit_rates, thinned
from .words import Word, joined_as_others, words_of, written

VERSION = "2"
"""Changes whenever the same answers may give another text; it is written into every label's provenance."""

ALGORITHM = "ROVER with learnt word errors, or exact match"

_ROUNDS = 3
_LONGEST, _MOST_WORDS = 1_000, 3_000
"""Words in an answer, and distinct ones in all answers to an item, up to which they are aligned: within a second or two."""


class Joining(StrEnum):
    """How a text was made of the answers."""

    EXACT = "exact"
    WORDS = "words"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class JoinedText:
    """A text and how good it is expected to be.

    ``confidence``: joined as `Joining.EXACT`, the chance that it is right as a whole; otherwise its expected word
    accuracy, one less the expected word error rate. ``words`` are its words as compared, each with the chance that it
    is right where it stands. ``candidates`` are what could have been chosen, as written, each with its confidence, the
    best first.
    """

    text: str
    confidence: float
    joining: Joining
    words: tuple[tuple[str, float], ...]
    candidates: tuple[tuple[str, float], ...]
    evidence: tuple[Evidence, ...]

    @property
    def value(self) -> str:
        """The text, by the name that all kinds share."""
        return self.text


class _Laid(NamedTuple):
    """Answers to one item laid over each other: their words, one list an answer, and the network of their numbers."""

    words: list[list[Word]]
    keys: tuple[str, ...]
    network: Ints


class LiveTranscripts(LiveAnswers[str, JoinedText, LabelerAccuracy]):
    """Live state of a question answered with text of any length.

    ``fold_case_and_space``: answers are compared without case, spacing and punctuation; what is given back is as most
    wrote it. ``whole``: the text is always one of the answers, as readable as its author made it.
    """

    def __init__(self, *, fold_case_and_space: bool = True, whole: bool = False) -> None:
        super().__init__()
        self._fold = fold_case_and_space
        self._whole = whole
        self._known_rates = WordRates.unknown()
        self._aligned: dict[tuple[str, ...], _Laid] = {}

    def _settings(self) -> str:
        return f"fold_case_and_space={self._fold}, whole={self._whole}"

    def reliability(self, labeler: str) -> LabelerAccuracy:
        """Return the expected share of a labeler's words that are right (of whole answers, where those are compared).

        The crowd's for one never fitted.
        """
        checked_name("labeler", labeler)
        if self._mostly_equal(()):
            return self._accuracy(labeler, self._right(labeler), self._of(labeler, "answers_seen", 0.0) + 1.0)
        row = self._rows.get(labeler, -1)
        right = float(self._known_rates.of([row])[0, 0])
        return self._accuracy(labeler, right, self._of(labeler, "words_seen", 0.0) + 1.0)

    # --- what LiveAnswers asks of a kind

    def _checked(self, answer: str) -> str:
        return as_text(answer)

    def _join(self, votes: Sequence[tuple[str, str]]) -> JoinedText:
        if not votes:
            return JoinedText("", 0.0, Joining.EXACT, (), (), ())
        texts = tuple(text for _, text in votes)
        laid = None if self._mostly_equal(texts) else self._lay(texts)
        if laid is None:
            return _as_joined(self._by_whole_answers(votes))
        return self._by_words(votes, laid)

    def _known(self, truth: str, votes: Sequence[tuple[str, str]]) -> JoinedText:
        laid = self._lay((*(text for _, text in votes), truth))
        if laid is None:
            agreement = [float(self._key(text) == self._key(truth)) for _, text in votes]
        else:
            agreement = _agreement(laid.network[:, :-1], laid.network[:, -1]).tolist()
        evidence = tuple(Evidence(who, a, 0.0) for (who, _), a in zip(votes, agreement, strict=True))
        words = tuple((word.key, 1.0) for word in words_of(truth, fold=self._fold))
        return JoinedText(truth, 1.0, Joining.EXACT, words, ((truth, 1.0),), evidence)

    def _learn(self, answered: Sequence[Answered[str]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        exact = fit_accuracies(
            [
                ([(who, self._key(text)) for who, text in votes], None if truth is None else self._key(truth))
                for _, votes, truth in answered
            ],
            labelers,
        )
        equal = np.sum(
            [_pairs([self._key(t) for _, t in votes]) for _, votes, _ in answered] or [(0.0, 0.0)], axis=0
        )
        rates = self._learn_words(answered, labelers)
        return {
            "accuracy": exact["accuracy"],
            "answers_seen": exact["seen"],
            "exact_crowd": exact["crowd"],
            "equal_pairs": equal,
            "word_rates": rates.rates,
            "words_seen": rates.seen,
            "word_crowd": np.append(rates.crowd, [rates.alike, rates.correlation]),
        }

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        super()._adopt(labelers, fitted)
        if not fitted:
            self._known_rates, self._aligned = WordRates.unknown(), {}
            return
        crowd = fitted["word_crowd"]
        self._known_rates = WordRates(
            fitted["word_rates"], fitted["words_seen"], crowd[:3], float(crowd[3]), float(crowd[4])
        )

    # --- whole answers

    def _mostly_equal(self, texts: Sequence[str]) -> bool:
        """Say whether two answers to an item are, more often than not, the same word for word.

        By all pairs of answers at the last refit, and those of this item.
        """
        equal, pairs = _pairs([self._key(text) for text in texts])
        if self._fitted:
            equal, pairs = equal + self._fitted["equal_pairs"][0], pairs + self._fitted["equal_pairs"][1]
        return bool(2.0 * equal >= pairs)

    def _by_whole_answers(self, votes: Sequence[tuple[str, str]]) -> ChosenText:
        keyed = [(self._key(text), text) for _, text in votes]
        return chosen(votes, keyed, np.array([self._right(who) for who, _ in votes]))

    def _right(self, labeler: str) -> float:
        crowd = float(self._fitted["exact_crowd"][0]) if self._fitted else UNKNOWN_ACCURACY
        return self._of(labeler, "accuracy", crowd)

    def _key(self, text: str) -> str:
        return normalise(text, fold_case_and_space=self._fold)

    # --- word by word

    def _learn_words(self, answered: Sequence[Answered[str]], labelers: tuple[str, ...]) -> WordRates:
        row = {who: i for i, who in enumerate(labelers)}
        # A known truth is one more version, whose words are right; it is nobody's answer.
        texts = [
            (*(text for _, text in votes), *(() if truth is None else (truth,)))
            for _, votes, truth in answered
        ]
        laid = self._lay_all(texts)
        self._aligned = {
            text: found
            for text, found, one in zip(texts, laid, answered, strict=True)
            if one.truth is None and found is not None
        }
        nets, known, authors = [], [], []
        for one, found in zip(answered, laid, strict=True):
            if found is None:
                continue
            people = len(one.votes)
            nets.append(found.network[:, :people])
            known.append(None if one.truth is None else found.network[:, people])
            authors += [row[who] for who, _ in one.votes]
        votes = WordVotes(nets, known)
        return fit_rates(votes, np.array(authors, dtype=np.int64), len(labelers))

    def _lay(self, texts: tuple[str, ...]) -> _Laid | None:
        return self._aligned[texts] if texts in self._aligned else self._lay_all([texts])[0]

    def _lay_all(self, items: Sequence[tuple[str, ...]]) -> list[_Laid | None]:
        """Lay the answers to each item over each other; None where they are too long, or have no words at all."""
        worded = [[words_of(text, fold=self._fold) for text in texts] for texts in items]
        if self._fold:
            worded = [joined_as_others(words) for words in worded]
        versions = [Versions.of([[word.key for word in text] for text in words]) for words in worded]
        fit = [
            i
            for i, v in enumerate(versions)
            if 1 < len(v.words) <= _MOST_WORDS and max(t.size for t in v.tokens) <= _LONGEST
        ]
        found: list[_Laid | None] = [None] * len(items)
        for i, network in zip(fit, networks([versions[i] for i in fit]), strict=True):
            found[i] = _Laid(worded[i], versions[i].words, network)
        return found

    def _by_words(self, votes: Sequence[tuple[str, str]], laid: _Laid) -> JoinedText:
        rates = self._known_rates
        columns = WordVotes([laid.network])
        expected = rates.of([self._rows.get(who, -1) for who, _ in votes])
        own = expected
        for _ in range(_ROUNDS):
            own = answer_rates(columns.counts(columns.chances(own, rates.alike)), expected)
        chance = columns.chances(own, rates.alike)
        sure = columns.table(columns.chances(own, rates.alike, thinned(columns, rates.correlation)))
        best = columns.best(chance)
        weight = _speaks(own, rates.alike)
        if self._whole or not best.any():
            return self._told(votes, laid, _medoid(laid.network, weight), Joining.WHOLE, sure, weight)
        return self._told(votes, laid, best, Joining.WORDS, sure, weight)

    def _told(
        self,
        votes: Sequence[tuple[str, str]],
        laid: _Laid,
        tokens: Ints,
        how: Joining,
        sure: Floats,
        weight: Floats,
    ) -> JoinedText:
        """Return the text of these ``tokens``, one a slot, with what it is worth and by whom."""
        agreement = _agreement(laid.network, tokens)
        share = weight * agreement
        share = share / share.sum() if share.sum() > 0.0 else share
        evidence = heaviest_first(
            Evidence(who, a, w)
            for (who, _), a, w in zip(votes, agreement.tolist(), share.tolist(), strict=True)
        )
        slots = np.arange(tokens.size)
        words = [
            (laid.keys[t], c) for t, c in zip(tokens.tolist(), sure[slots, tokens].tolist(), strict=True) if t
        ]
        text = self._as_written(laid, tokens, weight, votes, how)
        found: dict[str, float] = {text: _expected_accuracy(tokens, sure)}
        for column, (_, answer) in enumerate(votes):
            found.setdefault(answer.strip(), _expected_accuracy(laid.network[:, column], sure))
        ranked = sorted(found.items(), key=lambda pair: (pair[0] != text, -pair[1], pair[0]))
        return JoinedText(text, found[text], how, tuple(words), tuple(ranked), evidence)

    def _as_written(
        self, laid: _Laid, tokens: Ints, weight: Floats, votes: Sequence[tuple[str, str]], how: Joining
    ) -> str:
        """Write each word as the weightiest form of it in its slot; a whole answer as it stands."""
        if how is Joining.WHOLE:
            same = [i for i in range(len(votes)) if bool((laid.network[:, i] == tokens).all())]
            return votes[max(same, key=lambda i: (weight[i], -i))][1].strip()
        at = np.zeros(len(laid.words), dtype=np.int64)
        words = []
        for slot, token in zip(laid.network, tokens.tolist(), strict=True):
            if token != GAP:
                forms: dict[Word, float] = {}
                for answer in np.flatnonzero(slot == token).tolist():
                    word = laid.words[answer][at[answer]]
                    forms[word] = forms.get(word, 0.0) + weight[answer]
                words.append(min(forms, key=lambda form: (-forms[form], form)))
            at += slot != GAP
        return written(words)


def _as_joined(found: ChosenText) -> JoinedText:
    return JoinedText(found.text, found.confidence, Joining.EXACT, (), found.candidates, found.evidence)


def _pairs(keys: Sequence[str]) -> tuple[float, float]:
    """Return how many pairs of answers to an item are equal, and how many there are."""
    counts: dict[str, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return sum(n * (n - 1) for n in counts.values()) / 2.0, len(keys) * (len(keys) - 1) / 2.0


def _agreement(network: Ints, tokens: Ints) -> Floats:
    """Return one less the word error rate of each answer ``(answers,)`` against a text, at least 0."""
    errors = (network != tokens[:, None]).sum(axis=0)
    return np.asarray(np.maximum(1.0 - errors / max(int((tokens != GAP).sum()), 1), 0.0))


def _speaks(rates: Floats, alike: float) -> Floats:
    """Return the nats by which a word of each answer speaks for itself, at least a little."""
    right, missed, _ = rates.T
    return np.asarray(np.maximum(np.log(right / (np.maximum(1.0 - right - missed, 1e-3) * alike)), 1e-3))


def _medoid(network: Ints, weight: Floats) -> Ints:
    """Return the answer with the least word errors against all, each weighed."""
    errors = (network[:, :, None] != network[:, None, :]).sum(axis=0)
    return np.asarray(network[:, int(np.argmin(errors @ weight))])


def _expected_accuracy(tokens: Ints, sure: Floats) -> float:
    """Return one less the expected word error rate of a text, at least 0."""
    wrong = float((1.0 - sure[np.arange(tokens.size), tokens]).sum())
    return max(1.0 - wrong / max(int((tokens != GAP).sum()), 1), 0.0)
