"""Who may call what: one line for each RPC of every service. A method that is not here is refused.

A rule also says where the request names its project, so that a token restricted to some projects is refused in the
interceptor, with NOT_FOUND: to such a caller other projects do not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message


class Role(Enum):
    """What a token's bearer is, in the tenant."""

    ADMIN = "admin"
    MANAGER = "manager"
    OPERATOR = "operator"
    LABELER = "labeler"
    REVIEWER = "reviewer"
    VIEWER = "viewer"
    SERVICE = "service"


class Permission(Enum):
    """What a method, or a field of a request, asks for."""

    READ_PROJECTS = "projects.read"
    WRITE_PROJECTS = "projects.write"
    READ_ITEMS = "items.read"
    WRITE_ITEMS = "items.write"
    READ_BLOBS = "blobs.read"
    READ_GOLD = "gold.read"
    READ_ANNOTATIONS = "annotations.read"
    READ_LABELS = "labels.read"
    EXPORT = "labels.export"
    WORK = "work"
    """Lease, look at what was leased, answer."""
    REVIEW = "work.review"
    ACT_FOR_OTHERS = "work.for-others"
    """Lease and answer as any labeler, and choose the items: whoever may name an item finds out whether it is gold."""
    READ_TASKS = "tasks.read"
    WRITE_TASKS = "tasks.write"
    READ_LABELERS = "labelers.read"
    WRITE_LABELERS = "labelers.write"
    READ_CONSENSUS = "consensus.read"
    RUN_CONSENSUS = "consensus.run"
    READ_MODELS = "models.read"
    WRITE_MODELS = "models.write"
    PREDICT = "models.predict"
    WRITE_ROUTING = "routing.write"
    READ_AUDITS = "audits.read"
    WRITE_AUDITS = "audits.write"
    READ_LEDGER = "ledger.read"
    SETTLE_LEASES = "leases.settle"
    """Between services: which leases were answered."""


_P = Permission
_VIEWER = frozenset(
    {
        _P.READ_PROJECTS,
        _P.READ_ITEMS,
        _P.READ_BLOBS,
        _P.READ_ANNOTATIONS,
        _P.READ_LABELS,
        _P.READ_TASKS,
        _P.READ_LABELERS,
        _P.READ_CONSENSUS,
        _P.READ_MODELS,
        _P.READ_AUDITS,
    }
)
_LABELER = frozenset({_P.READ_PROJECTS, _P.READ_BLOBS, _P.WORK})
_REVIEWER = _LABELER | {_P.REVIEW, _P.READ_ITEMS, _P.READ_LABELS}
_OPERATOR = _REVIEWER | _VIEWER | {_P.ACT_FOR_OTHERS}
_MANAGER = _VIEWER | {
    _P.WRITE_PROJECTS,
    _P.WRITE_ITEMS,
    _P.READ_GOLD,
    _P.EXPORT,
    _P.WRITE_TASKS,
    _P.WRITE_LABELERS,
    _P.RUN_CONSENSUS,
    _P.WRITE_MODELS,
    _P.PREDICT,
    _P.WRITE_ROUTING,
    _P.WRITE_AUDITS,
    _P.READ_LEDGER,
}

GRANTS: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.LABELER: _LABELER,
    Role.REVIEWER: _REVIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.MANAGER: _MANAGER,
    Role.ADMIN: frozenset(Permission) - {_P.SETTLE_LEASES},
    Role.SERVICE: frozenset(Permission),
}


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Everything that any of the roles grants."""
    return frozenset().union(*(GRANTS[role] for role in roles))


IN_HANDLER = "<the handler>"
"""The project is not in the request (a lease token names it, or the answer spans projects): the handler calls
`caller().require_project(...)`, or filters by `caller().projects`."""

TENANT_WIDE = "<tenant>"
"""The object belongs to no project: a token restricted to projects may not touch it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one method asks for.

    `project` is a field path (`parent`, `project.name`, `header.parent`, a repeated field means each element) to a
    resource name below `projects/{project}` or to a bare project id, or IN_HANDLER, or TENANT_WIDE.
    In a client stream the path is looked up in the first message.
    """

    permission: Permission
    project: str
    sheds: bool = False
    """Whether it brings events by the thousand: it is refused, or its stream not read on, while the outbox is full."""
    returns: bool = False
    """Whether it brings back what was given out, an answer or a lease: of too many calls it is the last to be refused."""

    def projects_of(self, request: Message) -> Iterator[str]:
        """The ids of the projects that the request names."""
        if self.project in (IN_HANDLER, TENANT_WIDE):
            return
        value: Any = request
        for part in self.project.split("."):
            value = getattr(value, part)
        for name in [value] if isinstance(value, str) else value:
            if name:
                yield name.split("/", 2)[1] if name.startswith("projects/") else name


SHEDS, RETURNS = {"sheds": True}, {"returns": True}


def _service(
    full_name: str, **rules: tuple[Permission, str] | tuple[Permission, str, dict[str, bool]]
) -> dict[str, Rule]:
    return {
        f"/{full_name}/{method}": Rule(permission, project, **dict(*more))
        for method, (permission, project, *more) in rules.items()
    }


PERMISSIONS: Mapping[str, Rule] = {
    **_service(
        "cairn.annotation.v1.AnnotationStoreService",
        CreateProject=(_P.WRITE_PROJECTS, "project_id"),
        GetProject=(_P.READ_PROJECTS, "name"),
        ListProjects=(_P.READ_PROJECTS, IN_HANDLER),
        UpdateProject=(_P.WRITE_PROJECTS, "project.name"),
        ArchiveProject=(_P.WRITE_PROJECTS, "name"),
        DeleteProject=(_P.WRITE_PROJECTS, "name"),
        GetProjectProgress=(
            _P.READ_ANNOTATIONS,
            "name",
        ),  # counts by kind tell a labeler what the last answer was
        WatchProjectProgress=(_P.READ_ANNOTATIONS, "name"),
        ImportItems=(_P.WRITE_ITEMS, "header.parent", SHEDS),
        GetImport=(_P.READ_ITEMS, "name"),
        ListImports=(_P.READ_ITEMS, "parent"),
        CancelImport=(_P.WRITE_ITEMS, "name"),
        GetItem=(_P.READ_ITEMS, "name"),
        ListItems=(_P.READ_ITEMS, "parent"),
        GetLeasedItems=(_P.WORK, IN_HANDLER),
        UploadBlob=(_P.READ_BLOBS, "header.parent"),  # and in the handler: WRITE_ITEMS, or a lease
        DownloadBlob=(_P.READ_BLOBS, "name"),
        SubmitAnnotation=(_P.WORK, IN_HANDLER, SHEDS | RETURNS),
        SubmitAnnotations=(_P.WORK, IN_HANDLER, SHEDS | RETURNS),
        StreamAnnotations=(_P.WORK, IN_HANDLER, SHEDS | RETURNS),
        GetAnnotation=(_P.READ_ANNOTATIONS, "name"),
        ListAnnotations=(_P.READ_ANNOTATIONS, "parent"),
        BatchGetAnsweredLeases=(_P.SETTLE_LEASES, "leases"),
        GetLabel=(_P.READ_LABELS, "name"),
        ListLabels=(_P.READ_LABELS, "parent"),
        ListLabelRevisions=(_P.READ_LABELS, "name"),
        WatchLabels=(_P.READ_LABELS, "parent"),
        CreateExport=(_P.EXPORT, "parent"),
        GetExport=(_P.EXPORT, "name"),
        ListExports=(_P.EXPORT, "parent"),
        CancelExport=(_P.EXPORT, "name"),
        DownloadExport=(_P.EXPORT, "name"),
    ),
    **_service(
        "cairn.dispatch.v1.TaskDispatchService",
        LeaseTasks=(_P.WORK, "parent", SHEDS),
        StreamLeases=(_P.WORK, "header.parent", SHEDS),
        ClaimItems=(_P.ACT_FOR_OTHERS, "parent", SHEDS),
        ExtendLease=(_P.WORK, "name", RETURNS),
        ReleaseLease=(_P.WORK, "name", RETURNS),
        SkipTask=(_P.WORK, "name", RETURNS),
        GetLease=(_P.WORK, "name"),
        CreateTasks=(_P.WRITE_TASKS, "parent", SHEDS),
        CancelTask=(_P.WRITE_TASKS, "name"),
        GetTask=(_P.READ_TASKS, "name"),
        ListTasks=(_P.READ_TASKS, "parent"),
        GetQueue=(_P.READ_TASKS, "project"),
        WatchQueue=(_P.READ_TASKS, "project"),
        GetLabeler=(_P.READ_LABELERS, TENANT_WIDE),
        ListLabelers=(_P.READ_LABELERS, TENANT_WIDE),
        UpdateLabeler=(_P.WRITE_LABELERS, TENANT_WIDE),
    ),
    **_service(
        "cairn.consensus.v1.ConsensusService",
        GetPosterior=(_P.READ_CONSENSUS, "item"),
        BatchGetPosteriors=(_P.READ_CONSENSUS, "parent"),
        GetReliability=(_P.READ_CONSENSUS, "parent"),
        ListReliabilities=(_P.READ_CONSENSUS, "parent"),
        RefitProject=(_P.RUN_CONSENSUS, "project"),
        ConcludeProject=(_P.RUN_CONSENSUS, "project"),
    ),
    **_service(
        "cairn.inference.v1.InferenceService",
        UploadModelVersion=(_P.WRITE_MODELS, "header.parent"),
        GetModelVersion=(_P.READ_MODELS, "name"),
        ListModelVersions=(_P.READ_MODELS, "parent"),
        PromoteModelVersion=(_P.WRITE_MODELS, "name"),
        Predict=(_P.PREDICT, "parent"),
        PredictFeatures=(_P.PREDICT, "parent"),
        StartTraining=(_P.WRITE_MODELS, "parent"),
        GetTrainingRun=(_P.READ_MODELS, "name"),
        ListTrainingRuns=(_P.READ_MODELS, "parent"),
        CancelTrainingRun=(_P.WRITE_MODELS, "name"),
        GetRouting=(_P.READ_MODELS, "project"),
        StopAutoLabeling=(_P.WRITE_ROUTING, "project"),
        ResumeAutoLabeling=(_P.WRITE_ROUTING, "project"),
    ),
    **_service(
        "cairn.audit.v1.AuditService",
        GetCheckpoint=(_P.READ_LEDGER, TENANT_WIDE),
        ListCheckpoints=(_P.READ_LEDGER, TENANT_WIDE),
        ReadLedger=(_P.READ_LEDGER, TENANT_WIDE),
        GetInclusionProof=(_P.READ_LEDGER, TENANT_WIDE),
        GetConsistencyProof=(_P.READ_LEDGER, TENANT_WIDE),
        VerifyLedger=(_P.READ_LEDGER, TENANT_WIDE),
        GetLedgerKeys=(_P.READ_LEDGER, TENANT_WIDE),
        CreateAudit=(_P.WRITE_AUDITS, "parent"),
        GetAudit=(_P.READ_AUDITS, "name"),
        ListAudits=(_P.READ_AUDITS, "parent"),
        CancelAudit=(_P.WRITE_AUDITS, "name"),
        ListFindings=(_P.READ_AUDITS, "parent"),
    ),
}

OPEN_METHODS = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Health and reflection are for everybody: they show what is public anyway."""


def defects(files: Iterable[FileDescriptor], table: Mapping[str, Rule] = PERMISSIONS) -> list[str]:
    """What is wrong with the table for these .proto files: RPCs without a rule, project paths that lead nowhere."""
    found = []
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                name = f"/{service.full_name}/{method.name}"
                rule = table.get(name)
                if rule is None:
                    found.append(f"{name} has no rule")
                elif rule.project not in (IN_HANDLER, TENANT_WIDE) and not _leads_to_text(
                    method.input_type, rule.project
                ):
                    found.append(f"{name}: {method.input_type.full_name} has no text field {rule.project}")
    return found


def _leads_to_text(message: Descriptor, path: str) -> bool:
    *inner, last = path.split(".")
    for part in inner:
        field = message.fields_by_name.get(part)
        if field is None or field.message_type is None:
            return False
        message = field.message_type
    field = message.fields_by_name.get(last)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING
