"""Items: whether one makes sense, whether two are the same, and what of one matters to its answers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import check_answers
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_annotation_store.domain.violations import Report, shown
from cairn_kit.errors import CairnError, InvalidArgument

MAX_ITEM_BYTES = 240 * 1024
"""An item travels in one event, and an event is at most 256 KiB."""

MAX_TEXT_BYTES = 200 * 1024
MAX_CANDIDATE_BYTES = 64 * 1024
EVERY_ITEM = "-"
"""In a name, in place of a key (AIP-159); so no item has it for its own."""

_KEY = re.compile(r"[A-Za-z0-9._~%-]{1,256}")
_CANDIDATE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What is known of a blob since it was uploaded. 0 and None: not known, or not of that kind."""

    sha256: str
    size_bytes: int
    media_type: str
    width: int = 0
    height: int = 0
    grey_bits: int = 0
    text_length: int | None = None
    """Code points, for `text/*`."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be written: normalised, encoded once for its row, its digest and its event."""

    key: str
    body: pb.Item
    encoded: bytes
    """Of equal items, equal bytes."""
    digest: bytes
    """SHA-256 of `encoded`."""
    is_gold: bool
    text_length: int | None
    """Code points of a text that is a blob."""


def blobs_of(item: pb.Item) -> Sequence[value_pb.BlobRef]:
    """Every blob that the item shows."""
    shown = [candidate.blob for candidate in item.candidates if candidate.HasField("blob")]
    return [item.blob, *shown] if item.HasField("blob") else shown


def normalised(item: pb.Item, blobs: Mapping[str, BlobFacts]) -> pb.Item:
    """The item as it is kept: without output fields, its references and picture size filled in from its blobs."""
    kept = pb.Item()
    kept.CopyFrom(item)
    kept.DiscardUnknownFields()
    kept.ClearField("name")
    kept.ClearField("create_time")
    if not blobs:
        return kept
    for ref in blobs_of(kept):
        known = blobs.get(ref.sha256)
        if known is not None:
            ref.size_bytes = ref.size_bytes or known.size_bytes
            ref.media_type = ref.media_type or known.media_type
    picture = blobs.get(kept.blob.sha256) if kept.HasField("blob") else None
    if picture is not None and picture.width:
        kept.width = kept.width or picture.width
        kept.height = kept.height or picture.height
    return kept


def new_item(item: pb.Item, blobs: Mapping[str, BlobFacts]) -> NewItem:
    """A normalised item, ready to be written."""
    encoded = item.SerializeToString(deterministic=True)
    digest = hashlib.sha256(encoded).digest()
    return NewItem(
        item.key,
        item,
        encoded,
        digest,
        bool(item.gold_answers),
        blob_text_length(item, blobs) if blobs else None,
    )


def blob_text_length(item: pb.Item, blobs: Mapping[str, BlobFacts]) -> int | None:
    """Code points of an item's text that is a blob; None when it is none."""
    known = blobs.get(item.blob.sha256) if item.HasField("blob") else None
    return known.text_length if known is not None else None


def facts_of(item: pb.Item, blob_text_length: int | None) -> ItemFacts:
    """What of a normalised item decides whether an answer fits it."""
    content = item.WhichOneof("content")
    length = len(item.text) if content == "text" else blob_text_length
    return ItemFacts(
        has_text=content == "text",
        has_blob=content == "blob",
        text_length=length,
        candidates=tuple(candidate.id for candidate in item.candidates),
        width=item.width,
        height=item.height,
        duration_seconds=item.duration_seconds,
        frame_count=item.frame_count,
        page_count=item.page_count,
    )


def check_item(item: pb.Item, schema: SchemaRules, blobs: Mapping[str, BlobFacts]) -> CairnError | None:
    """Why a normalised item is refused, or None. `blobs` holds those that the project has."""
    report = Report()
    if item.key == EVERY_ITEM:
        report.add("key", "'-' stands for every item in names", "another key")
    elif not _KEY.fullmatch(item.key):
        report.add("key", f"{shown(item.key)} is no key", "1 to 256 of A-Z a-z 0-9 . _ ~ - %")
    _check_content(item, blobs, report)
    _check_candidates(item, blobs, report)
    _check_measures(item, blobs, report)
    _check_metadata(item, report)
    size = item.ByteSize()
    if size > MAX_ITEM_BYTES and not report:  # else what is too long has been named
        report.add(
            "", f"the item has {size} bytes", f"at most {MAX_ITEM_BYTES}: put large content into a blob"
        )
    if report:
        violations = report.violations()
        first = violations[0]
        where = f"{first.field}: " if first.field else ""
        return InvalidArgument(
            "ITEM_INVALID", f"The item is refused: {where}{first.description}", violations=violations
        )
    if item.gold_answers:
        facts = facts_of(item, blob_text_length(item, blobs))
        return check_answers(item.gold_answers, schema, facts, "gold_answers", complete=False)
    return None


def _check_content(item: pb.Item, blobs: Mapping[str, BlobFacts], report: Report) -> None:
    match item.WhichOneof("content"):
        case None:
            if not item.candidates:
                report.add("text", "there is nothing to judge", "a text, a blob, or candidates")
        case "text":
            size = len(item.text.encode())
            if size > MAX_TEXT_BYTES:
                report.add(
                    "text",
                    f"the text has {size} bytes",
                    f"at most {MAX_TEXT_BYTES}: longer text goes to a blob",
                )
        case "blob":
            _check_blob(item.blob, "blob", blobs, report)


def _check_candidates(item: pb.Item, blobs: Mapping[str, BlobFacts], report: Report) -> None:
    candidates = item.candidates
    if not candidates:
        return
    seen: set[str] = set()
    if len(candidates) > 1000:
        report.add("candidates", f"there are {len(candidates)}", "at most 1000")
    for i, candidate in enumerate(candidates):
        at = f"candidates[{i}]"
        if not _CANDIDATE_ID.fullmatch(candidate.id):
            report.add(f"{at}.id", f"{shown(candidate.id)} is no id", "1 to 64 of A-Z a-z 0-9 _ . -")
        elif candidate.id in seen:
            report.add(f"{at}.id", f"{shown(candidate.id)} is the id of an earlier candidate", "a unique id")
        seen.add(candidate.id)
        match candidate.WhichOneof("content"):
            case None:
                report.add(at, "the candidate is empty", "a text or a blob")
            case "text":
                if len(candidate.text.encode()) > MAX_CANDIDATE_BYTES:
                    report.add(f"{at}.text", "the text is too long", f"at most {MAX_CANDIDATE_BYTES} bytes")
            case "blob":
                _check_blob(candidate.blob, f"{at}.blob", blobs, report)


def _check_blob(ref: value_pb.BlobRef, at: str, blobs: Mapping[str, BlobFacts], report: Report) -> None:
    known = blobs.get(ref.sha256)
    if known is None:
        report.add(
            f"{at}.sha256", f"the project has no blob {shown(ref.sha256)}", "a blob uploaded with UploadBlob"
        )
        return
    if ref.size_bytes != known.size_bytes:
        report.add(
            f"{at}.size_bytes", f"the size is {ref.size_bytes}", f"{known.size_bytes}, as uploaded, or 0"
        )
    if ref.media_type != known.media_type:
        report.add(
            f"{at}.media_type",
            f"the type is {shown(ref.media_type)}",
            f"{known.media_type}, as uploaded, or none",
        )


def _check_measures(item: pb.Item, blobs: Mapping[str, BlobFacts], report: Report) -> None:
    picture = blobs.get(item.blob.sha256) if blobs and item.HasField("blob") else None
    _check_side("width", item.width, picture.width if picture else 0, report)
    _check_side("height", item.height, picture.height if picture else 0, report)
    if not (math.isfinite(item.duration_seconds) and item.duration_seconds >= 0):
        report.add(
            "duration_seconds", f"the duration is {item.duration_seconds}", "a finite number, at least 0"
        )
    if not 0 <= item.priority <= 1:
        report.add("priority", f"the priority is {item.priority}", "0 to 1")


def _check_side(field: str, given: int, real: int, report: Report) -> None:
    if given > 1_000_000:
        report.add(field, f"the {field} is {given}", "at most 1000000 pixels")
    elif real and given != real:
        report.add(field, f"the {field} is {given}", f"{real}, as in the image itself, or 0")


def _check_metadata(item: pb.Item, report: Report) -> None:
    metadata = item.metadata
    if not metadata:
        return
    if len(metadata) > 64:
        report.add("metadata", f"there are {len(metadata)} entries", "at most 64")
    for name, text in metadata.items():
        if not 1 <= len(name) <= 128:
            report.add("metadata", f"the name {shown(name)} has {len(name)} code points", "1 to 128")
        if len(text) > 4096:
            report.add(f"metadata[{name}]", f"the text has {len(text)} code points", "at most 4096")
