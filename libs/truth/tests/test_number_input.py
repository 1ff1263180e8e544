"""Numbers: what is one, what range they may have, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cairn_truth.values.numbers import LiveNumbers


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"value is {wrong}; expected a finite number"):
        LiveNumbers().update("a", "ann", wrong)


@pytest.mark.parametrize("wrong", [1.1e100, -1e308, 10**400], ids=["1e100", "-1e308", "10**400"])
def test_a_number_too_large_is_refused_not_cut(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"expected a finite number, at most 1e\+100 in size"):
        LiveNumbers().update("a", "ann", wrong)


@pytest.mark.parametrize("wrong", ["7", b"7", True, np.bool_(True), 1j, np.array(7.0)], ids=repr)
def test_what_only_looks_like_a_number_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a finite number"):
        LiveNumbers().update("a", "ann", wrong)
    with pytest.raises(ValueError, match="expected a finite number"):
        LiveNumbers().know("a", wrong)


@pytest.mark.parametrize("number", [7, np.float32(7), np.int16(7), np.uint8(7), Fraction(7)], ids=repr)
def test_a_number_of_any_type_is_taken(number: Any) -> None:
    assert LiveNumbers().update("a", "ann", number).value == 7.0


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"low": float("nan")}, "low is nan"),
        ({"high": float("nan")}, "high is nan"),
        ({"low": float("inf")}, "low is inf"),
        ({"high": float("-inf")}, "high is -inf"),
        ({"low": "a", "high": "b"}, "low is 'a'"),
        ({"low": True, "high": 2.0}, "low is True"),
        ({"low": 10**400}, "low is 1000"),
        ({"high": -1e200}, r"high is -1e\+200; expected low below high"),
        ({"low": 1e200}, r"low is 1e\+200"),
        ({"tolerance": float("inf")}, "tolerance is inf"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"tolerance": "1"}, "tolerance is '1'"),
        ({"tolerance": True}, "tolerance is True"),
    ],
    ids=str,
)
def test_a_range_or_tolerance_of_no_sense_is_refused_by_name(ends: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiveNumbers(**ends)


def test_what_is_out_of_range_is_refused_and_values_stay_within() -> None:
    live = LiveNumbers(0.0, 5.0)
    with pytest.raises(ValueError, match=r"value is 6.0; expected a number in 0..5"):
        live.update("a", "ann", 6.0)
    with pytest.raises(ValueError, match=r"low is 3.0 and high is 3.0"):
        LiveNumbers(3.0, 3.0)
    with pytest.raises(ValueError, match="tolerance is -1"):
        LiveNumbers(tolerance=-1.0)
    crowd = {f"i{i}": {f"l{j}": float((i + j) % 2 * 5) for j in range(4)} for i in range(9)}
    assert all(0.0 <= one.value <= 5.0 for one in live.fit(crowd).values())


def test_a_state_of_another_kind_is_refused() -> None:
    live = LiveNumbers()
    live.fit({"a": {"x": 1.0, "y": 2.0}})
    live._fitted = {"other": np.zeros(2)}
    with pytest.raises(ValueError, match="the saved state lacks a part"):
        LiveNumbers().restore(live.save())
