"""Measures what an engine behind the servers costs and gives: loads and searches beside the local store, and embedding
by one server and by two.

    tests/opensearch/run 3 &                        # prints the address of a cluster
    python3 -m venv target/scale-out
    target/scale-out/bin/pip install -r tests/clients/requirements.txt numpy
    target/scale-out/bin/python benches/scale_out.py target/release/cognate \\
        --store opensearch+http://127.0.0.1:9200,127.0.0.1:9201,127.0.0.1:9202

Documents have vectors of 384 dimensions around 200 centres, a text of about 100 bytes and a number, and are loaded from
four streams. The table has documents a second until each is acknowledged, bytes a document as ListCollections tells
them, the median and the 99th percentile of searches for 10 hits in milliseconds, one query in a call and 32, and the
share of the true 10 that searches without `exact` find. The second table has texts of 16 tokens a second through
EmbedStream, by one server and by two at once, and the same as documents of one collection.
"""

import argparse
import concurrent.futures
import tempfile
import time
import uuid

import numpy as np

import serving
from stubs import pb

DIMENSIONS, CENTRES, STREAMS, IN_A_MESSAGE = 384, 200, 4, 250
WORDS = "the harbour master counts the boats that come back from the sea"


def vectors(n, seed):
    """Returns unit vectors around centres that do not depend on the seed."""
    centres = np.random.default_rng(1).standard_normal((CENTRES, DIMENSIONS), dtype=np.float32)
    noise = np.random.default_rng(seed)
    rows = centres[noise.integers(CENTRES, size=n)] + noise.standard_normal((n, DIMENSIONS), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def load(server, collection, begin, rows):
    """Uploads rows as documents from several streams. Returns documents a second."""

    def messages(part):
        yield pb.UploadRequest(collection=collection)
        for start in range(part, len(rows), STREAMS * IN_A_MESSAGE):
            numbers = range(start, len(rows), STREAMS)[:IN_A_MESSAGE]
            yield pb.UploadRequest(documents=[document(begin + n, rows[n]) for n in numbers])

    def upload(part):
        last = list(server.stub.Upload(messages(part)))[-1]
        assert last.done and last.received == last.committed, last
        return last.committed

    if begin == 0:
        server.stub.CreateCollection(pb.CreateCollectionRequest(name=collection))
    started = time.time()
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as threads:
        committed = sum(threads.map(upload, range(STREAMS)))
    assert committed == len(rows), committed
    return committed / (time.time() - started)


def as_vector(row):
    return pb.Vector(data=row.tobytes(), format=pb.VECTOR_FORMAT_F32_BYTES)


def document(n, row):
    made = pb.Document(id=f"{n:09}", text=f"{n} {WORDS} " + f"{n * 7919:x}", vector=as_vector(row))
    made.metadata["n"] = n
    return made


def search(server, collection, rows, batch, exact=False):
    """Returns the milliseconds of each call, and the ids of each query."""
    took, found = [], []
    for start in range(0, len(rows) - batch + 1, batch):
        queries = [pb.Query(vector=as_vector(row)) for row in rows[start : start + batch]]
        request = pb.TopKRequest(collection=collection, queries=queries, k=10, params=pb.SearchParams(exact=exact))
        begun = time.perf_counter()
        answer = server.stub.TopK(request)
        took.append((time.perf_counter() - begun) * 1000)
        found += [[hit.id for hit in result.hits] for result in answer.results]
    return took, found


def stored(server, collection):
    return next(one for one in server.collections() if one.name == collection)


def stores(server, name, sizes):
    loaded = 0
    for size in sizes:
        rate = load(server, "c", loaded, vectors(size - loaded, 2 + loaded))
        loaded = size
        server.wait_for_graphs()
        queries = vectors(320, 99)
        search(server, "c", queries[:32], 1)
        single, found = search(server, "c", queries, 1)
        batches, _ = search(server, "c", np.concatenate([queries] * 3), 32)
        _, truth = search(server, "c", queries[:64], 8, exact=True)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth)])
        p50, p99 = np.percentile(single, [50, 99])
        of32 = np.percentile(batches, [50, 99])
        size_of_one = stored(server, "c").bytes / size
        print(
            f"| {name} | {size:,} | {rate:,.0f} | {size_of_one:,.0f} | {p50:.1f}, {p99:.1f} |"
            f" {of32[0]:.1f}, {of32[1]:.1f} | {recall:.3f} |",
            flush=True,
        )


def embedding(servers, seconds):
    """Returns texts a second through all servers at once, and documents a second into one collection."""

    def texts(kind):
        end, n = time.time() + seconds, 0
        while time.time() < end:
            n += 64
            yield [f"{uuid.uuid4().hex[:8]} {kind} {WORDS[:40]}" for _ in range(64)]

    def embed(server):
        requests = (pb.EmbedRequest(texts=batch) for batch in texts("embed"))
        return sum(len(answer.results) for answer in server.stub.EmbedStream(requests))

    def upload(server):
        def messages():
            yield pb.UploadRequest(collection="texts")
            for batch in texts("upload"):
                yield pb.UploadRequest(documents=[pb.Document(id=uuid.uuid4().hex, text=text) for text in batch])

        return list(server.stub.Upload(messages()))[-1].committed

    rates = []
    for work in embed, upload:
        started = time.time()
        with concurrent.futures.ThreadPoolExecutor(len(servers)) as threads:
            done = sum(threads.map(work, servers))
        rates.append(done / (time.time() - started))
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--store", required=True, help="the engine, as `cognate serve --store` takes it")
    parser.add_argument("--shards", default="3")
    parser.add_argument("--replicas", default="0")
    parser.add_argument("--sizes", default="10000,100000", help="documents at which searches are measured")
    parser.add_argument("--seconds", type=float, default=20, help="length of a measurement of embedding")
    given = parser.parse_args()
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    engine = ["--store", given.store, "--store-prefix", prefix]
    engine += ["--store-shards", given.shards, "--store-replicas", given.replicas]
    sizes = [int(size) for size in given.sizes.split(",")]

    print("| store | documents | loaded/s | bytes each | one query, ms | 32 queries, ms | recall@10 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as data:
        local = serving.Server(given.binary, ["--data-dir", data])
        stores(local, "local", sizes)
        local.stop()
    first = serving.Server(given.binary, engine)
    stores(first, "OpenSearch", sizes)

    print("\n| servers | EmbedStream, texts/s | Upload, documents/s |\n| --- | --- | --- |")
    second = serving.Server(given.binary, engine)
    for servers in [first], [first, second]:
        rates = embedding(servers, given.seconds)
        print(f"| {len(servers)} | {rates[0]:,.0f} | {rates[1]:,.0f} |", flush=True)
    for collection in first.collections():
        first.stub.DeleteCollection(pb.DeleteCollectionRequest(name=collection.name))
    first.stop()
    second.stop()


main()
