"""Measures a transformer beside torch and ONNX Runtime, alternately on the same weights and texts, for a busy machine:
what counts is the ratio in each round.

    python3 -m venv target/peers
    target/peers/bin/pip install torch transformers sentence-transformers onnx onnxscript onnxruntime
    target/peers/bin/python benches/encoders.py TOKENIZER_DIR TEXTS.txt [--family modernbert] [--tokens 8192]
        [--cognate target/release/cognate] [--cpu avx2] [--precision f32] [--threads 2] [--rounds 3] [--without-onnx]

The weights are random, in the sizes of a published model (random_model.py). TOKENIZER_DIR has a `tokenizer.json` of at
most 32,000 tokens, for example all-MiniLM-L6-v2; all of them use it. TEXTS.txt has a text in each line.
With `--tokens` the texts are joined to a few of that length.

Each peer gets its best case: texts in the order of their lengths, in batches of 32, so that there is little padding;
with sdpa in torch, and in float32. ONNX Runtime gets the graph that torch exports. Cognate is measured by `cognate
bench embed`, with all texts in calls of 64. With `--precision int8` ONNX Runtime gets the graph after its own dynamic
quantisation, per channel. All times include tokenising and mean pooling. Prints texts and tokens a second, and
Cognate's ratio to the faster peer; then texts a second of processor time, which other programs on the machine disturb
less. So that waiting costs none, the peers' threads do not spin.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("tokenizer", type=pathlib.Path)
parser.add_argument("texts")
parser.add_argument("--family", default="modernbert", choices=["modernbert", "qwen3", "gemma3", "bert"])
parser.add_argument("--tokens", type=int, default=0)
parser.add_argument("--cognate", default="target/release/cognate")
parser.add_argument("--cpu", default="auto")
parser.add_argument("--precision", default="f32")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--without-onnx", action="store_true")
arguments = parser.parse_args()
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)

import torch  # noqa: E402  the libraries read the variables when they start
from tokenizers import Tokenizer  # noqa: E402

import random_model  # noqa: E402

BATCH = 32
MOST = max(arguments.tokens, 512)


class Graph(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def session(model, path):
    """Exports the model and opens it in ONNX Runtime."""
    import onnxruntime

    example = (torch.ones(2, 12, dtype=torch.int64), torch.ones(2, 12, dtype=torch.int64))
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    shapes = {"input_ids": sizes, "attention_mask": sizes}
    torch.onnx.export(Graph(model), example, path, dynamo=True, dynamic_shapes=shapes, external_data=True)
    if arguments.precision == "int8":
        from onnxruntime.quantization import quantize_dynamic

        full, path = path, path.with_name("int8.onnx")
        quantize_dynamic(full, path, per_channel=True, use_external_data_format=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batches(tokenizer, texts):
    """Yields ids and masks of texts of similar lengths, and tokenises them on the way."""
    ids = sorted((encoding.ids for encoding in tokenizer.encode_batch(texts)), key=len)
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        longest = max(map(len, batch))
        rows = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        yield rows, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])


def mean(hidden, mask):
    weights = mask[..., None].to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1))


def peer(compute, tokenizer, texts):
    """Returns texts a second, and texts a second of processor time."""
    begun, used = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for rows, mask in batches(tokenizer, texts):
            mean(compute(rows, mask), mask)
    return len(texts) / (time.perf_counter() - begun), len(texts) / (time.process_time() - used)


def ours(directory, file):
    """Returns texts and tokens a second, and texts a second of processor time."""
    command = [
        arguments.cognate,
        "bench",
        "embed",
        "--json",
        "--offline",
        "true",
        "--model",
        str(directory),
        "--file",
        str(file),
    ]
    command += ["--precision", arguments.precision, "--threads", str(arguments.threads), "--cpu", arguments.cpu]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["rows"]
    row = next(row for row in rows if row["sent"] == "all at once")
    return row["texts_per_second"], row["tokens_per_second"], row["texts_per_cpu_second"]


def texts_of(tokenizer):
    """Reads the texts, or joins them to texts of the wanted length."""
    texts = [line for line in open(arguments.texts, encoding="utf8").read().splitlines() if line]
    if not arguments.tokens:
        return texts
    joined, parts, tokens = [], [], 0
    for text in texts:
        parts.append(text)
        tokens += len(tokenizer.encode(text, add_special_tokens=False).ids)
        if tokens >= arguments.tokens:
            joined.append("; ".join(parts))
            parts, tokens = [], 0
    return joined[:8]


def main():
    torch.set_num_threads(arguments.threads)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST)
    texts = texts_of(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "model").mkdir()
        model = random_model.write(folder / "model", arguments.family, arguments.tokenizer, MOST)
        file = folder / "texts.txt"
        file.write_text("\n".join(texts), encoding="utf8")
        peers = {"torch": lambda rows, mask: model(input_ids=rows, attention_mask=mask).last_hidden_state}
        if not arguments.without_onnx:
            graph = session(model, folder / "model.onnx")
            peers["onnxruntime"] = lambda rows, mask: torch.from_numpy(
                graph.run(None, {"input_ids": rows.numpy(), "attention_mask": mask.numpy()})[0])
        for compute in peers.values():
            peer(compute, tokenizer, texts[:BATCH])
        for i in range(arguments.rounds):
            speed, tokens, of_processor = ours(folder / "model", file)
            theirs = {name: peer(compute, tokenizer, texts) for name, compute in peers.items()}
            by_clock = compared(speed, {name: found[0] for name, found in theirs.items()})
            by_processor = compared(of_processor, {name: found[1] for name, found in theirs.items()})
            print(f"round {i + 1}: {by_clock} ({tokens:.0f} tokens/s); processor time: {by_processor}", flush=True)


def compared(ours, theirs):
    shown = ", ".join(f"{name} {found:.2f}" for name, found in theirs.items())
    return f"cognate {ours:.2f} texts/s, {shown}, {ours / max(theirs.values()):.2f} times the faster"


main()
