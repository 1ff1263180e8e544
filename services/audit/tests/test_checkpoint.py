"""Checkpoints are signed notes as every transparency-log tool reads them."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cairn_audit.domain.checkpoint import Head, LedgerPublicKey, LedgerSigner, body, note_defect, origin_of
from cairn_audit.domain.merkle import EMPTY_ROOT, Hash
from cairn_client import ledger as offline

HEAD = Head(origin_of("acme"), 1042, Hash(bytes(range(32))))


def test_the_key_hash_is_that_of_the_published_example_key() -> None:
    # golang.org/x/mod/sumdb/note's example key.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    raw = base64.b64decode(text.split("+", 2)[2])[1:]
    assert LedgerPublicKey(raw).verifier_key("PeterNeumann") == text


def test_the_note_is_the_published_one_for_the_published_key() -> None:
    secret = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
    signer = LedgerSigner(Ed25519PrivateKey.from_private_bytes(secret))
    # The example's text is no checkpoint, so only its signature can be compared.
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = signer.public.note_hash("PeterNeumann") + signer._key.sign(text.encode())
    assert base64.b64encode(signature).decode() == (
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )


def test_a_note_names_origin_size_and_root_and_opens_with_the_key() -> None:
    signer = LedgerSigner(Ed25519PrivateKey.generate())
    note = signer.sign(HEAD)
    assert note.startswith(
        "cairn/acme\n1042\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n\u2014 cairn/acme "
    )
    key = offline.VerifierKey.parse(signer.public.verifier_key(HEAD.origin))
    assert offline.open_checkpoint(note, key) == offline.SignedHead(HEAD.origin, HEAD.size, HEAD.root)


def test_an_empty_ledger_has_a_head_too() -> None:
    assert body(Head("cairn/acme", 0, EMPTY_ROOT)) == (
        "cairn/acme\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )


def test_the_servers_own_check_finds_each_kind_of_forgery() -> None:
    signer, other = (LedgerSigner(Ed25519PrivateKey.generate()) for _ in range(2))
    keys = [signer.public]
    note = signer.sign(HEAD)
    assert note_defect(HEAD, note, keys) is None
    assert note_defect(HEAD, note, [other.public]) == "it is signed by no key of this ledger"
    assert note_defect(HEAD, other.sign(HEAD), [other.public, signer.public]) is None
    shorter = Head(HEAD.origin, 1041, HEAD.root)
    assert note_defect(HEAD, signer.sign(shorter), keys) == "its note does not say what the checkpoint says"
    forged = note.replace("\n1042\n", "\n1041\n")
    assert note_defect(shorter, forged, keys) == "its signature is wrong"


@pytest.mark.parametrize(
    "pem", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):
        LedgerSigner.from_pem(pem)
