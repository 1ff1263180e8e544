"""Resource names (AIP-122): read and written in one place."""

from __future__ import annotations

from typing import NewType

Tenant = NewType("Tenant", str)
ProjectId = NewType("ProjectId", str)
ItemKey = NewType("ItemKey", str)

TRAINED_MODEL = "trained"
"""The id of the model that this service trains for a project's routed question."""


def project_name(project: str) -> str:
    """`projects/{project}`."""
    return f"projects/{project}"


def project_id(name: str) -> ProjectId:
    """The project of any resource name below it. Raises ValueError for a name of another shape."""
    parts = name.split("/")
    if len(parts) < 2 or parts[0] != "projects" or not parts[1]:
        raise ValueError(f"{name!r} is not below projects/{{project}}")
    return ProjectId(parts[1])


def item_name(project: str, key: str) -> str:
    """`projects/{project}/items/{item}`."""
    return f"projects/{project}/items/{key}"


def item_key(name: str) -> ItemKey:
    """The item of `projects/{project}/items/{item}`. Raises ValueError for another shape."""
    match name.split("/"):
        case ["projects", project, "items", key] if project and key:
            return ItemKey(key)
    raise ValueError(f"{name!r} is not projects/{{project}}/items/{{item}}")


def version_name(project: str, model: str, version: int) -> str:
    """`projects/{project}/models/{model}/versions/{version}`."""
    return f"projects/{project}/models/{model}/versions/{version}"


def version_of(name: str) -> tuple[ProjectId, str, int]:
    """Project, model and number of a model version's name. Raises ValueError for another shape."""
    match name.split("/"):
        case ["projects", project, "models", model, "versions", number] if (
            number.isdecimal() and len(number) < 18
        ):
            return ProjectId(project), model, int(number)
    raise ValueError(f"{name!r} is not projects/{{project}}/models/{{model}}/versions/{{version}}")


def model_of(name: str) -> str:
    """The model of `projects/{project}/models/{model}`, or `-`. Raises ValueError for another shape."""
    match name.split("/"):
        case ["projects", _, "models", model] if model:
            return model
    raise ValueError(f"{name!r} is not projects/{{project}}/models/{{model}}")


def run_name(project: str, run: str) -> str:
    """`projects/{project}/trainingRuns/{training_run}`."""
    return f"projects/{project}/trainingRuns/{run}"


def run_of(name: str) -> tuple[ProjectId, str]:
    """Project and id of a training run's name. Raises ValueError for another shape."""
    match name.split("/"):
        case ["projects", project, "trainingRuns", run] if run:
            return ProjectId(project), run
    raise ValueError(f"{name!r} is not projects/{{project}}/trainingRuns/{{training_run}}")
