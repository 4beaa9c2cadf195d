"""Makes many vectors out of fewer, for an index larger than the texts at hand.

python3 benches/more_vectors.py VECTORS.npy COUNT OUT.npy [--mixtures]

Each made vector begins with one of the file's, drawn at random. By default noise of 0.6 of its length is added in all
dimensions (cosine to the original 0.857). With --mixtures it is moved by 0.3 towards one of its ten nearest, and noise
of 0.3 is added, so that it stays among the directions of real texts. Nothing is made of the last 1,000 rows of a file:
they follow unchanged, as the queries of `index_peers.py`. A smaller count gives the first rows of a larger one.
"""
import argparse

import numpy as np

QUERIES, NEAREST, BLOCK, SEED = 1_000, 10, 1_000, 1


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest_of(rows):
    """The places of the NEAREST rows of each row, itself left out, in no order."""
    places = np.empty((len(rows), NEAREST), dtype=np.int64)
    for first in range(0, len(rows), BLOCK):
        scores = rows[first : first + BLOCK] @ rows.T
        scores[np.arange(len(scores)), np.arange(first, first + len(scores))] = -np.inf
        places[first : first + BLOCK] = np.argpartition(scores, -NEAREST, axis=1)[:, -NEAREST:]
    return places


def made(rows, count, near):
    """Blocks of made vectors, `count` in all."""
    random = np.random.default_rng(SEED)
    for first in range(0, count, BLOCK):
        origins = random.integers(len(rows), size=BLOCK)
        neighbours = random.integers(NEAREST, size=BLOCK)
        noise = unit(random.standard_normal((BLOCK, rows.shape[1]), dtype=np.float32))
        block = rows[origins]
        if near is None:
            block = block + 0.6 * noise
        else:
            block = unit(0.7 * block + 0.3 * rows[near[origins, neighbours]]) + 0.3 * noise
        yield unit(block)[: count - first]


def main():
    parser = argparse.ArgumentParser(description="Makes many vectors out of fewer.")
    parser.add_argument("vectors")
    parser.add_argument("count", type=int)
    parser.add_argument("out")
    parser.add_argument("--mixtures", action="store_true")
    args = parser.parse_args()
    rows = unit(np.load(args.vectors).astype(np.float32))
    rows, queries = rows[:-QUERIES], rows[-QUERIES:]
    near = nearest_of(rows) if args.mixtures else None
    out = np.lib.format.open_memmap(
        args.out, mode="w+", dtype=np.float32, shape=(args.count + QUERIES, rows.shape[1])
    )
    first = 0
    for block in made(rows, args.count, near):
        out[first : first + len(block)] = block
        first += len(block)
    out[first:] = queries
    out.flush()


if __name__ == "__main__":
    main()
