"""Text: identifiers that are right or wrong as a whole, and transcriptions that are voted on word by word."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.measured import score_texts
from cairn_truth.values.alignment import GAP, Versions, networks, word_costs, word_errors
from cairn_truth.values.texts import LiveTexts, normalise
from cairn_truth.values.transcripts import Joining, LiveTranscripts
from cairn_truth.values.words import joined_as_others, words_of, written
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")

VOCABULARY = (
    *(
        "river",
        "stone",
        "cloud",
        "window",
        "garden",
        "letter",
        "morning",
        "engine",
        "yellow",
        "travel",
        "bottle",
    ),
    *("silver", "mountain", "paper", "orange", "teacher", "bridge", "forest", "candle", "winter", "market"),
    *("island", "doctor", "kitchen", "ladder", "pocket", "thunder"),
)


def transcribed(
    items: int = 60, errs: tuple[float, ...] = (0.03, 0.08, 0.12, 0.2, 0.5), words: int = 14, seed: int = 0
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Draw texts and what labelers with these shares of wrong words make of them."""
    chance = np.random.default_rng(seed)
    answers, truth = {}, {}
    for i in range(items):
        text = [str(w) for w in chance.choice(VOCABULARY, words)]
        truth[f"i{i}"] = " ".join(text)
        answers[f"i{i}"] = {f"l{n}": _misheard(text, err, chance) for n, err in enumerate(errs)}
    return answers, truth


def _misheard(text: list[str], err: float, chance: np.random.Generator) -> str:
    said: list[str] = []
    for word in text:
        if chance.random() >= err:
            said.append(word)
            continue
        slip = chance.integers(4)
        if slip == 1:
            said.append(word[:-1] + "x")
        elif slip == 2:
            said.append(str(chance.choice(VOCABULARY)))
        elif slip == 3:
            said += [word, str(chance.choice(VOCABULARY))]
    return " ".join(said)


# --- whole answers


def test_text_is_compared_as_the_question_says() -> None:
    assert normalise("  Zaun\u00f6nig  X ") == normalise("zauno\u0308nig x")
    assert normalise("A b", fold_case_and_space=False) != normalise("a b", fold_case_and_space=False)


def identifiers() -> dict[str, dict[str, str]]:
    return {f"i{i}": {"ann": f"word {i}", "bob": f"Word  {i}", "cid": f"noise {i} {i}"} for i in range(30)}


@pytest.mark.parametrize("new", [LiveTexts, LiveTranscripts])
def test_live_states_keep_their_promises(new: type[LiveTexts] | type[LiveTranscripts]) -> None:
    answers, _ = transcribed(items=5)
    check_live_state(new, answers, 7)
    check_live_state(new, identifiers(), "\ud800")


def test_two_who_wrote_the_same_beat_one_who_is_always_wrong() -> None:
    live = LiveTexts()
    live.fit(identifiers())
    said = live.posterior("i7")
    assert said.text in ("Word  7", "word 7")
    assert said.confidence > 0.95
    assert live.reliability("ann").accuracy > 0.9 > 0.3 > live.reliability("cid").accuracy
    assert [part.weight > 0 for part in live.weigh("i7")] == [True, True, False]
    alone = live.update("new", "cid", "who knows")
    assert alone.confidence < 0.6  # that none of the answers is right is a possibility, too


def test_a_fit_agrees_with_what_it_says_of_each_item() -> None:
    live = LiveTexts()
    answers = identifiers()
    live.fit(answers)
    right = sum(dict(live.posterior(i).candidates)[normalise(said["cid"])] for i, said in answers.items())
    seen = sum(
        {normalise(c): p for c, p in live.posterior(i).candidates}[normalise(text)]
        for i, said in answers.items()
        for text in said.values()
    )
    crowd = (seen + 10.0 * 0.7) / (90 + 10.0)  # ten answers' worth of what is believed of any crowd
    assert live.reliability("cid").accuracy == pytest.approx((right + 10.0 * crowd) / (30 + 10.0), abs=1e-4)


def test_where_all_words_voted_for_are_gaps_an_answer_is_chosen() -> None:
    live = LiveTranscripts()
    for who, text in enumerate(("", "", "stone", "a cloud")):
        live.add("a", f"l{who}", text)
    said = live.posterior("a")
    assert (said.text, said.joining) == ("", Joining.WHOLE)


def test_what_is_no_text_is_refused_by_the_name_of_its_fault() -> None:
    with pytest.raises(ValueError, match=r"the answer is float .*; expected a string"):
        LiveTexts().add("a", "ann", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="character 2 of the answer is half a surrogate"):
        LiveTranscripts().add("a", "ann", "ab\ud800")


# --- words


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Well, I don't know...", ["well", "i", "dont", "know"]),
        ("air-tight — or so", ["airtight", "or", "so"]),
        ("wait--what", ["wait", "what"]),
        ('"If you please," - said Mick', ["if", "you", "please", "said", "mick"]),
        ("彼は Tokyo へ。", ["彼", "は", "tokyo", "へ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("  ", []),
        ("???", ["???"]),
        ("a (b) c", ["a", "b", "c"]),
    ],
)
def test_words_are_compared_without_case_and_marks_and_written_with_them(text: str, keys: list[str]) -> None:
    words = words_of(text)
    assert [word.key for word in words] == keys
    assert written(words) == text.strip()


def test_words_are_what_white_space_parts_where_every_sign_counts() -> None:
    assert [word.key for word in words_of("A-1,  b.", fold=False)] == ["A-1,", "b."]


def test_two_words_are_one_where_another_has_them_as_one() -> None:
    air_tight, airtight = words_of("an air tight seal"), words_of("an airtight seal")
    joined = joined_as_others([air_tight, airtight])
    assert [[w.key for w in words] for words in joined] == [["an", "airtight", "seal"]] * 2
    assert written(joined[0]) == "an air tight seal"


# --- alignment


texts = st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=5)


@given(texts, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_a_network_holds_every_version_whatever_their_order(said: list[list[str]], chance: object) -> None:
    [network] = networks([Versions.of(said)])
    numbered = Versions.of(said)
    for column, tokens in enumerate(numbered.tokens):
        assert network[:, column][network[:, column] != GAP].tolist() == tokens.tolist()
    assert (network != GAP).any(axis=1).all()
    order = list(range(len(said)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    [shuffled] = networks([Versions.of([said[i] for i in order])])
    assert shuffled.tolist() == network[:, order].tolist()


@given(st.lists(texts, min_size=2, max_size=4))
@settings(max_examples=30)
def test_texts_are_aligned_together_as_they_are_alone(several: list[list[list[str]]]) -> None:
    together = networks([Versions.of(said) for said in several])
    alone = [networks([Versions.of(said)])[0] for said in several]
    assert [net.tolist() for net in together] == [net.tolist() for net in alone]


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
@settings(max_examples=60)
def test_word_errors_are_the_least_edits(said: list[str], truth: list[str]) -> None:
    def edits(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(
            edits(i - 1, j) + 1, edits(i, j - 1) + 1, edits(i - 1, j - 1) + (said[i - 1] != truth[j - 1])
        )

    short, other = said[:5], truth[:5]
    assert word_errors(short, other) == edits(len(short), len(other))
    assert word_errors(said, truth) == word_errors(truth, said)


def test_a_misspelt_word_lies_over_the_word_it_means() -> None:
    [network] = networks([Versions.of([["the", "mercurial", "ointment"], ["mercurail", "ointment"]])])
    assert (network[:, 1] == GAP).tolist() == [True, False, False]
    costs = word_costs(["", "seen", "scene", "position"])
    assert costs[1, 2] < costs[1, 0] < costs[1, 3] < 2 * costs[1, 0]


# --- transcriptions


def test_votes_on_words_outdo_every_answer() -> None:
    answers, truth = transcribed()
    live = LiveTranscripts()
    found = {item: said.text for item, said in live.fit(answers).items()}
    error = score_texts.judge(found, truth)["wer"]
    best = score_texts.judge({item: given["l0"] for item, given in answers.items()}, truth)["wer"]
    rover = score_texts.judge(score_texts.METHODS["ROVER"](answers), truth)["wer"]
    assert error < 0.5 * best
    assert error <= rover
    accuracies = [live.reliability(f"l{n}").accuracy for n in range(5)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0.95 > 0.8 > accuracies[4]


def test_confidence_is_the_expected_word_accuracy() -> None:
    answers, truth = transcribed(items=80, errs=(0.1, 0.2, 0.3, 0.3), seed=3)
    found = LiveTranscripts().fit(answers)
    accuracy = [1.0 - score_texts.judge({i: found[i].text}, truth)["wer"] for i in truth]
    confidence = [found[i].confidence for i in truth]
    assert np.mean(confidence) == pytest.approx(np.mean(accuracy), abs=0.02)
    assert np.corrcoef(confidence, accuracy)[0, 1] > 0.3


def test_evidence_says_who_made_the_text() -> None:
    answers, _ = transcribed()
    live = LiveTranscripts()
    live.fit(answers)
    said = live.posterior("i3")
    weights = {part.labeler: part.weight for part in said.evidence}
    assert weights["l0"] > weights["l4"]
    assert sum(weights.values()) == pytest.approx(1.0)
    assert [key for key, _ in said.words] == said.text.split()
    assert said.candidates[0] == (said.text, said.confidence)


def test_each_word_is_written_as_most_wrote_it() -> None:
    live = LiveTranscripts()
    for who, text in {
        "ann": "Well, the stone grows",
        "bob": "well the Stone grows cold.",
        "cid": "Well, the Stone glows cold.",
        "dan": "Well, Stone grows cold.",
    }.items():
        live.add("a", who, text)
    assert live.posterior("a").text == "Well, the Stone grows cold."
    assert live.posterior("a").joining is Joining.WORDS


def test_a_question_may_want_whole_answers() -> None:
    answers, _ = transcribed()
    for item, said in LiveTranscripts(whole=True).fit(answers).items():
        assert said.text in answers[item].values()
        assert said.joining is Joining.WHOLE


def test_where_people_agree_word_for_word_confidence_is_the_chance_to_be_right() -> None:
    whole, exact = LiveTranscripts(), LiveTexts()
    found, as_exact = whole.fit(identifiers()), exact.fit(identifiers())
    assert found["i3"].joining is Joining.WORDS  # one pair of three is the same
    answers = {
        i: {who: text for who, text in said.items() if who != "cid"} for i, said in identifiers().items()
    }
    found, as_exact = LiveTranscripts().fit(answers), LiveTexts().fit(answers)
    assert {i: said.joining for i, said in found.items()} == dict.fromkeys(answers, Joining.EXACT)
    assert [said.confidence for said in found.values()] == [said.confidence for said in as_exact.values()]


def test_gold_teaches_who_hears_right() -> None:
    live = LiveTranscripts()
    answers, truth = transcribed(items=20, errs=(0.4, 0.02), seed=5)
    for item in truth:
        live.know(item, truth[item])
    live.fit(answers)
    assert live.reliability("l1").accuracy > 0.9 > live.reliability("l0").accuracy
    for item in truth:
        live.know(item, None)
    found = {item: live.posterior(item).text for item in truth}
    assert score_texts.judge(found, truth)["wer"] < 0.06


@pytest.mark.parametrize(
    "texts",
    [
        ["only one answer here"],
        ["", "", ""],
        ["", "a word"],
        ["same", "same"],
        ["one two", "three four", "five six", "seven eight"],
        ["x" * 300_000, "y"],
        ["a " * 3000, "a " * 2000 + "b"],
        ["?", "!", "..."],
    ],
)
def test_odd_answers_are_joined_too(texts: list[str]) -> None:
    live = LiveTranscripts()
    for n, text in enumerate(texts):
        live.update("a", f"l{n}", text)
    for _ in range(2):
        said = live.posterior("a")
        assert 0.0 <= said.confidence <= 1.0
        assert bool(said.text) == any(texts) or "" in texts
        live.refit()


@given(st.permutations(range(5)))
@settings(max_examples=4, deadline=None)
def test_names_of_labelers_mean_nothing(order: list[int]) -> None:
    answers, _ = transcribed(items=6, seed=2)
    renamed = {
        i: {f"l{order[int(who[1:])]}": text for who, text in said.items()} for i, said in answers.items()
    }
    before, after = LiveTranscripts().fit(answers), LiveTranscripts().fit(renamed)
    for item in answers:
        assert after[item].text.lower() == before[item].text.lower()
        assert after[item].confidence == pytest.approx(before[item].confidence)


# --- recorded crowds


def recorded(name: str, most: int) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    with (DATA / name / "truth.csv").open(encoding="utf-8", newline="") as rows:
        truth = {row["item"]: row["label"] for row in csv.DictReader(rows)}
    answers: dict[str, dict[str, str]] = {item: {} for item in sorted(truth)[:most]}
    with (DATA / name / "answers.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if row["item"] in answers:
                answers[row["item"]][row["annotator"]] = row["label"]
    return answers, {item: truth[item] for item in answers}


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    ("name", "most", "margin"), [("crowdspeech_dev_clean", 0.07, 0.05), ("crowdwsa_t1", 0.515, 0.2)]
)
def test_a_real_crowd_is_outdone_and_the_confidence_is_honest(name: str, most: float, margin: float) -> None:
    answers, truth = recorded(name, 100)
    found = LiveTranscripts().fit(answers)
    texts = {item: said.text for item, said in found.items()}
    assert score_texts.judge(texts, truth)["wer"] <= most
    accuracy = [1.0 - min(score_texts.judge({i: texts[i]}, truth)["wer"], 1.0) for i in truth]
    assert np.mean([found[i].confidence for i in truth]) == pytest.approx(np.mean(accuracy), abs=margin)


def test_stray_space_is_nobodys_text_and_candidates_are_as_written() -> None:
    live = LiveTexts()
    for who, text in enumerate(("cat", "  cat", "Cat ", "dog")):
        live.add("i", f"l{who}", text)
    said = live.posterior("i")
    assert [text for text, _ in said.candidates] == ["cat", "dog"]
    assert said.text == "cat"
    whole = LiveTranscripts()
    for who, text in enumerate(("The Cat", " the cat", "The Cat ")):
        whole.add("i", f"l{who}", text)
    assert whole.posterior("i").candidates[0][0] == "The Cat"


def test_a_long_truth_is_compared_as_letters_are_told_to_be() -> None:
    live = LiveTranscripts(fold_case_and_space=False)
    live.add("i", "a", "A " * 1_001)
    live.know("i", "a " * 1_001)
    assert [part.agreement for part in live.posterior("i").evidence] == [0.0]


def test_a_truth_of_words_that_nobody_wrote_teaches_who_missed_them() -> None:
    live = LiveTranscripts()
    for item in range(6):
        live.add(f"i{item}", "ann", f"one {item} three")
        live.add(f"i{item}", "bob", f"a b{item} c")
        live.know(f"i{item}", f"one {item} three four")
    live.refit()
    assert live.reliability("ann").accuracy > live.reliability("bob").accuracy + 0.2
    lone = LiveTranscripts()
    lone.add("i", "ann", "one")
    lone.know("i", "two")
    lone.refit()
    assert lone.posterior("i").text == "two"
