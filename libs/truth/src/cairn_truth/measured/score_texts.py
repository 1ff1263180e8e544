"""Text measured: the share of words that are wrong in what is made of a crowd's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..values.alignment import Versions, networks, word_errors
from ..values.texts import LiveTexts
from ..values.transcripts import LiveTranscripts
from ..values.words import words_of

KIND = "text"
DEFAULT = "LiveTranscripts"

Answers = Mapping[str, Mapping[str, str]]
"""Item to labeler to text."""


def read(label: str) -> str:
    """Return the text of a cell."""
    return label


def keys_of(text: str) -> list[str]:
    """Return the words that are compared: without case and punctuation."""
    return [word.key for word in words_of(text)]


def _with(live: Callable[[], LiveTexts | LiveTranscripts]) -> Callable[[Answers], dict[str, str]]:
    return lambda answers: {item: found.text for item, found in live().fit(answers).items()}


def _first(answers: Answers) -> dict[str, str]:
    """Choose the answer of whoever is first by name."""
    return {item: given[min(given)] for item, given in answers.items() if given}


def _medoid(answers: Answers) -> dict[str, str]:
    """Choose the answer with the least word errors against all others (RASA with equal weights)."""
    found = {}
    for item, given in answers.items():
        texts = [given[who] for who in sorted(given)]
        keys = [keys_of(text) for text in texts]
        errors = [sum(word_errors(a, b) for b in keys) for a in keys]
        found[item] = texts[int(np.argmin(errors))]
    return found


def _rover(answers: Answers) -> dict[str, str]:
    """Take the word that most have in each slot (Fiscus 1997), every answer alike."""
    items = sorted(answers)
    versions = [Versions.of([keys_of(answers[item][who]) for who in sorted(answers[item])]) for item in items]
    found = {}
    for item, version, network in zip(items, versions, networks(versions), strict=True):
        most = [int(np.bincount(slot).argmax()) for slot in network]
        found[item] = " ".join(version.words[token] for token in most if token)
    return found


METHODS: Mapping[str, Callable[[Answers], Mapping[str, str]]] = {
    DEFAULT: _with(LiveTranscripts),
    "LiveTranscripts, whole answers": _with(lambda: LiveTranscripts(whole=True)),
    "LiveTexts": _with(LiveTexts),
    "ROVER": _rover,
    "Medoid": _medoid,
    "FirstAnswer": _first,
}
"""Every method with its defaults: answers to texts. Ours first."""


def judge(values: Mapping[str, str], truths: Mapping[str, str]) -> dict[str, float]:
    """Return ``wer``, the word errors of all texts over the words of all truths, and ``exact``, the share without any.

    Over the items that have both; case and punctuation do not count. Nothing to judge gives nan.
    """
    items = sorted(values.keys() & truths.keys())
    if not items:
        return {"wer": float("nan"), "exact": float("nan")}
    errors = [word_errors(keys_of(values[item]), keys_of(truths[item])) for item in items]
    return {
        "wer": _share(errors, [len(keys_of(truths[item])) for item in items]),
        "exact": errors.count(0) / len(items),
    }


def _share(errors: Sequence[int], words: Sequence[int]) -> float:
    return sum(errors) / max(sum(words), 1)
