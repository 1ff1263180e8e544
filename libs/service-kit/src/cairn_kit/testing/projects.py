"""annotation-store, as whoever has not heard of a project asks it."""

from __future__ import annotations

from typing import Any

from cairn.annotation.v1.annotation_store_pb2 import GetProjectRequest, Project
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceServicer
from cairn_kit.errors import project_not_found, trailers


class ProjectsOfAll(AnnotationStoreServiceServicer):
    """Tells of `projects`, by their names, whichever tenant asks; tests add what else they need of annotation-store."""

    def __init__(self) -> None:
        self.projects: dict[str, Project] = {}

    async def GetProject(self, request: GetProjectRequest, context: Any) -> Project:  # noqa: N802 - the name of the RPC
        """The project."""
        if request.name not in self.projects:
            error = project_not_found(request.name.partition("/")[2])
            await context.abort(error.code, error.message, trailers(error))
        return self.projects[request.name]
