"""The private key that signs checkpoints, from its file."""

from __future__ import annotations

from pathlib import Path

from cairn_audit.domain.checkpoint import LedgerSigner


class LedgerKeyError(Exception):
    """The ledger's key cannot be used; the text says why and what to do."""


def read_ledger_key(path: Path) -> LedgerSigner:
    """Read the key; refuses one that others may read. Raises LedgerKeyError."""
    try:
        if path.stat().st_mode & 0o077:
            raise LedgerKeyError(f"The ledger's key {path} may be read by others. Run: chmod 600 {path}")
        return LedgerSigner.from_pem(path.read_bytes())
    except FileNotFoundError:
        raise LedgerKeyError(
            f"The ledger's key {path} is missing. Restore it, or, for a new ledger, make one: "
            f"openssl genpkey -algorithm ed25519 -out {path} && chmod 600 {path}"
        ) from None
    except OSError as error:
        raise LedgerKeyError(f"The ledger's key {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise LedgerKeyError(
            f"{path} is not an unencrypted Ed25519 private key in PKCS#8 PEM: {error}"
        ) from error
