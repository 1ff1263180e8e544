"""What a judge may return: one verdict for each job, in whatever has a length and an order."""

from collections import UserList, deque
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from cairn.dispatch.v1.task_dispatch_pb2 import Lease
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn_client.calls.job import Job
from cairn_client.errors import InputError
from cairn_client.working.verdicts import Skip, verdicts_in

JOBS = [Job(Lease(item=f"projects/p/items/{key}"), LabelSchema(), None) for key in "ab"]
TWO = [{"ok": "yes"}, Skip("too dark")]


class OfTwo:
    """Goes through two verdicts, and knows no more than how many they are."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[object]:
        return iter(TWO)


@pytest.mark.parametrize(
    "said",
    [
        TWO,
        tuple(TWO),
        UserList(TWO),
        deque(TWO),
        dict(enumerate(TWO)).values(),
        OfTwo(),
        np.array(TWO, dtype=object),
        pd.Series(TWO),
    ],
    ids=lambda said: type(said).__name__,
)
def test_whatever_has_as_many_verdicts_in_an_order_is_taken(said: object) -> None:
    assert verdicts_in(said, JOBS) == TWO


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no", r"not 'no' \(str\)\."),
        (b"no", r"not b'no' \(bytes\)\."),
        ({"a": 1, "b": 2}, r"\(dict\)\."),
        ({Skip("x"), Skip("y")}, r"\(set\)\."),
        (iter(TWO), r"\(list_iterator\)\."),
        (np.array(7), r"\(ndarray\)\."),
        (None, r"not None \(NoneType\)\."),
        ([TWO[0]], r"not of 1\."),
    ],
)
def test_anything_else_is_refused_with_what_came(said: object, told: str) -> None:
    with pytest.raises(InputError, match=rf"2 items, 'a' first, and must return a list .*{told}"):
        verdicts_in(said, JOBS)
