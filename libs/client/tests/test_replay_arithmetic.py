"""The parts of a replay that are pure: the question, the order, the vote, the score."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn_client.commands.replaying import outcome_rows
from cairn_client.errors import InputError
from cairn_client.replay.outcome import FinalLabel, Outcome, majority, normal, same, score
from cairn_client.replay.question import Kind, asked_by, asked_of, class_ids, unanswered_classes
from cairn_client.replay.recording import RecordedAnswer, Recording
from cairn_client.replay.run import ReplayOptions, truth_notes
from cairn_client.replay.schedule import AnswerIndex, Schedule
from cairn_client.schema import spec_from


def answers(*rows: tuple[str, str, str]) -> list[RecordedAnswer]:
    return [RecordedAnswer(*row) for row in rows]


# --- the question


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["0", "1"] * 20, Kind.CHOICE),
        (["cat", "dog", "a bird"] * 10, Kind.CHOICE),
        ([str(n) for n in range(-60, 60)], Kind.NUMBER),
        (["0.5", "1.5"] * 20, Kind.NUMBER),
        ([f"sentence {n}" for n in range(100)], Kind.TEXT),
    ],
)
def test_the_kind_of_question_follows_from_the_labels(labels: list[str], kind: Kind) -> None:
    assert asked_of(labels, []).kind is kind


def test_labels_become_classes_and_come_back() -> None:
    asked = asked_of(["very good", "bad", "very-good", "ja/nein"] * 5, ["worse"])

    for label in ("very good", "very-good", "bad", "ja/nein", "worse"):
        assert asked.label(asked.answer(label)) == label
    assert asked.classes["bad"] == "bad"


@given(st.lists(st.text(min_size=1), unique=True, max_size=30))
def test_class_ids_are_valid_and_unique(labels: list[str]) -> None:
    ids = class_ids(labels)

    assert len(set(ids.values())) == len(labels)
    assert all(
        1 <= len(i) <= 64 and i.replace("_", "a").replace("-", "a").replace(".", "a").isascii()
        for i in ids.values()
    )


def test_a_schemas_titles_may_be_what_was_recorded() -> None:
    schema = spec_from({"questions": [{"id": "q", "choice": [{"id": "p", "title": "Positive"}, "n"]}]}).schema

    asked = asked_by(schema.questions[0], ["Positive", "n"])

    assert asked.answer("Positive").choice == "p"
    with pytest.raises(InputError, match="'maybe' is none of the classes"):
        asked_by(schema.questions[0], ["maybe"])


def test_a_class_that_only_the_truth_has_is_noticed() -> None:
    labels, truth = ["pos", "neg"] * 5, ["pos", "psitive", "psitive"]

    assert unanswered_classes(asked_of(labels, truth, Kind.TEXT), labels, truth) == []
    told = answers(*((str(n), "ann", label) for n, label in enumerate(labels)))
    recording = Recording("r", (), tuple(told), {str(n): label for n, label in enumerate(truth)})
    asked = asked_of(labels, truth)
    assert truth_notes(recording, asked, ReplayOptions()) == [
        "1 label of the truth never answered by anybody (2 items): 'psitive'. Is it spelt as in the answers?"
    ]
    assert truth_notes(recording, asked, ReplayOptions(schema=Path("schema.yaml"))) == []


# --- the order


def drain(schedule: Schedule, take: int = 3) -> list[int]:
    order = []
    while batch := schedule.take(take):
        for answer in batch:
            order.append(int(answer))
            schedule.given(answer)
    return order


def test_the_same_seed_gives_the_same_order_and_another_another() -> None:
    items = [n % 10 for n in range(100)]

    assert drain(Schedule(items, 1), 1) == drain(Schedule(items, 1), 1)
    assert drain(Schedule(items, 1), 1) != drain(Schedule(items, 2), 1)


@given(st.integers(0, 1000), st.integers(1, 7), st.integers(0, 1000))
def test_an_items_answers_are_offered_in_its_own_order_whatever_the_timing(
    seed: int, most: int, trouble: int
) -> None:
    chance = random.Random(trouble)
    items = [n % 4 for n in range(24)]
    undisturbed = drain(Schedule(items, seed), 1)
    schedule = Schedule(items, seed)
    given_to: dict[int, list[int]] = {}
    while schedule.has_ready or schedule.waiting:
        schedule.try_waiting()
        batch = schedule.take(most)
        assert len({items[answer] for answer in batch}) == len(batch)
        for answer in batch:
            if chance.random() < 0.3:
                schedule.no_slot(answer)
            else:
                given_to.setdefault(items[answer], []).append(int(answer))
                schedule.given(answer)

    assert given_to == {item: [a for a in undisturbed if items[a] == item] for item in given_to}
    assert sum(map(len, given_to.values())) == len(items)


def test_what_is_left_of_a_closed_item_is_offered_again_when_asked() -> None:
    schedule = Schedule([0, 0, 0], 0)
    [first] = schedule.take(10)
    schedule.given(first)
    [second] = schedule.take(10)
    schedule.closed(second)

    assert schedule.take(10) == []
    assert schedule.left_over() == 2
    assert schedule.reopen_closed() == 1
    assert schedule.take(10) == [second]


def test_an_exhausted_item_comes_up_no_more() -> None:
    schedule = Schedule([0], 0)
    schedule.given(AnswerIndex(int(schedule.take(1)[0])))

    assert not schedule.has_ready
    assert schedule.closed_items == schedule.waiting == 0


# --- the vote and the score


def test_the_majority_is_the_most_frequent_answer_and_ties_fall_by_the_seed() -> None:
    told = answers(("1", "a", "x"), ("1", "b", "x"), ("1", "c", "y"), ("2", "a", "x"), ("2", "b", "y"))

    votes = [majority(Kind.CHOICE, told, seed) for seed in range(40)]

    assert {vote["1"] for vote in votes} == {"x"}
    assert {vote["2"] for vote in votes} == {"x", "y"}


def test_the_vote_on_numbers_is_their_mean() -> None:
    assert majority(Kind.NUMBER, answers(("1", "a", "1"), ("1", "b", "4")), 0) == {"1": "2.5"}


@pytest.mark.parametrize(
    ("kind", "label", "truth", "right"),
    [
        (Kind.CHOICE, "x", "x", True),
        (Kind.CHOICE, None, "x", False),
        (Kind.TEXT, "Hello,  World!", "hello world", True),
        (Kind.TEXT, "hello", "hello world", False),
        (Kind.NUMBER, "2.4", "2", True),
        (Kind.NUMBER, "2.6", "2", False),
    ],
)
def test_when_a_label_is_right(kind: Kind, label: str | None, truth: str, right: bool) -> None:
    assert same(kind, label, truth) is right


def test_normal_text_has_no_case_punctuation_or_superfluous_space() -> None:
    assert normal("  It's —  a TEST. ") == "it's a test"


def test_unlabeled_items_count_as_wrong_and_unanswered_ones_only_when_labeled() -> None:
    told = answers(("1", "a", "x"), ("2", "a", "x"), ("3", "a", "y"))
    labels = {"1": FinalLabel("x", "consensus"), "2": FinalLabel("y", "auto"), "5": FinalLabel("x", "auto")}
    truth = {"1": "x", "2": "x", "3": "y", "4": "x", "5": "x"}

    got = score(kind=Kind.CHOICE, items=5, answers=told, truth=truth, labels=labels, seed=0)

    assert got["accuracy"] == 2 / 4  # items 1, 2, 3 were answered, 5 is labeled; 4 is neither
    assert got["accuracy_by_source"] == {"consensus": 1.0, "auto": 0.5}
    assert got["auto_error"] == 0.5
    assert got["auto_labeled"] == 2
    assert got["unlabeled"] == 1
    assert got["majority_accuracy"] == 1.0


def test_the_json_object_has_the_promised_names_in_order() -> None:
    parts = score(
        kind=Kind.NUMBER, items=1, answers=answers(("1", "a", "3")), truth={"1": "5"}, labels={}, seed=0
    )
    outcome = Outcome(**parts, answers_used=1, answers_recorded=1, alpha=0.05, seconds=1.5, seed=3)

    told = outcome.as_json()

    assert list(told)[:-1] == [
        "accuracy",
        "accuracy_by_source",
        "majority_accuracy",
        "answers_used",
        "answers_recorded",
        "auto_labeled",
        "auto_error",
        "alpha",
        "items",
        "seconds",
        "seed",
    ]
    assert told["detail"]["majority_rmse"] == 2.0
    assert told["auto_error"] is None


def test_one_label_is_shown_as_one() -> None:
    told = answers(("1", "a", "x"))
    labels = {"1": FinalLabel("x", "consensus")}
    parts = score(kind=Kind.CHOICE, items=1, answers=told, truth={"1": "x"}, labels=labels, seed=3)
    outcome = Outcome(**parts, answers_used=1, answers_recorded=1, alpha=0.05, seconds=1.5, seed=3)

    assert "  from consensus (1 label)" in [title for title, _ in outcome_rows(outcome)]
