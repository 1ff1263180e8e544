"""Labels and annotations as tables, for pandas and Arrow. Neither is needed until one of these is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cairn.annotation.v1.annotation_store_pb2 import Annotation, AnnotationKind, Label, LabelSource
from cairn_client.answers import Abstain, value_of
from cairn_client.errors import CairnError
from cairn_client.names import item_key, labeler_id, question_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped]

SOURCES = {
    LabelSource.LABEL_SOURCE_UNSPECIFIED: "",
    LabelSource.LABEL_SOURCE_AUTO: "auto",
    LabelSource.LABEL_SOURCE_CONSENSUS: "consensus",
    LabelSource.LABEL_SOURCE_GOLD: "gold",
    LabelSource.LABEL_SOURCE_CORRECTION: "audit",
}
"""What people call the sources of labels."""


def row_of(record: Label | Annotation) -> list[dict[str, Any]]:
    """The rows of a record: one for a label, one for each answer of an annotation."""
    if isinstance(record, Label):
        return [
            {
                "item": item_key(record.name),
                "question": question_of(record.name),
                "answer": _plain(value_of(record.answer)),
                "confidence": record.confidence,
                "source": SOURCES[record.source],
                "revision": record.revision,
                "time": record.create_time.ToDatetime(),
            }
        ]
    return [
        {
            "item": item_key(record.name),
            "labeler": labeler_id(record.labeler),
            "question": answer.question,
            "answer": _plain(value_of(answer)),
            "kind": AnnotationKind.Name(record.kind).removeprefix("ANNOTATION_KIND_").lower(),
            "late": record.late,
            "seconds": record.work_duration.ToTimedelta().total_seconds(),
            "time": record.submit_time.ToDatetime(),
        }
        for answer in record.answers
    ]


def _plain(value: Any) -> Any:
    return None if isinstance(value, Abstain) else value


def to_pandas(records: Iterable[Label | Annotation]) -> pd.DataFrame:
    """A DataFrame of labels or annotations; answers as in cairn_client.answers, abstentions as None."""
    try:
        import pandas as pd
    except ImportError:
        raise CairnError("to_pandas needs pandas: pip install pandas.") from None
    return pd.DataFrame([row for record in records for row in row_of(record)])


def to_arrow(records: Iterable[Label | Annotation]) -> pa.Table:
    """An Arrow table of labels or annotations."""
    try:
        import pyarrow as pa
    except ImportError:
        raise CairnError("to_arrow needs pyarrow: pip install pyarrow.") from None
    return pa.Table.from_pylist([row for record in records for row in row_of(record)])
