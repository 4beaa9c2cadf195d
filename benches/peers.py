"""Measures ONNX Runtime on the texts of `cognate bench embed`, for a comparison on the same machine.

    python3 -m venv target/peers && target/peers/bin/pip install numpy onnxruntime tokenizers
    target/peers/bin/python benches/peers.py TOKENIZER.json MODEL.onnx... [--threads 2]

Each model gets its best case: texts are sorted by length into batches of 32, so that there is little padding. The times
include tokenising, mean pooling and normalising, as in `cognate bench embed`. "One at a time" is p50 and p99 of the first
400 short texts. Use the graphs from the folder `onnx/` of the model's repository, or any export with the same inputs. For
int8, quantise a graph with ONNX Runtime (`onnxruntime.quantization.quantize_dynamic`, per channel).
"""

import argparse
import json
import pathlib
import time

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32
WORDS = pathlib.Path(__file__).parent / "../examples/reverse-dictionary/words.jsonl"


def workloads():
    glosses = [json.loads(line)["text"] for line in WORDS.open(encoding="utf8")]
    tens = [glosses[i : i + 10] for i in range(0, 2560, 10)]
    return {"short": glosses[:2048], "long": ["; ".join(ten) for ten in tens]}


class Model:
    def __init__(self, path, tokenizer, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name for i in self.session.get_inputs()}
        self.tokenizer = tokenizer

    def embed(self, texts):
        """Returns unit vectors [texts, dimensions], and the number of tokens."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = [None] * len(ids)
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            longest = max(len(ids[i]) for i in batch)
            tokens = np.zeros((len(batch), longest), np.int64)
            mask = np.zeros_like(tokens)
            for row, i in enumerate(batch):
                tokens[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
            hidden = self.session.run(None, {name: feed[name] for name in self.inputs})[0]
            weights = mask[..., None].astype(np.float32)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
            pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
            for row, i in enumerate(batch):
                vectors[i] = pooled[row]
        return vectors, sum(map(len, ids))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    texts = workloads()
    for path in args.models:
        model = Model(path, tokenizer, args.threads)
        model.embed(texts["short"][:64])
        seconds = []
        for text in texts["short"][:400]:
            begun = time.perf_counter()
            model.embed([text])
            seconds.append(time.perf_counter() - begun)
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        print(f"{path}  one at a time: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
        for name, workload in texts.items():
            begun = time.perf_counter()
            _, tokens = model.embed(workload)
            elapsed = time.perf_counter() - begun
            print(f"{path}  {name}: {len(workload) / elapsed:.1f} texts/s, {tokens / elapsed:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
