"""A client as a Python programmer would write it: grpcio, stubs generated from proto/, Google's error details.

It shares no code with the server, so what passes here is what the protocol says and not what two ends
of one library agree on. Every function named `check_...` runs against the server given; the first that
fails ends the script with exit code 1 and a traceback.

    python3 -m venv venv && venv/bin/pip install -r tests/clients/requirements.txt
    venv/bin/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. cognate/v1/cognate.proto
    PYTHONPATH=. venv/bin/python tests/clients/client.py 127.0.0.1:50051

Only cognate/v1 is generated: google.rpc comes from googleapis-common-protos, as in other Python programs.
"""

import array
import math
import struct
import sys
import threading
import time

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import BadRequest, ResourceInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from cognate.v1 import cognate_pb2 as pb
from cognate.v1 import cognate_pb2_grpc

# Seconds; the default of each call here, so that a server that hangs fails the test.
TIMEOUT = 120
DIMENSIONS = 384

ANIMALS = ["a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos"]


def dot(a, b):
    assert len(a) == len(b), (len(a), len(b))
    return math.fsum(x * y for x, y in zip(a, b))


def embed(stub, *texts, **settings):
    """The results of one Embed call."""
    results = stub.Embed(pb.EmbedRequest(texts=texts, **settings), timeout=TIMEOUT).results
    assert len(results) == len(texts), results
    return results


def failure(call):
    """The error that a call must end with."""
    try:
        response = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"the call succeeded: {response}")


def details(status: Status, kind):
    """The one detail of this kind in a google.rpc.Status."""
    found = [any_ for any_ in status.details if any_.Is(kind.DESCRIPTOR)]
    assert len(found) == 1, status
    detail = kind()
    found[0].Unpack(detail)
    return detail


def fields(status: Status):
    """The fields that a google.rpc.Status calls wrong."""
    return [violation.field for violation in details(status, BadRequest).field_violations]


def documents(count, prefix="note"):
    """Documents one by one; nothing holds them all."""
    for number in range(count):
        metadata = Struct()
        metadata.update({"number": number, "even": number % 2 == 0, "tags": [f"t{number % 3}"]})
        text = f"{prefix} {number} is about {ANIMALS[number % len(ANIMALS)]}"
        yield pb.Document(id=f"{prefix}-{number:04}", text=text, metadata=metadata)


def check_health(channel, stub):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "cognate.v1.Cognate"]:
        response = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        assert response.status == health_pb2.HealthCheckResponse.SERVING, (service, response)
    watch = health.Watch(health_pb2.HealthCheckRequest(service="cognate.v1.Cognate"), timeout=TIMEOUT)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    error = failure(lambda: health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.NOT_FOUND, error


def check_info(channel, stub):
    info = stub.Info(pb.InfoRequest(), timeout=TIMEOUT)
    assert info.model.dimensions == DIMENSIONS and info.model.pooling == "mean", info
    assert info.limits.max_texts >= 1024 and info.limits.max_k >= 1000, info


def check_embed_gives_unit_vectors_in_request_order(channel, stub):
    alone = [embed(stub, text)[0].vector.values for text in ANIMALS]
    together = embed(stub, *ANIMALS)
    for one, result in zip(alone, together):
        assert result.WhichOneof("result") == "vector" and not result.truncated, result
        values = result.vector.values
        assert len(values) == result.vector.dimensions == DIMENSIONS
        assert abs(dot(values, values) - 1) < 1e-5
        assert dot(values, one) > 1 - 1e-5, "a text's vector depends on its neighbours in the request"
        assert 0 < result.tokens == result.tokens_total < 20


def check_every_format_is_the_same_vector(channel, stub):
    text = ANIMALS[0]
    values = embed(stub, text)[0].vector.values
    for kind, code in [(pb.VECTOR_FORMAT_F32_BYTES, "<{}f"), (pb.VECTOR_FORMAT_F16_BYTES, "<{}e")]:
        vector = embed(stub, text, format=kind)[0].vector
        read = struct.unpack(code.format(DIMENSIONS), vector.data)
        assert not vector.values and dot(read, values) > 0.9999, kind
    vector = embed(stub, text, format=pb.VECTOR_FORMAT_INT8)[0].vector
    read = [byte * vector.scale for byte in array.array("b", vector.data)]
    assert vector.scale > 0 and dot(read, values) > 0.99
    vector = embed(stub, text, format=pb.VECTOR_FORMAT_BINARY)[0].vector
    bits = [vector.data[i // 8] >> (7 - i % 8) & 1 for i in range(DIMENSIONS)]
    assert bits == [int(value > 0) for value in values]


def check_a_wrong_text_is_an_error_in_its_place(channel, stub):
    long = "word " * 2000
    good, bad, after = embed(stub, ANIMALS[0], long, ANIMALS[1], truncation=pb.TRUNCATION_REJECT)
    assert good.HasField("vector") and after.HasField("vector")
    assert bad.WhichOneof("result") == "error" and isinstance(bad.error, Status), bad
    assert bad.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], bad.error
    assert fields(bad.error) == ["texts[1]"], bad.error
    cut = embed(stub, long)[0]
    assert cut.truncated and cut.tokens < cut.tokens_total and cut.HasField("vector"), cut


def check_a_compressed_call_is_answered_alike(channel, stub):
    request = pb.EmbedRequest(texts=ANIMALS * 50)
    plain = stub.Embed(request, timeout=TIMEOUT)
    compressed = stub.Embed(request, timeout=TIMEOUT, compression=grpc.Compression.Gzip)
    assert len(compressed.results) == len(plain.results) == 200
    for a, b in zip(plain.results, compressed.results):
        assert dot(a.vector.values, b.vector.values) > 1 - 1e-5
    stream = stub.EmbedStream(iter([request]), timeout=TIMEOUT, compression=grpc.Compression.Gzip)
    assert [len(response.results) for response in stream] == [200]


def check_thousands_of_short_messages_are_no_flood(channel, stub):
    # grpc-core acknowledges each answer with up to three frames.
    requests = (pb.EmbedRequest(texts=["x"], dimensions=1) for _ in range(6_000))
    assert sum(1 for _ in stub.EmbedStream(requests, timeout=TIMEOUT)) == 6_000


def check_a_stream_is_answered_in_order_and_outlives_wrong_requests(channel, stub):
    def requests():
        for number in range(60):
            wrong = DIMENSIONS + 1 if number == 20 else 0
            yield pb.EmbedRequest(texts=[f"text {number}"] * (number % 3 + 1), dimensions=wrong)

    responses = list(stub.EmbedStream(requests(), timeout=TIMEOUT))
    assert [len(response.results) for response in responses] == [number % 3 + 1 for number in range(60)]
    for number, response in enumerate(responses):
        for result in response.results:
            if number == 20:
                assert fields(result.error) == ["dimensions"], result
            else:
                assert result.HasField("vector"), (number, result)
    for number in [0, 37, 59]:
        expected = embed(stub, f"text {number}")[0].vector.values
        assert dot(responses[number].results[0].vector.values, expected) > 1 - 1e-5, number


def check_texts_are_classified(channel, stub):
    texts = ["I love it, this is wonderful!", "This is terrible, I hate it."]
    answer = stub.Classify(pb.ClassifyRequest(texts=texts), timeout=TIMEOUT)
    assert [result.classification.label for result in answer.results] == ["positive", "negative"], answer
    for result in answer.results:
        scores = [score.score for score in result.classification.scores]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True) and abs(sum(scores) - 1) < 1e-5, result
    streamed = stub.ClassifyStream((pb.ClassifyRequest(texts=[text]) for text in texts * 50), timeout=TIMEOUT)
    labels = [response.results[0].classification.label for response in streamed]
    assert labels == ["positive", "negative"] * 50, labels
    error = failure(lambda: stub.Classify(pb.ClassifyRequest(texts=texts, model="none"), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.NOT_FOUND, error
    assert details(rpc_status.from_call(error), ResourceInfo).resource_type == "classifier"


def check_texts_are_reranked(channel, stub):
    texts = ["the package is late again", "refund", "please login"]
    request = pb.RerankRequest(query="refund", texts=texts, with_text=True, model="bert")
    results = stub.Rerank(request, timeout=TIMEOUT).results
    assert sorted(result.index for result in results) == [0, 1, 2], results
    assert all(result.text == texts[result.index] for result in results), results
    scores = [result.score for result in results]
    assert scores == sorted(scores, reverse=True), scores
    best = stub.Rerank(pb.RerankRequest(query="refund", texts=texts, top_n=1, model="bert"), timeout=TIMEOUT).results
    assert [result.index for result in best] == [results[0].index] and not best[0].text, best
    error = failure(lambda: stub.Rerank(pb.RerankRequest(query="a", texts=texts, model="none"), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.NOT_FOUND, error
    assert details(rpc_status.from_call(error), ResourceInfo).resource_type == "reranker"


def check_similarity(channel, stub):
    rows = stub.Similarity(pb.SimilarityRequest(a=ANIMALS, b=["a kitten", "a puppy", "a pony"]), timeout=TIMEOUT).rows
    assert [len(row.scores) for row in rows] == [3] * 4
    for nearest in range(3):
        scores = [row.scores[nearest] for row in rows]
        assert max(scores) == scores[nearest], (nearest, scores)
    square = stub.Similarity(pb.SimilarityRequest(a=ANIMALS), timeout=TIMEOUT).rows
    for i in range(4):
        for j in range(4):
            assert abs(square[i].scores[j] - square[j].scores[i]) < 1e-5
        assert abs(square[i].scores[i] - 1) < 1e-5


def check_upload_by_a_generator_then_search(channel, stub):
    name = "python-upload"

    def messages():
        yield pb.UploadRequest(collection=name)
        batch = []
        for document in documents(500):
            if document.id == "note-0123":
                document.vector.values.extend([1.0, 0.0])  # not of the model's length
            batch.append(document)
            if len(batch) == 10:
                yield pb.UploadRequest(documents=batch)
                batch = []

    responses = list(stub.Upload(messages(), timeout=TIMEOUT))
    last = responses[-1]
    assert [response.done for response in responses] == [False] * (len(responses) - 1) + [True]
    committed = [response.committed for response in responses]
    assert committed == sorted(committed) and (last.received, last.committed) == (500, 499), last
    errors = [error for response in responses for error in response.errors]
    assert [(error.position, error.id) for error in errors] == [(123, "note-0123")], errors
    assert errors[0].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], errors
    assert fields(errors[0].status), errors

    def top_k(**request):
        return stub.TopK(pb.TopKRequest(collection=name, **request), timeout=TIMEOUT).results

    text = "note 42 is about a horse that gallops"
    result, by_id = top_k(
        queries=[pb.Query(text=text), pb.Query(id="note-0042")],
        k=5,
        with_text=True,
        with_metadata=True,
        with_vector=True,
    )
    assert [hit.id for hit in result.hits] == [hit.id for hit in by_id.hits]
    assert len(result.hits) == 5 and not result.HasField("error")
    first = result.hits[0]
    assert (first.id, first.text) == ("note-0042", text) and first.score > 1 - 1e-5, first
    assert not first.HasField("candidate"), "a document is not a candidate"
    assert MessageToDict(first.metadata) == {"number": 42, "even": True, "tags": ["t0"]}
    order = [(-hit.score, hit.id) for hit in result.hits]
    assert order == sorted(order), order
    for hit in result.hits:
        assert abs(dot(hit.vector.values, first.vector.values) - hit.score) < 1e-5, hit.id
    (by_vector,) = top_k(queries=[pb.Query(vector=first.vector)], k=5, params=pb.SearchParams(exact=True))
    assert by_vector.hits[0].id == "note-0042" and not by_vector.hits[0].text

    third = pb.Filter(equals=pb.EqualsCondition(path="tags", value={"string_value": "t2"}))
    for same in (third, pb.Filter(text="tags = t2 and not tags = t1")):
        (filtered,) = top_k(queries=[pb.Query(text=text)], k=500, filter=same, with_metadata=True)
        assert len(filtered.hits) == 166  # of 0..499, 2 modulo 3
        assert all(hit.metadata["tags"][0] == "t2" for hit in filtered.hits)

    got = stub.GetDocuments(pb.GetDocumentsRequest(collection=name, ids=["note-0007", "note-0123"]), timeout=TIMEOUT)
    assert [document.id for document in got.documents] == ["note-0007"] and list(got.missing) == ["note-0123"]
    half = pb.Filter(text="even = true")
    count = pb.CountDocumentsRequest(collection=name, filter=half)
    assert stub.CountDocuments(count, timeout=TIMEOUT).documents == 250
    wanted = [pb.FacetsRequest.Field(path="tags", limit=2), pb.FacetsRequest.Field(path="number")]
    facets = stub.Facets(pb.FacetsRequest(collection=name, filter=half, fields=wanted), timeout=TIMEOUT)
    tags, numbers = facets.facets
    assert [(value.value.string_value, value.documents) for value in tags.values] == [("t0", 84), ("t1", 83)], tags
    assert (facets.documents, tags.distinct, tags.HasField("numbers")) == (250, 3, False), facets
    assert (numbers.numbers.min, numbers.numbers.max, numbers.numbers.mean) == (0, 498, 249), numbers
    patch = Struct()
    patch.update({"even": None, "author": {"name": "Ann"}})
    update = pb.UpdateDocumentsRequest(collection=name, ids=["note-0007", "note-0123"], patch=patch)
    updated = stub.UpdateDocuments(update, timeout=TIMEOUT)
    assert (updated.documents, list(updated.missing), updated.refused) == (1, ["note-0123"], 0), updated
    (kept,) = stub.GetDocuments(pb.GetDocumentsRequest(collection=name, ids=["note-0007"]), timeout=TIMEOUT).documents
    assert kept.text == got.documents[0].text
    assert MessageToDict(kept.metadata) == {"number": 7, "tags": ["t1"], "author": {"name": "Ann"}}, kept
    gone = stub.DeleteDocuments(pb.DeleteDocumentsRequest(collection=name, ids=["note-0042"]), timeout=TIMEOUT)
    assert list(gone.deleted) == ["note-0042"]
    (result,) = top_k(queries=[pb.Query(text=text)], k=1)
    assert result.hits[0].id != "note-0042"

    ids, token = [], ""
    while True:
        request = pb.ListDocumentsRequest(collection=name, page_size=200, page_token=token)
        page = stub.ListDocuments(request, timeout=TIMEOUT)
        ids += [document.id for document in page.documents]
        token = page.next_page_token
        if not token:
            break
    assert ids == [f"note-{number:04}" for number in range(500) if number not in (42, 123)]


def check_words_and_vectors_search_together(channel, stub):
    name = "python-words"
    made = stub.CreateCollection(pb.CreateCollectionRequest(name=name), timeout=TIMEOUT).collection
    assert made.lexical.enabled and made.lexical.language == "", made
    texts = {"table": "ORA-00942: table does not exist", "view": "ORA-00001: constraint violated", "cat": "a cat"}
    documents = [pb.Document(id=id, text=text) for id, text in texts.items()]
    uploads = [pb.UploadRequest(collection=name, documents=documents)]
    assert list(stub.Upload(iter(uploads), timeout=TIMEOUT))[-1].committed == 3

    def search(text, mode):
        request = pb.TopKRequest(collection=name, queries=[pb.Query(text=text)], k=3, mode=mode)
        return stub.TopK(request, timeout=TIMEOUT).results[0].hits

    by_words = search("ora-00942", pb.SEARCH_MODE_LEXICAL)
    assert [hit.id for hit in by_words] == ["table", "view"], by_words
    assert by_words[0].scores.lexical == by_words[0].score and not by_words[0].scores.HasField("vector")
    by_both = search("what does 00001 mean", pb.SEARCH_MODE_HYBRID)
    assert len(by_both) == 3 and by_both[0].id == "view", by_both
    assert by_both[0].scores.lexical > 0 and by_both[0].scores.HasField("vector")


def check_a_long_text_is_found_by_its_passage(channel, stub):
    name = "python-passages"
    filler = " ".join(f"Train number {n} left the platform late." for n in range(60))
    sentence = "The octopus opened the jar with its arms."
    text = f"{filler} {sentence} {filler}"
    settings = pb.Passages(max_tokens=96, overlap_tokens=0)
    request = pb.CreateCollectionRequest(name=name, passages=settings)
    made = stub.CreateCollection(request, timeout=TIMEOUT).collection
    assert made.passages.enabled and (made.passages.max_tokens, made.passage_count) == (96, 0), made
    uploads = [pb.UploadRequest(collection=name, documents=[pb.Document(id="long", text=text)])]
    assert list(stub.Upload(iter(uploads), timeout=TIMEOUT))[-1].committed == 1
    search = pb.TopKRequest(
        collection=name, queries=[pb.Query(text=sentence)], k=5, with_passage_text=True, passages_per_document=3
    )
    (hit,) = stub.TopK(search, timeout=TIMEOUT).results[0].hits
    assert sentence in hit.passage.text and abs(hit.passage.score - hit.score) < 1e-6, hit
    assert text.encode()[hit.passage.start : hit.passage.end].decode() == hit.passage.text
    scores = [hit.score] + [passage.score for passage in hit.passages]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True), scores
    (embedded,) = embed(stub, text, input_type=pb.INPUT_TYPE_DOCUMENT, passages=settings)
    got = stub.GetDocuments(pb.GetDocumentsRequest(collection=name, ids=["long"], with_vector=True), timeout=TIMEOUT)
    stored = got.documents[0].passages
    assert [(p.start, p.end) for p in stored] == [(p.start, p.end) for p in embedded.passages]
    assert all(dot(a.vector.values, b.vector.values) > 1 - 1e-5 for a, b in zip(stored, embedded.passages))
    stub.DeleteCollection(pb.DeleteCollectionRequest(name=name), timeout=TIMEOUT)


def check_candidates_are_ranked_without_a_collection(channel, stub):
    request = pb.TopKRequest(queries=[pb.Query(text="a kitten")], k=4, candidates=ANIMALS[::-1], with_text=True)
    (result,) = stub.TopK(request, timeout=TIMEOUT).results
    assert [hit.text for hit in result.hits][0] == ANIMALS[0] and result.hits[0].candidate == 3
    assert sorted(hit.candidate for hit in result.hits) == [0, 1, 2, 3]
    assert all(hit.HasField("candidate") for hit in result.hits), "position 0 must be told from no position"


def check_collections(channel, stub):
    made = stub.CreateCollection(pb.CreateCollectionRequest(name="python-empty"), timeout=TIMEOUT).collection
    listed = stub.ListCollections(pb.ListCollectionsRequest(), timeout=TIMEOUT).collections
    assert made in listed and [c.name for c in listed] == sorted(c.name for c in listed)
    error = failure(lambda: stub.CreateCollection(pb.CreateCollectionRequest(name="python-empty"), timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS
    removed = stub.DeleteCollection(pb.DeleteCollectionRequest(name="python-empty"), timeout=TIMEOUT)
    assert removed.documents == 0
    listed = stub.ListCollections(pb.ListCollectionsRequest(), timeout=TIMEOUT).collections
    assert "python-empty" not in [c.name for c in listed]


def check_errors_carry_details(channel, stub):
    request = pb.TopKRequest(queries=[pb.Query(text="x")], k=0, candidates=ANIMALS)
    error = failure(lambda: stub.TopK(request, timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    # By hand, as a program without grpcio-status does it.
    trailers = dict(error.trailing_metadata())
    assert fields(Status.FromString(trailers["grpc-status-details-bin"])) == ["k"]
    # from_call raises where code or message differ between the trailers and the details.
    assert fields(rpc_status.from_call(error)) == ["k"]

    request = pb.GetDocumentsRequest(collection="nobody-made-this", ids=["a"])
    error = failure(lambda: stub.GetDocuments(request, timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    resource = details(rpc_status.from_call(error), ResourceInfo)
    assert resource.resource_name == "nobody-made-this" and resource.resource_type, resource

    # Names of the caller come back in messages: not only ASCII must pass through the header.
    odd = "köln 50% – 猫"
    error = failure(lambda: stub.DeleteCollection(pb.DeleteCollectionRequest(name=odd), timeout=TIMEOUT))
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error
    assert rpc_status.from_call(error).message == error.details()


def check_a_deadline_passes_and_the_next_call_is_answered(channel, stub):
    ended = threading.Event()

    def silent():
        ended.wait(TIMEOUT)
        yield from ()

    begun = time.monotonic()
    error = failure(lambda: list(stub.EmbedStream(silent(), timeout=0.2)))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - begun < 5, "the client waited past its deadline"
    ended.set()
    embed(stub, ANIMALS[0])


def check_a_call_that_cannot_meet_its_deadline_ends_by_it(channel, stub):
    slow = pb.EmbedRequest(texts=[f"{number} " + "a long text of many words " * 40 for number in range(512)])
    begun = time.monotonic()
    error = failure(lambda: stub.Embed(slow, timeout=0.2))
    # A server that has measured its speed refuses at once; one that has not works until the deadline.
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED), error
    assert time.monotonic() - begun < 5, "the client waited past its deadline"
    embed(stub, ANIMALS[0])


def check_a_stream_that_is_left_harms_nobody(channel, stub):
    def endless():
        while True:
            yield pb.EmbedRequest(texts=ANIMALS)

    call = stub.EmbedStream(endless(), timeout=TIMEOUT)
    assert len(next(call).results) == 4
    call.cancel()
    messages = (pb.UploadRequest(collection="python-left", documents=[document]) for document in documents(10**9))
    upload = stub.Upload(messages, timeout=TIMEOUT)
    next(upload)
    upload.cancel()
    embed(stub, ANIMALS[0])
    kept = stub.ListCollections(pb.ListCollectionsRequest(), timeout=TIMEOUT).collections
    assert [c.documents > 0 for c in kept if c.name == "python-left"] == [True], "what was committed stays"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: client.py HOST:PORT")
    checks = [(name, check) for name, check in globals().items() if name.startswith("check_")]
    # grpcio refuses answers above 4 MiB unless told otherwise; the server's limit is 16 MiB.
    options = [("grpc.max_receive_message_length", 16 << 20)]
    with grpc.insecure_channel(sys.argv[1], options=options) as channel:
        stub = cognate_pb2_grpc.CognateStub(channel)
        for name, check in checks:
            begun = time.monotonic()
            print(name, end=" ", flush=True)
            check(channel, stub)
            print(f"ok, {time.monotonic() - begun:.1f} s", flush=True)
    print(f"{len(checks)} checks passed")


if __name__ == "__main__":
    main()
