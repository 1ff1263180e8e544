"""`cairn import` says which items are refused by where they stand, and sends the others."""

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import (
    AnnotationStoreServiceServicer,
    add_AnnotationStoreServiceServicer_to_server,
)
from cairn_client.cli import app


class Store(AnnotationStoreServiceServicer):
    """Takes every item."""

    def GetProject(self, request: store.GetProjectRequest, context: grpc.ServicerContext) -> store.Project:
        return store.Project(name=request.name)

    def ImportItems(
        self, request_iterator: Iterator[store.ImportItemsRequest], context: grpc.ServicerContext
    ) -> store.Import:
        taken = sum(len(request.chunk.items) for request in request_iterator)
        return store.Import(created_items=taken, next_offset=taken)


@pytest.fixture
def address() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_AnnotationStoreServiceServicer_to_server(Store(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


def imported(address: str, source: Path) -> Result:
    environment = {"CAIRN_ADDRESS": address, "CAIRN_TOKEN": "t", "CAIRN_HOME": None, "CAIRN_PROFILE": None}
    return CliRunner().invoke(app, ["import", "p", str(source)], env=environment)


def test_a_refused_row_is_told_by_its_line_and_the_others_are_written(address: str, tmp_path: Path) -> None:
    source = tmp_path / "items.csv"
    source.write_text(f"item,text\na,fine\n,no key\n{'k' * 5000},long\n")

    result = imported(address, source)

    assert result.exit_code == 1
    assert "1 item written, 0 there already, 2 refused." in result.stdout
    empty, long = result.stderr.splitlines()[-2:]
    assert empty == f"refused {source}, line 3: The item's key is empty."
    assert long.startswith(f"refused {source}, line 4 ('kkk")
    assert len(long) < len(str(source)) + 350


def test_a_file_that_is_no_picture_is_refused_by_its_name(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("I am text.")
    (tmp_path / "b.png").write_bytes(b"\xff\xd8\xff\xe0")

    result = imported(address, tmp_path)

    assert "0 items written, 0 there already, 2 refused." in result.stdout
    assert f"{tmp_path}/a.png is not the PNG that its name says: its content is no picture." in result.stderr
    assert f"{tmp_path}/b.png is not the PNG that its name says: it is a JPEG." in result.stderr
