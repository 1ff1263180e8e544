from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_kit.errors import from_status


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"max_blob_bytes": 3_000_000}


def png(width: int, height: int, mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


async def upload(
    birds: Any,
    content: bytes,
    media_type: str = "image/png",
    *,
    expected: str = "",
    stub: Any = None,
    lease: str = "",
) -> pb.Blob:
    async def messages() -> AsyncIterator[pb.UploadBlobRequest]:
        yield pb.UploadBlobRequest(
            header=pb.BlobHeader(
                parent="projects/birds", media_type=media_type, expected_sha256=expected, lease_token=lease
            )
        )
        for start in range(0, len(content), 1 << 20):
            yield pb.UploadBlobRequest(chunk=content[start : start + (1 << 20)])

    return await (stub or birds.stub).UploadBlob(messages())  # type: ignore[no-any-return]


async def download(stub: Any, name: str, token: str = "") -> bytes:
    parts = stub.DownloadBlob(pb.DownloadBlobRequest(name=name, lease_token=token))
    return b"".join([part.chunk async for part in parts])


async def test_a_blob_comes_back_as_it_went_and_is_named_by_its_content(birds: Any, tools: Any) -> None:
    await birds.create()
    content = bytes(range(256)) * 10_000
    sha256 = hashlib.sha256(content).hexdigest()
    blob = await upload(birds, content, "application/octet-stream", expected=sha256)
    assert blob.name == f"projects/birds/blobs/{sha256}"
    assert (blob.ref.sha256, blob.ref.size_bytes) == (sha256, len(content))
    assert await upload(birds, content, "application/octet-stream") == blob
    assert await download(birds.stub, blob.name) == content
    async with tools.refused("BLOB_DIGEST_MISMATCH"):
        await upload(birds, content + b"x", expected=sha256)
    async with tools.refused("BLOB_TOO_LARGE"):
        await upload(birds, b"x" * 3_000_001)
    async with tools.refused("BLOB_NOT_UTF8"):
        await upload(birds, b"caf\xe9", "text/plain")
    async with tools.refused("BLOB_NOT_FOUND"):
        await download(birds.stub, f"projects/birds/blobs/{'0' * 64}")
    async with tools.refused("BLOB_NOT_FOUND"):
        await download(birds.as_(tenant="other"), blob.name)
    assert await birds.database.fetchval("SELECT count(*) FROM blob") == 1


async def test_bytes_gone_from_storage_are_a_loss_that_is_told(birds: Any, tools: Any) -> None:
    await birds.create()
    blob = await upload(birds, b"bytes")
    for path in (birds.world.folder / "blobs").rglob(blob.ref.sha256):
        path.unlink()
    async with tools.refused("BLOB_LOST"):
        await download(birds.stub, blob.name)


async def test_an_image_item_knows_its_size_and_answers_are_held_to_it(birds: Any, tools: Any) -> None:
    boxes = schema_pb.Question(
        id="q", boxes=schema_pb.ShapesQuestion(classes=[schema_pb.LabelClass(id="bird")])
    )
    await birds.create(schema_pb.LabelSchema(questions=[boxes]))
    blob = await upload(birds, png(40, 30))
    done = await birds.take_in(
        [
            pb.Item(key="a", blob=v.BlobRef(sha256=blob.ref.sha256)),
            pb.Item(key="b", blob=blob.ref, width=41),
        ]
    )
    assert (done.created_items, done.failed_items) == (1, 1)
    assert from_status(done.failures[0].error).violations[0].field == "width"  # type: ignore[attr-defined]
    item = await birds.stub.GetItem(pb.GetItemRequest(name="projects/birds/items/a"))
    assert (item.width, item.height, item.blob) == (40, 30, blob.ref)
    outside = v.Answer(question="q", boxes=v.Boxes(boxes=[v.Box(class_id="bird", x=39, width=2, height=2)]))
    async with tools.refused("ANSWER_INVALID") as errors:
        await birds.submit(birds.lease("a"), outside)
    assert errors[0].violations[0].field == "answers[0].boxes.boxes[0].width"


async def test_a_labeler_reads_the_blobs_of_leased_items_and_no_others(birds: Any, tools: Any) -> None:
    await birds.create()
    shown, other = await upload(birds, png(4, 3)), await upload(birds, png(5, 3))
    await birds.take_in(
        [
            pb.Item(key="a", candidates=[pb.Candidate(id="c", blob=shown.ref)]),
            pb.Item(key="b", blob=other.ref),
        ]
    )
    ann = birds.as_(subject="ann", roles=["labeler"])
    assert await download(ann, shown.name, birds.lease("a")) == png(4, 3)
    for token, reason in [
        ("", "LEASE_TOKEN_MISSING"),
        ("forged", "LEASE_TOKEN_INVALID"),
        (birds.lease("b"), "BLOB_NOT_FOUND"),
        (birds.lease("a", labeler="bob"), "LEASE_TOKEN_INVALID"),
        (birds.lease("a", expires_at=1.0), "LEASE_TOKEN_EXPIRED"),
    ]:
        async with tools.refused(reason):
            await download(ann, shown.name, token)


async def test_spans_are_held_to_a_text_that_is_a_blob(birds: Any, tools: Any) -> None:
    spans = schema_pb.Question(
        id="q", spans=schema_pb.SpansQuestion(classes=[schema_pb.LabelClass(id="name")])
    )
    await birds.create(schema_pb.LabelSchema(questions=[spans]))
    text = "☃" * 700_000  # three bytes each, so that a chunk ends in the middle of one
    blob = await upload(birds, text.encode(), "text/plain")
    await birds.take_in([pb.Item(key="a", blob=blob.ref)])

    def answer(end: int) -> v.Answer:
        return v.Answer(question="q", spans=v.Spans(spans=[v.Span(start=0, end=end, class_id="name")]))

    async with tools.refused("ANSWER_INVALID"):
        await birds.submit(birds.lease("a"), answer(700_001))
    await birds.submit(birds.lease("a"), answer(700_000))


async def test_a_mask_may_be_a_png_of_the_items_size(birds: Any, tools: Any) -> None:
    mask = schema_pb.Question(id="q", mask=schema_pb.MaskQuestion(classes=[schema_pb.LabelClass(id="bird")]))
    await birds.create(schema_pb.LabelSchema(questions=[mask]))
    picture = await upload(birds, png(40, 30, "RGB"))
    await birds.take_in([pb.Item(key="a", blob=picture.ref)])
    good, small = await upload(birds, png(40, 30)), await upload(birds, png(20, 30))

    def answer(ref: v.BlobRef, width: int = 40) -> v.Answer:
        return v.Answer(question="q", mask=v.Mask(width=width, height=30, blob=ref))

    for ref, path in [
        (small.ref, "answers[0].mask.width"),
        (picture.ref, "answers[0].mask.blob"),
        (v.BlobRef(sha256="0" * 64), "answers[0].mask.blob.sha256"),
    ]:
        async with tools.refused("ANSWER_INVALID") as errors:
            await birds.submit(birds.lease("a"), answer(ref))
        assert errors[0].violations[0].field == path
    await birds.submit(birds.lease("a"), answer(good.ref))


async def test_a_labeler_uploads_what_an_answer_holds_and_nothing_else(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.create(project_id="fish")
    ann = birds.as_(subject="ann", roles=["labeler"])
    blob = await upload(birds, png(4, 3), stub=ann, lease=birds.lease("a"))
    assert blob.ref.media_type == "image/png"
    for token, reason in [
        ("", "LEASE_TOKEN_MISSING"),
        ("forged", "LEASE_TOKEN_INVALID"),
        (birds.lease("a", project="fish"), "LEASE_TOKEN_INVALID"),
        (birds.lease("a", labeler="bob"), "LEASE_TOKEN_INVALID"),
        (birds.lease("a", expires_at=1.0), "LEASE_TOKEN_EXPIRED"),
    ]:
        async with tools.refused(reason):
            await upload(birds, png(5, 3), stub=ann, lease=token)
