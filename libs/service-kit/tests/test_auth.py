"""Who may call what, and which tokens are believed."""

from __future__ import annotations

import importlib
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FileDescriptor
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

import cairn
from cairn_kit.auth import (
    KeyRing,
    LeaseClaims,
    PrivateKey,
    PublicKeys,
    Role,
    Signer,
    Verifier,
    write_key_set,
)
from cairn_kit.auth.keys import KeyFileError
from cairn_kit.auth.permissions import PERMISSIONS, defects, permissions_of
from cairn_kit.errors import FailedPrecondition, NotFound, PermissionDenied, Unauthenticated

LEASE = LeaseClaims("acme", "birds", "item-1", "t1", "l1", "labelers/ann", "LABEL", time.time() + 86400)


def every_proto() -> list[FileDescriptor]:
    """Each generated file below `cairn`."""
    roots = [Path(root) for root in cairn.__path__]
    files = [file.relative_to(root) for root in roots for file in root.rglob("*_pb2.py")]
    names = [".".join(("cairn", *file.with_suffix("").parts)) for file in files]
    return [importlib.import_module(name).DESCRIPTOR for name in names]


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    ring.ensure(["task-dispatch", "consensus"])
    return ring


@pytest.fixture
def verifier(ring: KeyRing) -> Verifier:
    return Verifier(PublicKeys(ring.jwks_file))


def test_every_rpc_has_a_rule_and_every_rule_an_rpc() -> None:
    files = every_proto()
    assert defects(files) == []
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert len(methods) > 60
    assert set(PERMISSIONS) == methods


def test_an_rpc_without_a_rule_is_found() -> None:
    name = "/cairn.dispatch.v1.TaskDispatchService/LeaseTasks"
    table = {method: rule for method, rule in PERMISSIONS.items() if method != name}
    assert defects(every_proto(), table) == [f"{name} has no rule"]


@pytest.mark.parametrize(
    "method",
    [
        "/cairn.dispatch.v1.TaskDispatchService/ClaimItems",
        "/cairn.dispatch.v1.TaskDispatchService/GetTask",
        "/cairn.dispatch.v1.TaskDispatchService/WatchQueue",
        "/cairn.annotation.v1.AnnotationStoreService/GetProjectProgress",
        "/cairn.annotation.v1.AnnotationStoreService/WatchProjectProgress",
        "/cairn.annotation.v1.AnnotationStoreService/GetAnnotation",
    ],
)
def test_who_only_answers_may_call_nothing_that_tells_gold_from_other_items(method: str) -> None:
    asked = PERMISSIONS[method].permission
    assert asked not in permissions_of([Role.LABELER, Role.REVIEWER])
    assert all(asked in permissions_of([role]) for role in (Role.OPERATOR, Role.ADMIN, Role.SERVICE))


def test_private_keys_are_for_their_owner_alone(ring: KeyRing) -> None:
    files = sorted(ring.folder.glob("*.key.json"))
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3
    assert '"d"' not in ring.jwks_file.read_text()
    files[0].chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        PrivateKey.read(files[0])


def test_keys_are_made_once(ring: KeyRing) -> None:
    before = ring.jwks_file.read_text()
    ring.ensure(["task-dispatch", "consensus"])
    assert ring.jwks_file.read_text() == before


def test_a_token_tells_who_calls(ring: KeyRing, verifier: Verifier) -> None:
    token = Signer(ring.users_key(), "test").token(
        tenant="acme", subject="ann", roles=["labeler", "reviewer"], projects=["birds"]
    )
    who = verifier.verify(token)
    assert (who.tenant, who.subject) == ("acme", "ann")
    assert who.roles == {Role.LABELER, Role.REVIEWER}
    who.require_project("birds")
    with pytest.raises(NotFound):
        who.require_project("fish")
    assert who.labeler() == "labelers/ann"
    assert verifier.verify(token) is who, "verified once, remembered until it expires"


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": "test", "sub": "ann", "aud": "cairn", "iat": now, "exp": now + 60}
    good |= {"tenant": "acme", "roles": ["labeler"]}
    told = {name: value(now) if callable(value) else value for name, value in (good | changes).items()}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None},
        {"iss": ""},
        {"iss": ["test"]},
        {"aud": "other"},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"iat": lambda now: now + 600},
        {"tenant": None},
        {"tenant": "acme.>"},
        {"tenant": "Acme"},
        {"sub": ""},
        {"sub": "ann\0"},
        {"roles": "admin"},
        {"roles": ["service"]},
        {"projects": "birds"},
    ],
)
def test_a_signed_token_with_wrong_claims_is_refused(
    ring: KeyRing, verifier: Verifier, changes: dict[str, Any]
) -> None:
    key = ring.users_key()
    token = jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims(**changes), key.jwk, algorithms=["Ed25519"])
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    assert caught.value.reason == "TOKEN_INVALID"


def test_a_key_that_names_its_issuer_signs_for_no_other(ring: KeyRing, tmp_path: Path) -> None:
    named = PrivateKey.generate("idp-1", [Role.LABELER], "https://login.example")
    any_issuer = PrivateKey.generate("idp-2", [Role.LABELER])
    written = tmp_path / "named.key.json"
    named.write(written)
    write_key_set(ring.jwks_file, [PrivateKey.read(written), any_issuer, ring.service_key("consensus")])
    verifier = Verifier(PublicKeys(ring.jwks_file))

    def minted(key: PrivateKey, issuer: str) -> str:
        return Signer(key, issuer).token(tenant="acme", subject="ann", roles=key.roles)

    assert verifier.verify(minted(named, "https://login.example")).subject == "ann"
    assert verifier.verify(minted(any_issuer, "whoever")).subject == "ann"
    assert verifier.verify(Signer(ring.service_key("consensus"), "consensus").service_token("acme"))
    for key, issuer in ((named, "https://login.example.evil"), (ring.service_key("consensus"), "audit")):
        with pytest.raises(Unauthenticated, match="does not speak for its issuer"):
            verifier.verify(minted(key, issuer))


def test_a_token_expires_even_while_it_is_remembered(
    ring: KeyRing, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = Signer(ring.users_key(), "test").token(
        tenant="acme", subject="ann", roles=["labeler"], lifetime=60
    )
    assert verifier.verify(token)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 120)
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    assert caught.value.reason == "TOKEN_EXPIRED"


def test_only_our_algorithm_and_our_keys_are_believed(ring: KeyRing, verifier: Verifier) -> None:
    own = ring.users_key()
    stranger = OKPKey.generate_key("Ed25519", {"kid": own.kid}, private=True)
    shared = OctKey.import_key(json.dumps(own.public()), {"kid": own.kid})  # the public key as an HMAC secret
    good = jwt.encode({"alg": "Ed25519", "kid": own.kid}, claims(), own.jwk, algorithms=["Ed25519"])
    head, body, signature = good.split(".")
    for forged in (
        jwt.encode({"alg": "Ed25519", "kid": own.kid}, claims(), stranger, algorithms=["Ed25519"]),
        jwt.encode({"alg": "HS256", "kid": own.kid}, claims(), shared, algorithms=["HS256"]),
        "eyJhbGciOiJub25lIn0." + body + ".",
        jwt.encode({"alg": "Ed25519", "kid": "nobody"}, claims(), own.jwk, algorithms=["Ed25519"]),
        jwt.encode({"alg": "Ed25519"}, claims(), own.jwk, algorithms=["Ed25519"]),
        jwt.encode(
            {"alg": "Ed25519", "kid": own.kid, "typ": "other"}, claims(), own.jwk, algorithms=["Ed25519"]
        ),
        f"{head}.{body}.{signature[:-4]}AAAA",
        good + "x" * 9000,
        "",
    ):
        with pytest.raises(Unauthenticated):
            verifier.verify(forged)
    assert verifier.verify(good)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 63, 64, 65, 200])
def test_lease_tokens_come_back_as_they_were_signed(ring: KeyRing, verifier: Verifier, count: int) -> None:
    leases = [replace(LEASE, item=f"item-{n}", lease=f"l{n}") for n in range(count)]
    tokens = dispatch(ring).sign_leases(leases)
    assert [verifier.verify_lease(token) for token in tokens] == leases
    longest = max(len(token.split(".")[2]) for token in tokens)
    assert longest <= 4 * (64 + 6 * 32 + 2) // 3, "a signature and a way of six at the most"


def test_leases_that_are_given_together_have_one_signature(ring: KeyRing) -> None:
    proofs = [
        urlsafe_b64decode(token.split(".")[2] + "==") for token in dispatch(ring).sign_leases([LEASE] * 20)
    ]
    assert len({proof[:64] for proof in proofs}) == 1
    assert proofs[0][:64] != urlsafe_b64decode(one_lease(ring).split(".")[2] + "==")[:64]


def test_a_lease_token_is_no_access_token_nor_the_other_way_round(ring: KeyRing, verifier: Verifier) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(one_lease(ring))
    with pytest.raises(PermissionDenied):
        verifier.verify_lease(dispatch(ring).service_token("acme"))


def test_a_lease_that_dispatch_did_not_sign_is_refused(ring: KeyRing, verifier: Verifier) -> None:
    good = one_lease(ring)
    head, body, signature = good.split(".")
    [other] = Signer(ring.service_key("consensus"), "consensus").sign_leases([LEASE])
    [users] = Signer(ring.users_key(), "test").sign_leases([LEASE])
    # What a JWS is: signed itself, not as part of a tree.
    jws = (
        head
        + "."
        + body
        + "."
        + _text(ring.service_key("task-dispatch").jwk.private_key.sign(f"{head}.{body}".encode()))
    )
    for forged in (other, users, jws, f"{head}.{body[:-2]}AA.{signature}", "a.b", "a.b.c", "ä.b.c", ""):
        with pytest.raises(PermissionDenied) as caught:
            verifier.verify_lease(forged)
        assert caught.value.reason == "LEASE_TOKEN_INVALID"
    assert verifier.verify_lease(good) == LEASE


@pytest.mark.parametrize("known", [False, True], ids=["first", "after one that passed"])
def test_a_lease_is_proved_by_its_own_way_alone(ring: KeyRing, verifier: Verifier, known: bool) -> None:
    leases = [replace(LEASE, item=f"item-{n}", lease=f"l{n}") for n in range(5)]
    first, second, *_, last = dispatch(ring).sign_leases(leases)
    if known:
        assert verifier.verify_lease(last) == leases[4]
    head, body, proof = first.split(".")
    own = urlsafe_b64decode(proof + "==")
    changed = {
        "no way": own[:64],
        "a part of its way": own[:-32],
        "half a digest": own[:-16],
        "a longer way": own + bytes(32),
        "another's way": urlsafe_b64decode(second.split(".")[2] + "=="),
        "another order": own[:64] + own[96:] + own[64:96],
        "a way through the deepest of trees": own + bytes(32 * 100),
    }
    for what, forged in changed.items():
        with suppress(PermissionDenied):
            verifier.verify_lease(f"{head}.{body}.{_text(forged)}")
            pytest.fail(f"{what} was taken for a proof")
    # What stands beside the second is the first's digest: nobody may pass it for something that was said.
    with pytest.raises(PermissionDenied):
        verifier.verify_lease(f"{head}.{second.split('.')[1]}.{proof}")
    assert verifier.verify_lease(first) == leases[0]


def dispatch(ring: KeyRing) -> Signer:
    return Signer(ring.service_key("task-dispatch"), "task-dispatch")


def one_lease(ring: KeyRing, lease: LeaseClaims = LEASE) -> str:
    [token] = dispatch(ring).sign_leases([lease])
    return token


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_an_expired_lease_is_told_apart_from_a_forged_one(ring: KeyRing, verifier: Verifier) -> None:
    late = LeaseClaims("acme", "birds", "item-1", "t1", "l1", "labelers/ann", "LABEL", time.time() - 60)
    token = one_lease(ring, late)
    with pytest.raises(FailedPrecondition) as caught:
        verifier.verify_lease(token)
    assert caught.value.reason == "LEASE_TOKEN_EXPIRED"
    assert verifier.verify_lease(token, allow_expired=True) == late


def test_a_lease_that_is_remembered_expires_and_goes_with_its_key(
    ring: KeyRing, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = one_lease(ring)
    assert verifier.verify_lease(token) == verifier.verify_lease(token) == LEASE
    now, up = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)
    with pytest.raises(FailedPrecondition) as caught:
        verifier.verify_lease(token)
    assert caught.value.reason == "LEASE_TOKEN_EXPIRED"
    write_key_set(ring.jwks_file, [ring.service_key("consensus")])
    monkeypatch.setattr(time, "monotonic", lambda: up + 60)
    with pytest.raises(PermissionDenied) as refused:
        verifier.verify_lease(token, allow_expired=True)
    assert refused.value.reason == "LEASE_TOKEN_INVALID"
