"""Compares searches of Cognate with hnswlib, faiss and usearch: the same vectors, one search thread, one run.

python3 -m venv target/peers && target/peers/bin/pip install numpy hnswlib faiss-cpu usearch
cargo build --release
target/peers/bin/python benches/index_peers.py VECTORS.npy      # made by `cognate embed -o VECTORS.npy`

The last 1,000 rows are the queries. An exact scan gives the true neighbours for recall@10. Each rate is the best of five
rounds. Cognate is measured before and after the others. Rates at equal recall are interpolated between neighbouring
measurements.
"""
import argparse
import json
import math
import os
import subprocess
import time

import faiss
import hnswlib
import numpy as np
from usearch.index import Index

K, QUERIES, ROUNDS, M, EF_CONSTRUCTION = 10, 1_000, 5, 16, 200
EFS = (16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384)
RECALLS = (0.95, 0.97, 0.98, 0.985, 0.99)

parser = argparse.ArgumentParser()
parser.add_argument("vectors")
parser.add_argument("--cognate", default="target/release/cognate")
args = parser.parse_args()

rows = np.load(args.vectors).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
stored, queries = np.ascontiguousarray(rows[:-QUERIES]), np.ascontiguousarray(rows[-QUERIES:])
scores = queries @ stored.T
worst = -np.sort(-scores, axis=1)[:, K - 1]
cores = os.cpu_count()


def recall(found):
    # A hit as near as the worst true neighbour counts as true, because some texts occur twice.
    hits = np.take_along_axis(scores, np.asarray(found, dtype=np.int64), axis=1)
    return float((hits >= worst[:, None] - 1e-6).mean())


def cognate():
    command = [args.cognate, "bench", "top-k", "--vectors", args.vectors, "--json", "--queries", str(QUERIES)]
    report = json.loads(subprocess.check_output(command + ["--ef", ",".join(map(str, EFS))]))
    walks = [(row["recall"], row["queries_per_second"]) for row in report["rows"] if row["search"] == "graph"]
    return report["build_seconds"], walks


def peer(build, search):
    begun = time.perf_counter()
    build()
    seconds = time.perf_counter() - begun
    best = {}
    for _ in range(ROUNDS):
        for ef in EFS:
            begun = time.perf_counter()
            found = search(ef)
            rate = QUERIES / (time.perf_counter() - begun)
            best[ef] = max(best.get(ef, (0, 0)), (rate, recall(found)))
    return seconds, [(found, rate) for rate, found in best.values()]


def at(walks, wanted):
    """Returns the rate at a recall, or None if it was not reached."""
    walks = sorted(walks)
    for (low, fast), (high, slow) in zip(walks, walks[1:]):
        if low <= wanted <= high:
            share = (wanted - low) / max(high - low, 1e-9)
            return math.exp((1 - share) * math.log(fast) + share * math.log(slow))
    return None


def with_hnswlib():
    index = hnswlib.Index("ip", stored.shape[1])
    index.init_index(len(stored), ef_construction=EF_CONSTRUCTION, M=M, random_seed=1)

    def search(ef):
        index.set_ef(max(ef, K))
        return index.knn_query(queries, K, num_threads=1)[0]

    return peer(lambda: index.add_items(stored, num_threads=cores), search)


def with_faiss():
    index = faiss.IndexHNSWFlat(stored.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION

    def search(ef):
        faiss.omp_set_num_threads(1)
        index.hnsw.efSearch = ef
        return index.search(queries, K)[1]

    return peer(lambda: index.add(stored), search)


def with_usearch(dtype):
    index = Index(
        ndim=stored.shape[1], metric="ip", dtype=dtype, connectivity=M, expansion_add=EF_CONSTRUCTION
    )

    def search(ef):
        index.expansion_search = ef
        return index.search(queries, K, threads=1).keys

    return peer(lambda: index.add(np.arange(len(stored)), stored, threads=cores), search)


measured = {
    "Cognate, first": cognate,
    "hnswlib": with_hnswlib,
    "faiss": with_faiss,
    "usearch f32": lambda: with_usearch("f32"),
    "usearch bf16": lambda: with_usearch("bf16"),
    "usearch i8": lambda: with_usearch("i8"),
    "Cognate, last": cognate,
}
print(f"{len(stored)} vectors, {cores} cores")
print("| | built | " + " | ".join(f"{wanted}" for wanted in RECALLS) + " |")
print("| --- " * (len(RECALLS) + 2) + "|")
for name, measure in measured.items():
    seconds, walks = measure()
    rates = (at(walks, wanted) for wanted in RECALLS)
    cells = " | ".join("-" if rate is None else f"{rate:,.0f}/s" for rate in rates)
    print(f"| {name} | {seconds:.0f} s | {cells} |", flush=True)
