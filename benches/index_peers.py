"""Compares searches of Cognate with other libraries: the same vectors, one search thread, each in a process of its own.

python3 -m venv target/peers && target/peers/bin/pip install numpy hnswlib faiss-cpu scann rabitqlib usearch
cargo build --release
cognate embed -o VECTORS.npy --file TEXTS
target/peers/bin/python benches/index_peers.py VECTORS.npy [NAME...] [--cpu avx2]

The last 1,000 rows are the queries. An exact scan gives the true neighbours for recall@10. Each rate is the best of
five rounds; rates at equal recall are interpolated between neighbouring measurements. Each cell has queries in a second
of the clock, and in brackets those in a second of processor time: compare the latter on a machine that has other work.

A library is measured in a process of its own, because some exit on a processor that they do not support; the table then
says how they ended. Cognate is measured before and after the others. `--cpu avx2` keeps Cognate and faiss to these
instructions; the other libraries choose their own when they are compiled or loaded. The parameters of a library are
those of its documentation for a graph of about 32 links, and for ScaNN √n partitions.
"""
import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

K, QUERIES, ROUNDS, M, EF_CONSTRUCTION = 10, 1_000, 5, 16, 200
EFS = (16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1_024)
LEAVES = (4, 8, 16, 24, 32, 48, 64, 96, 128)
RECALLS = (0.95, 0.97, 0.98, 0.985, 0.99)
# Queries that are compared with all rows at one time.
BATCH = 100


def vectors(path):
    rows = np.load(path, mmap_mode="r")
    unit = lambda part: np.ascontiguousarray(part / np.linalg.norm(part, axis=1, keepdims=True), dtype=np.float32)
    return unit(rows[:-QUERIES]), unit(rows[-QUERIES:])


def worst_true_scores(stored, queries):
    """The score of the last true neighbour of each query."""
    parts = (queries[first : first + BATCH] @ stored.T for first in range(0, QUERIES, BATCH))
    return np.concatenate([np.partition(part, -K, axis=1)[:, -K] for part in parts])


def hnswlib(stored, queries, cores):
    import hnswlib

    index = hnswlib.Index("ip", stored.shape[1])
    index.init_index(len(stored), ef_construction=EF_CONSTRUCTION, M=M, random_seed=1)

    def search(ef):
        index.set_ef(max(ef, K))
        return index.knn_query(queries, K, num_threads=1)[0]

    return lambda: index.add_items(stored, num_threads=cores), search, EFS


def faiss(kind):
    def of_kind(stored, queries, cores):
        import faiss

        index = faiss.index_factory(stored.shape[1], f"HNSW{M}_{kind}", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION

        def build():
            faiss.omp_set_num_threads(cores)
            index.train(stored[:20_000])
            index.add(stored)
            faiss.omp_set_num_threads(1)

        def search(ef):
            index.hnsw.efSearch = ef
            return index.search(queries, K)[1]

        return build, search, EFS

    return of_kind


def symphonyqg(stored, queries, cores):
    import rabitqlib

    index = rabitqlib.SymqgIndex(stored.shape[1], 2 * M, metric="ip")

    def search(ef):
        answer = index.search(queries, K, ef, num_threads=1)
        return next(part for part in map(np.asarray, answer) if part.dtype.kind in "iu")

    return lambda: index.build(stored, 2 * EF_CONSTRUCTION, num_threads=cores), search, EFS


def scann(stored, queries, cores):
    import scann

    index = []

    def build():
        builder = scann.scann_ops_pybind.builder(stored, K, "dot_product")
        builder = builder.tree(
            num_leaves=math.isqrt(len(stored)), num_leaves_to_search=100, training_sample_size=len(stored)
        )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(200)
        index.append(builder.set_n_training_threads(cores).build())

    def search(leaves):
        candidates = {"pre_reorder_num_neighbors": max(60, 3 * leaves), "final_num_neighbors": K}
        return [index[0].search(query, leaves_to_search=leaves, **candidates)[0] for query in queries]

    return build, search, LEAVES


def usearch(dtype):
    def of_dtype(stored, queries, cores):
        from usearch.index import Index

        index = Index(
            ndim=stored.shape[1], metric="ip", dtype=dtype, connectivity=M, expansion_add=EF_CONSTRUCTION
        )

        def search(ef):
            index.expansion_search = ef
            return index.search(queries, K, threads=1).keys

        return lambda: index.add(np.arange(len(stored)), stored, threads=cores), search, EFS

    return of_dtype


PEERS = {
    "SymphonyQG": symphonyqg,
    "hnswlib": hnswlib,
    "faiss HNSW SQ8": faiss("SQ8"),
    "faiss HNSW": faiss("Flat"),
    "ScaNN": scann,
    "usearch f32": usearch("f32"),
    "usearch bf16": usearch("bf16"),
    "usearch i8": usearch("i8"),
}
COGNATE = {"Cognate, first": [], "Cognate without sketches": ["--sketches", "false"], "Cognate, last": []}


def measure_peer(name, path, truth):
    """Measures a library in this process: the seconds to build, and for each effort recall and both rates."""
    stored, queries = vectors(path)
    worst = np.load(truth)
    build, search, efforts = PEERS[name](stored, queries, os.cpu_count())
    clocks = lambda: (time.perf_counter(), time.process_time())
    since = lambda begun: [now - then for now, then in zip(clocks(), begun)]
    begun = clocks()
    build()
    built = since(begun)
    best = {effort: [math.inf, math.inf] for effort in efforts}
    recalls = {}
    for _ in range(ROUNDS):
        for effort in efforts:
            begun = clocks()
            found = search(effort)
            best[effort] = list(map(min, best[effort], since(begun)))
            recalls[effort] = recall(np.asarray(found, dtype=np.int64), stored, queries, worst)
    return built, [[recalls[effort], *(QUERIES / seconds for seconds in best[effort])] for effort in efforts]


def recall(found, stored, queries, worst):
    # A hit as near as the worst true neighbour counts as true, because some texts occur twice.
    scores = np.einsum("qkd,qd->qk", stored[np.clip(found, 0, None)], queries)
    return float(((scores >= worst[:, None] - 1e-6) & (found >= 0)).mean())


def measure_cognate(args, flags):
    command = [args.cognate, "bench", "top-k", "--vectors", args.vectors, "--json", "--queries", str(QUERIES)]
    command += ["--ef", ",".join(map(str, EFS)), *flags] + (["--cpu", args.cpu] if args.cpu else [])
    report = json.loads(subprocess.check_output(command, env=environment(args)))
    rows = [row for row in report["rows"] if row["search"] == "graph"]
    walks = [[row["recall"], row["queries_per_second"], row["queries_per_cpu_second"]] for row in rows]
    return [report["build_seconds"], report["build_cpu_seconds"]], walks


def environment(args):
    return {**os.environ, **({"FAISS_OPT_LEVEL": "avx2"} if args.cpu == "avx2" else {})}


def measure(name, args, truth):
    if name in COGNATE:
        return measure_cognate(args, COGNATE[name])
    command = [sys.executable, __file__, args.vectors, name, "--truth", truth]
    return json.loads(subprocess.check_output(command, env=environment(args)).splitlines()[-1])


def at(walks, wanted, rate):
    """The rate at a recall, or None if it was not reached."""
    walks = sorted(walks)
    if walks and walks[0][0] >= wanted:
        return walks[0][rate]
    for low, high in zip(walks, walks[1:]):
        if low[0] <= wanted <= high[0] and low[rate] and high[rate]:
            share = (wanted - low[0]) / max(high[0] - low[0], 1e-9)
            return math.exp((1 - share) * math.log(low[rate]) + share * math.log(high[rate]))
    return None


def ending(error):
    """The way in which a process failed, in words."""
    code = error.returncode
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def main():
    parser = argparse.ArgumentParser(description="Compares searches of Cognate with other libraries.")
    parser.add_argument("vectors")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*COGNATE, *PEERS])}; all by default")
    parser.add_argument("--cognate", default="target/release/cognate")
    parser.add_argument("--cpu", help="instructions that Cognate and faiss use at most, as in cognate --cpu")
    parser.add_argument("--truth", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.truth:
        print(json.dumps(measure_peer(args.names[0], args.vectors, args.truth)))
        return
    first, *middle, last = COGNATE
    names = args.names or [first, *middle, *PEERS, last]
    unknown = [name for name in names if name not in COGNATE and name not in PEERS]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of {', '.join([*COGNATE, *PEERS])}")
    stored, queries = vectors(args.vectors)
    shape, instructions = f"{len(stored):,} vectors of {stored.shape[1]} dimensions", args.cpu or "the best"
    print(f"{shape}, {os.cpu_count()} cores, {instructions} instructions")
    print("| | built: clock, processor | " + " | ".join(map(str, RECALLS)) + " |")
    print("| --- " * (len(RECALLS) + 2) + "|", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        truth = os.path.join(directory, "truth.npy")
        np.save(truth, worst_true_scores(stored, queries))
        del stored, queries
        for name in names:
            try:
                (clock, processor), walks = measure(name, args, truth)
            except subprocess.CalledProcessError as error:
                print(f"| {name} | {ending(error)} |", flush=True)
                continue
            rates = ([at(walks, wanted, rate) for rate in (1, 2)] for wanted in RECALLS)
            cells = ("–" if wall is None else f"{wall:,.0f} ({cpu or math.nan:,.0f})" for wall, cpu in rates)
            print(f"| {name} | {clock:.0f} s, {processor or math.nan:.0f} s | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
