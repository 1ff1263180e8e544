"""Texts and images become the same numbers everywhere, and hostile ones become none."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cairn_inference import image_decoder
from cairn_inference.domain.features import IMAGE_SPEC, TEXT_SPEC, pack, unpack_dense, unpack_sparse
from cairn_inference.domain.image_features import image_features
from cairn_inference.domain.text_features import EMBEDDING_DIM, words
from cairn_inference.image_decoder import NotAnImage, decode
from cairn_inference.text_encoder import TextEncoder, cached_graph


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def encoder(cache: Path) -> TextEncoder:
    return TextEncoder(cache)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_graph_gives_the_mean_of_the_tables_rows(encoder: TextEncoder) -> None:
    from safetensors.numpy import load

    from cairn_inference.text_encoder import _WEIGHTS, _wheel_file

    table = load(_wheel_file(_WEIGHTS).read_bytes())["embedding.weight"].astype(np.float32)
    text = "the cast is phenomenal , especially the women ."
    tokens = encoder._tokenizer.encode(text, add_special_tokens=False).ids
    mean = table[tokens].mean(axis=0)
    assert np.allclose(encoder.embed([text])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_texts_features_do_not_depend_on_its_neighbours(encoder: TextEncoder) -> None:
    texts = ["short", "a somewhat longer text than that " * 20, "", "?", "word " * 5000]
    together = encoder.features(texts)
    assert together.shape == (5, TEXT_SPEC.dim)
    assert np.isfinite(together).all()
    for text, row in zip(texts, together, strict=True):
        assert np.allclose(encoder.features([text])[0], row, atol=1e-6)


def test_what_cannot_be_read_is_left_out(encoder: TextEncoder) -> None:
    assert np.allclose(encoder.features(["good \ud800"]), encoder.features(["good "]), atol=1e-6)
    assert not encoder.features([""]).any()


def test_meaning_is_near_meaning(encoder: TextEncoder) -> None:
    one, near, far = encoder.embed(["a dog barked", "the puppy was barking", "interest rates rose again"])
    assert one @ near > one @ far + 0.2


def test_the_graph_is_converted_once(encoder: TextEncoder, cache: Path) -> None:
    path = cached_graph(cache)
    written = path.stat().st_mtime_ns
    assert cached_graph(cache) == path
    assert path.stat().st_mtime_ns == written
    assert len(list(cache.iterdir())) == 1


def test_words_keep_what_carries_opinion() -> None:
    assert words("Isn't it DULL?! It is.") == ["!", "?", "dull", "is", "isn't", "it"]


def test_stored_vectors_come_back_as_they_were(encoder: TextEncoder) -> None:
    texts = encoder.features(["one text", "and another", ""])
    images = image_features(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    for rows, dim in ((texts, TEXT_SPEC.dim), (images, IMAGE_SPEC.dim)):
        packed = [pack(row) for row in rows]
        assert (unpack_dense(packed, dim) == rows).all()
        assert (unpack_sparse(packed, dim).toarray() == rows).all()
    assert len(pack(texts[0])) < 3000, "a short text must not cost the 34 kB of its zeros"
    assert texts[0][:EMBEDDING_DIM].any()


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="the dimension is 3"):
        unpack_dense([pack(np.ones(4, dtype=np.float32))], 3)
    with pytest.raises(ValueError, match="expected b'D' or b'S'"):
        unpack_dense([b"X123"], 3)


def test_png_and_jpeg_of_any_mode_and_size_are_read() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16"):
        image = Image.fromarray(grey).convert("L")
        converted = image.convert(mode) if mode != "I;16" else image.convert("I;16")
        file = io.BytesIO()
        converted.save(file, "JPEG" if mode == "CMYK" else "PNG")
        assert decode(file.getvalue()).shape == (32, 32, 3)
    big = io.BytesIO()
    Image.new("RGB", (3000, 2000), (200, 10, 10)).save(big, "JPEG")
    assert decode(big.getvalue())[16, 16, 0] > 150
    assert image_decoder.features([]).shape == (0, IMAGE_SPEC.dim)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither a PNG nor a JPEG"),
        (b"not an image", "neither a PNG nor a JPEG"),
        (png(np.zeros((40, 40, 3), dtype=np.uint8))[:60], "cannot be read"),
        (bomb(), "pixels"),
        (b"GIF89a" + bytes(100), "neither a PNG nor a JPEG"),
        (bytes(image_decoder.MAX_BYTES + 1), "are read at most"),
    ],
    ids=["empty", "text", "cut short", "bomb", "gif", "too long"],
)
def test_what_is_no_image_is_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(NotAnImage, match=words):
        decode(data)
