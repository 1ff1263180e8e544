"""`cairn verify`: whether history is intact, checked on this machine with nothing but a public key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from rich.markup import escape

from cairn_client import ledger
from cairn_client.blocking import Cairn
from cairn_client.commands.connection import connect
from cairn_client.commands.screen import say, tell
from cairn_client.errors import CairnError, InputError
from cairn_client.words import quoted

LEDGER_FILE, CHECKPOINT_FILE, KEY_FILE = "ledger.bin", "checkpoint.txt", "ledger.key"


def verify(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A folder that --save wrote, or a ledger file, to check offline. Left out: the running one."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The signed checkpoint; by default checkpoint.txt beside the ledger.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The verifier key (name+hash+base64), or a file that has it.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Keep the ledger, its checkpoint and key in this folder, for offline checks."),
    ] = None,
) -> None:
    """Check the ledger of all events against its signed head.

    Fetches every entry and computes the Merkle tree (RFC 6962) here: the service is not trusted, only the key. With a
    file or folder it needs no service at all. One changed, dropped, added or swapped entry makes it fail, by its place.
    """
    try:
        if source is not None:
            verified = _offline(source, checkpoint, key)
        else:
            with connect(context) as cairn:
                verified = _online(cairn, key, save)
    except ledger.LedgerError as error:
        tell(f"[red bold]NOT INTACT[/]: {escape(str(error))}")
        raise typer.Exit(1) from None
    say(
        f"[green bold]Intact[/]: {verified.entries:,} entries of {escape(verified.origin)},"
        f" root {verified.root.hex()[:16]}…, as signed."
    )
    if verified.erased:
        say(
            f"[yellow]Erased[/]: {verified.erased:,} of them, with deleted projects: their places are proven,"
            " what they said nobody can check any more."
        )


def _online(cairn: Cairn, key: str | None, save: Path | None) -> ledger.Verified:
    head = cairn.ledger.checkpoint()
    keys = [_key(key)] if key is not None else _keys_of(cairn)
    notes = [head.note, *(one.note for one in cairn.ledger.checkpoints() if one.size < head.size)]
    entries = cairn.ledger.entries(0, head.size)
    if head.size == 0:
        raise CairnError("The ledger is empty: nothing has happened yet.")
    if save is None:
        return ledger.verify_entries(entries, notes, keys)
    save.mkdir(parents=True, exist_ok=True)
    with (save / LEDGER_FILE).open("wb") as file:
        ledger.write_entries(file, entries)
    (save / CHECKPOINT_FILE).write_text(head.note, encoding="utf-8")
    (save / KEY_FILE).write_text("".join(f"{one}\n" for one in _told_keys(cairn)), encoding="utf-8")
    with (save / LEDGER_FILE).open("rb") as file:
        return ledger.verify_file(file, notes, keys)


def _told_keys(cairn: Cairn) -> list[str]:
    return [one.verifier_key for one in cairn.ledger.public_keys()]


def _keys_of(cairn: Cairn) -> list[ledger.VerifierKey]:
    """The keys that the service tells; on a local stack only the one that the stack's own file has."""
    told = [ledger.VerifierKey.parse(text) for text in _told_keys(cairn)]
    file = cairn.profile.ledger_key_file
    if file is None:
        tell("[dim]The key was told by the service itself; give --key to trust nothing but yours.[/]")
        return told
    try:
        known = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CairnError(f"The ledger's public key {file} cannot be read: {error}") from None
    if not isinstance(known, Ed25519PublicKey):
        raise CairnError(f"{file} is not an Ed25519 public key.")
    return [one for one in told if one.public_key == known.public_bytes_raw()]


def _offline(source: Path, checkpoint: Path | None, key: str | None) -> ledger.Verified:
    folder = source if source.is_dir() else source.parent
    file = source / LEDGER_FILE if source.is_dir() else source
    checkpoint = checkpoint or folder / CHECKPOINT_FILE
    if key is None and not (folder / KEY_FILE).exists():
        raise InputError(
            "Give the key that the ledger must be signed with: --key KEY (or a file that has it)."
        )
    try:
        note = checkpoint.read_text(encoding="utf-8")
        with file.open("rb") as stream:
            return ledger.verify_file(stream, note, _keys(key or str(folder / KEY_FILE)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The ledger or its checkpoint cannot be read: {error}") from None


def _keys(key: str) -> list[ledger.VerifierKey]:
    path = Path(key)
    if "+" in key and not path.exists():
        return [_key(key)]
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The key file {key} cannot be read: {error}") from None
    return [_key(line) for line in lines if line.strip()]


def _key(text: str) -> ledger.VerifierKey:
    try:
        return ledger.VerifierKey.parse(text.strip())
    except (ledger.LedgerError, ValueError) as error:
        raise InputError(f"{quoted(text)} is not a verifier key: {error}") from None
