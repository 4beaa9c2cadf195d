"""Checks a device against float64, and measures it beside sentence-transformers on the same device.

    python3 -m venv target/gpu
    target/gpu/bin/pip install -r tests/clients/requirements.txt numpy sentence-transformers
    target/gpu/bin/python benches/gpu.py COGNATE MODEL_DIR [--family F] [--device D] [--precision P...] [--seconds N]
        [--rounds N]

COGNATE is a binary that .ci/cuda built; MODEL_DIR has all-MiniLM-L6-v2. With `--family`, it has a tokenizer, and the
model is one with random weights (random_model.py). For each precision: the greatest difference and the least cosine to
tests/golden, or to sentence-transformers in float64, and the greatest difference between a text alone and among all
others. Then texts a
second in calls of 1, 32 and 256 texts, one call after the other, and with 8 calls of 64 at once. Cognate is called
through gRPC by this process, without a cache; sentence-transformers runs in this process. Each call brings texts of the
bundled dictionary, as in `cognate bench embed`, and both tokenise. The two take turns.
"""

import argparse
import concurrent.futures
import itertools
import json
import subprocess
import tempfile
import time

import grpc
import numpy as np

from stubs import ROOT, pb, pb_grpc

CALLS = [1, 32, 256]
AT_ONCE, TEXTS_AT_ONCE = 8, 64


def workloads():
    words = ROOT / "examples/reverse-dictionary/words.jsonl"
    glosses = [json.loads(line)["text"] for line in words.open(encoding="utf8")]
    tens = [glosses[i : i + 10] for i in range(0, len(glosses), 10)]
    return {"short": glosses[:4096], "long": ["; ".join(ten) for ten in tens]}


class Cognate:
    name = "Cognate"

    def __init__(self, binary, model, device, precision):
        flags = ["--in-memory", "--model", model, "--classifier", "none", "--embed-cache-bytes", "0"]
        flags += ["--device", device, "--precision", precision, "--offline"]
        begun = time.time()
        command = [binary, "serve", "--addr", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self.stub = pb_grpc.CognateStub(grpc.insecure_channel(self.process.stdout.readline().split()[-1], options))
        while True:
            try:
                self.encode(["ready?"])
                break
            except grpc.RpcError as error:
                assert self.process.poll() is None, "the server ended"
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                time.sleep(0.05)
        self.start_seconds = time.time() - begun
        about = self.stub.Info(pb.InfoRequest()).model
        self.device, self.precision = about.device, about.precision

    def encode(self, texts):
        return self.stub.Embed(pb.EmbedRequest(texts=texts)).results

    def vectors(self, texts):
        return np.array([result.vector.values for result in self.encode(texts)])

    def stop(self):
        self.process.terminate()
        self.process.wait()


class SentenceTransformers:
    def __init__(self, model, device, precision):
        import torch
        from sentence_transformers import SentenceTransformer

        # In f16 and bf16 cuDNN's attention takes 45 ms for each new shape of a batch.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.torch, self.tf32 = torch, precision == "tf32"
        self.name = f"sentence-transformers, {precision}"
        self.model = SentenceTransformer(model, device=device, local_files_only=True)
        others = {"f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
        self.model.to(others.get(precision, torch.float32))

    def encode(self, texts):
        self.torch.backends.cuda.matmul.allow_tf32 = self.tf32
        return self.model.encode(texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False)

    vectors = encode

    def stop(self):
        del self.model


def golden():
    lines = (ROOT / "tests/golden/minilm-l6-v2.jsonl").read_text(encoding="utf8").splitlines()
    golden = [json.loads(line) for line in lines]
    return [line["text"] for line in golden], np.array([line["embedding"] for line in golden])


def of_sentence_transformers(texts, model, device):
    """Returns the vectors of texts in float64, each computed alone."""
    exact = SentenceTransformers(model, device, "f64")
    return np.concatenate([exact.vectors([text]) for text in texts])


def accuracy(engine, texts, exact):
    together = engine.vectors(texts)
    alone = np.concatenate([engine.vectors([text]) for text in texts])
    cosines = (together * exact).sum(1) / np.linalg.norm(together, axis=1) / np.linalg.norm(exact, axis=1)
    return {
        "from float64": float(np.abs(together - exact).max()),
        "least cosine": float(cosines.min()),
        "mean cosine": float(cosines.mean()),
        "alone from together": float(np.abs(together - alone).max()),
    }


def rate(engine, texts, size, at_once, seconds):
    """Returns texts a second, and the median time of a call in ms."""
    starts = itertools.cycle(range(0, len(texts) - size + 1, size))
    calls = [texts[start : start + size] for start in itertools.islice(starts, 4096)]
    times, begun = [], time.perf_counter()

    def timed(call):
        start = time.perf_counter()
        engine.encode(call)
        times.append(time.perf_counter() - start)
        return time.perf_counter() - begun > seconds

    def one_after_the_other(own):
        any(timed(call) for call in itertools.cycle(own))

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one_after_the_other, [calls[n::at_once] for n in range(at_once)]))
    elapsed = time.perf_counter() - begun
    return len(times) * size / elapsed, 1000 * float(np.median(times))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("cognate")
    arguments.add_argument("model")
    arguments.add_argument("--family")
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--precision", nargs="+", default=["f32", "f16", "bf16"])
    arguments.add_argument("--seconds", type=float, default=1.5)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments = arguments.parse_args()
    texts, exact = golden()
    if arguments.family:
        import random_model

        folder = tempfile.TemporaryDirectory()
        random_model.write(folder.name, arguments.family, arguments.model, 512)
        arguments.model, texts = folder.name, [text for text in texts if text.strip()]
        exact = of_sentence_transformers(texts, arguments.model, arguments.device)
    ways = [(size, 1) for size in CALLS] + [(TEXTS_AT_ONCE, AT_ONCE)]
    for precision in arguments.precision:
        cognate = Cognate(arguments.cognate, arguments.model, arguments.device, precision)
        about = f"{cognate.device} in {cognate.precision}, ready after {cognate.start_seconds:.1f} s"
        print(f"\n{precision}: {about}", flush=True)
        others = ["f32", "tf32"] if precision == "f32" and arguments.device != "cpu" else [precision]
        engines = [cognate] + [SentenceTransformers(arguments.model, arguments.device, other) for other in others]
        for engine in engines:
            found = accuracy(engine, texts, exact)
            shown = [f"{name} {value:{'.3g' if value < 0.9 else '.7f'}}" for name, value in found.items()]
            print(f"  {engine.name}: {', '.join(shown)}", flush=True)
        for (workload, sent), (size, at_once) in itertools.product(workloads().items(), ways):
            rows = {engine.name: [] for engine in engines}
            for engine in engines:
                if at_once == 1 or engine is cognate:
                    rate(engine, sent, size, at_once, 0.3)
            for _, engine in itertools.product(range(arguments.rounds), engines):
                if at_once == 1 or engine is cognate:
                    rows[engine.name].append(rate(engine, sent, size, at_once, arguments.seconds))
            for name, rounds in rows.items():
                if rounds:
                    rates = ", ".join(f"{rate:.0f}" for rate, _ in rounds)
                    middle = sorted(ms for _, ms in rounds)[len(rounds) // 2]
                    way = f"{workload}, {at_once} x {size}"
                    print(f"  {way}: {name}: {rates} texts/s, {middle:.2f} ms a call", flush=True)
        for engine in engines:
            engine.stop()


if __name__ == "__main__":
    main()
