"""Who is calling, carried in a context variable from the interceptor to whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from cairn_kit.auth.permissions import Permission, Role, permissions_of
from cairn_kit.errors import PermissionDenied, Unauthenticated, project_not_found

_caller: ContextVar[Caller] = ContextVar("cairn_caller")
_tenant: ContextVar[str] = ContextVar("cairn_tenant")


@dataclass(frozen=True, slots=True)
class Caller:
    """What a verified token says. `projects` None means every project of the tenant."""

    tenant: str
    subject: str
    roles: frozenset[Role]
    projects: frozenset[str] | None
    permissions: frozenset[Permission]
    expires_at: float

    def may(self, permission: Permission) -> bool:
        """Whether one of the caller's roles grants it."""
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raise PermissionDenied unless one of the caller's roles grants it."""
        if permission not in self.permissions:
            raise PermissionDenied(
                "PERMISSION_MISSING",
                f"This needs the permission {permission.value}.",
                permission=permission.value,
            )

    def labeler(self, requested: str = "") -> str:
        """The labeler acted for: the caller itself, or the one named if the caller may act for others.

        `requested` is a request's `labeler` field: empty, or `labelers/{labeler}`.
        """
        own = self.subject if self.subject.startswith("labelers/") else f"labelers/{self.subject}"
        if requested and requested != own:
            self.require(Permission.ACT_FOR_OTHERS)
        return requested or own

    def require_project(self, project: str) -> None:
        """Raise NotFound when the token is restricted to other projects: it cannot even tell that this exists."""
        if self.projects is not None and project not in self.projects:
            raise project_not_found(project)


def make_caller(
    tenant: str,
    subject: str,
    roles: frozenset[Role],
    projects: frozenset[str] | None = None,
    expires_at: float = float("inf"),
) -> Caller:
    """A caller with the permissions of its roles."""
    return Caller(tenant, subject, roles, projects, permissions_of(roles), expires_at)


def caller() -> Caller:
    """The caller of the RPC that is being answered; raises Unauthenticated outside one."""
    try:
        return _caller.get()
    except LookupError:
        raise Unauthenticated("NO_CALLER", "There is no authenticated call here.") from None


def current_tenant() -> str:
    """The tenant whose work is being done: the caller's, or the one of `acting_for`."""
    try:
        return _tenant.get()
    except LookupError:
        raise Unauthenticated(
            "NO_TENANT", "A call to another service needs a tenant: use acting_for(tenant)."
        ) from None


@contextmanager
def acting_for(tenant: str) -> Iterator[None]:
    """Calls to other services made in this block are made for this tenant."""
    token = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(token)


def set_caller(who: Caller) -> None:
    """Make `who` the caller for the rest of this task's context (each RPC has its own)."""
    _caller.set(who)
    _tenant.set(who.tenant)
