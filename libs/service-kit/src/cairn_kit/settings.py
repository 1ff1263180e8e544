"""One frozen object with everything a process may be told from outside, read once and checked at start.

Each field is `CAIRN_<FIELD>` in the environment; peers are `CAIRN_PEERS__ANNOTATION_STORE=host:port`.
Only `__main__` and `config` modules read the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cairn_kit.database.pool import PlanCacheMode

_PREFIX = "CAIRN_"
_ADDRESS = re.compile(r"^(\[[0-9a-fA-F:]+\]|[^:,\s/]+):\d{1,5}$")
_REPLICAS = re.compile(r"^\d+(\.\d+){3}:\d{1,5}(,\d+(\.\d+){3}:\d{1,5})+$")


def _address(text: str) -> str:
    if not _ADDRESS.match(text):
        raise ValueError(f"{text!r} is not host:port")
    return text


def _peer(text: str) -> str:
    if not _ADDRESS.match(text) and not _REPLICAS.match(text):
        raise ValueError(f"{text!r} is neither host:port nor, for several replicas, ip:port,ip:port")
    return text


Address = Annotated[str, AfterValidator(_address)]
Peer = Annotated[str, AfterValidator(_peer)]


class ChassisSettings(BaseSettings):
    """What every service needs to run. Services subclass it, give `service_name` a default and add fields."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    service_name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")

    # --- where it listens; port 0 means any free port, told in the log and in `bound_file`
    listen: Address = "127.0.0.1:0"
    http_listen: Address = "127.0.0.1:0"
    """Plaintext /livez, /readyz and /metrics: Kubernetes' probe speaks no TLS to gRPC before 1.37."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    bound_file: Path | None = None
    """Where to write `{"grpc": "host:port", "http": "host:port", "pid": n}` once ready."""

    # --- what it leans on
    postgres_dsn: SecretStr
    pool_min: int = Field(default=2, ge=0)
    pool_max: int = Field(default=10, ge=1)
    acquire_timeout: float = Field(default=5.0, gt=0)
    statement_timeout: float = Field(default=30.0, gt=0)
    plan_cache_mode: PlanCacheMode = "auto"
    """PostgreSQL's setting of that name, for all of this service's statements."""
    nats_url: str = "nats://127.0.0.1:4222"
    nats_token: SecretStr | None = None
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_credentials: Path | None = None
    stream_replicas: int = Field(default=1, ge=1, le=5)
    peers: dict[str, Peer] = Field(default_factory=dict)
    """Where the other services are: `host:port`, where the name may have an address for each replica, or
    `ip:port,ip:port`, one a replica. Calls are spread over all."""
    peers_ca: Path | None = None
    """The authority that signed the other services' certificates; without it calls to them are plaintext."""

    # --- identity
    jwks_file: Path
    """Public keys that may sign tokens; read again when the file changes."""
    service_key_file: Path | None = None
    """This service's private key, for tokens to its neighbours and, in task-dispatch, lease tokens."""

    # --- limits
    max_concurrent_rpcs: int = Field(default=512, ge=1)
    max_concurrent_streams: int = Field(default=256, ge=1)
    longest_wait: float = Field(default=5.0, gt=0)
    """Seconds that a call may take under load: what waits for longer to be taken up is refused, and no more calls are
    taken on than can be answered within a quarter of it."""
    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=64 * 1024)
    default_deadline: float = Field(default=30.0, gt=0)
    """Seconds a unary call gets when its caller stated no deadline."""
    consumer_batch: int = Field(default=500, ge=1, le=5000)
    outbox_limit: int = Field(default=100_000, ge=1)
    """Events waiting for the bus from which on calls that make many more are refused."""
    event_retention_days: float = Field(default=7.0, gt=0)
    """How long the stream, and the outbox that can rebuild it, keep events."""

    # --- the end
    drain_delay: float = Field(default=0.0, ge=0)
    """Seconds between NOT_SERVING and the refusal of calls, for load balancers to notice."""
    shutdown_grace: float = Field(default=10.0, gt=0)

    # --- telling what it does
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    spans_file: Path | None = None
    otlp_endpoint: str | None = None
    trace_ratio: float = Field(default=1.0, ge=0, le=1)

    @property
    def schema_name(self) -> str:
        """The PostgreSQL schema and role of this service: `task-dispatch` -> `task_dispatch`."""
        return self.service_name.replace("-", "_")

    @field_validator("peers", mode="before")
    @classmethod
    def _with_dashes(cls, peers: object) -> object:
        # Environment names have no dashes and no fixed case: TASK_DISPATCH is task-dispatch.
        if isinstance(peers, dict):
            return {str(name).lower().replace("_", "-"): address for name, address in peers.items()}
        return peers

    @model_validator(mode="after")
    def _coherent(self) -> ChassisSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.pool_min > self.pool_max:
            raise ValueError("pool_min is above pool_max")
        return self


def unknown_settings(settings: ChassisSettings, variables: Iterable[str]) -> list[str]:
    """A sentence for each CAIRN_* variable that is no setting of this service: misspelt, it would be missed in silence.

    It may not be refused. Several services are started with one environment, and some of it is meant for another of
    them, or for the client (CAIRN_HOME).
    """
    known = [f"{_PREFIX}{name}".upper() for name in type(settings).model_fields]
    return [
        f"{name} is no setting of {settings.service_name} and is ignored; "
        f"the nearest is {get_close_matches(name, known, 1, cutoff=0)[0]}."
        for name in sorted(variables)
        if name.startswith(_PREFIX) and name.partition("__")[0] not in known
    ]
