"""Measures the number of examples that a head on the embedding needs. `cognate train-head` gets texts from the training
split of train.py, and its heads are tested on the test split.

    pip install -r models/sentiment/requirements.txt
    python models/sentiment/heads.py target/release/cognate

Prints a row for each number of examples per label: the accuracy that `train-head` found by cross-validation, and the
figures on the held-out texts. Each number has three draws, because with few examples their choice matters.
"""

import csv
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np

import train

EXAMPLES = [5, 20, 100, 500]
DRAWS = 3


class Server:
    """Runs `cognate serve` on a free port, with these flags."""

    def __init__(self, binary, *flags):
        fixed = [
            binary,
            "serve",
            "--addr",
            "127.0.0.1:0",
            "--in-memory",
            "--log",
            "error",
            "--embed-cache-bytes",
            "256MiB",
        ]
        self.process = subprocess.Popen([*fixed, *flags], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[-1]
        while subprocess.run([binary, "health", "--addr", self.address], capture_output=True).returncode:
            if self.process.poll() is not None:
                raise SystemExit("the server ended")

    def __enter__(self):
        return self.address

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def write(path, texts):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([text.text, train.LABELS[text.label]] for text in texts)


def draw(texts, per_label, seed):
    """Draws `count` examples of each label."""
    order = random.Random(seed).sample(texts, len(texts))
    return [text for label in range(3) for text in [t for t in order if t.label == label][:per_label]]


def judged(binary, head, file, test):
    """Returns accuracy and macro-F1 of a head on the held-out texts."""
    with Server(binary, "--classifier", f"head={head}") as address:
        command = [binary, "classify", "--file", file, "--top", "1", "--json", "--addr", address]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    predicted = np.array([train.LABELS.index(json.loads(line)["label"]) for line in lines if line])
    scores = train.scores(np.array([text.label for text in test]), predicted)
    return scores["accuracy"], scores["macro_f1"]


def main(binary):
    files = train.download()
    texts = train.read_texts(files)
    train.assign_folds(texts)
    known, validation, test = train.split(texts)
    known = known + validation
    folder = pathlib.Path(tempfile.mkdtemp())
    write(folder / "test.csv", test)
    print("examples of each label | cross-validated accuracy | held-out accuracy | held-out macro-F1")
    heads = {}
    with Server(binary) as address:
        sizes = [(str(n), draw(known, n, seed)) for n in EXAMPLES for seed in range(DRAWS)] + [("all", known)]
        for number, (name, examples) in enumerate(sizes):
            file, head = folder / f"{number}.csv", folder / f"{number}.json"
            write(file, examples)
            command = [binary, "train-head", file, "--output", head, "--balanced", "--json", "--addr", address]
            report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            heads.setdefault(name, []).append((head, report["accuracy"]))
    for name, of_size in heads.items():
        rows = [(said, *judged(binary, head, folder / "test.csv", test)) for head, said in of_size]
        print(" | ".join([name, *(", ".join(f"{row[column]:.3f}" for row in rows) for column in range(3))]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
