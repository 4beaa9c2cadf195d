"""Compares the memory that a server counts for its documents with the memory that it takes.

    python3 -m venv target/memory
    target/memory/bin/pip install -r tests/clients/requirements.txt numpy psutil
    target/memory/bin/python benches/memory.py target/release/cognate [--only SHAPE] [--on-disk] [-- FLAGS]

Each shape of documents gets its own server. Most shapes have so few documents that no graph is built; `graphs` and
`kilobyte` have enough for graphs, and `words` for segments of words. The last three quarters of the documents are
measured. Each row has the count of `ListCollections`, the growth of the resident memory, their ratio, the part of it
that is the process's own (the rest are mapped files, which the system takes back where memory is short), the growth up
to the peak, of all and of its own, and the bytes of words in files. Documents bring their own vectors, so the model
computes nothing. Linux only.
"""

import argparse
import random
import sys
import tempfile
import time

import numpy as np
import psutil
from google.protobuf import struct_pb2

import serving
from stubs import pb

MIB = 1 << 20
DIMENSIONS = 384


def struct(value):
    made = struct_pb2.Struct()
    made.update(value)
    return made


def nested(depth, n):
    return {f"k{n}": nested(depth - 1, n)} if depth else n


# The name of a shape, the number of documents, and a function from a document's number to its text and metadata.
SHAPES = {
    "nothing": (9_900, lambda n: ("", None)),
    "text": (9_900, lambda n: ("a short text of some words " * 4, None)),
    "long text": (2_000, lambda n: ("x" * 60_000, None)),
    "one field": (9_900, lambda n: ("", {"lang": ["en", "de", "fr"][n % 3]})),
    "usual": (
        9_900,
        lambda n: (
            "t" * 200,
            {"lang": "en", "year": 1990 + n % 30, "title": f"a title of number {n}", "tags": ["a", "b"]},
        ),
    ),
    "many keys": (120, lambda n: ("", {f"{n:03}{k:05}": 1 for k in range(4_500)})),
    "same keys": (120, lambda n: ("", {f"key{k:05}": 1 for k in range(4_500)})),
    "long keys": (1_500, lambda n: ("", {f"{n:04}{k}" * 400: True for k in range(10)})),
    "long strings": (1_000, lambda n: ("", {"a": f"{n:05}" * 8_000})),
    "same strings": (1_000, lambda n: ("", {"a": "12345" * 8_000})),
    "numbers": (1_000, lambda n: ("", {"list": [n * 1_000 + k for k in range(2_000)]})),
    "same numbers": (1_000, lambda n: ("", {"list": list(range(2_000))})),
    "deep": (9_900, lambda n: ("", nested(25, n))),
    "passages": (2_000, lambda n: ("a passage of a long text " * 40, {"lang": ["en", "de", "fr"][n % 3]})),
    "words": (
        60_000,
        lambda n: (" ".join(f"word{int(rank)}" for rank in 1e4 ** np.random.default_rng(n).random(12)), None),
    ),
    "graphs": (60_000, lambda n: ("a short text", None)),
    # 1 KB of text and metadata.
    "kilobyte": (
        60_000,
        lambda n: ("some words of a text " * 44, {"lang": "en", "year": 1990 + n % 30, "kind": "article"}),
    ),
}


class Server(serving.Server):
    def __init__(self, binary, flags):
        super().__init__(binary, flags)
        self.ps = psutil.Process(self.process.pid)

    def resident(self):
        return self.ps.memory_info().rss

    def own(self):
        """The memory that belongs to the process alone, and to no file."""
        memory = self.ps.memory_info()
        return memory.rss - memory.shared

    def settled(self):
        """Waits until no graph is being built and the allocator has returned memory, and reads the resident memory."""
        self.wait_for_graphs()
        last = self.resident()
        for _ in range(40):
            time.sleep(0.25)
            now = self.resident()
            if abs(now - last) < MIB / 4:
                return now
            last = now
        return last


# The passages of each document of the shape "passages".
PASSAGES = 5


def documents(shape, first, last, rng):
    """Yields messages of about a megabyte."""
    message, size = pb.UploadRequest(collection="c"), 0
    for n in range(first, last):
        text, metadata = shape(n)
        document = message.documents.add(id=f"document-{n}", text=text)
        if shape is SHAPES["passages"][1]:
            vectors = [document.passages.add(start=100 * k, end=100 * k + 150).vector for k in range(PASSAGES)]
        else:
            vectors = [document.vector]
        for vector in vectors:
            values = rng.standard_normal(DIMENSIONS).astype(np.float32)
            vector.values.extend((values / np.linalg.norm(values)).tolist())
        if metadata is not None:
            document.metadata.CopyFrom(struct(metadata))
        size += document.ByteSize()
        if size > MIB or len(message.documents) >= 500:
            yield message
            message, size = pb.UploadRequest(collection="c"), 0
    if message.documents:
        yield message


def measure(binary, flags, name):
    n_documents, shape = SHAPES[name]
    server = Server(binary, flags)
    try:
        # Memory that is allocated once is there after the first quarter, and the memory for loading the model is free
        # again.
        def upload(first, last):
            peaks = np.zeros(2)
            for answer in server.stub.Upload(documents(shape, first, last, np.random.default_rng(first))):
                peaks = np.maximum(peaks, [server.resident(), server.own()])
                for error in answer.errors[:1]:
                    print(f"refused: {error}"[:300], file=sys.stderr)
            begun = time.time()
            while time.time() - begun < (25 if name in ("graphs", "kilobyte", "words") else 1):
                peaks = np.maximum(peaks, [server.resident(), server.own()])
                time.sleep(0.05)
            settled = server.settled()
            described = next(one for one in server.collections() if one.name == "c")
            return settled, described, peaks, server.own()

        before, few, _, own_before = upload(0, n_documents // 4)
        after, all_of_them, peaks, own = upload(n_documents // 4, n_documents)
        peak, own_peak = peaks - [before, own_before]
        committed = all_of_them.documents - few.documents
        counted, grown = all_of_them.bytes - few.bytes, max(after - before, 1)
        if not committed:
            return
        print(
            f"{name:>14} {committed:>7} documents: counted {counted / MIB:7.1f} MiB, taken {grown / MIB:7.1f} MiB, "
            f"counted/taken {counted / grown:5.2f}, at most {peak / MIB:7.1f} MiB, {own_peak / MIB:7.1f} of them own, "
            f"{counted // committed} bytes each, {grown // committed} taken, {(own - own_before) // committed} of them own, "
            f"{all_of_them.lexical_file_bytes // all_of_them.documents} bytes in files of words",
            flush=True,
        )
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--only", action="append", choices=SHAPES)
    parser.add_argument("--on-disk", action="store_true")
    given, flags = sys.argv[1:], []
    if "--" in given:
        given, flags = given[: given.index("--")], given[given.index("--") + 1 :]
    args = parser.parse_args(given)
    random.seed(1)
    for name in args.only or SHAPES:
        with tempfile.TemporaryDirectory() as directory:
            where = ["--data-dir", directory] if args.on_disk else ["--in-memory"]
            measure(args.binary, [*where, *flags], name)


if __name__ == "__main__":
    main()
