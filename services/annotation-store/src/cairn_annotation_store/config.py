"""Settings of the annotation store; every field is CAIRN_<FIELD> in the environment."""

from __future__ import annotations

from pydantic import Field

from cairn_kit.settings import ChassisSettings


class AnnotationStoreSettings(ChassisSettings):
    """What the annotation store may be told, besides what every service is told."""

    service_name: str = "annotation-store"

    blob_url: str = "file:///var/lib/cairn/blobs"
    """Where blobs are kept: a local folder, `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
    Credentials for the clouds come from their own environment variables."""

    max_blob_bytes: int = Field(default=5 * 1024**3, ge=1)
    """The largest blob taken in. It passes through the temporary folder on its way."""

    export_page: int = Field(default=10_000, ge=1, le=100_000)
    """The most labels, fewer where they are large, that an export writes at a time: what is lost when a worker dies."""

    export_processes: int = Field(default=2, ge=1, le=64)
    """How many processes may make an export's lines at once, behind all calls: each takes a processor, and some 80 MB."""

    export_claim_seconds: float = Field(default=30.0, gt=0)
    """An export whose worker has given no sign for so long is taken over by another."""

    watch_poll_seconds: float = Field(default=1.0, gt=0)
    """How often watchers look by themselves: what other replicas wrote wakes nobody here."""
