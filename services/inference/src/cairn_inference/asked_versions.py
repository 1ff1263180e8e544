"""Which version answers a call, looked up once for all that ask at about the same time."""

from __future__ import annotations

from cairn_inference.domain.names import project_name, version_of
from cairn_inference.records import AskedVersion, Version
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database
from cairn_kit.errors import FailedPrecondition, InvalidArgument, NotFound, project_not_found
from cairn_kit.looks import Looks

_FRESH = 0.1
"""Seconds for which a look counts: whoever is promoted, or deleted, answers for no longer than that."""


class AskedVersions:
    """The versions that were just asked for."""

    def __init__(self, database: Database, store: InferenceStore) -> None:
        self._database = database
        self._store = store
        self._looks = Looks(self._look)

    async def get(self, tenant: str, project: str, name: str) -> Version:
        """The version of that name, or the serving one when it is empty.

        Raises NotFound for an unknown project or version, FailedPrecondition NO_MODEL when none serves, InvalidArgument
        NAME_INVALID.
        """
        return await self._looks.get(_asked(tenant, project, name), _FRESH)

    async def _look(self, asked: AskedVersion) -> Version:
        found = await self._store.versions_asked(self._database, [asked])
        version = found.get(asked)
        if version is None:
            raise _missing(asked, known=asked in found)
        return version


def _asked(tenant: str, project: str, name: str) -> AskedVersion:
    if not name:
        return AskedVersion(tenant, project, None, None)
    try:
        of, model, number = version_of(name)
    except ValueError as error:
        raise InvalidArgument("NAME_INVALID", str(error)) from error
    if of != project:
        raise NotFound("MODEL_VERSION_NOT_FOUND", f"There is no {name} in projects/{project}.", resource=name)
    return AskedVersion(tenant, project, model, number)


def _missing(asked: AskedVersion, *, known: bool) -> Exception:
    resource = project_name(asked.project)
    if not known:
        return project_not_found(asked.project)
    if asked.model is None:
        return FailedPrecondition("NO_MODEL", f"No model serves {resource} yet.", resource=resource)
    name = f"{resource}/models/{asked.model}/versions/{asked.number}"
    return NotFound("MODEL_VERSION_NOT_FOUND", f"There is no {name}.", resource=name)
