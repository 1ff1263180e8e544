"""The only callers of SQL, one module for each kind of thing that is kept. Statements are in `sql/*.sql`."""

from cairn_annotation_store.store.annotations import AnnotationRow, AnnotationStore, NewAnnotation
from cairn_annotation_store.store.exported import ExportedStore
from cairn_annotation_store.store.exports import ExportRow, ExportStore
from cairn_annotation_store.store.imports import ImportRow, ImportStore
from cairn_annotation_store.store.items import ItemRow, ItemStore
from cairn_annotation_store.store.labels import LabelRow, LabelStore
from cairn_annotation_store.store.projects import Deletion, Progress, ProjectRow, ProjectStore

__all__ = [
    "AnnotationRow",
    "AnnotationStore",
    "Deletion",
    "ExportRow",
    "ExportStore",
    "ExportedStore",
    "ImportRow",
    "ImportStore",
    "ItemRow",
    "ItemStore",
    "LabelRow",
    "LabelStore",
    "NewAnnotation",
    "Progress",
    "ProjectRow",
    "ProjectStore",
]
