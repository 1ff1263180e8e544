"""The Cairn SDK: ground truth from people and models, over gRPC.

from cairn_client import Cairn

with Cairn() as cairn:
    cairn.projects.create("reviews", {"questions": [{"id": "sentiment", "choice": ["negative", "positive"]}]})
    cairn.import_items("reviews", [("a", "A fine film."), ("b", "A dull one.")])
    for job in cairn.lease("reviews", 2):
        cairn.submit(job, {"sentiment": "positive"})
"""

from cairn_client.aio import AsyncCairn
from cairn_client.answers import Abstain, answer_of, value_of
from cairn_client.blocking import Cairn
from cairn_client.calls.items import ImportResult, ItemFailure
from cairn_client.calls.job import Job
from cairn_client.errors import (
    Aborted,
    AlreadyExists,
    CairnError,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InputError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Problem,
    ProfileError,
    ResourceExhausted,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from cairn_client.frames import to_arrow, to_pandas
from cairn_client.names import item_key, labeler_id
from cairn_client.new_items import NewItem
from cairn_client.profile import Profile, Service, discover
from cairn_client.schema import ProjectSpec, load_spec, parse_spec
from cairn_client.transport import Patience
from cairn_client.working.verdicts import JudgeFailed, Release, Skip, Worked

__all__ = [
    "Aborted",
    "Abstain",
    "AlreadyExists",
    "AsyncCairn",
    "Cairn",
    "CairnError",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "ImportResult",
    "InputError",
    "InvalidArgument",
    "ItemFailure",
    "Job",
    "JudgeFailed",
    "NewItem",
    "NotFound",
    "Patience",
    "PermissionDenied",
    "Problem",
    "Profile",
    "ProfileError",
    "ProjectSpec",
    "Release",
    "ResourceExhausted",
    "ServerError",
    "Service",
    "Skip",
    "Unauthenticated",
    "Unavailable",
    "Worked",
    "answer_of",
    "discover",
    "item_key",
    "labeler_id",
    "load_spec",
    "parse_spec",
    "to_arrow",
    "to_pandas",
    "value_of",
]
