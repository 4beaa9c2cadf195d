"""Measures what the flood of one caller with a key costs another: the time of single short Embeds of a quiet caller.

    python3 -m venv target/tenants
    target/tenants/bin/pip install -r tests/clients/requirements.txt numpy
    target/tenants/bin/python benches/tenants.py target/release/cognate [ANOTHER_BINARY] [--only FLOOD] [-- FLAGS]

A server has keys for two callers. The quiet one embeds a new short text twenty times a second, from a process of its
own. Meanwhile the other one sends as much as it is let: refused calls are repeated after a tenth of a second. Idle and
flooded seconds take turns, so that both see the same machine. The table has the median and the 99th percentile of the
quiet caller's calls in milliseconds, idle and flooded, their ratio, its failures, and what became of the flood.

`--limits "--max-calls 8"` gives the flooding caller limits, by the flags of `cognate keys create`.
"""

import argparse
import itertools
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import numpy as np

import serving
from stubs import pb, pb_grpc

# Calls of the quiet caller in a second.
RATE = 20
# Connections of the flood, and calls on each.
CONNECTIONS, CALLS = 4, 4
# A text of some 60 tokens.
WORDS = "the harbour master counts the boats that come back from the sea before the storm breaks over the town " * 3

FLOODS = {}


def flood(function):
    FLOODS[function.__name__] = function
    return function


def texts(n):
    """Returns texts that no call has asked for before: known ones cost the server nothing."""
    begin = next(texts.numbers)
    return [f"{os.getpid()} {begin} {i} {WORDS}" for i in range(n)]


texts.numbers = itertools.count()


@flood
def large_embeds(stub):
    """Embeds of 256 texts."""
    stub.Embed(pb.EmbedRequest(texts=texts(256)), timeout=60)


@flood
def small_embeds(stub):
    """Embeds of one text, without a pause."""
    stub.Embed(pb.EmbedRequest(texts=texts(1)), timeout=60)


@flood
def embed_streams(stub):
    """EmbedStreams of 16 requests with 64 texts each."""
    requests = (pb.EmbedRequest(texts=texts(64)) for _ in range(16))
    for _ in stub.EmbedStream(requests, timeout=60):
        pass


@flood
def uploads(stub):
    """Uploads of 512 documents with texts."""
    documents = [pb.Document(id=str(i), text=text) for i, text in enumerate(texts(512))]
    for _ in stub.Upload(iter([pb.UploadRequest(collection=f"flood-{os.getpid()}", documents=documents)]), timeout=60):
        pass


def channel(addr, key):
    """Returns a stub with a connection of its own, whose calls carry the key."""
    options = serving.UNLIMITED + [("grpc.use_local_subchannel_pool", 1)]
    return pb_grpc.CognateStub(serving.with_key(grpc.insecure_channel(addr, options=options), key))


def send(addr, key, name, answered, refused):
    """Floods through one connection until the process is ended."""
    stub = channel(addr, key)

    def work():
        while True:
            try:
                FLOODS[name](stub)
                count(answered)
            except grpc.RpcError:
                count(refused)
                time.sleep(0.1)

    threads = [threading.Thread(target=work) for _ in range(CALLS)]
    [thread.start() for thread in threads]


def count(calls):
    with calls.get_lock():
        calls.value += 1


def watch(addr, key, seconds, out):
    """Behaves like the quiet caller. Times its calls in milliseconds."""
    stub, times, failed = channel(addr, key), [], 0
    begun = time.perf_counter()
    for n in itertools.count():
        time.sleep(max(0, begun + n / RATE - time.perf_counter()))
        begin = time.perf_counter()
        if begin > begun + seconds:
            break
        try:
            stub.Embed(pb.EmbedRequest(texts=[f"{os.getpid()} {n} a short question of a quiet caller"]), timeout=10)
        except grpc.RpcError:
            failed += 1
        times.append((time.perf_counter() - begin) * 1000)
    out.put((times, failed))


def watched(addr, key, seconds):
    out = multiprocessing.Queue()
    process = multiprocessing.Process(target=watch, args=(addr, key, seconds, out))
    process.start()
    result = out.get()
    process.join()
    return result


def flooded(addr, keys, name, seconds, answered, refused):
    """Returns the quiet caller's times and failures during a flood."""
    flood = (addr, keys["flood"], name, answered, refused)
    floods = [multiprocessing.Process(target=send, args=flood) for _ in range(CONNECTIONS)]
    [process.start() for process in floods]
    # The queue fills first.
    time.sleep(2)
    result = watched(addr, keys["quiet"], seconds)
    # The server drops the work of callers that left.
    [process.kill() for process in floods]
    [process.join() for process in floods]
    return result


def row(binary, name, options, directory):
    file = str(pathlib.Path(directory) / f"{name}.toml")
    limits = {"quiet": [], "flood": options.limits.split()}
    create = [binary, "keys", "create", "--keys", file, "--role", "write", "--name"]
    keys = {
        caller: subprocess.run([*create, caller, *more], check=True, capture_output=True, text=True).stdout.strip()
        for caller, more in limits.items()
    }
    server = serving.Server(binary, ["--in-memory", "--keys", file, *options.flags], key=keys["quiet"])
    answered, refused = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    idle, under, failed = [], [], 0
    try:
        for _ in range(options.rounds):
            idle += watched(server.addr, keys["quiet"], options.seconds)[0]
            times, failures = flooded(server.addr, keys, name, options.seconds, answered, refused)
            under, failed = under + times, failed + failures
    finally:
        server.stop()
    (p50, p99), (under50, under99) = np.percentile(idle, [50, 99]), np.percentile(under, [50, 99])
    counts = f"{answered.value} answered, {refused.value} refused"
    cells = [
        name,
        f"{p50:.1f}",
        f"{p99:.1f}",
        f"{under50:.1f}",
        f"{under99:.1f}",
        f"{under99 / p99:.1f}",
        failed,
        counts,
    ]
    print(" | ".join(str(cell) for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="+", metavar="BINARY")
    parser.add_argument("--only", choices=FLOODS, action="append")
    parser.add_argument("--limits", default="")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments, flags = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, flags = arguments[:at], arguments[at + 1 :]
    options = parser.parse_args(arguments)
    options.flags = flags
    for binary in options.binaries:
        print(f"{binary}\nflood | idle p50 | p99 | flooded p50 | p99 | ratio of p99 | failed | calls of the flood")
        for name in options.only or FLOODS:
            with tempfile.TemporaryDirectory() as directory:
                row(binary, name, options, directory)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
