"""Projects that annotation-store has made and whose event is still on its way: nobody is told that there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Protocol

import grpc

from cairn.annotation.v1.annotation_store_pb2 import PROJECT_STATE_DELETING, GetProjectRequest, Project
from cairn_kit.auth.caller import caller
from cairn_kit.errors import PROJECT_NOT_FOUND, NotFound, Unavailable, from_rpc_error

_RETRY_AFTER = 0.1


class ProjectSource(Protocol):
    """What is asked of annotation-store."""

    @property
    def GetProject(self) -> Callable[..., Awaitable[Project]]:
        """A project of the tenant."""
        ...


async def newcomer(source: ProjectSource, unknown: NotFound) -> Project:
    """The project that is not known here, as annotation-store has it, for the tenant whose work is being done.

    Raises `unknown` when there is none there either, or none any more; what annotation-store says when it cannot tell.
    """
    try:
        project = await source.GetProject(GetProjectRequest(name=unknown.metadata["resource"]))
    except grpc.aio.AioRpcError as refused:
        error = from_rpc_error(refused)
        raise (unknown if isinstance(error, NotFound) else error) from None
    if project.state == PROJECT_STATE_DELETING:
        raise unknown
    return project


def awaited(source: ProjectSource, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The method, but of a newcomer it says Unavailable PROJECT_NOT_HERE_YET, which callers try again."""

    @wraps(behaviour)
    async def answer(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except NotFound as unknown:
            if unknown.reason != PROJECT_NOT_FOUND:
                raise
            name = unknown.metadata["resource"]
            caller().require_project(name.partition("/")[2])
            await newcomer(source, unknown)
        raise Unavailable(
            "PROJECT_NOT_HERE_YET",
            f"This service has not heard of {name} yet, which was made a moment ago; call again.",
            retry_after=_RETRY_AFTER,
            resource=name,
        )

    return answer
