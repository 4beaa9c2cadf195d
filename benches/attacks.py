"""Measures the harm that one careless or hostile client does to all others: memory, delays and refusals of a server.

    python3 -m venv target/attacks
    target/attacks/bin/pip install -r tests/clients/requirements.txt h2 numpy psutil
    target/attacks/bin/python benches/attacks.py target/release/cognate [ANOTHER_BINARY] [--only NAME] [-- FLAGS]

Each attack runs against its own server. During the attack, a second process behaves like a good client: it asks the
health service twenty times per second and embeds a short text four times per second. The table has one row for each
attack: the peak of the server's resident memory above its idle value, the 99th percentile of health checks, the median
of single embeds before the attack, their median and 99th percentile during it (all in milliseconds), the number of
failures, the seconds until the server is idle after the attack, and the attacker's view. With two binaries, each attack
runs against both, one after the other, for a comparison of before and after. Linux only: memory and threads are read
from /proc.
"""

import argparse
import gzip
import multiprocessing
import os
import pathlib
import resource
import socket
import statistics
import struct
import sys
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import numpy as np
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

import serving
from stubs import pb, pb_grpc

MIB = 1 << 20
DIMENSIONS = 384


class Server(serving.Server):
    """A server for one attack."""

    def __init__(self, binary, flags, descriptors=None):
        limit = (
            (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))) if descriptors else None
        )
        super().__init__(binary, ["--in-memory", *flags], limit)
        self.ps = psutil.Process(self.process.pid)

    def fresh(self):
        """Returns a stub with its own connection."""
        own = [("grpc.use_local_subchannel_pool", 1)]
        return pb_grpc.CognateStub(grpc.insecure_channel(self.addr, options=serving.UNLIMITED + own))

    def resident(self):
        try:
            return self.ps.memory_info().rss
        except psutil.Error:
            return 0


def bystander(addr, stop, out):
    """Behaves like a good client, in its own process: times health checks and single embeds in milliseconds."""
    channel = grpc.insecure_channel(addr)
    health, stub = health_pb2_grpc.HealthStub(channel), pb_grpc.CognateStub(channel)
    checks, embeds, failed, n = [], [], 0, 0
    while not stop.is_set():
        begin = time.time()
        try:
            health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError:
            failed += 1
        checks.append((time.time() - begin) * 1000)
        if n % 5 == 0:
            begin = time.time()
            try:
                stub.Embed(pb.EmbedRequest(texts=[f"a short text of a bystander {n}"]), timeout=10)
            except grpc.RpcError:
                failed += 1
            embeds.append((begin, (time.time() - begin) * 1000))
        n += 1
        time.sleep(0.05)
    out.put((checks, embeds, failed))


class Raw:
    """An HTTP/2 connection that does things that no gRPC library does."""

    def __init__(self, addr, window=None):
        host, port = addr.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.addr = addr
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf8"))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()
        self.closed = False
        self.reset = 0
        self.statuses = {}

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def call(self, method, headers=()):
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", self.addr)]
        fields += [("content-type", "application/grpc"), ("te", "trailers"), *headers]
        self.h2.send_headers(stream, fields)
        self.flush()
        return stream

    def send(self, stream, data, patience=2.0):
        """Sends as much as the windows allow within `patience` seconds. Returns the number of bytes sent."""
        sent, end = 0, time.time() + patience
        while sent < len(data) and time.time() < end and not self.closed:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data) - sent)
            if room > 0:
                self.h2.send_data(stream, data[sent : sent + room])
                self.flush()
                sent += room
            else:
                self.read(0.05)
        return sent

    def read(self, seconds):
        """Reads the data that has arrived, and sends the answers that HTTP/2 requires."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return
        except OSError:
            self.closed = True
            return
        if not data:
            self.closed = True
            return
        try:
            for event in self.h2.receive_data(data):
                if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    self.statuses.setdefault(event.stream_id, {}).update(dict(event.headers))
                if isinstance(event, h2.events.StreamReset):
                    self.reset += 1
                if isinstance(event, h2.events.ConnectionTerminated):
                    self.closed = True
            self.flush()
        except (OSError, h2.exceptions.ProtocolError):
            self.closed = True


def frame(message, compressed=False):
    return struct.pack(">BI", compressed, len(message)) + message


def vector(values):
    return pb.Vector(data=np.asarray(values, "<f4").tobytes(), format=pb.VECTOR_FORMAT_F32_BYTES)


def random_vectors(n, seed=1):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, DIMENSIONS)).astype("f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(server, collection, documents):
    for start in range(0, len(documents), 50):
        request = pb.UploadRequest(collection=collection, documents=documents[start : start + 50])
        list(server.stub.Upload(iter([request])))


def outcome(call):
    """Runs a call, and returns its end in one word and its time."""
    begin = time.time()
    try:
        call()
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    return f"{code} {time.time() - begin:.1f} s"


def together(n, work):
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


ATTACKS = {}


def attack(flags=(), descriptors=None, prepare=None):
    def register(function):
        ATTACKS[function.__name__] = (function, list(flags), descriptors, prepare)
        return function

    return register


def compressed_stream(server, method, message):
    connection = Raw(server.addr)
    stream = connection.call(method, [("grpc-encoding", "gzip")])
    connection.send(stream, frame(gzip.compress(message), True))
    connection.h2.end_stream(stream)
    connection.flush()
    begin = time.time()
    while time.time() - begin < 30 and not connection.closed:
        connection.read(0.05)
        if "grpc-status" in connection.statuses.get(stream, {}):
            break
    status = connection.statuses.get(stream, {}).get("grpc-status", "no status")
    return f"status {status} after {time.time() - begin:.1f} s"


@attack()
def empty_texts(server):
    """16 MiB of empty texts in one message, 16 KB on the wire."""
    return compressed_stream(server, "/cognate.v1.Cognate/EmbedStream", b"\x0a\x00" * (8 * MIB - 8))


@attack()
def empty_documents(server):
    message = pb.UploadRequest(collection="c").SerializeToString() + b"\x12\x00" * (8 * MIB - 64)
    return compressed_stream(server, "/cognate.v1.Cognate/Upload", message)


@attack()
def empty_metadata_values(server):
    """A list of 5 million empty values in one document's metadata."""
    values = b"\x0a\x00" * (5 * MIB)
    lists = b"\x32" + varint(len(values)) + values
    entry = b"\x0a\x01l\x12" + varint(len(lists)) + lists
    struct_ = b"\x0a" + varint(len(entry)) + entry
    document = b"\x0a\x01d\x1a" + varint(len(struct_)) + struct_
    message = b"\x0a\x01c\x12" + varint(len(document)) + document
    return compressed_stream(server, "/cognate.v1.Cognate/Upload", message)


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


@attack()
def unknown_classifier(server):
    """1,000 texts for a classifier with a name of 1 MiB."""
    request = pb.ClassifyRequest(texts=["x"] * 1000, model="m" * MIB)
    return outcome(lambda: list(server.fresh().ClassifyStream(iter([request] * 4), timeout=30)))


def large_texts(server):
    vectors = random_vectors(1000)
    fill(server, "large", [pb.Document(id=str(i), text="x" * 262_000, vector=vector(vectors[i])) for i in range(1000)])


@attack(prepare=large_texts)
def large_hits(server):
    """40 queries of 1,000 hits each, with texts of 256 KiB: 10 GB of answer."""
    queries = [pb.Query(vector=vector(v)) for v in random_vectors(40, 2)]
    request = pb.TopKRequest(collection="large", queries=queries, k=1000, with_text=True)
    return outcome(lambda: server.fresh().TopK(request, timeout=60))


@attack()
def large_candidates(server):
    queries = [pb.Query(vector=vector(v)) for v in random_vectors(512, 2)]
    candidates = [f"{i} " + "x" * 254_000 for i in range(60)]
    request = pb.TopKRequest(queries=queries, k=60, candidates=candidates, with_text=True)
    return outcome(lambda: server.fresh().TopK(request, timeout=60))


def many_documents(server):
    vectors = random_vectors(20_000)
    documents = []
    for i, v in enumerate(vectors):
        document = pb.Document(id=str(i), vector=vector(v))
        document.metadata.update({"n": i, "g": i % 7})
        documents.append(document)
    fill(server, "many", documents)
    # Work that is measured afterwards must belong to the attack, not to the graph.
    while any(c.unindexed for c in server.stub.ListCollections(pb.ListCollectionsRequest()).collections):
        time.sleep(0.5)
    time.sleep(3)


def neighbours_meanwhile(server, calls):
    """Runs the calls, and at the same time writes to the collection and lists all collections."""
    results = {}
    spare = vector(random_vectors(1, 9)[0])
    write = [pb.UploadRequest(collection="many", documents=[pb.Document(id="new", vector=spare)])]

    def run(i):
        if i == 0:
            results["attack"] = calls()
        else:
            time.sleep(0.5)
            stub = server.fresh()
            name, call = [
                ("write", lambda: list(stub.Upload(iter(write), timeout=60))),
                ("list", lambda: stub.ListCollections(pb.ListCollectionsRequest(), timeout=60)),
            ][i - 1]
            results[name] = outcome(call)

    together(3, run)
    return ", ".join(f"{name} {result}" for name, result in results.items())


@attack(prepare=many_documents)
def many_ranges(server):
    """A filter of 40,000 ranges for 100 queries, with a deadline of a second."""
    either = pb.Filter()
    lists = either.any_of.filters
    for i in range(40_000):
        lists.append(pb.Filter(range=pb.RangeCondition(path="n", gte=i % 20_000 - 0.5)))
    queries = [pb.Query(vector=vector(v)) for v in random_vectors(100, 3)]
    request = pb.TopKRequest(collection="many", queries=queries, k=10, filter=either)
    return neighbours_meanwhile(server, lambda: outcome(lambda: server.fresh().TopK(request, timeout=1)))


@attack(prepare=many_documents)
def diverse_hits(server):
    queries = [pb.Query(vector=vector(v)) for v in random_vectors(100, 3)]
    request = pb.TopKRequest(collection="many", queries=queries, k=1000, diversity=0.5)
    return neighbours_meanwhile(server, lambda: outcome(lambda: server.fresh().TopK(request, timeout=1)))


@attack(prepare=many_documents)
def reset_searches(server):
    """144 calls with such a filter, each reset as soon as it is sent."""
    queries = [pb.Query(vector=vector(v)) for v in random_vectors(100, 3)]
    request = pb.TopKRequest(collection="many", queries=queries, k=1000, diversity=0.5)
    message = frame(request.SerializeToString())
    most = 0
    for _ in range(16):
        connection = Raw(server.addr)
        for _ in range(9):
            stream = connection.call("/cognate.v1.Cognate/TopK")
            connection.send(stream, message)
            connection.h2.end_stream(stream)
            connection.flush()
            connection.h2.reset_stream(stream, 8)
            connection.flush()
        most = max(most, server.ps.num_threads())
    time.sleep(1)
    return f"{max(most, server.ps.num_threads())} threads"


@attack()
def half_messages(server):
    """16 connections with 4 streams each, which send all of 16 MiB except the last byte."""
    message = frame(b"\x0a" + varint(16 * MIB - 64) + bytes(16 * MIB - 64))[:-1]
    sent = [0] * 16
    connections = [Raw(server.addr) for _ in range(16)]

    def run(i):
        for _ in range(4):
            stream = connections[i].call("/cognate.v1.Cognate/Embed")
            sent[i] += connections[i].send(stream, message, patience=5)

    together(16, run)
    time.sleep(2)
    return f"{sum(sent) // MIB} MiB sent"


@attack()
def promised_messages(server):
    """2,000 streams that promise 16 MiB each and send five bytes."""
    connections = [Raw(server.addr) for _ in range(20)]
    for connection in connections:
        try:
            for _ in range(100):
                stream = connection.call("/cognate.v1.Cognate/Embed")
                connection.send(stream, struct.pack(">BI", 0, 16 * MIB))
        except (OSError, h2.exceptions.ProtocolError):
            pass
    time.sleep(3)
    return "held for 3 s"


@attack()
def held_places(server):
    """Two connections that use up max_calls with requests that never arrive."""
    connections = [Raw(server.addr) for _ in range(2)]
    opened = 0
    for connection in connections:
        for _ in range(128):
            try:
                connection.call("/cognate.v1.Cognate/EmbedStream")
                opened += 1
            except (OSError, h2.exceptions.ProtocolError):
                break
    time.sleep(1)
    answers = [outcome(lambda: server.fresh().Embed(pb.EmbedRequest(texts=["mine"]), timeout=5)) for _ in range(5)]
    return f"{opened} held, another client: {answers[-1]}"


@attack(prepare=large_texts)
def answers_not_taken(server):
    """Exports behind a zero window with a deadline of one second: counts those still open after four."""
    connection = Raw(server.addr, window=0)
    request = frame(pb.ExportRequest(collection="large").SerializeToString())
    streams = []
    for _ in range(32):
        stream = connection.call("/cognate.v1.Cognate/Export", [("grpc-timeout", "1S")])
        connection.send(stream, request)
        connection.h2.end_stream(stream)
        connection.flush()
        streams.append(stream)
    end = time.time() + 4
    while time.time() < end and not connection.closed:
        connection.read(0.05)
    ended = sum("grpc-status" in connection.statuses.get(stream, {}) for stream in streams) + connection.reset
    return f"{ended} of {len(streams)} ended"


@attack()
def blank_texts(server):
    """60 texts of 256 KiB of blanks over 8 connections, abandoned after five seconds."""
    requests = [pb.EmbedRequest(texts=[" " * 262_000 + str(i)]) for i in range(60)]
    stubs_ = [server.fresh() for _ in range(8)]
    codes = []
    together(60, lambda i: codes.append(outcome(lambda: stubs_[i % 8].Embed(requests[i], timeout=5)).split()[0]))
    return f"{codes.count('OK')} of 60 answered"


@attack(descriptors=256)
def no_descriptors(server):
    """372 connections to a server with 256 descriptors."""
    begin = sum(server.ps.cpu_times()[:2])
    connections = []
    for _ in range(372):
        try:
            connections.append(socket.create_connection(server.addr.split(":"), timeout=2))
        except OSError:
            break
    time.sleep(3)
    used = sum(server.ps.cpu_times()[:2]) - begin
    return f"{used:.2f} s of processor in 3 s"


@attack()
def silent_connections(server):
    """3,000 connections that send nothing: counts those still open after 15 s."""
    connections = []
    for _ in range(3000):
        try:
            connections.append(socket.create_connection(server.addr.split(":"), timeout=2))
        except OSError:
            break
    time.sleep(15)
    still = sum(c.status == "ESTABLISHED" for c in server.ps.net_connections())
    return f"{len(connections)} opened, {still} open after 15 s"


@attack()
def health_watches(server):
    """400 connections with 50 health watches each."""
    channels, calls = [], []
    for _ in range(400):
        channel = grpc.insecure_channel(server.addr, options=[("grpc.use_local_subchannel_pool", 1)])
        channels.append(channel)
        stub = health_pb2_grpc.HealthStub(channel)
        calls += [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(50)]
    time.sleep(5)
    open_ = sum(call.is_active() for call in calls)
    [channel.close() for channel in channels]
    return f"{open_} of {len(calls)} open"


@attack()
def control_floods(server):
    """PING, its acknowledgement and SETTINGS, each for two seconds at the full speed of the connection."""
    ping = struct.pack(">IBBI", 8 << 8 | 6, 0, 0, 0)[0:9] + bytes(8)
    acknowledgement = struct.pack(">IBBI", 8 << 8 | 6, 1, 0, 0)[0:9] + bytes(8)
    settings = struct.pack(">IBBI", 0 << 8 | 4, 0, 0, 0)[0:9]
    ended = []
    for flood in (ping, acknowledgement, settings):
        connection = Raw(server.addr)
        end = time.time() + 2
        try:
            while time.time() < end and not connection.closed:
                connection.socket.settimeout(1)
                connection.socket.sendall(flood * 1000)
                connection.read(0.001)
        except OSError:
            connection.closed = True
        ended.append("closed" if connection.closed else "open")
    return f"{', '.join(ended)}; log {os.path.getsize(server.log.name) // 1024} KB"


@attack()
def provoked_resets(server):
    """30,000 streams that are reset because their content length is wrong."""
    connection = Raw(server.addr)
    opened = 0
    try:
        while opened < 30_000 and not connection.closed:
            stream = connection.call("/cognate.v1.Cognate/Embed", [("content-length", "1")])
            connection.h2.send_data(stream, b"xx", end_stream=True)
            connection.flush()
            opened += 1
            if opened % 20 == 0:
                connection.read(0.001)
    except (OSError, h2.exceptions.ProtocolError):
        connection.closed = True
    state = "closed" if connection.closed else "open"
    return f"{opened} streams, {state}; log {os.path.getsize(server.log.name) // 1024} KB"


@attack()
def rare_fields(server):
    """400 documents, each with 4,500 metadata fields of its own."""
    vectors = random_vectors(400)
    refused = 0
    before = server.resident()
    for i in range(400):
        document = pb.Document(id=str(i), vector=vector(vectors[i]))
        document.metadata.update({f"{i}-{n}": n for n in range(4500)})
        for part in server.stub.Upload(iter([pb.UploadRequest(collection="rare", documents=[document])])):
            refused += len(part.errors)
    taken = server.resident() - before
    counted = server.stub.ListCollections(pb.ListCollectionsRequest()).collections[0].bytes
    return f"{refused} refused, {counted // MIB} MB counted, {taken // MIB} MB taken"


@attack()
def held_exports(server):
    """Exports that a zero window holds open while their collection is deleted and filled again, ten times."""
    connections = []
    for round_ in range(10):
        vectors = random_vectors(250, round_)
        fill(
            server,
            "held",
            [pb.Document(id=str(i), text="y" * 250_000, vector=vector(v)) for i, v in enumerate(vectors)],
        )
        connection = Raw(server.addr, window=0)
        stream = connection.call("/cognate.v1.Cognate/Export")
        connection.send(stream, frame(pb.ExportRequest(collection="held").SerializeToString()))
        connection.h2.end_stream(stream)
        connection.flush()
        connections.append(connection)
        time.sleep(0.2)
        server.stub.DeleteCollection(pb.DeleteCollectionRequest(name="held"))
    counted = server.stub.Info(pb.InfoRequest()).storage.memory_bytes
    held = server.resident()
    time.sleep(40)
    return f"{held // MIB} MB resident, {counted // MIB} MB counted; after 40 s {server.resident() // MIB} MB"


@attack()
def many_collections(server):
    """33,000 collections, and then a list of them."""
    codes = {}
    for i in range(33_000):
        try:
            server.stub.CreateCollection(pb.CreateCollectionRequest(name=f"c{i}"))
        except grpc.RpcError as error:
            codes[error.code().name] = codes.get(error.code().name, 0) + 1
            if codes[error.code().name] > 100:
                break
    return f"created but for {codes}; list: {outcome(lambda: server.stub.ListCollections(pb.ListCollectionsRequest()))}"


@attack()
def overload(server):
    """Ten times the load that the server can bear, for 20 seconds. Each call has a deadline of two seconds."""
    texts = [
        f"text number {i} of those that are embedded under load, long enough to cost something" for i in range(4096)
    ]
    # A number at the end makes each text new. A text has 19 tokens without the number, and 24 with it.
    new = lambda texts, rng: [f"{text} {rng.integers(1 << 30)}" for text in texts]
    used = lambda: sum(server.ps.cpu_times()[:2])
    begin, rng = used(), np.random.default_rng(64)
    for i in range(0, 1024, 64):
        server.stub.Embed(pb.EmbedRequest(texts=new(texts[i : i + 64], rng)))
    capacity = 1024 / (used() - begin)
    begin = used()
    counts, answered = {"OK": 0}, {1: 0, 16: 0, 256: 0}
    lock, end = threading.Lock(), time.time() + 20

    def run(i):
        rng, stub = np.random.default_rng(i), server.fresh()
        while time.time() < end:
            n = int(rng.choice([1, 16, 256]))
            batch = new(rng.choice(texts, n), rng)
            try:
                stub.Embed(pb.EmbedRequest(texts=batch), timeout=2)
                code, count = "OK", n
            except grpc.RpcError as error:
                code, count = error.code().name, 1
                time.sleep(0.05)
            with lock:
                counts[code] = counts.get(code, 0) + count
                answered[n] += code == "OK"

    together(64, run)
    # The rate is per second of the server's processor time, because the clients share its machine.
    goodput = counts["OK"] / (used() - begin) / capacity
    calls = ", ".join(f"{count} of {n}" for n, count in answered.items())
    speed = f"goodput {goodput:.0%} of {capacity:.0f} texts for a second of processor"
    return f"{speed}; {counts}; calls answered: {calls} texts"


def measure(binary, name, flags):
    function, own_flags, descriptors, prepare = ATTACKS[name]
    server = Server(binary, own_flags + flags, descriptors)
    if prepare:
        prepare(server)
        time.sleep(1)
    idle = peak = server.resident()
    stop, out = multiprocessing.Event(), multiprocessing.Queue()
    client = multiprocessing.Process(target=bystander, args=(server.addr, stop, out), daemon=True)
    client.start()
    time.sleep(4)
    attack_begins, watching = time.time(), threading.Event()

    def watch():
        nonlocal peak
        while not watching.is_set():
            peak = max(peak, server.resident())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seen = function(server)
    except (grpc.RpcError, OSError, psutil.Error) as error:
        seen = f"{type(error).__name__}: {str(error)[:80]}"
    begin, busy = time.time(), 0.0
    # The server is idle when it uses less than a fifth of a core beyond the calls of the bystander.
    while server.process.poll() is None and busy < 60:
        used = server.ps.cpu_percent(interval=0.5)
        busy = time.time() - begin
        if used < 60:
            break
    stop.set()
    try:
        checks, embeds, failed = out.get(timeout=30)
    except Exception:
        checks, embeds, failed = [float("nan")], [(time.time(), float("nan"))], -1
    watching.set()
    watcher.join()
    ended = "" if server.process.poll() is None else f" THE SERVER ENDED with {server.process.returncode};"
    server.stop()
    p99 = lambda values: sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]
    before = statistics.median([ms for at, ms in embeds if at < attack_begins] or [float("nan")])
    during = [ms for at, ms in embeds if at >= attack_begins] or [float("nan")]
    single = f"{before:.0f} / {statistics.median(during):.0f} / {p99(during):.0f} ms"
    figures = f"+{(peak - idle) // MIB} MB | {p99(checks):.0f} ms | {single} | {failed} | {busy:.1f} s"
    return f"| {name} | {figures} |{ended} {seen} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="+")
    parser.add_argument("--only", action="append", choices=ATTACKS)
    own, _, flags = (" ".join(sys.argv[1:]) + " ").partition(" -- ")
    arguments, flags = parser.parse_args(own.split()), flags.split()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    print(
        "| attack | memory | health p99 | embed before / during / p99 | failed | busy after | seen by the attacker |",
        flush=True,
    )
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in arguments.only or ATTACKS:
        for binary in arguments.binaries:
            line = measure(binary, name, flags)
            print(line if len(arguments.binaries) == 1 else f"{pathlib.Path(binary).parent.name}: {line}", flush=True)


if __name__ == "__main__":
    main()
