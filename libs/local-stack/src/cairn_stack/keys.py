"""Ed25519 keys in one folder, and the sampling key: made at the first start, kept; the former rotated without a
failed call.

Also the command that makes a production installation's keys: `python -m cairn_stack.keys --help`.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cairn_kit.auth.keys import KeyFileError, KeyRing, PrivateKey, write_key_set
from cairn_kit.embedded.process import write_private
from cairn_stack.catalog import SAMPLING_KEY, SERVICES
from cairn_stack.errors import StackError

LEDGER_KEY = "ledger.pem"
LEDGER_PUBLIC_KEY = "ledger.pub.pem"


def ensure_keys(folder: Path, services: Iterable[str]) -> None:
    """Make the keys that are missing; the ledger's is apart, so that no token key can sign a checkpoint.

    Raises StackError when a key cannot be read, or when the ledger's is gone: a new one would silently break
    its proof.
    """
    try:
        KeyRing(folder).ensure(services)
    except KeyFileError as error:
        raise StackError(str(error)) from error
    _ensure_sampling_key(folder / SAMPLING_KEY)
    private_file, public_file = folder / LEDGER_KEY, folder / LEDGER_PUBLIC_KEY
    if private_file.exists():
        return
    if public_file.exists():
        raise StackError(
            f"The ledger's key {private_file} is gone; checkpoints it signed could not be continued. "
            "Restore it from a backup."
        )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_file.write_bytes(public)
    write_private(private_file, private.decode())


def _ensure_sampling_key(file: Path) -> None:
    """A lost one may be replaced: what is drawn already is kept with the items."""
    if not (file.exists() and file.read_text()):
        write_private(file, secrets.token_hex(32))


def add_next(folder: Path, owner: str) -> str:
    """Rotation, first step: make the owner's next key and publish it, while the present one goes on signing."""
    present = PrivateKey.read(_file(folder, owner))
    following = _file(folder, owner, "next")
    if following.exists():
        raise StackError(f"{owner} has a next key already: {following}. Promote it first.")
    fresh = PrivateKey.generate(_next_kid(present.kid), present.roles)
    fresh.write(following)
    publish(folder)
    return fresh.kid


def promote_next(folder: Path, owner: str) -> str:
    """Second step, once every service has seen the new key set: the next key signs, the old one still counts."""
    following, old = _file(folder, owner, "next"), _file(folder, owner, "old")
    if not following.exists():
        raise StackError(f"{owner} has no next key. Add one first.")
    if old.exists():
        raise StackError(f"{owner} still has the key {old}. Retire it first.")
    _file(folder, owner).rename(old)
    following.rename(_file(folder, owner))
    publish(folder)
    return PrivateKey.read(_file(folder, owner)).kid


def retire_old(folder: Path, owner: str) -> str:
    """Third step, once every token of the old key has expired: it counts no more."""
    old = _file(folder, owner, "old")
    if not old.exists():
        raise StackError(f"{owner} has no old key. Promote the next one first.")
    kid = PrivateKey.read(old).kid
    old.unlink()
    publish(folder)
    return kid


def publish(folder: Path) -> None:
    """Write the key set from all private keys in the folder."""
    every = [PrivateKey.read(path) for path in sorted(folder.glob("*.key.json"))]
    write_key_set(KeyRing(folder).jwks_file, every)


def _file(folder: Path, owner: str, which: str = "") -> Path:
    return KeyRing(folder).private_key_file(f"{owner}.{which}" if which else owner)


def _next_kid(kid: str) -> str:
    match = re.fullmatch(r"(.*-)(\d+)", kid)
    if match is None:
        raise StackError(f"The key id {kid} has no number to count on from.")
    return f"{match[1]}{int(match[2]) + 1}"


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when done, 1 with a plain sentence."""
    owners = [KeyRing.USERS, *(spec.name for spec in SERVICES)]
    parser = argparse.ArgumentParser(prog="python -m cairn_stack.keys", description="Make and rotate keys.")
    parser.add_argument("step", choices=["make", "add", "promote", "retire"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("owner", nargs="?", choices=owners, help="whose key to rotate")
    asked = parser.parse_args(arguments)
    steps = {"add": add_next, "promote": promote_next, "retire": retire_old}
    try:
        if asked.step == "make":
            ensure_keys(asked.folder, [spec.name for spec in SERVICES])
            said = f"The keys are in {asked.folder}; jwks.json and {LEDGER_PUBLIC_KEY} are public."
        elif asked.owner is None:
            parser.error(f"{asked.step} needs the owner of the key: {', '.join(owners)}")
        else:
            said = f"{asked.step}: {steps[asked.step](asked.folder, asked.owner)}"
    except (StackError, KeyFileError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
