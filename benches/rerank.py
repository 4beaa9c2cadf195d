"""Measures what reranking costs: a query with fifty short texts, by a cross-encoder of MiniLM-L6's shape.

    python3 -m venv target/rerank
    target/rerank/bin/pip install -r tests/clients/requirements.txt numpy safetensors
    target/rerank/bin/python benches/rerank.py target/release/cognate MODEL_DIR [--texts N] [--rounds N]

MODEL_DIR has all-MiniLM-L6-v2, whose tokenizer is used. The weights of the cross-encoder are random, in the shape of
ms-marco-MiniLM-L6-v2: 6 layers, 384 hidden units, a pooler and one number. Random weights take the same time. Each
precision has its own server, and the two take turns. The texts are definitions of the bundled dictionary; each call has
new ones, and there is no cache. Client and server share the machine.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file

import serving
from stubs import ROOT, pb

HIDDEN, INNER, LAYERS, VOCABULARY, POSITIONS = 384, 1536, 6, 30522, 512
QUERIES = ["to move through water", "a small building for animals", "feeling of great joy", "the study of old coins"]


def cross_encoder(model, out):
    """Writes a cross-encoder with random weights."""
    random, tensors = np.random.default_rng(1), {}

    def linear(name, n_in, n_out):
        tensors[f"{name}.weight"] = random.normal(0, 0.05, (n_out, n_in)).astype(np.float32)
        tensors[f"{name}.bias"] = np.zeros(n_out, np.float32)

    def norm(name):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)

    for table, rows in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)]:
        tensors[f"bert.embeddings.{table}_embeddings.weight"] = random.normal(0, 0.05, (rows, HIDDEN)).astype(
            np.float32
        )
    norm("bert.embeddings.LayerNorm")
    for layer in (f"bert.encoder.layer.{n}" for n in range(LAYERS)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        linear(f"{layer}.intermediate.dense", HIDDEN, INNER)
        linear(f"{layer}.output.dense", INNER, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        norm(f"{layer}.output.LayerNorm")
    linear("bert.pooler.dense", HIDDEN, HIDDEN)
    linear("classifier", HIDDEN, 1)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "id2label": {"0": "LABEL_0"},
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 12,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "vocab_size": VOCABULARY,
    }
    (out / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, out)


class Server(serving.Server):
    def __init__(self, binary, model, reranker, precision):
        flags = ["--in-memory", "--model", str(model), "--embed-cache-bytes", "0"]
        super().__init__(binary, flags + ["--reranker", f"mini={reranker}", "--reranker-precision", precision])
        self.stub.Rerank(pb.RerankRequest(query="ready?", texts=["yes"]))

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("binary")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--texts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    words = (ROOT / "examples/reverse-dictionary/words.jsonl").read_text(encoding="utf8").splitlines()
    texts = [json.loads(line)["text"] for line in words[: 2 * args.rounds * args.texts]]
    with tempfile.TemporaryDirectory() as folder:
        cross_encoder(args.model, pathlib.Path(folder))
        servers = {precision: Server(args.binary, args.model, folder, precision) for precision in ("f32", "int8")}
        milliseconds, tokens = {precision: [] for precision in servers}, []
        before = {precision: server.processor_seconds() for precision, server in servers.items()}
        for n in range(2 * args.rounds):
            for precision, server in servers.items():
                some = texts[n * args.texts :][: args.texts]
                begun = time.perf_counter()
                answer = server.stub.Rerank(pb.RerankRequest(query=QUERIES[n % len(QUERIES)], texts=some))
                milliseconds[precision].append(1000 * (time.perf_counter() - begun))
                tokens += [result.tokens for result in answer.results]
        seconds = {precision: server.processor_seconds() - before[precision] for precision, server in servers.items()}
        for server in servers.values():
            server.stop()
    print(f"{args.texts} pairs of {statistics.mean(tokens):.1f} tokens, {2 * args.rounds} calls")
    for precision, times in milliseconds.items():
        times.sort()
        p50, p90 = statistics.median(times), times[len(times) * 9 // 10]
        of_processor = 1000 * seconds[precision] / len(times)
        of_calls = f"p50 {p50:6.1f} ms   best {times[0]:6.1f}   p90 {p90:6.1f}"
        print(f"{precision:5} {of_calls}   processor time {of_processor:6.1f} ms a call")


if __name__ == "__main__":
    main()
