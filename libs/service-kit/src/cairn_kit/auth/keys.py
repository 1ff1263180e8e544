"""Ed25519 keys: made, kept in files (private ones 0600), published as a JWKS, read again when the file changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from cairn_kit.auth.permissions import Role
from cairn_kit.private_files import write_private

ROLES_MEMBER = "cairn_roles"
ISSUER_MEMBER = "cairn_issuer"
_LOOK_AGAIN = 1.0  # seconds between looks at the file's time; a stat() a second costs nothing


class KeyFileError(Exception):
    """A key file is missing or wrong; the text names it."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A signing key, the roles that its tokens may carry, and the issuer they must name (None: any)."""

    kid: str
    jwk: OKPKey = field(repr=False)
    roles: frozenset[Role]
    issuer: str | None = None

    @classmethod
    def generate(cls, kid: str, roles: Iterable[Role], issuer: str | None = None) -> PrivateKey:
        """A new key. `kid` names it for ever: rotate by making another."""
        granted = frozenset(roles)
        parameters: Any = {"kid": kid, ROLES_MEMBER: sorted(role.value for role in granted)}
        if issuer is not None:
            parameters[ISSUER_MEMBER] = issuer
        return cls(kid, OKPKey.generate_key("Ed25519", parameters, private=True), granted, issuer)

    @classmethod
    def for_service(cls, service: str, number: int = 1) -> PrivateKey:
        """A service's own key, named `service-<name>-<number>`: it may grant the role `service` only, as itself."""
        return cls.generate(f"service-{service}-{number}", [Role.SERVICE], service)

    @classmethod
    def read(cls, path: Path) -> PrivateKey:
        """Read a private key file; refuses one that others may read."""
        try:
            if path.stat().st_mode & 0o077:
                raise KeyFileError(f"The private key {path} may be read by others. Run: chmod 600 {path}")
            jwk = OKPKey.import_key(json.loads(path.read_text()))
        except (OSError, ValueError, JoseError) as error:
            raise KeyFileError(f"The private key {path} cannot be read: {error}") from error
        if not jwk.is_private or jwk.kid is None:
            raise KeyFileError(f"{path} is not a private key with a kid.")
        return cls(jwk.kid, jwk, _roles(jwk), _issuer(jwk))

    def write(self, path: Path) -> None:
        """Write the private key, readable by its owner only (0600)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, json.dumps(self.jwk.as_dict(private=True)))

    def public(self) -> dict[str, object]:
        """The public half, for a JWKS."""
        return {**self.jwk.as_dict(private=False), "use": "sig"}


def write_key_set(path: Path, keys: Iterable[PrivateKey]) -> None:
    """Write the public halves as a JWKS, in one step: a reader sees the old set or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps({"keys": [key.public() for key in keys]}, indent=1))
    os.replace(unfinished, path)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, the roles that it may grant, and the issuer that it speaks for (None: whoever signs with it)."""

    kid: str
    jwk: OKPKey
    raw: Ed25519PublicKey
    roles: frozenset[Role]
    issuer: str | None


class PublicKeys:
    """The JWKS that tokens are checked against; rotation is adding a key to the file and, later, removing one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._looked_at = 0.0
        self._keys: dict[str, VerifyingKey] = {}
        self.generation = 0
        """Grows with each reading, so that whoever caches verified tokens knows when to forget them."""
        self._read()

    def get(self, kid: str) -> VerifyingKey | None:
        """The key of this id, or None."""
        self.refresh()
        return self._keys.get(kid)

    def refresh(self) -> None:
        """Look at the file again, at most once a second. A file that cannot be read leaves the keys as they are."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_AGAIN:
            return
        self._looked_at = now
        try:
            if self._stamp != self._stamp_of_file():
                self._read()
        except (OSError, KeyFileError):
            return

    def _stamp_of_file(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino

    def _read(self) -> None:
        try:
            stamp = self._stamp_of_file()
            entries = json.loads(self._path.read_text())["keys"]
            keys = {key.kid: key for key in map(_verifying_key, entries)}
        except (OSError, ValueError, LookupError, TypeError, JoseError) as error:
            raise KeyFileError(f"The key set {self._path} cannot be read: {error}") from error
        self._keys, self._stamp = keys, stamp
        self.generation += 1


def _verifying_key(entry: dict[str, str | list[str]]) -> VerifyingKey:
    jwk = OKPKey.import_key(entry)
    if jwk.kid is None or jwk.is_private or entry.get("crv") != "Ed25519":
        raise ValueError("each key must be a public Ed25519 key with a kid")
    raw = jwk.public_key
    if not isinstance(raw, Ed25519PublicKey):
        raise ValueError("each key must be an Ed25519 key")
    return VerifyingKey(jwk.kid, jwk, raw, _roles(jwk), _issuer(jwk))


def _roles(jwk: OKPKey) -> frozenset[Role]:
    listed = jwk.as_dict().get(ROLES_MEMBER, [])
    if not isinstance(listed, list):
        raise ValueError(f"{ROLES_MEMBER} must be a list")
    known = {role.value: role for role in Role}
    # A role this version does not know grants nothing.
    return frozenset(known[name] for name in listed if name in known)


def _issuer(jwk: OKPKey) -> str | None:
    issuer = jwk.as_dict().get(ISSUER_MEMBER)
    if issuer is not None and not (isinstance(issuer, str) and issuer):
        raise ValueError(f"{ISSUER_MEMBER} must be a name")
    return issuer


class KeyRing:
    """All keys of one local installation: one for people's tokens, one for each service."""

    USERS = "users-1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jwks_file = folder / "jwks.json"

    def private_key_file(self, owner: str) -> Path:
        """Where the private key of a service, or of `users-1`, is kept."""
        return self.folder / f"{owner}.key.json"

    def ensure(self, services: Iterable[str]) -> None:
        """Make the keys that are missing and publish all of them; existing keys are kept."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = {self.USERS: PrivateKey.generate(self.USERS, set(Role) - {Role.SERVICE})}
        wanted |= {service: PrivateKey.for_service(service) for service in services}
        for owner, fresh in wanted.items():
            path = self.private_key_file(owner)
            if not path.exists():
                fresh.write(path)
        every = sorted(self.folder.glob("*.key.json"))
        write_key_set(self.jwks_file, [PrivateKey.read(path) for path in every])

    def users_key(self) -> PrivateKey:
        """The key that signs people's tokens."""
        return PrivateKey.read(self.private_key_file(self.USERS))

    def service_key(self, service: str) -> PrivateKey:
        """The key of a service."""
        return PrivateKey.read(self.private_key_file(service))
