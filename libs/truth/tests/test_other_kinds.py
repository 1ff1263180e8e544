"""Sets of classes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth import LiveChoices


def test_sets_are_found_class_by_class() -> None:
    chance = np.random.default_rng(1)
    live, truth = LiveChoices(), {}
    for i in range(120):
        truth[f"i{i}"] = {c for c in "abcd" if chance.random() < 0.4}
        for who in range(5):
            right = [0.95, 0.9, 0.9, 0.85, 0.6][who]
            said = {c for c in "abcd" if (c in truth[f"i{i}"]) == (chance.random() < right)}
            live.update(f"i{i}", f"l{who}", said)
    live.refit()
    found = [set(live.posterior(i).classes) == truth[i] for i in truth]
    alone = [set(dict(live.votes_on(i))["l1"]) == truth[i] for i in truth]
    assert np.mean(found) > np.mean(alone) + 0.1
    assert live.reliability("l0").accuracy > live.reliability("l4").accuracy


def test_that_nothing_applies_is_an_answer() -> None:
    live = LiveChoices()
    for who in ("ann", "bob", "cid"):
        live.update("a", who, [])
    said = live.posterior("a")
    assert (said.classes, said.probabilities) == ((), {})
    assert said.confidence > 0.8
    live.know("a", ["x"])
    assert live.posterior("a").classes == ("x",)


answers = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 3)),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[:2],
)


@given(answers, st.randoms())
@settings(max_examples=25)
def test_order_and_restarts_change_nothing(rows: list[tuple[int, int, int]], chance: object) -> None:
    shuffled = chance.sample(rows, len(rows))  # type: ignore[attr-defined]
    sets = [["x"], ["y"], ["x", "y"], []]
    lives = []
    for order in (rows, shuffled):
        live = LiveChoices()
        for item, labeler, c in order:
            live.update(f"i{item}", f"l{labeler}", sets[c])
        live.refit()
        lives.append(live)
    again = LiveChoices()
    for item, labeler, c in shuffled:
        again.update(f"i{item}", f"l{labeler}", sets[c])
    again.restore(lives[0].save())
    for other in (lives[1], again):
        assert other.digest() == lives[0].digest()
        assert all(other.posterior(i) == lives[0].posterior(i) for i in lives[0].items())
