"""Weights are read from a file that could hold anything, and nothing in it is run."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.truth.images import read_state

_OPENING: tuple[object, ...] = (0x1950A86A20F9469CFC6C, 1001, {})
_HEAD = b"".join(pickle.dumps(part, 2) for part in _OPENING)


def _saved(view: bytes, numbers: list[float]) -> io.BytesIO:
    """Return a state of one array ``w`` as PyTorch wrote it before 1.6; ``view`` is its offset, shape and steps."""
    storage = b"(Vstorage\nctorch\nFloatStorage\nV7\nVcpu\nI6\nNtQ"
    state = b"(dVw\nctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"tRs."
    held = len(numbers).to_bytes(8, "little") + np.array(numbers, "<f4").tobytes()
    return io.BytesIO(_HEAD + state + pickle.dumps(["7"], 2) + held)


def test_an_array_is_read_in_the_order_its_steps_tell() -> None:
    file = _saved(b"I1\n(I2\nI2\nt(I1\nI2\nt", [9, 1, 2, 3, 4, 9])
    assert read_state(file)["w"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("view", [b"I0\n(I7\nt(I1\nt", b"I-1\n(I2\nt(I1\nt", b"I5\n(I2\nt(I-1\nt"])
def test_an_array_that_leaves_its_storage_is_refused(view: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is not within its 6 numbers"):
        read_state(_saved(view, [0] * 6))


def test_what_is_no_part_of_a_state_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "run"
    harm = b"cpathlib\nPath.touch\n(V" + str(trace).encode() + b"\ntR."
    with pytest.raises(pickle.UnpicklingError, match="no part of a state dict"):
        read_state(io.BytesIO(_HEAD + harm))
    assert not trace.exists()


def test_another_format_is_told() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"torch\.save before 1\.6"):
        read_state(io.BytesIO(b"".join(pickle.dumps(part, 2) for part in (1, *_OPENING[1:]))))
