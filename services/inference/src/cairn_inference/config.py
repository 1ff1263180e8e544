"""Settings of inference; every field is CAIRN_<FIELD> in the environment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from cairn_kit.settings import ChassisSettings


def forbid_network() -> None:
    """Tokenizers and weights are files of installed packages: nothing may be asked of a model hub.

    Nor may the tokenizer start threads of its own beside those that are counted here.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class InferenceSettings(ChassisSettings):
    """What inference may be told, besides what every service is told."""

    service_name: str = "inference"

    blob_url: str = "file:///var/lib/cairn/blobs"
    """Where model files are kept: `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://...`."""

    work_dir: Path = Path(tempfile.gettempdir()) / "cairn-inference"
    """Trainings and uploads under way, and the converted embedding. It may be lost: all are made again."""

    threads: int = Field(default=0, ge=0)
    """Threads of a model's run; 0 means as many as the container may use."""

    sampling_key: SecretStr
    """Key of the hash that draws the validation sample: whoever knows it can name items so that they stay out of the
    sample, hence no default. Keep it, for another key draws another sample from items still to come."""

    training_interval: float = Field(default=10.0, ge=0)
    """Seconds between two trainings of a project, at least."""

    training_growth: float = Field(default=1.5, ge=1.0)
    """A project trains again when its labels are so many times those of the last training. Each promotion may cost
    a validation round, and so a part of delta: more often is not better."""

    training_labels: int = Field(default=20_000, ge=100)
    """The most labels a training uses."""

    training_deadline: float = Field(default=1800.0, gt=0)
    """Seconds after which a training is given up."""

    promotion_margin: float = Field(default=0.01, ge=0, lt=1)
    """How much lower, as a share, a version's log loss must be than the serving one's."""

    route_patience: float = Field(default=30.0, gt=0)
    """Seconds that an item waits for its score, while a threshold is in force, before people get it."""

    @field_validator("sampling_key")
    @classmethod
    def _not_empty(cls, key: SecretStr) -> SecretStr:
        if not key.get_secret_value():
            raise ValueError(
                "is empty, and anybody could tell the validation sample; it must be a random text"
            )
        return key
