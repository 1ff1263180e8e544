"""Where Cairn runs, and who one is there: found in the environment, in `~/.cairn`, or said by the caller."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from cairn_client.errors import ProfileError

ALL_ROLES = ("admin", "manager", "operator", "reviewer")
"""What the owner of a local stack may do: everything, answering for other labelers included."""


class Service(Enum):
    """The five services, by the names under which profiles and stacks know them."""

    ANNOTATION_STORE = "annotation-store"
    TASK_DISPATCH = "task-dispatch"
    CONSENSUS = "consensus"
    INFERENCE = "inference"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Profile:
    """Addresses of the services and what is needed to speak to them.

    An address is `host:port`, a name with an address for each replica among them, or `ip:port,ip:port`: one a replica.

    `issuer_key` is a private JWK with which this user mints own tokens: a local stack's. Elsewhere give a
    token.
    """

    addresses: Mapping[Service, str]
    tenant: str = "default"
    subject: str = "admin"
    roles: tuple[str, ...] = ALL_ROLES
    issuer: str = "local"
    issuer_key: Path | None = None
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    ledger_key_file: Path | None = None
    """The public key (PEM) that a local stack's ledger is signed with, learnt without asking the service."""
    source: str = "given by the caller"

    @classmethod
    def at(
        cls, addresses: Mapping[Service | str, str] | str, *, token: str | None = None, tls: bool = False
    ) -> Profile:
        """A profile from explicit addresses: one a service, or one gateway for all."""
        return cls(_addresses(addresses, "the addresses"), token=token, tls=tls)


def discover(home: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Profile:
    """The profile to use when the caller gave none.

    Looked for in this order: `home`'s profile.json; the file `CAIRN_PROFILE`; `CAIRN_ADDRESS` (one
    gateway) with
    `CAIRN_TOKEN`; `CAIRN_HOME`'s profile.json; `~/.cairn/profile.json`. `CAIRN_TOKEN` is used wherever it
    is set.

    Raises ProfileError that says what to do when there is none.
    """
    env = os.environ if environ is None else environ
    token = env.get("CAIRN_TOKEN") or None
    if home is not None:
        return _with_token(read_profile(Path(home)), token)
    if named := env.get("CAIRN_PROFILE"):
        return _with_token(read_profile(Path(named)), token)
    if address := env.get("CAIRN_ADDRESS"):
        tls = env.get("CAIRN_TLS", "") in ("1", "true", "yes")
        return Profile(_addresses(address, "CAIRN_ADDRESS"), token=token, tls=tls, source="CAIRN_ADDRESS")
    return _with_token(read_profile(default_home(env)), token)


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """Where the local stack lives: `CAIRN_HOME`, or `~/.cairn`."""
    env = os.environ if environ is None else environ
    return Path(env.get("CAIRN_HOME") or Path.home() / ".cairn").expanduser()


def read_profile(path: Path) -> Profile:
    """Read a profile.json, or the one in a folder. Relative paths in it are meant from its own folder."""
    file = path / "profile.json" if path.is_dir() or path.suffix != ".json" else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProfileError(
            f"Cairn is not running here: there is no {file}. Start it with 'cairn up', or set CAIRN_PROFILE."
        ) from None
    except OSError as error:
        raise ProfileError(f"The profile {file} cannot be read: {error.strerror}.") from None
    try:
        told = json.loads(text)
        return _profile(told, file)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProfileError(f"The profile {file} is not as it should be: {error}") from None


def _profile(told: dict[str, Any], file: Path) -> Profile:
    key = told.get("issuer_key") or told.get("issuer_key_file") or told.get("issuer_key_path")
    ca_file, ledger_key = told.get("ca_file"), told.get("ledger_public_key_file")
    roles = told.get("roles")
    return Profile(
        addresses=_addresses(told.get("addresses") or told["services"], str(file)),
        tenant=str(told.get("tenant", "default")),
        subject=str(told.get("subject", "admin")),
        roles=tuple(map(str, roles)) if roles else ALL_ROLES,
        issuer=str(told.get("issuer", "local")),
        issuer_key=file.parent / str(key) if key else None,
        token=told.get("token"),
        tls=bool(told.get("tls", False)),
        ca_file=file.parent / str(ca_file) if ca_file else None,
        ledger_key_file=file.parent / str(ledger_key) if ledger_key else None,
        source=str(file),
    )


def _addresses(told: Mapping[Service | str, Any] | str, place: str) -> dict[Service, str]:
    if isinstance(told, str):
        return dict.fromkeys(Service, told)
    by_name = {name.value if isinstance(name, Service) else str(name): at for name, at in told.items()}
    by_name = {name.replace("_", "-"): at for name, at in by_name.items()}
    if missing := [service.value for service in Service if service.value not in by_name]:
        raise ProfileError(f"{place} should have an address for {', '.join(missing)}.")
    found = {service: by_name[service.value] for service in Service}
    return {service: str(at["grpc"] if isinstance(at, dict) else at) for service, at in found.items()}


def _with_token(profile: Profile, token: str | None) -> Profile:
    return replace(profile, token=token) if token else profile
