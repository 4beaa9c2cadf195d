"""What the tests need: a server, whose address is in COGNATE_ADDR.

cognate serve --in-memory --addr 127.0.0.1:50051 --reranker bert=tests/fixtures/rerankers/bert
COGNATE_ADDR=127.0.0.1:50051 python -m pytest
"""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from cognate_client import Client, aio, connect, errors


@pytest.fixture(scope="session")
def address() -> str:
    address = os.environ.get("COGNATE_ADDR")
    if address is None:
        pytest.fail("COGNATE_ADDR names no server: expected HOST:PORT")
    return address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with connect(address, timeout=120) as client:
        yield client


@pytest.fixture
async def aclient(address: str) -> AsyncIterator[aio.AsyncClient]:
    async with aio.connect(address, timeout=120) as client:
        yield client


@pytest.fixture
def collection(client: Client) -> Iterator[str]:
    """The name of a collection that does not exist, and that is deleted if the test makes it."""
    name = f"test-{uuid.uuid4()}"
    yield name
    with contextlib.suppress(errors.NotFound):
        client.delete_collection(name)
