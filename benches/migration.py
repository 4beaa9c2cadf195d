"""Measures how much longer searches by text take while the collection migrates to another model.

    python3 -m venv target/latency && target/latency/bin/pip install -r tests/clients/requirements.txt numpy
    target/latency/bin/python benches/migration.py MODEL_DIR OTHER_MODEL_DIR target/release/cognate [OTHER_BINARY]

The documents are those of the demo's dictionary. Searches pause for 20 ms in between, each by a text of its own: first
alone, then while all documents are embedded by the other model, which is cancelled at the end. Several binaries take
turns, round by round, so that other work on the machine disturbs all of them. The ratio is that of the medians of the
rounds' p99.
"""

import argparse
import json
import pathlib
import tempfile
import threading
import time

import numpy as np

import latency
import serving
from stubs import pb

DICTIONARY = pathlib.Path(__file__).resolve().parent.parent / "examples/reverse-dictionary/words.jsonl"
NAME = "words"


def load(server):
    """Uploads the dictionary."""
    lines = [json.loads(line) for line in DICTIONARY.read_text().splitlines()]

    def messages():
        yield pb.UploadRequest(collection=NAME)
        for begin in range(0, len(lines), 500):
            documents = [pb.Document(id=line["id"], text=line["text"]) for line in lines[begin : begin + 500]]
            yield pb.UploadRequest(documents=documents)

    server.stub.CreateCollection(pb.CreateCollectionRequest(name=NAME, model="old"))
    last = list(server.stub.Upload(messages()))[-1]
    assert last.done and last.committed == len(lines), last
    server.wait_for_graphs()


def search(server, texts, goes_on):
    """The milliseconds of searches with pauses between them."""
    took = []
    while goes_on(len(took)):
        time.sleep(latency.PAUSE)
        request = pb.TopKRequest(collection=NAME, queries=[pb.Query(text=next(texts))], k=latency.K)
        took.append(latency.timed(server.stub.TopK, request))
    return took


def migrate(server, texts):
    """The milliseconds of searches during a migration, and its seconds."""
    over, begun = threading.Event(), time.monotonic()
    states = server.stub.MigrateCollection(pb.MigrateCollectionRequest(collection=NAME, model="new"))

    def wait():
        for state in states:
            if state.migration.phase == pb.MIGRATION_PHASE_READY:
                break
        over.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    took = search(server, texts, lambda n: not over.is_set())
    seconds = time.monotonic() - begun
    waiting.join()
    states.cancel()
    cancel = pb.MigrateCollectionRequest(collection=NAME, action=pb.MIGRATION_ACTION_CANCEL)
    list(server.stub.MigrateCollection(cancel))
    return took, seconds


def main():
    parser = argparse.ArgumentParser(description="Measures searches by text during a migration.")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("cognate", nargs="+")
    parser.add_argument("--calls", type=int, default=500, help="searches alone, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    texts = latency.texts()
    servers, rounds = [], {binary: [] for binary in args.cognate}
    with tempfile.TemporaryDirectory() as directory:
        for n, binary in enumerate(args.cognate):
            models = ["--model", f"old={args.old}", "--model", f"new={args.new}"]
            flags = ["--data-dir", f"{directory}/{n}", "--embed-cache-bytes", "0", *models]
            servers.append(serving.Server(binary, flags))
        try:
            for server in servers:
                load(server)
            for _ in range(args.rounds):
                for binary, server in zip(args.cognate, servers):
                    alone = search(server, texts, lambda n: n < args.calls)
                    during, seconds = migrate(server, texts)
                    rounds[binary].append((*np.percentile(alone, [50, 99]), *np.percentile(during, [50, 99]), seconds))
                    time.sleep(1)
        finally:
            for server in servers:
                server.stop()
    print("| binary | alone p50, p99 | during p50, p99 | ratio of p99 | migration | p99 of each round |")
    print("| --- | --- | --- | --- | --- | --- |")
    for binary, measured in rounds.items():
        alone50, alone99, during50, during99, seconds = np.median(measured, axis=0)
        each = ", ".join(f"{one[1]:.1f} → {one[3]:.1f}" for one in measured)
        print(
            f"| {binary} | {alone50:.2f}, {alone99:.2f} ms | {during50:.2f}, {during99:.2f} ms "
            f"| {during99 / alone99:.2f} | {seconds:.1f} s | {each} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
