"""The stack's Ed25519 keys, made at the first start and kept: for tokens and for the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cairn_kit.auth.keys import KeyFileError, KeyRing
from cairn_kit.embedded.process import write_private
from cairn_stack.errors import StackError
from cairn_stack.home import Home


def ensure_keys(home: Home, services: Iterable[str]) -> None:
    """Make the keys that are missing; the ledger's is apart, so that no token key can sign a checkpoint.

    Raises StackError when a key cannot be read, or when the ledger's is gone: a new one would silently break
    its proof.
    """
    try:
        KeyRing(home.keys).ensure(services)
    except KeyFileError as error:
        raise StackError(str(error)) from error
    if home.ledger_key.exists():
        return
    if home.ledger_public_key.exists():
        raise StackError(
            f"The ledger's key {home.ledger_key} is gone; checkpoints it signed could not be continued. "
            "Restore it from a backup."
        )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    home.ledger_public_key.write_bytes(public)
    write_private(home.ledger_key, private.decode())
