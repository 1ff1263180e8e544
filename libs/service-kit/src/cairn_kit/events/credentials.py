"""A user's NATS credentials: a JWT, and the seed of the key that it names, to prove that it is theirs (NATS ADR-14).

The file is read anew at each connection, so that a renewed one is used from the next on. nats-py does the same by way of
a package of its own, which is not built for any platform; the key is Ed25519, which `cryptography` knows.
"""

from __future__ import annotations

import binascii
import re
from base64 import b32decode, b64encode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.errors import Error as NatsError

_SEED = re.compile(rb"SU[A-Z2-7]{56}")
"""Of a user: two bytes that say so, the seed's 32, two of a checksum; in base 32."""


def user_jwt(path: Path) -> bytes:
    """The user's JWT, in ASCII. Raises OSError, or NatsError while the file does not hold one."""
    return _credential(path, b"NATS USER JWT")


def signature(path: Path, nonce: str) -> bytes:
    """What proves to a server that the JWT is ours, in base 64. Raises OSError, or NatsError without a user's seed."""
    seed = _credential(path, b"USER NKEY SEED")
    decoded = b32decode(seed + b"=" * (-len(seed) % 8)) if _SEED.fullmatch(seed) else b""
    body, checksum = decoded[:-2], decoded[-2:]
    if not decoded or binascii.crc_hqx(body, 0) != int.from_bytes(checksum, "little"):
        raise NatsError(f"{path} holds no seed of a user's key")
    return b64encode(Ed25519PrivateKey.from_private_bytes(body[2:]).sign(nonce.encode()))


def _credential(path: Path, name: bytes) -> bytes:
    found = re.search(b"-+BEGIN %b-+\\s+([\\w.][\\w.-]*)\\s+-+END" % name, path.read_bytes())
    if found is None:
        raise NatsError(f"{path} holds no {name.decode()}")
    return found[1]
