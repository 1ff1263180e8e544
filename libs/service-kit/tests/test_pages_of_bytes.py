"""A page ends before what would be too much for a call."""

from __future__ import annotations

import pytest

from cairn.audit.v1 import audit_pb2 as pb
from cairn_kit.rpc import PAGE_BYTES, page_of


@pytest.mark.parametrize(
    ("sizes", "most", "held", "more"),
    [
        ([], 3, 0, False),
        ([10, 10], 2, 2, False),
        ([10, 10, 10], 2, 2, True),
        ([2 * PAGE_BYTES, 10], 3, 1, True),  # one at least, or it would never be passed
        ([10, 2 * PAGE_BYTES, 10], 3, 1, True),
        ([PAGE_BYTES // 2, PAGE_BYTES // 2 - 100, 200], 3, 2, True),
    ],
)
def test_a_page_ends_before_what_would_be_too_much(
    sizes: list[int], most: int, held: int, more: bool
) -> None:
    page = page_of([pb.Finding(name="x" * size) for size in sizes], most)
    assert (len(page), len(page) < len(sizes)) == (held, more)
