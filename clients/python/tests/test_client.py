"""Both clients on a real server: calls, uploads that break, deadlines; and retries, on a server that counts calls."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from cognate_client import ById, Client, Document, ItemsFailed, UploadBroken, aio, connect, errors, field, pb
from cognate_client.v1 import cognate_pb2_grpc

#: More work than fits in a fifth of a second.
LONG = [f"{number} " + "a long text of many words " * 40 for number in range(512)]
TEXTS = ["a cat that purrs", "a dog that barks", "a horse that gallops"]


def notes(count: int) -> list[Document]:
    return [Document(f"note-{n:04}", f"note {n} is about {TEXTS[n % 3]}", {"number": n}) for n in range(count)]


def test_vectors_are_rows_of_unit_length_in_the_order_of_the_texts(client: Client) -> None:
    texts = [f"{text} {n}" for n in range(100) for text in TEXTS]
    assert len(texts) > 256  # these go through a stream
    rows = client.embed(texts)
    assert rows.shape == (300, 384)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows[[0, 299]], client.embed([texts[0], texts[299]]), atol=1e-5)
    assert client.embed(TEXTS, dimensions=8).shape == (3, 8)


def test_a_wrong_text_among_many_is_named_by_its_position(client: Client) -> None:
    texts = [*(f"short {n}" for n in range(299)), "word " * 2000]
    with pytest.raises(ItemsFailed, match="the first at position 299: INVALID_ARGUMENT") as failed:
        client.embed(texts, truncation=pb.TRUNCATION_REJECT)
    assert set(failed.value.errors) == {299}
    assert len(failed.value.results) == 299


def test_similarity_labels_orders_and_ranks(client: Client) -> None:
    assert client.similarity(TEXTS).argmax(axis=1).tolist() == [0, 1, 2]
    (label,) = client.classify(["I love it, this is wonderful!"])
    assert label.label == "positive"
    assert sum(label.scores.values()) == pytest.approx(1, abs=1e-5)
    ranked = client.rerank("refund", ["the package is late again", "refund", "please login"], top_n=2)
    assert len({each.index for each in ranked}) == 2
    assert ranked[0].score >= ranked[1].score
    assert [hit.candidate for hit in client.rank("a kitten", TEXTS, k=1)] == [0]


def test_documents_are_stored_found_changed_listed_and_deleted(client: Client, collection: str) -> None:
    seen: list[int] = []
    stored = client.upload(collection, notes(500), lambda progress: seen.append(progress.committed))
    assert (stored.received, stored.committed, stored.refused, stored.done) == (500, 500, [], True)
    assert seen == sorted(seen)
    assert seen[-1] == 500
    by_text, by_id = client.top_k_each(collection, ["note 42", ById("note-0042")], k=3, filter="number = 42")
    assert [hit.id for hit in by_text] == [hit.id for hit in by_id] == ["note-0042"]
    (hit,) = client.top_k(collection, "a kitten", k=1, with_vector=True, filter=field("number") < 3)
    assert (hit.id, hit.metadata) == ("note-0000", {"number": 0})
    assert hit.vector is not None
    assert client.top_k(collection, hit.vector, k=1)[0].score == pytest.approx(1, abs=1e-5)
    few = field("number") < 10
    assert client.update_documents(collection, {"number": None, "few": True}, filter=few).documents == 10
    assert client.count_documents(collection, filter="few = true") == 10
    (first,) = client.get_documents(collection, ["note-0001", "nobody"], with_vector=True)
    assert first.metadata == {"few": True}
    assert isinstance(first.vector, np.ndarray)
    assert first.vector.shape == (384,)
    page = client.list_documents(collection, page_size=2, filter="number >= 100")
    assert [document.id for document in page.documents] == ["note-0100", "note-0101"]
    assert len(list(client.export(collection, with_vector=True))) == 500
    assert client.delete_documents(collection, ["note-0001"]).ids == ["note-0001"]
    assert collection in [each.name for each in client.list_collections().collections]


async def test_the_client_for_asyncio_does_the_same(aclient: aio.AsyncClient, collection: str) -> None:
    async def source() -> AsyncIterator[Document]:
        for document in notes(500):
            yield document

    stored = await aclient.upload(collection, source())
    again = await aclient.upload(collection, notes(500))
    assert (stored.committed, again.committed) == (500, 500)
    (hit,) = await aclient.top_k(collection, "note 42 is about a cat", k=1)
    assert hit.metadata == {"number": 42}
    assert (await aclient.embed(TEXTS * 100)).shape == (300, 384)
    rows = await asyncio.gather(*(aclient.embed([text]) for text in TEXTS))
    assert np.allclose(np.concatenate(rows), await aclient.embed(TEXTS), atol=1e-5)
    assert [document.id async for document in aclient.export(collection, filter="number < 2")] == [
        "note-0000",
        "note-0001",
    ]
    with pytest.raises(errors.NotFound) as failed:
        await aclient.count_documents("nowhere")
    assert failed.value.resource == ("collection", "nowhere")
    with pytest.raises(errors.DeadlineExceeded):
        await aclient.within(0.2).embed(LONG)


def test_refused_documents_are_reported_by_position(client: Client, collection: str) -> None:
    documents = notes(300)
    documents[7].vector = [1, 0]
    stored = client.upload(collection, documents)
    assert [(refused.position, refused.id) for refused in stored.refused] == [(7, "note-0007")]
    assert isinstance(stored.refused[0].error, errors.InvalidArgument)
    assert (stored.committed, stored.resume_from) == (299, 300)
    with pytest.raises(ItemsFailed, match="position 7"):
        stored.raise_if_refused()


def test_an_upload_whose_source_breaks_says_where_to_go_on(client: Client, collection: str) -> None:
    def source() -> Iterator[Document]:
        documents = notes(600)
        documents[7].vector = [1, 0]
        yield from documents
        raise OSError("the file is gone")

    with pytest.raises(UploadBroken, match="599 documents are committed: the file is gone") as broken:
        client.upload(collection, source())
    assert isinstance(broken.value.cause, OSError)
    start = broken.value.progress.resume_from
    assert start == 600
    assert client.upload(collection, notes(1000)[start:]).committed == 400
    assert client.count_documents(collection) == 999


async def test_so_does_one_of_asyncio(aclient: aio.AsyncClient, collection: str) -> None:
    async def source() -> AsyncIterator[Document]:
        for document in notes(600):
            yield document
        raise OSError("the file is gone")

    with pytest.raises(UploadBroken, match="600 documents are committed: the file is gone"):
        await aclient.upload(collection, source())


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_upload_that_is_left_ends(
    client: Client, aclient: aio.AsyncClient, collection: str, asynchronous: bool
) -> None:
    ended = threading.Event()

    def source() -> Iterator[Document]:
        try:
            while True:
                yield from notes(100)
        finally:
            ended.set()

    def leave(progress: object) -> None:
        raise KeyError("enough")

    async def upload() -> None:
        if asynchronous:
            await aclient.upload(collection, source(), leave)
        else:
            client.upload(collection, source(), leave)

    with pytest.raises(KeyError, match="enough"):
        await upload()
    assert await asyncio.to_thread(ended.wait, 30)


def test_deadlines_hold_for_calls_and_streams(client: Client, collection: str) -> None:
    def endless() -> Iterator[Document]:
        while True:
            yield from notes(1)

    begun = time.monotonic()
    with pytest.raises(UploadBroken, match="DEADLINE_EXCEEDED"):
        client.within(0.5).upload(collection, endless())
    with pytest.raises(errors.DeadlineExceeded):
        client.within(0.2).embed(LONG)
    assert time.monotonic() - begun < 30
    assert client.info().version


def test_an_export_that_is_left_ends(client: Client, collection: str) -> None:
    client.upload(collection, notes(20))
    for _ in range(20):  # at most 8 may be open
        assert next(client.export(collection)).id == "note-0000"


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with connect("127.0.0.1:1", timeout=5) as client, pytest.raises(errors.Unavailable) as failed:
        client.info()
    assert failed.value.retry_after is None


class Busy(cognate_pb2_grpc.CognateServicer):
    """Refuses each call, with RetryInfo or without it, until `refusals` is 0."""

    def __init__(self) -> None:
        self.calls, self.refusals, self.delay = 0, 0, ""

    def Info(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.InfoResponse:  # noqa: N802
        self.calls += 1
        if self.refusals:
            self.refusals -= 1
            status = Status(code=8, message="busy")
            if self.delay:
                delay = Duration()
                delay.FromJsonString(self.delay)
                status.details.add().Pack(RetryInfo(retry_delay=delay))
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return pb.InfoResponse(version="1.2.3")


@pytest.fixture
def busy() -> Iterator[tuple[Busy, str]]:
    server, busy = grpc.server(futures.ThreadPoolExecutor(1)), Busy()  # type: ignore[abstract]
    cognate_pb2_grpc.add_CognateServicer_to_server(busy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield busy, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("refusals", "delay", "timeout", "calls", "succeeds"),
    [
        (2, "0.010s", 60, 3, True),
        (3, "0.010s", 60, 3, False),  # three attempts
        (1, "", 60, 1, False),  # without RetryInfo
        (1, "90s", 60, 1, False),  # not beyond the deadline
    ],
)
async def test_a_call_is_repeated_where_the_server_says_so(
    busy: tuple[Busy, str], refusals: int, delay: str, timeout: float, calls: int, succeeds: bool
) -> None:
    servicer, address = busy
    async with aio.connect(address, timeout=timeout) as aclient:
        with connect(address, timeout=timeout) as client:
            for asynchronous in (False, True):
                servicer.calls, servicer.refusals, servicer.delay = 0, refusals, delay
                try:
                    await aclient.info() if asynchronous else await asyncio.to_thread(client.info)
                    assert succeeds
                except errors.ResourceExhausted as error:
                    assert not succeeds
                    assert re.fullmatch("RESOURCE_EXHAUSTED: busy", str(error))  # noqa: PT017
                assert servicer.calls == calls
