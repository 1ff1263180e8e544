"""A small recorded crowd, made with a seed: five answers to each item by labelers of known skill."""

import random

from cairn_client.new_items import NewItem
from cairn_client.replay.recording import RecordedAnswer, Recording

CLASSES = ("cat", "dog", "owl")


def recording(*, items: int = 120, labelers: int = 12, answers_each: int = 5, seed: int = 7) -> Recording:
    """What the crowd said; the truth is known."""
    chance = random.Random(seed)
    skill = {f"labeler-{n}": chance.uniform(0.55, 0.95) for n in range(labelers)}
    truth = {f"item-{n:04}": chance.choice(CLASSES) for n in range(items)}
    answers = [
        RecordedAnswer(
            item,
            labeler,
            right if chance.random() < skill[labeler] else chance.choice([c for c in CLASSES if c != right]),
        )
        for item, right in truth.items()
        for labeler in chance.sample(sorted(skill), answers_each)
    ]
    return Recording(
        name="crowd",
        items=tuple(NewItem(item, text=f"a picture called {item}") for item in truth),
        answers=tuple(answers),
        truth=truth,
    )
