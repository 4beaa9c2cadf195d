"""A server for a bench: the binary in a child process on a free port, and a stub for it."""

import subprocess
import tempfile
import time

import grpc

from stubs import pb, pb_grpc

# A client whose messages have no limit.
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class WithKey(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends a key with each call."""

    def __init__(self, key):
        self.headers = [("authorization", f"Bearer {key}")]

    def send(self, call, details, request):
        return call(details._replace(metadata=self.headers), request)

    intercept_unary_unary = intercept_stream_stream = send


def with_key(channel, key):
    """Returns a channel whose calls carry the key; the channel itself for no key."""
    return grpc.intercept_channel(channel, WithKey(key)) if key else channel


class Server:
    """Runs `serve` with some flags and without classifiers, and waits until the model is ready."""

    def __init__(self, binary, flags, preexec_fn=None, key=None):
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        command = [binary, "serve", "--addr", "127.0.0.1:0", "--classifier", "none", *flags]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True, preexec_fn=preexec_fn
        )
        # The one line of standard output ends with the address.
        line = self.process.stdout.readline()
        if not line:
            raise self.failure()
        self.addr = line.split()[-1]
        self.channel = grpc.insecure_channel(self.addr, options=UNLIMITED)
        self.stub = pb_grpc.CognateStub(with_key(self.channel, key))
        end = time.time() + 120
        while True:
            try:
                self.stub.Embed(pb.EmbedRequest(texts=["ready?"]), timeout=5)
                return
            except grpc.RpcError:
                if self.process.poll() is not None or time.time() > end:
                    raise self.failure()
                time.sleep(0.05)

    def failure(self):
        self.process.kill()
        self.process.wait()
        return RuntimeError("the server did not start: " + open(self.log.name).read()[-1000:])

    def collections(self):
        return self.stub.ListCollections(pb.ListCollectionsRequest()).collections

    def wait_for_graphs(self):
        """Waits until no graph is being built."""
        while any(one.unindexed for one in self.collections()):
            time.sleep(0.2)

    def stop(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()
