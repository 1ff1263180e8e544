"""What each service is told: the one place where a stack's addresses and secrets become settings."""

from __future__ import annotations

import os

from cairn_kit.embedded import EmbeddedNats, EmbeddedPostgres
from cairn_stack.catalog import SAMPLING_KEY, ServiceSpec
from cairn_stack.files import write_json
from cairn_stack.home import Home
from cairn_stack.options import Options
from cairn_stack.ports import Ports
from cairn_stack.provision import dsn, passwords

_HOST = "127.0.0.1"
TENANT = "local"
_FOR_CLIENTS = {"CAIRN_HOME", "CAIRN_PROFILE", "CAIRN_ADDRESS", "CAIRN_TOKEN", "CAIRN_TLS", "CAIRN_DATA"}
"""Variables that speak to the `cairn` command and the SDK, and are no service's business."""


def postgres_of(home: Home, options: Options) -> EmbeddedPostgres:
    """The stack's PostgreSQL."""
    return EmbeddedPostgres(home.postgres, durable=options.durable)


def nats_of(home: Home, options: Options, port: int | None = None) -> EmbeddedNats:
    """The stack's NATS. Another `port` than the kept one makes it forget the kept token, too."""
    nats = EmbeddedNats(home.nats, durable=options.durable, port=port)
    connection = home.nats / "connection.json"
    if port is not None and connection.exists() and nats.port != port:
        connection.unlink()
    return nats


def addresses(options: Options, ports: Ports) -> dict[str, str]:
    """Where each service serves gRPC: the addresses of all its processes, with commas between."""
    found: dict[str, list[str]] = {}
    for name, (spec, _) in options.processes.items():
        found.setdefault(spec.name, []).append(f"{_HOST}:{ports.grpc[name]}")
    return {service: ",".join(of_each) for service, of_each in found.items()}


def environment_of(
    spec: ServiceSpec, home: Home, options: Options, ports: Ports, number: int = 1
) -> dict[str, str]:
    """The whole environment of one replica of a service: ours, what `up` added, and the stack's own on top."""
    from cairn_kit.auth.keys import KeyRing  # half a second of imports that the first steps do without

    postgres, nats = postgres_of(home, options), nats_of(home, options)
    keys = KeyRing(home.keys)
    process = spec.replica(number)
    threads = str(max(1, (os.cpu_count() or 2) // 2))  # five services share the machine
    named = {
        "blobs": home.blobs.as_uri(),
        "keys": str(home.keys),
        "work": str(home.work if number == 1 else home.work / str(number)),
        "sampling_key": (home.keys / SAMPLING_KEY).read_text(),
    }
    peers = {
        f"CAIRN_PEERS__{name.replace('-', '_').upper()}": address
        for name, address in addresses(options, ports).items()
        if name != spec.name
    }
    return {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        **{name: value for name, value in os.environ.items() if name not in _FOR_CLIENTS},
        **{name: value.format(**named) for name, value in spec.environment.items()},
        "CAIRN_SHUTDOWN_GRACE": "5",
        **options.environment,
        **peers,
        "PYTHONUNBUFFERED": "1",
        "CAIRN_SERVICE_NAME": spec.name,
        "CAIRN_LISTEN": f"{_HOST}:{ports.grpc[process]}",
        "CAIRN_HTTP_LISTEN": f"{_HOST}:{ports.http[process]}",
        "CAIRN_POSTGRES_DSN": dsn(postgres, spec.schema, passwords(home, [spec.schema])[spec.schema]),
        "CAIRN_NATS_URL": nats.url,
        "CAIRN_NATS_TOKEN": nats.token,
        "CAIRN_JWKS_FILE": str(keys.jwks_file),
        "CAIRN_SERVICE_KEY_FILE": str(keys.private_key_file(spec.name)),
        **(
            {"CAIRN_SPANS_FILE": str(home.spans(process)), "CAIRN_TRACE_RATIO": str(options.trace_ratio)}
            if options.trace_ratio
            else {}
        ),
    }


def write_profile(home: Home, options: Options, ports: Ports) -> None:
    """Write what a client needs (0600): addresses, the key that signs people's tokens, the tenant."""
    from cairn_kit.auth.keys import KeyRing  # as above

    ring = KeyRing(home.keys)
    write_json(
        home.profile,
        {
            "version": 1,
            "home": str(home.root),
            "tenant": TENANT,
            "services": addresses(options, ports),
            "health": {name: f"{_HOST}:{port}" for name, port in ports.http.items()},
            "issuer_key_file": str(ring.private_key_file(ring.USERS)),
            "jwks_file": str(ring.jwks_file),
            "ledger_public_key_file": str(home.ledger_public_key),
            "nats_url": f"nats://{_HOST}:{ports.nats}",
        },
    )
