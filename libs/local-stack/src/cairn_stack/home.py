"""Where a stack keeps its things: one folder, private to its owner, with all that survives a restart."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LONGEST_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux, 104 on macOS


def default_home() -> Path:
    """`$CAIRN_HOME`, or `~/.cairn`: one stack a person, wherever they stand."""
    chosen = os.environ.get("CAIRN_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cairn"


@dataclass(frozen=True, slots=True)
class Home:
    """The paths below one stack's folder. Making a Home touches nothing; `prepare` does."""

    root: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data (a link elsewhere when root's folders are closed to PostgreSQL's user)."""
        return self.root / "postgres"

    @property
    def nats(self) -> Path:
        """JetStream's data, the server's configuration and its token."""
        return self.root / "nats"

    @property
    def blobs(self) -> Path:
        """Content-addressed blobs (large items, models), and the parts of exports."""
        return self.root / "blobs"

    @property
    def work(self) -> Path:
        """What services keep for a while and can make again."""
        return self.root / "work"

    @property
    def keys(self) -> Path:
        """Ed25519 keys, as `cairn_kit.auth.keys.KeyRing` keeps them."""
        return self.root / "keys"

    @property
    def passwords(self) -> Path:
        """The passwords of the database roles."""
        return self.root / "passwords.json"

    @property
    def ports(self) -> Path:
        """The ports chosen at the first start."""
        return self.root / "ports.json"

    @property
    def options(self) -> Path:
        """What the last `up` asked for, read by the supervisor."""
        return self.root / "options.json"

    @property
    def profile(self) -> Path:
        """What a client needs to reach this stack."""
        return self.root / "profile.json"

    @property
    def state(self) -> Path:
        """What runs, as the supervisor last wrote it; it outlives the supervisor."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the one supervisor for as long as it lives; the kernel lets go when it dies."""
        return self.root / "supervisor.lock"

    @property
    def control(self) -> Path:
        """The supervisor's socket; in the folder for temporary files when the home's path is too long."""
        inside = self.root / "control.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cairn-{os.geteuid()}-{digest}" / "control.sock"

    def log(self, name: str) -> Path:
        """The log of a service, of `postgres`, `nats` or `supervisor`."""
        if name in {"postgres", "nats"}:
            return self.root / f"{name}.log"  # the embedded servers write beside their data
        return self.root / "logs" / f"{name}.log"

    def spans(self, service: str) -> Path:
        """A service's finished spans, one JSON object a line."""
        return self.root / "spans" / f"{service}.jsonl"

    @property
    def ledger_key(self) -> Path:
        """What signs the ledger's checkpoints: PKCS#8 PEM, 0600."""
        return self.keys / "ledger.pem"

    @property
    def ledger_public_key(self) -> Path:
        """What verifies them: hand it to whoever checks the ledger."""
        return self.keys / "ledger.pub.pem"

    def prepare(self) -> None:
        """Make the folders; the stack's own ones are closed to others. Raises OSError."""
        new = not self.root.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        if new:
            self.root.chmod(0o711)  # PostgreSQL's user must be able to pass through; listing stays ours
        for log in (self.log("postgres"), self.log("nats")):
            log.touch(mode=0o600)
        for folder in (self.nats, self.blobs, self.work, self.keys, self.root / "logs", self.root / "spans"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
        control = self.control.parent
        if control != self.root:
            control.mkdir(mode=0o700, exist_ok=True)
            if control.stat().st_uid != os.geteuid():
                raise OSError(f"{control} belongs to another user")
