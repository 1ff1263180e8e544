"""The five services: what they are called, and how each is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec

SAMPLING_KEY = "sampling.key"
"""The file, among the keys, with the secret that draws the validation sample."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service: its name on the wire, the module that `python -m` runs, and settings only it has.

    `environment` values may name the folders `{keys}` and `{work}`, the file URL `{blobs}`, and the secret
    `{sampling_key}`.
    """

    name: str
    module: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        """Its PostgreSQL schema and role."""
        return self.name.replace("-", "_")

    @property
    def installed(self) -> bool:
        """Whether `python -m <module>` would find something to run."""
        try:
            return find_spec(f"{self.module}.__main__") is not None
        except ModuleNotFoundError:
            return False

    def replica(self, number: int) -> str:
        """What its first, second, ... process is called: `consensus`, `consensus-2`, ..."""
        return self.name if number == 1 else f"{self.name}-{number}"

    def migrations(self) -> Traversable | None:
        """Its migration files, where every service's floor plan has them; None for a program without."""
        folder = files(self.module) / "sql" / "migrations"
        return folder if folder.is_dir() else None


SERVICES = (
    ServiceSpec("annotation-store", "cairn_annotation_store", {"CAIRN_BLOB_URL": "{blobs}"}),
    ServiceSpec("task-dispatch", "cairn_task_dispatch"),
    ServiceSpec("consensus", "cairn_consensus"),
    ServiceSpec(
        "inference",
        "cairn_inference",
        {
            "CAIRN_BLOB_URL": "{blobs}",
            "CAIRN_WORK_DIR": "{work}/inference",
            "CAIRN_SAMPLING_KEY": "{sampling_key}",
        },
    ),
    ServiceSpec("audit", "cairn_audit", {"CAIRN_LEDGER_KEY_FILE": "{keys}/ledger.pem"}),
)
