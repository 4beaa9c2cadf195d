"""Measures a model of static vectors beside model2vec, alternately on the same texts, for a busy machine: what counts
is the ratio in each round.

    pip install model2vec
    python3 benches/static.py MODEL_DIR TEXTS.txt [--cognate target/release/cognate] [--threads 2] [--rounds 5]

TEXTS.txt has a text in each line. Both engines tokenise and give unit vectors, in process: Cognate by `cognate bench
embed` with 64 texts in a call and eight calls at once, model2vec by `encode` with all texts at once, its best case.
Prints texts a second of both, and their ratio.
"""

import argparse
import json
import os
import subprocess
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("texts")
parser.add_argument("--cognate", default="target/release/cognate")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
arguments = parser.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)

from model2vec import StaticModel  # noqa: E402  the library reads the variable when it starts

model = StaticModel.from_pretrained(arguments.model)
texts = [line for line in open(arguments.texts, encoding="utf8").read().splitlines() if line]
for i in range(arguments.rounds):
    command = [arguments.cognate, "bench", "embed", "--json", "--offline", "true", "--model", arguments.model]
    command += ["--threads", str(arguments.threads), "--file", arguments.texts]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["rows"]
    ours = {row["sent"]: row["texts_per_second"] for row in rows}
    begun = time.perf_counter()
    model.encode(texts)
    theirs = len(texts) / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for start in range(0, len(texts), 32):
        model.encode(texts[start : start + 32])
    batches = len(texts) / (time.perf_counter() - begun)
    told = lambda way, peer: f"{way} {ours[way]:.0f} and {peer:.0f} texts/s, {ours[way] / peer:.2f} times"
    print(f"round {i + 1}: {told('all at once', theirs)}; {told('batches of 32', batches)}")
