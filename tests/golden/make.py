#!/usr/bin/env python3
"""Makes the reference vectors of a sentence-transformers BERT: its forward pass in float64, one text at a time.

usage: make.py MODEL_DIR FILE           writes FILE again, with the texts it has
       make.py MODEL_DIR FILE --check   computes everything again and prints the largest difference; writes nothing

MODEL_DIR holds the model as the hub has it: config.json, tokenizer.json, model.safetensors, sentence_bert_config.json.
Needs numpy, safetensors and tokenizers. To add a text, append a line {"text": "..."} to FILE and run the first form.

The point is to be plain: no batch, so no padding and no mask; no fused step; float64, so that the error of float32
(about 1e-6 for this model) is all that a test sees. Pooling is the mean over all tokens, then the vector is scaled to
length 1.
"""
import argparse, json, math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

TOLERANCE = 1e-6
erf = np.vectorize(math.erf, otypes=[np.float64])


class Bert:
    def __init__(self, directory):
        self.config = json.loads((directory / "config.json").read_text())
        assert self.config["model_type"] == "bert" and self.config["hidden_act"] == "gelu", "only BERT with exact GELU"
        tensors = load_file(directory / "model.safetensors")
        self.w = {
            name.removeprefix("bert."): t.astype(np.float64) for name, t in tensors.items() if t.dtype.kind == "f"
        }

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        scaled = centred / np.sqrt(variance + self.config["layer_norm_eps"])
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attention(self, x, name):
        heads = self.config["num_attention_heads"]
        split = lambda y: y.reshape(len(x), heads, -1).transpose(1, 0, 2)  # [heads, tokens, hidden / heads]
        q, k, v = (split(self.linear(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
        return self.norm(self.linear(mixed, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")

    def forward(self, ids):
        """Token ids → hidden states, [tokens, hidden]."""
        table = lambda kind: self.w[f"embeddings.{kind}_embeddings.weight"]
        x = table("word")[ids] + table("position")[: len(ids)] + table("token_type")[0]
        x = self.norm(x, "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            x = self.attention(x, f"{name}.attention")
            up = self.linear(x, f"{name}.intermediate.dense")
            up = 0.5 * up * (1 + erf(up / math.sqrt(2)))
            x = self.norm(self.linear(up, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
        return x


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()

    bert = Bert(args.model)
    max_tokens = json.loads((args.model / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()  # tokenizer.json says 128; the model's own limit is applied below

    # Not splitlines(): the texts may hold characters that Python takes for line ends.
    old = [json.loads(line) for line in args.file.read_text(encoding="utf8").split("\n") if line]
    new, worst = [], 0.0
    for record in old:
        ids = tokenizer.encode(record["text"]).ids
        read = ids if len(ids) <= max_tokens else ids[: max_tokens - 1] + ids[-1:]  # the last token is [SEP]
        vector = bert.forward(read).mean(0)
        vector /= np.linalg.norm(vector)
        new.append({
            "text": record["text"],
            "tokens": len(read),
            "tokens_total": len(ids),
            "truncated": len(read) < len(ids),
            "embedding": [float(f"{value:.8g}") for value in vector],
        })
        if args.check:
            for key in ("tokens", "tokens_total", "truncated"):
                assert record[key] == new[-1][key], (
                    f"{record['text']!r}: {key} is {new[-1][key]}, the file says {record[key]}"
                )
            worst = max(worst, np.abs(np.array(record["embedding"]) - vector).max())
    if args.check:
        print(f"{len(new)} texts, largest difference {worst:.2g}")
        assert worst <= TOLERANCE, f"more than {TOLERANCE}"
    else:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in new)
        args.file.write_text("".join(lines), encoding="utf8", newline="\n")


if __name__ == "__main__":
    main()
