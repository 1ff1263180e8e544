"""Masks kept as blobs: the PNG must be one grey channel of the item's size. Its header says so since the upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import DOES_NOT_FIT
from cairn_annotation_store.domain.items import BlobFacts
from cairn_annotation_store.domain.violations import Report, shown
from cairn_kit.errors import InvalidArgument


def mask_blobs_of(answers: Sequence[value_pb.Answer]) -> Iterator[str]:
    """The digests of the blobs that these answers refer to."""
    for answer in answers:
        if answer.WhichOneof("value") == "mask" and answer.mask.HasField("blob"):
            yield answer.mask.blob.sha256


def check_mask_blobs(
    answers: Sequence[value_pb.Answer], item: ItemFacts, blobs: Mapping[str, BlobFacts]
) -> InvalidArgument | None:
    """The error that the masks among these answers deserve, or None. `blobs` holds those that the project has."""
    report = Report()
    for i, answer in enumerate(answers):
        if answer.WhichOneof("value") == "mask" and answer.mask.HasField("blob"):
            _check(answer.mask, f"answers[{i}].mask", item, blobs, report)
    if not report:
        return None
    first = report.violations()[0]
    return InvalidArgument(
        DOES_NOT_FIT,
        f"The answers do not fit the schema: {first.field}: {first.description}",
        violations=report.violations(),
    )


def _check(
    mask: value_pb.Mask, at: str, item: ItemFacts, blobs: Mapping[str, BlobFacts], report: Report
) -> None:
    known = blobs.get(mask.blob.sha256)
    if known is None:
        report.add(
            f"{at}.blob.sha256", f"the project has no blob {shown(mask.blob.sha256)}", "an uploaded blob"
        )
        return
    if known.grey_bits == 0:
        report.add(f"{at}.blob", "it is no PNG of one 8- or 16-bit grey channel", "one")
        return
    for given, real, field in ((mask.width, known.width, "width"), (mask.height, known.height, "height")):
        if given != real:
            report.add(f"{at}.{field}", f"the {field} is {given}", f"{real}, as the PNG's")
