"""What the server promises to any Python program with stubs, beyond the steps of the scenario.

These tests use `cognate_client` only for its stubs. The server shares no code with grpcio and protobuf, so what passes
here is what the protocol says, and not what two ends of one library agree on.
"""

import array
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct, Value
from google.rpc.error_details_pb2 import BadRequest, ResourceInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cognate_client import pb
from cognate_client.v1.cognate_pb2_grpc import CognateStub

Detail = TypeVar("Detail", BadRequest, ResourceInfo)

#: Seconds, so that a server that hangs fails the test.
TIMEOUT = 120
DIMENSIONS = 384
ANIMALS = ["a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos"]


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 16 << 20)]) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> CognateStub:
    return CognateStub(channel)


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def embed(stub: CognateStub, *texts: str, format: pb.VectorFormat.ValueType = pb.VECTOR_FORMAT_F32) -> list[pb.Vector]:
    results = stub.Embed(pb.EmbedRequest(texts=texts, format=format), timeout=TIMEOUT).results
    assert len(results) == len(texts), results
    return [result.vector for result in results]


def failure(call: Callable[[], object]) -> grpc.RpcError:
    """Returns the error that a call must end with."""
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return failed.value


def detail(error: grpc.RpcError, kind: type[Detail]) -> Detail:
    """Returns the one detail of this kind in the trailers, as a program without this package reads it."""
    trailers: Any = error.trailing_metadata()
    status = Status.FromString(dict(trailers)["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = kind()
    assert [packed.Unpack(found) for packed in status.details].count(True) == 1, status
    return found


def store(stub: CognateStub, collection: str, documents: Sequence[pb.Document]) -> None:
    messages = [pb.UploadRequest(collection=collection, documents=documents)]
    assert list(stub.Upload(iter(messages), timeout=TIMEOUT))[-1].committed == len(documents)


def test_health_is_serving_and_unknown_services_are_not_found(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "cognate.v1.Cognate"]:
        response = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        assert response.status == health_pb2.HealthCheckResponse.SERVING, service
    watch = health.Watch(health_pb2.HealthCheckRequest(service="cognate.v1.Cognate"), timeout=TIMEOUT)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    error = failure(lambda: health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_every_format_is_the_same_vector(stub: CognateStub) -> None:
    values = embed(stub, ANIMALS[0])[0].values
    for kind, code in [(pb.VECTOR_FORMAT_F32_BYTES, "<{}f"), (pb.VECTOR_FORMAT_F16_BYTES, "<{}e")]:
        (vector,) = embed(stub, ANIMALS[0], format=kind)
        assert not vector.values
        assert dot(struct.unpack(code.format(DIMENSIONS), vector.data), values) > 0.9999, kind
    (vector,) = embed(stub, ANIMALS[0], format=pb.VECTOR_FORMAT_INT8)
    assert vector.scale > 0
    assert dot([byte * vector.scale for byte in array.array("b", vector.data)], values) > 0.99
    (vector,) = embed(stub, ANIMALS[0], format=pb.VECTOR_FORMAT_BINARY)
    bits = [vector.data[i // 8] >> (7 - i % 8) & 1 for i in range(DIMENSIONS)]
    assert bits == [int(value > 0) for value in values]


def test_a_long_text_is_cut_and_marked(stub: CognateStub) -> None:
    (cut,) = stub.Embed(pb.EmbedRequest(texts=["word " * 2000]), timeout=TIMEOUT).results
    assert cut.truncated
    assert cut.HasField("vector")
    assert cut.tokens < cut.tokens_total


def test_a_compressed_call_is_answered_alike(stub: CognateStub) -> None:
    request = pb.EmbedRequest(texts=ANIMALS * 50)
    plain = stub.Embed(request, timeout=TIMEOUT)
    compressed = stub.Embed(request, timeout=TIMEOUT, compression=grpc.Compression.Gzip)
    for a, b in zip(plain.results, compressed.results, strict=True):
        assert dot(a.vector.values, b.vector.values) > 1 - 1e-5
    stream = stub.EmbedStream(iter([request]), timeout=TIMEOUT, compression=grpc.Compression.Gzip)
    assert [len(response.results) for response in stream] == [200]


def test_thousands_of_short_messages_are_no_flood(stub: CognateStub) -> None:
    # grpc-core acknowledges each answer with up to three frames.
    requests = (pb.EmbedRequest(texts=["x"], dimensions=1) for _ in range(6_000))
    assert sum(1 for _ in stub.EmbedStream(requests, timeout=TIMEOUT)) == 6_000


def test_texts_are_classified_in_a_stream(stub: CognateStub) -> None:
    texts = ["I love it, this is wonderful!", "This is terrible, I hate it."]
    answers = stub.ClassifyStream((pb.ClassifyRequest(texts=[text]) for text in texts * 50), timeout=TIMEOUT)
    assert [answer.results[0].classification.label for answer in answers] == ["positive", "negative"] * 50


def test_rerankers_and_classifiers_that_do_not_exist_are_named(stub: CognateStub) -> None:
    results = stub.Rerank(pb.RerankRequest(query="refund", texts=ANIMALS, with_text=True), timeout=TIMEOUT).results
    assert all(result.text == ANIMALS[result.index] for result in results)
    error = failure(lambda: stub.Rerank(pb.RerankRequest(query="a", texts=["b"], model="none"), timeout=TIMEOUT))
    assert detail(error, ResourceInfo).resource_type == "reranker"
    error = failure(lambda: stub.Classify(pb.ClassifyRequest(texts=["b"], model="none"), timeout=TIMEOUT))
    assert detail(error, ResourceInfo).resource_type == "classifier"


def test_values_of_metadata_are_counted(stub: CognateStub, collection: str) -> None:
    documents = []
    for number in range(500):
        document = pb.Document(id=f"{number:03}", text=ANIMALS[number % 4])
        document.metadata.update({"number": number, "even": number % 2 == 0, "tags": [f"t{number % 3}"]})
        documents.append(document)
    store(stub, collection, documents)
    fields = [pb.FacetField(path="tags", limit=2), pb.FacetField(path="number")]
    request = pb.FacetsRequest(collection=collection, filter=pb.Filter(text="even = true"), fields=fields)
    facets = stub.Facets(request, timeout=TIMEOUT)
    tags, numbers = facets.facets
    assert [(value.value.string_value, value.documents) for value in tags.values] == [("t0", 84), ("t1", 83)]
    assert (facets.documents, tags.distinct, tags.HasField("numbers")) == (250, 3, False)
    assert (numbers.numbers.min, numbers.numbers.max, numbers.numbers.mean) == (0, 498, 249)


def test_metadata_is_patched_and_texts_stay(stub: CognateStub, collection: str) -> None:
    document = pb.Document(id="a", text=ANIMALS[0])
    document.metadata.update({"number": 7, "even": False})
    store(stub, collection, [document])
    patch = Struct()
    patch.update({"even": None, "author": {"name": "Ann"}})
    request = pb.UpdateDocumentsRequest(collection=collection, ids=["a", "b"], patch=patch)
    updated = stub.UpdateDocuments(request, timeout=TIMEOUT)
    assert (updated.documents, list(updated.missing), updated.refused) == (1, ["b"], 0)
    (kept,) = stub.GetDocuments(pb.GetDocumentsRequest(collection=collection, ids=["a"]), timeout=TIMEOUT).documents
    assert kept.text == ANIMALS[0]
    assert MessageToDict(kept.metadata) == {"number": 7, "author": {"name": "Ann"}}


def test_words_and_vectors_search_together(stub: CognateStub, collection: str) -> None:
    texts = {"table": "ORA-00942: table does not exist", "view": "ORA-00001: constraint violated", "cat": "a cat"}
    store(stub, collection, [pb.Document(id=name, text=text) for name, text in texts.items()])

    def search(text: str, mode: pb.SearchMode.ValueType) -> Sequence[pb.Hit]:
        request = pb.TopKRequest(collection=collection, queries=[pb.Query(text=text)], k=3, mode=mode)
        return stub.TopK(request, timeout=TIMEOUT).results[0].hits

    by_words = search("ora-00942", pb.SEARCH_MODE_LEXICAL)
    assert [hit.id for hit in by_words] == ["table", "view"]
    assert by_words[0].scores.lexical == by_words[0].score
    assert not by_words[0].scores.HasField("vector")
    by_both = search("what does 00001 mean", pb.SEARCH_MODE_HYBRID)
    assert (len(by_both), by_both[0].id) == (3, "view")
    assert by_both[0].scores.lexical > 0
    assert by_both[0].scores.HasField("vector")


def test_a_long_text_is_found_by_its_passage(stub: CognateStub, collection: str) -> None:
    filler = " ".join(f"Train number {n} left the platform late." for n in range(60))
    sentence = "The octopus opened the jar with its arms."
    text = f"{filler} {sentence} {filler}"
    settings = pb.Passages(max_tokens=96, overlap_tokens=0)
    request = pb.CreateCollectionRequest(name=collection, passages=settings)
    made = stub.CreateCollection(request, timeout=TIMEOUT).collection
    assert (made.passages.enabled, made.passages.max_tokens, made.passage_count) == (True, 96, 0)
    store(stub, collection, [pb.Document(id="long", text=text)])
    search = pb.TopKRequest(
        collection=collection, queries=[pb.Query(text=sentence)], k=5, with_passage_text=True, passages_per_document=3
    )
    (hit,) = stub.TopK(search, timeout=TIMEOUT).results[0].hits
    assert sentence in hit.passage.text
    assert text.encode()[hit.passage.start : hit.passage.end].decode() == hit.passage.text
    scores = [hit.score] + [passage.score for passage in hit.passages]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    embedding = pb.EmbedRequest(texts=[text], input_type=pb.INPUT_TYPE_DOCUMENT, passages=settings)
    (embedded,) = stub.Embed(embedding, timeout=TIMEOUT).results
    get = pb.GetDocumentsRequest(collection=collection, ids=["long"], with_vector=True)
    stored = stub.GetDocuments(get, timeout=TIMEOUT).documents[0].passages
    assert [(p.start, p.end) for p in stored] == [(p.start, p.end) for p in embedded.passages]
    for a, b in zip(stored, embedded.passages, strict=True):
        assert dot(a.vector.values, b.vector.values) > 1 - 1e-5


def test_a_collection_that_exists_is_not_made_again(stub: CognateStub, collection: str) -> None:
    request = pb.CreateCollectionRequest(name=collection)
    made = stub.CreateCollection(request, timeout=TIMEOUT).collection
    listed = stub.ListCollections(pb.ListCollectionsRequest(), timeout=TIMEOUT).collections
    assert made in listed
    assert [each.name for each in listed] == sorted(each.name for each in listed)
    error = failure(lambda: stub.CreateCollection(request, timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS
    assert detail(error, ResourceInfo).resource_name == collection


def test_details_of_errors_agree_with_their_codes(stub: CognateStub) -> None:
    request = pb.TopKRequest(queries=[pb.Query(text="x")], k=0, candidates=ANIMALS)
    error = failure(lambda: stub.TopK(request, timeout=TIMEOUT))
    assert [violation.field for violation in detail(error, BadRequest).field_violations] == ["k"]
    # Names of the caller come back in messages: not only ASCII must pass through the header.
    odd = "köln 50% 猫"
    error = failure(lambda: stub.DeleteCollection(pb.DeleteCollectionRequest(name=odd), timeout=TIMEOUT))
    assert odd in detail(error, BadRequest).field_violations[0].description


def test_a_null_is_a_value_of_a_filter(stub: CognateStub, collection: str) -> None:
    document = pb.Document(id="a", text=ANIMALS[0])
    document.metadata.update({"empty": None})
    store(stub, collection, [document, pb.Document(id="b", text=ANIMALS[1])])
    null = pb.Filter(equals=pb.EqualsCondition(path="empty", value=Value(null_value=0)))  # type: ignore[arg-type]
    assert stub.CountDocuments(pb.CountDocumentsRequest(collection=collection, filter=null)).documents == 1


def test_a_stream_that_is_left_harms_nobody(stub: CognateStub, collection: str) -> None:
    def endless() -> Iterator[pb.UploadRequest]:
        for number in range(10**9):
            document = pb.Document(id=f"{number}", text=f"{ANIMALS[number % 4]} {number}")
            yield pb.UploadRequest(collection=collection, documents=[document])

    upload = stub.Upload(endless(), timeout=TIMEOUT)
    next(upload)
    upload.cancel()
    embed(stub, ANIMALS[0])
    kept = stub.CountDocuments(pb.CountDocumentsRequest(collection=collection), timeout=TIMEOUT)
    assert kept.documents > 0, "what was committed stays"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_channel_that_compresses_gets_the_same_answers(
    address: str, stub: CognateStub, compression: grpc.Compression
) -> None:
    # Long answers of few tokens.
    texts = [animal + " " * 2000 for animal in ANIMALS]
    request = pb.TopKRequest(queries=[pb.Query(text="a pet")], candidates=texts, k=len(texts), with_text=True)
    with grpc.insecure_channel(address, compression=compression) as channel:
        answer = CognateStub(channel).TopK(request, timeout=TIMEOUT)
    assert len(answer.results[0].hits) == len(texts)
    assert answer == stub.TopK(request, timeout=TIMEOUT)
