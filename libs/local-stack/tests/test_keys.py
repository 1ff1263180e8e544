"""Keys are rotated in three steps, and at each of them every token in use is accepted."""

from pathlib import Path

import pytest

from cairn_kit.auth.keys import KeyRing, PublicKeys
from cairn_kit.auth.permissions import Role
from cairn_stack import StackError
from cairn_stack.catalog import SAMPLING_KEY
from cairn_stack.keys import add_next, ensure_keys, main, promote_next, retire_old

OWNER = "task-dispatch"


def published(folder: Path) -> set[str]:
    keys = PublicKeys(KeyRing(folder).jwks_file)
    return {f"service-{OWNER}-{n}" for n in range(1, 5) if keys.get(f"service-{OWNER}-{n}")}


def test_rotation_never_leaves_a_token_without_its_key(tmp_path: Path) -> None:
    ensure_keys(tmp_path, [OWNER])
    signing = lambda: KeyRing(tmp_path).service_key(OWNER).kid  # noqa: E731
    first, second = f"service-{OWNER}-1", f"service-{OWNER}-2"
    assert (signing(), published(tmp_path)) == (first, {first})

    assert add_next(tmp_path, OWNER) == second
    assert (signing(), published(tmp_path)) == (first, {first, second})
    assert promote_next(tmp_path, OWNER) == second
    assert (signing(), published(tmp_path)) == (second, {first, second})
    assert retire_old(tmp_path, OWNER) == first
    assert (signing(), published(tmp_path)) == (second, {second})

    ensure_keys(tmp_path, [OWNER])
    assert published(tmp_path) == {second}, "the next start makes no first key again"
    assert KeyRing(tmp_path).service_key(OWNER).roles == {Role.SERVICE}


def test_the_sampling_key_is_made_where_it_is_missing_and_kept(tmp_path: Path) -> None:
    ensure_keys(tmp_path, [OWNER])
    key = tmp_path / SAMPLING_KEY
    first = key.read_text()
    ensure_keys(tmp_path, [OWNER])
    assert key.read_text() == first
    assert key.stat().st_mode & 0o077 == 0
    key.unlink()  # a stack that was first started before there was one
    ensure_keys(tmp_path, [OWNER])
    assert len(key.read_text()) == len(first) == 64
    assert key.read_text() != first


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    ensure_keys(tmp_path, [OWNER])
    with pytest.raises(StackError, match="has no next key"):
        promote_next(tmp_path, OWNER)
    with pytest.raises(StackError, match="has no old key"):
        retire_old(tmp_path, OWNER)
    add_next(tmp_path, OWNER)
    with pytest.raises(StackError, match="has a next key already"):
        add_next(tmp_path, OWNER)


def test_the_command_makes_keys_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", str(tmp_path)]) == 0
    assert main(["add", str(tmp_path), "users-1"]) == 0
    assert main(["retire", str(tmp_path), "audit"]) == 1
    said = capsys.readouterr()
    assert "add: users-2" in said.out
    assert said.err == "audit has no old key. Promote the next one first.\n"
