"""The steps of clients/SCENARIO.md with this package: prints `ok NAME` for each, and fails with the first that does.

python scenario.py HOST:PORT
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc
import numpy as np

from cognate_client import (
    ById,
    Client,
    CognateError,
    Document,
    Hit,
    ItemsFailed,
    Page,
    Progress,
    Tls,
    connect,
    errors,
    field,
    pb,
    vectors,
)
from cognate_client.v1.cognate_pb2_grpc import CognateStub

COLLECTION = "scenario"
SUBJECTS = ["a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos"]
TIMEOUT = 120
FILTER = '100 <= number < 900 and not even = true and author.name exists and (tags in ("t2", "t9") or number = -1)'


def text(n: int) -> str:
    return f"document {n} is about {SUBJECTS[n % 4]}"


def documents() -> Iterator[Document]:
    for n in range(1000):
        metadata = {"number": n, "even": n % 2 == 0, "tags": [f"t{n % 3}"], "author": {"name": "Ann"}}
        yield Document(f"doc-{n:04}", text(n), metadata, vector=[1, 0] if n == 123 else None)


def failure(call: Callable[[], object]) -> CognateError:
    """Returns the error that a call must end with."""
    try:
        answer = call()
    except CognateError as error:
        return error
    except grpc.RpcError as error:
        return errors.of_call(error)
    raise AssertionError(f"the call succeeded: {answer}")


def answered_once(client: Client) -> grpc.Call:
    """Opens an EmbedStream that stays open after its first answer."""
    closed = threading.Event()

    def requests() -> Iterator[pb.EmbedRequest]:
        yield pb.EmbedRequest(texts=["open"])
        closed.wait(TIMEOUT)

    call = client.stub.EmbedStream(requests(), timeout=TIMEOUT)
    call.add_callback(closed.set)
    next(call)
    return call


def info(client: Client) -> None:
    answer = client.info()
    assert answer.version, answer
    assert answer.model.dimensions == 384, answer
    assert answer.limits.max_message_bytes == 16_777_216, answer


def embed(client: Client) -> None:
    texts = [SUBJECTS[0], "word " * 2000, SUBJECTS[1]]
    failed = failure(lambda: client.embed(texts, truncation=pb.TRUNCATION_REJECT))
    assert isinstance(failed, ItemsFailed), failed
    assert isinstance(failed.errors[1], errors.InvalidArgument), failed
    assert list(failed.errors[1].fields) == ["texts[1]"], failed.errors
    assert {position: vector.shape for position, vector in failed.results.items()} == {0: (384,), 2: (384,)}


def embed_int8(client: Client) -> None:
    request = pb.EmbedRequest(texts=SUBJECTS[:1], format=pb.VECTOR_FORMAT_INT8)
    vector = client.stub.Embed(request, timeout=TIMEOUT).results[0].vector
    assert len(vector.data) == 384, vector
    codes, floats = vectors.to_array(vector), client.embed(SUBJECTS[:1])[0]
    assert codes @ floats / np.linalg.norm(codes) > 0.99


def embed_stream(client: Client) -> None:
    requests = [pb.EmbedRequest(texts=[text(n)], dimensions=385 if n == 4 else 0) for n in range(10)]
    results = [answer.results[0] for answer in client.stub.EmbedStream(iter(requests), timeout=TIMEOUT)]
    assert len(results) == 10, results
    assert [n for n, result in enumerate(results) if result.HasField("error")] == [4], results
    assert list(errors.of_status(results[4].error).fields) == ["dimensions"], results[4]
    assert vectors.to_array(results[0].vector) @ client.embed([text(0)])[0] > 0.9999


def similarity(client: Client) -> None:
    scores = client.similarity(["a cat", "a steam engine"], ["a kitten", "a locomotive"])
    assert scores.shape == (2, 2), scores
    assert scores.argmax(axis=1).tolist() == [0, 1], scores


def upload(client: Client) -> None:
    seen_while_sending = []
    progress = Progress()

    def messages() -> Iterator[pb.UploadRequest]:
        every = [document.to_message() for document in documents()]
        for start in range(0, 1000, 50):
            seen_while_sending.append(progress.received)
            # The last message waits for an answer: progress comes while documents are sent.
            deadline = time.monotonic() + TIMEOUT
            while start == 950 and progress.received == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            yield pb.UploadRequest(collection=COLLECTION, documents=every[start : start + 50])

    for answer in client.stub.Upload(messages(), timeout=TIMEOUT):
        progress.add(answer)
    assert (progress.received, progress.committed, progress.done) == (1000, 999, True), progress
    assert [refused.position for refused in progress.refused] == [123], progress.refused
    assert progress.refused[0].error.fields, progress.refused
    # The package's own upload replaces the same documents.
    again = client.upload(COLLECTION, documents())
    assert (again.committed, again.done, again.resume_from) == (999, True, 1000), again


def top_42(client: Client) -> Hit:
    hit = client.top_k(COLLECTION, text(42), k=3, with_vector=True)[0]
    assert hit.id == "doc-0042", hit
    return hit


def topk_text(client: Client) -> None:
    hit = top_42(client)
    assert hit.text == text(42), hit
    assert hit.metadata == {"number": 42, "even": True, "tags": ["t0"], "author": {"name": "Ann"}}, hit


def topk_vector(client: Client) -> None:
    vector = top_42(client).vector
    assert vector is not None
    assert client.top_k(COLLECTION, vector, k=3)[0].id == "doc-0042"


def topk_id(client: Client) -> None:
    assert client.top_k(COLLECTION, ById("doc-0042"), k=3)[0].id == "doc-0042"


def filter_(client: Client) -> None:
    number = field("number")
    message = (
        number.between(gte=100, lt=900)
        & ~(field("even") == True)  # noqa: E712
        & field("author.name").exists()
        & (field("tags").is_in(["t2", "t9"]) | (number == -1))
    )
    by_message, by_text = (
        {hit.id for hit in client.top_k(COLLECTION, SUBJECTS[0], k=1000, filter=each)} for each in (message, FILTER)
    )
    assert by_message == by_text, by_message ^ by_text
    assert len(by_text) == 134, len(by_text)


def candidates(client: Client) -> None:
    hits = client.rank("a kitten", [SUBJECTS[0], SUBJECTS[1], SUBJECTS[3]])
    assert hits[0].candidate == 0, hits
    assert {hit.candidate for hit in hits} == {0, 1, 2}, hits
    assert top_42(client).candidate is None


def list_(client: Client) -> None:
    pages: list[Page] = []
    while not pages or pages[-1].next_page_token:
        token = pages[-1].next_page_token if pages else ""
        pages.append(client.list_documents(COLLECTION, page_size=300, page_token=token))
    assert len(pages) == 4, pages
    ids = [document.id for page in pages for document in page.documents]
    assert ids == [f"doc-{n:04}" for n in range(1000) if n != 123]


def export(client: Client) -> None:
    parts = list(client.stub.Export(pb.ExportRequest(collection=COLLECTION), timeout=TIMEOUT))
    assert {part.total for part in parts} == {999}, parts
    assert sum(1 for _ in client.export(COLLECTION)) == 999


def delete(client: Client) -> None:
    deleted = client.delete_documents(COLLECTION, ["doc-0000", "doc-0123"])
    assert (deleted.ids, deleted.missing) == (["doc-0000"], ["doc-0123"]), deleted
    assert client.delete_documents(COLLECTION, filter="number >= 900").documents == 100


def bad_request(client: Client) -> None:
    error = failure(lambda: client.top_k(COLLECTION, "x", k=0))
    assert isinstance(error, errors.InvalidArgument), error
    assert list(error.fields) == ["k"], error.fields


def resource_info(client: Client) -> None:
    error = failure(lambda: client.list_documents("nowhere"))
    assert isinstance(error, errors.NotFound), error
    assert error.resource == ("collection", "nowhere"), error.resource


def retry_info(client: Client) -> None:
    streams = [answered_once(client) for _ in range(32)]
    once = Client(client.channel, TIMEOUT, attempts=1)
    error = failure(lambda: once.similarity(["a"]))
    assert isinstance(error, errors.ResourceExhausted), error
    assert error.retry_after is not None, error
    for stream in streams:
        stream.cancel()
    patient = Client(client.channel, TIMEOUT, attempts=50)  # waits as RetryInfo says
    assert patient.similarity(["a"]).shape == (1, 1)


def deadline(client: Client) -> None:
    silent = threading.Event()

    def nothing() -> Iterator[pb.EmbedRequest]:
        silent.wait(TIMEOUT)
        yield from ()

    error = failure(lambda: list(client.stub.EmbedStream(nothing(), timeout=0.2)))
    silent.set()
    assert isinstance(error, errors.DeadlineExceeded), error
    long = [f"{n} " + "a long text of many words " * 40 for n in range(512)]
    request = pb.EmbedRequest(texts=long)
    error = failure(lambda: client.stub.Embed(request, timeout=0.2))
    assert isinstance(error, (errors.DeadlineExceeded, errors.ResourceExhausted)), error
    client.embed(["next"])


def cancel(client: Client) -> None:
    stream = answered_once(client)
    stream.cancel()
    assert isinstance(failure(lambda: next(stream)), errors.Cancelled)  # type: ignore[call-overload]
    parts = client.stub.Export(pb.ExportRequest(collection=COLLECTION, with_vector=True), timeout=TIMEOUT)
    next(parts)
    parts.cancel()
    with suppress(StopIteration):  # a part that had arrived, or the end of a short export
        assert isinstance(failure(lambda: [next(parts) for _ in range(3)]), errors.Cancelled)
    client.embed(["next"])


def message_size(client: Client) -> None:
    address = sys.argv[1]
    queries = [pb.Query(text=f"{subject} {n}") for n in range(2) for subject in SUBJECTS]
    request = pb.TopKRequest(collection=COLLECTION, queries=queries, k=1000, with_vector=True)
    with grpc.insecure_channel(address) as channel:
        try:
            answer = CognateStub(channel).TopK(request, timeout=TIMEOUT)
            print(f"grpcio with its defaults: {answer.ByteSize()} bytes")
        except grpc.RpcError as error:
            failed = errors.of_call(error)
            assert failed.retry_after is None
            print(f"grpcio with its defaults: {failed}")
    with connect(address, timeout=TIMEOUT, max_answer_bytes=16 << 20) as larger:
        hits = larger.top_k_each(COLLECTION, queries, k=1000, with_vector=True)
    assert [len(of_query) for of_query in hits] == [898] * 8


def drop(client: Client) -> None:
    assert client.delete_collection(COLLECTION) == 898


def tls_key(address: str) -> None:
    variable = os.environ.__getitem__
    tls, writer = Tls(ca=variable("SCENARIO_CA")), variable("SCENARIO_WRITER_KEY")
    with connect(address, tls=tls, key=writer, timeout=TIMEOUT) as client:
        assert client.info().version
    with connect(address, tls=tls, timeout=TIMEOUT) as client:
        assert isinstance(failure(client.info), errors.Unauthenticated)
    with connect(address, tls=tls, key=variable("SCENARIO_READER_KEY"), timeout=TIMEOUT) as client:
        assert isinstance(failure(lambda: client.create_collection("x")), errors.PermissionDenied)
    with connect(address, tls=Tls(ca=variable("SCENARIO_OTHER_CA")), key=writer, timeout=TIMEOUT) as client:
        assert isinstance(failure(client.info), errors.Unavailable)


STEPS: dict[str, Callable[[Client], None]] = {
    "info": info,
    "embed": embed,
    "embed-int8": embed_int8,
    "embed-stream": embed_stream,
    "similarity": similarity,
    "upload": upload,
    "topk-text": topk_text,
    "topk-vector": topk_vector,
    "topk-id": topk_id,
    "filter": filter_,
    "candidates": candidates,
    "list": list_,
    "export": export,
    "delete": delete,
    "bad-request": bad_request,
    "resource-info": resource_info,
    "retry-info": retry_info,
    "deadline": deadline,
    "cancel": cancel,
    "message-size": message_size,
    "drop": drop,
}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: scenario.py HOST:PORT")
    with connect(sys.argv[1], timeout=TIMEOUT) as client:
        for name, step in STEPS.items():
            step(client)
            print(f"ok {name}", flush=True)
    if "SCENARIO_TLS" in os.environ:
        tls_key(os.environ["SCENARIO_TLS"])
        print("ok tls-key")
    else:
        print("skipped tls-key")


if __name__ == "__main__":
    main()
