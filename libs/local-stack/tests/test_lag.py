"""How far behind its events a service is, read from what it shows to Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cairn_kit.telemetry.metrics import Metrics
from cairn_stack import StackState, api
from cairn_stack.lag import Lag, lag_at
from cairn_stack.processes import ProcessId
from cairn_stack.state import ProcessState, ProcessStatus, StackStatus


@contextmanager
def showing(body: bytes) -> Iterator[str]:
    """A port that answers every GET with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_chassis_own_metrics_tell_the_lag_on_either_side() -> None:
    metrics = Metrics()
    metrics.outbox_waiting.set(1200)
    metrics.outbox_lag.set(1.5)
    metrics.consumer_waiting.set(7)
    metrics.consumer_lag.set(2.25)
    with showing(metrics.render()) as address:
        lag = lag_at(address)
    assert lag == Lag(1200, 1.5, 7, 2.25)
    assert lag.seconds == 2.25


def test_a_service_that_tells_nothing_has_no_lag(tmp_path: Path) -> None:
    me = ProcessId(1, 0.0)
    with showing(b"# nothing\n") as address:
        silent = ProcessStatus("audit", ProcessState.READY, me, http=address)
        gone = ProcessStatus("consensus", ProcessState.READY, me, http="127.0.0.1:1")
        assert api.lags(StackStatus(tmp_path, StackState.READY, processes=(silent, gone))) == {}
