"""Measures other engines on the texts of `cognate bench embed`, and Cognate beside them, each in a process of its own.

    python3 -m venv target/peers && target/peers/bin/pip install numpy onnxruntime openvino tokenizers
    cargo build --release
    target/peers/bin/python benches/peers.py TOKENIZER.json MODEL.onnx... [--model MODEL_DIR] [--cpu avx2]

Each engine gets its best case: texts are sorted by length into batches of 32, so that there is little padding. The
times include tokenising, mean pooling and normalising, as in `cognate bench embed`. "One at a time" is p50 of the first
400 short texts. Rates are texts in a second of the clock, and in brackets in a second of processor time: compare the
latter on a machine that has other work. Processor time counts threads that spin, too.

Use the graphs from the folder `onnx/` of the model's repository, or any export with the same inputs. For int8, quantise
a graph with ONNX Runtime (`onnxruntime.quantization.quantize_dynamic`, per channel). OpenVINO is not given graphs with
`int8` in their name. `--cpu avx2` keeps Cognate and OpenVINO to these instructions; ONNX Runtime has no such setting.
An engine whose process fails is reported with the way in which it ended.
"""

import argparse
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

BATCH = 32
WORDS = pathlib.Path(__file__).parent / "../examples/reverse-dictionary/words.jsonl"
ENGINES = ("onnxruntime", "openvino")
# The names that oneDNN, on which OpenVINO computes, has for instructions.
ONEDNN = {"avx2": "AVX2", "avx-vnni": "AVX2_VNNI", "avx512": "AVX512_CORE", "avx512-vnni": "AVX512_CORE_VNNI"}


def workloads():
    glosses = [json.loads(line)["text"] for line in WORDS.open(encoding="utf8")]
    tens = [glosses[i : i + 10] for i in range(0, 2560, 10)]
    return {"short": glosses[:2048], "long": ["; ".join(ten) for ten in tens]}


def onnxruntime(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return lambda feed: session.run(None, {name: feed[name] for name in names})[0]


def openvino(path, threads):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(path), "CPU", settings)
    names = {name for i in model.inputs for name in i.names}
    request = model.create_infer_request()
    return lambda feed: request.infer({name: feed[name] for name in names if name in feed})[0]


class Model:
    def __init__(self, engine, path, tokenizer, threads):
        from tokenizers import Tokenizer

        self.run = {"onnxruntime": onnxruntime, "openvino": openvino}[engine](path, threads)
        self.tokenizer = Tokenizer.from_file(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def embed(self, texts):
        """Returns unit vectors [texts, dimensions]."""
        import numpy as np

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
            weights = mask[..., None].astype(np.float32)
            pooled = (self.run(feed) * weights).sum(1) / weights.sum(1)
            pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
            for row, i in enumerate(batch):
                vectors[i] = pooled[row]
        return vectors


def measure_peer(engine, args):
    """Measures an engine in this process: p50 in milliseconds, and both rates of each workload."""
    model = Model(engine, args.models[0], args.tokenizer, args.threads)
    texts = workloads()
    model.embed(texts["short"][:64])
    seconds = []
    for text in texts["short"][:400]:
        begun = time.perf_counter()
        model.embed([text])
        seconds.append(time.perf_counter() - begun)
    result = {"p50": 1e3 * sorted(seconds)[len(seconds) // 2]}
    for name, workload in texts.items():
        clock, processor = time.perf_counter(), time.process_time()
        model.embed(workload)
        spent = time.perf_counter() - clock, time.process_time() - processor
        result[name] = [len(workload) / seconds for seconds in spent]
    return result


def measure_cognate(precision, args):
    command = [args.cognate, "bench", "embed", "--json", "--precision", precision, "--threads", str(args.threads)]
    command += (["--model", args.model] if args.model else []) + (["--cpu", args.cpu] if args.cpu else [])
    rows = json.loads(subprocess.check_output(command))["rows"]
    row = lambda workload, sent: next(row for row in rows if (row["workload"], row["sent"]) == (workload, sent))
    result = {"p50": row("short", "one at a time")["p50_ms"]}
    for workload in ("short", "long"):
        best = row(workload, "all at once")
        result[workload] = [best["texts_per_second"], best["texts_per_cpu_second"]]
    return result


def measure_apart(engine, path, args):
    command = [sys.executable, __file__, args.tokenizer, path, "--threads", str(args.threads), "--engine", engine]
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": ONEDNN[args.cpu]} if args.cpu in ONEDNN else {})}
    return json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])


def ending(error):
    """The way in which a process failed, in words."""
    code = error.returncode
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def main():
    parser = argparse.ArgumentParser(description="Measures other engines, and Cognate beside them.")
    parser.add_argument("tokenizer")
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cognate", default="target/release/cognate")
    parser.add_argument("--model", help="the model of Cognate, as in cognate --model; its default otherwise")
    parser.add_argument("--cpu", help="instructions that Cognate and OpenVINO use at most, as in cognate --cpu")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measure_peer(args.engine, args)))
        return
    ours = [(f"Cognate {precision}", lambda p=precision: measure_cognate(p, args)) for precision in ("f32", "int8")]
    peers = [
        (f"{engine} {pathlib.Path(path).name}", lambda e=engine, p=path: measure_apart(e, p, args))
        for path in args.models
        for engine in ENGINES
        if engine != "openvino" or "int8" not in path
    ]
    print(f"{args.threads} threads, {args.cpu or 'the best'} instructions")
    print("| | one at a time, p50 | short | long |\n| --- | --- | --- | --- |", flush=True)
    for name, measure in ours + peers + ours:
        try:
            result = measure()
        except subprocess.CalledProcessError as error:
            print(f"| {name} | {ending(error)} | | |", flush=True)
            continue
        rates = (result[workload] for workload in ("short", "long"))
        cells = [f"{clock:,.0f}/s ({processor or math.nan:,.0f})" for clock, processor in rates]
        print(f"| {name} | {result['p50']:.2f} ms | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
