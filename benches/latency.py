"""Measures the time of single calls: a search by text beside the embedding of a text, and searches during an upload.

    python3 -m venv target/latency && target/latency/bin/pip install -r tests/clients/requirements.txt numpy psutil
    target/latency/bin/python benches/latency.py target/release/cognate VECTORS.npy [--model MODEL_DIR]

VECTORS.npy has vectors of the model (`cognate embed -o VECTORS.npy --file TEXTS`); the last 1,000 are queries, and the
others are loaded as documents. Each text is sent once, and the server keeps no vectors of texts. Embed, TopK by text
and TopK by vector take turns, so that other work on the machine disturbs all of them; the last line of the first part
is what a search adds to an embedding. The second part pauses for 20 ms between searches by vector, first alone and then while
`cognate upload` sends texts as fast as the server takes them, in several rounds; the ratio is that of the medians of
the rounds' p99.
"""

import argparse
import itertools
import json
import subprocess
import tempfile
import time

import numpy as np
import psutil

import serving
from stubs import pb

K, PAUSE = 10, 0.02
# Seconds of searches before the first measurement.
SETTLED = 15
UPLOADED = 1_000_000
NOUNS = "harbour boat letter winter garden engine river market bridge mirror candle orchard".split()
VERBS = "counts carries repairs remembers paints follows measures hides opens crosses".split()


def texts():
    """Returns different texts of about ten words without end."""
    for n in itertools.count():
        words = [NOUNS[n % 12], VERBS[n // 12 % 10], "the", NOUNS[n // 120 % 12], "of the", NOUNS[n // 1440 % 12]]
        yield f"the {' '.join(words)} number {n}"


def as_vector(row):
    return pb.Vector(data=row.tobytes(), format=pb.VECTOR_FORMAT_F32_BYTES)


def load(server, rows):
    """Uploads rows as documents, and waits for their graph."""

    def messages():
        yield pb.UploadRequest(collection="c")
        for begin in range(0, len(rows), 500):
            numbers = range(begin, min(begin + 500, len(rows)))
            documents = [pb.Document(id=f"{n:09}", text=f"document {n}", vector=as_vector(rows[n])) for n in numbers]
            yield pb.UploadRequest(documents=documents)

    server.stub.CreateCollection(pb.CreateCollectionRequest(name="c"))
    last = list(server.stub.Upload(messages()))[-1]
    assert last.done and last.committed == len(rows), last
    server.wait_for_graphs()


def timed(call, request):
    begun = time.perf_counter()
    call(request)
    return 1e3 * (time.perf_counter() - begun)


def by_vector(row):
    return pb.TopKRequest(collection="c", queries=[pb.Query(vector=as_vector(row))], k=K)


def settle(server, queries):
    """Searches for some seconds, so that the server learns the `ef` of the new collection, and waits until it rests:
    it merges segments after the last document has a graph."""
    end = time.time() + SETTLED
    for row in itertools.cycle(queries):
        server.stub.TopK(by_vector(row))
        if time.time() > end:
            break
    process = psutil.Process(server.process.pid)
    while process.cpu_percent(interval=2) > 5:
        pass


def beside_embedding(server, queries, some, calls):
    """Prints the time of each kind of call."""
    stub = server.stub
    took = {"Embed": [], "TopK by text": [], "TopK by vector": [], "Info": []}
    for n in range(calls):
        took["Embed"].append(timed(stub.Embed, pb.EmbedRequest(texts=[next(some)])))
        query = pb.Query(text=next(some))
        took["TopK by text"].append(timed(stub.TopK, pb.TopKRequest(collection="c", queries=[query], k=K)))
        took["TopK by vector"].append(timed(stub.TopK, by_vector(queries[n % len(queries)])))
        took["Info"].append(timed(stub.Info, pb.InfoRequest()))
    print("| | p50 | p99 |\n| --- | --- | --- |")
    for name, times in took.items():
        p50, p99 = np.percentile(times, [50, 99])
        print(f"| {name} | {p50:.3f} ms | {p99:.3f} ms |")
    beyond = np.median(took["TopK by text"]) - np.median(took["Embed"])
    print(f"| TopK by text beyond Embed | {beyond:.3f} ms | |\n", flush=True)


def paused(server, queries, calls):
    """The milliseconds of searches with pauses between them."""
    took = []
    for n in range(calls):
        time.sleep(PAUSE)
        took.append(timed(server.stub.TopK, by_vector(queries[n % len(queries)])))
    return np.percentile(took, [50, 99])


def during_upload(args, server, queries, some):
    """Prints the times of searches alone and beside an upload, in rounds."""
    rounds = {"alone": [], "during an upload": []}
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"id": f"u{n}", "text": next(some)}) + "\n" for n in range(UPLOADED))
        file.flush()
        for _ in range(args.rounds):
            rounds["alone"].append(paused(server, queries, args.calls))
            command = [args.cognate, "upload", "--addr", server.addr, "--collection", "c", file.name]
            upload = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(2)
            rounds["during an upload"].append(paused(server, queries, args.calls))
            assert upload.poll() is None, f"the upload ended with {upload.returncode}"
            upload.kill()
            upload.wait()
            server.wait_for_graphs()
            time.sleep(2)
    print("| | p50 | p99, each round |\n| --- | --- | --- |")
    for name, measured in rounds.items():
        p50, p99 = zip(*measured)
        print(f"| {name} | {np.median(p50):.3f} ms | {', '.join(f'{time:.2f}' for time in p99)} ms |")
    alone, beside = (np.median([p99 for _, p99 in measured]) for measured in rounds.values())
    print(f"| ratio of p99 | {beside / alone:.2f} | |", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Measures the time of single calls.")
    parser.add_argument("cognate")
    parser.add_argument("vectors")
    parser.add_argument("--model", help="the model of the vectors; the server's default otherwise")
    parser.add_argument("--documents", type=int, help="documents to load; all by default")
    parser.add_argument("--calls", type=int, default=1_000, help="calls of each kind, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = np.load(args.vectors).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stored, queries = rows[:-1_000][: args.documents], rows[-1_000:]
    some = texts()
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--data-dir", directory, "--embed-cache-bytes", "0"] + (["--model", args.model] if args.model else [])
        server = serving.Server(args.cognate, flags)
        try:
            load(server, stored)
            settle(server, queries)
            beside_embedding(server, queries, some, args.calls)
            during_upload(args, server, queries, some)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
