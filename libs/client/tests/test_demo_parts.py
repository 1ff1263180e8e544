"""The demonstration's images are real PNG files and its crowd errs as it says."""

import io

import numpy as np
import pytest
from PIL import Image

from cairn_client.demo.crowd import LEAST_CARE, MOST_CARE, crowd, error_model
from cairn_client.demo.digits import load_digits, png


def test_a_png_has_the_pixels_it_was_made_of() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_the_digits_are_the_1797_of_scikit_learn() -> None:
    digits = load_digits()

    assert len(digits.items) == len(digits.truth) == 1797
    assert set(digits.truth.values()) == set("0123456789")


def test_the_crowd_errs_as_stated() -> None:
    people = crowd(30, 3, seed=1)
    items = [(f"i{n}", str(n % 10)) for n in range(2000)]

    assert [person.spammer for person in people] == [True] * 3 + [False] * 27
    for person in people:
        right = sum(person.answer(item, truth) == truth for item, truth in items) / len(items)
        assert right == pytest.approx(0.1 if person.spammer else person.care, abs=0.04)
        assert LEAST_CARE <= person.care <= MOST_CARE
    assert people[5].answer("i1", "3") == people[5].answer("i1", "3")
    assert "27 labelers" in error_model(30, 3)
    assert "3 spammers" in error_model(30, 3)
