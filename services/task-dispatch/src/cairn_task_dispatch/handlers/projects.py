"""Projects that annotation-store has made and whose event is still on its way: asked for, so that nobody has to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from cairn_kit.auth import acting_for
from cairn_kit.database import Database
from cairn_kit.errors import PROJECT_NOT_FOUND, NotFound, project_not_found
from cairn_kit.rpc.newcomers import ProjectSource, newcomer
from cairn_task_dispatch.handlers.hearing import policy_of
from cairn_task_dispatch.store import DispatchStore, ProjectRef

T = TypeVar("T")


class Projects:
    """Lets a command on an unknown project run again once the project was asked for."""

    def __init__(self, database: Database, store: DispatchStore, source: ProjectSource) -> None:
        self._database = database
        self._store = store
        self._source = source

    async def knowing(self, tenant: str, project: str, command: Callable[[], Awaitable[T]]) -> T:
        """What the command says. Raises NotFound PROJECT_NOT_FOUND when annotation-store has no such project either."""
        try:
            return await command()
        except NotFound as unknown:
            if unknown.reason != PROJECT_NOT_FOUND:
                raise
            await self._learn(tenant, project, unknown)
        return await command()

    async def must_know(self, tenant: str, project: str) -> None:
        """Raise NotFound PROJECT_NOT_FOUND unless there is such a project, here or at annotation-store."""
        ref = ProjectRef(tenant, project)

        async def look() -> None:
            if ref not in await self._store.projects(self._database, [ref]):
                raise project_not_found(project)

        await self.knowing(tenant, project, look)

    async def _learn(self, tenant: str, project: str, unknown: NotFound) -> None:
        with acting_for(tenant):
            found = await newcomer(self._source, unknown)
        async with self._database.transaction() as tx:
            await self._store.save_projects(tx, {ProjectRef(tenant, project): policy_of(found)})
