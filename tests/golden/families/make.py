#!/usr/bin/env python3
"""Makes the models and the reference vectors of this folder: tiny models with random weights, one for each family and for
each module of a pipeline, and the vectors that the libraries give their texts in float64.

usage: make.py           writes all files again
       make.py --check   computes the vectors of the files that are there, and prints the largest difference; writes nothing

Needs torch, transformers, sentence-transformers and model2vec. A model is the files of its base, and over them those of its
own folder. `cases.jsonl` has a line for each model: its base, the kind of text, the texts, and their vectors at length 1.

sentence-transformers computes every model but those of model2vec, all modules in float64, one text at a time. For a model of
model2vec the library finds the tokens, and the mean of their rows is taken here in float64. `encoders.py` has the families of
transformers after BERT, `rerankers.py` the rerankers of them.
"""
import argparse, json, random, shutil, tempfile
from pathlib import Path

import numpy as np
import torch
from model2vec import StaticModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

import encoders, rerankers

HERE = Path(__file__).parent
HIDDEN = 16
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] hello world the fox ##es quick brown jump ##s over lazy dog query : passage . , ! "
    "a b c d e f ##a ##b ##c ##d ##e ##f cafe 1 2 ##3 Hello"
).split()
TEXTS = [
    "hello", "Hello World!", "the quick brown foxes jumps over the lazy dog.", "café, 23", "hello unknownword", "fox",
    "hello world " * 12, "a b c d e f abc def",
]


def tensor(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed * 1000 + sum(shape))
    return torch.randn(*shape, generator=generator) * (0.6 if len(shape) == 1 else 1.5 / shape[-1] ** 0.5)


def tokenizer(lowercase=True, special=True, truncation=None):
    token = lambda i: {"id": i, "content": WORDS[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": truncation, "padding": None, "added_tokens": [token(i) for i in range(4)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]} if special else None,
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": {word: i for i, word in enumerate(WORDS)}},
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values()):
        save_file({name: value.contiguous() for name, value in content.items()}, path, metadata={"format": "pt"})
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) + "\n")


def bert(dtype=torch.float32):
    n, inner = HIDDEN, 2 * HIDDEN
    shapes = {"embeddings.word_embeddings": (len(WORDS), n), "embeddings.position_embeddings": (32, n), "embeddings.token_type_embeddings": (2, n)}
    layer = "encoder.layer.0"
    linear = {f"{layer}.attention.self.{part}": (n, n) for part in ("query", "key", "value")}
    linear |= {f"{layer}.attention.output.dense": (n, n), f"{layer}.intermediate.dense": (inner, n), f"{layer}.output.dense": (n, inner)}
    weights = {f"{name}.weight": tensor(*shape, seed=i) for i, (name, shape) in enumerate((shapes | linear).items())}
    weights |= {f"{name}.bias": tensor(shape[0], seed=50 + i) for i, (name, shape) in enumerate(linear.items())}
    for i, norm in enumerate(("embeddings", f"{layer}.attention.output", f"{layer}.output")):
        weights |= {f"{norm}.LayerNorm.weight": 1 + tensor(n, seed=90 + i) / 4, f"{norm}.LayerNorm.bias": tensor(n, seed=95 + i)}
    return {name: value.to(dtype) for name, value in weights.items()}


def table(rows=len(WORDS), dtype=torch.float32, dimensions=12):
    values = tensor(rows, dimensions, seed=7) * 3
    values[0] = 0  # as model2vec leaves the padding token
    return (values * 20).round().clamp(-127, 127).to(torch.int8) if dtype == torch.int8 else values.to(dtype)


def module(path, name):
    return {"idx": 0, "name": path or "0", "path": path, "type": f"sentence_transformers.models.{name}"}


def pooled(*after, pooling, **files):
    """A transformer, its pooling and further modules: (name, config, weights) each."""
    return modules([module("", "Transformer"), module("1_Pooling", "Pooling")], after, {"1_Pooling/config.json": {"embedding_dimension": HIDDEN, **pooling}, **files})


def modules(first, after, files):
    listed = list(first)
    for i, (name, config, weights) in enumerate(after, start=len(first)):
        path = f"{i}_{name}"
        listed.append(module(path, name))
        files |= {f"{path}/config.json": config} if config else {}
        files |= {f"{path}/model.safetensors": weights} if weights else {}
    return {"modules.json": listed, **files}


def dense(inputs, outputs, function, bias=True, residual=False, dtype=torch.float32, seed=20):
    path = "torch.nn.modules.linear." if function == "Identity" else "torch.nn.modules.activation."
    config = {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": path + function}
    weights = {"linear.weight": tensor(outputs, inputs, seed=seed)}
    weights |= {"linear.bias": tensor(outputs, seed=seed)} if bias else {}
    if residual:
        config["use_residual"] = True
        weights |= {"residual.weight": tensor(outputs, inputs, seed=seed + 1)} if inputs != outputs else {}
    return "Dense", config, {name: value.to(dtype) for name, value in weights.items()}


def layer_norm(n):
    return "LayerNorm", {"dimension": n}, {"norm.weight": 1 + tensor(n, seed=30) / 4, "norm.bias": tensor(n, seed=31)}


NORMALIZE = ("Normalize", None, None)
PROMPTS = {"prompts": {"query": "query: ", "document": "passage: "}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
SETTINGS = "config_sentence_transformers.json"
STATIC = [module("", "StaticEmbedding")]


def models():
    """Yields name, base, kind of text and the files over the base."""
    one = lambda mode: {"pooling_mode": mode}
    switches = {f"pooling_mode_{name}": name in ("cls_token", "weightedmean_tokens", "max_tokens") for name in
                ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")}
    for mode in ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"):
        yield mode, "bert", "", pooled(pooling=one(mode))
    yield "several", "bert", "", pooled(NORMALIZE, pooling=one(["mean", "lasttoken", "max"]))
    yield "switches", "bert", "", pooled(pooling=switches)
    yield "dense-tanh-f16", "bert", "", pooled(dense(16, 12, "Tanh", bias=False, dtype=torch.float16), NORMALIZE, pooling=one("mean"))
    yield "dense-gelu-relu-bf16", "bert", "", pooled(
        dense(48, 20, "GELU", residual=True), dense(20, 20, "ReLU", residual=True, dtype=torch.bfloat16, seed=25), pooling=one(["cls", "mean", "max"]))
    yield "dense-sigmoid-silu-norms", "bert", "", pooled(
        NORMALIZE, dense(16, 24, "Sigmoid"), layer_norm(24), ("Dropout", {"dropout": 0.1}, None), dense(24, 8, "SiLU", seed=26), NORMALIZE, pooling=one("mean"))
    yield "dense-identity", "bert", "", pooled(dense(16, 4, "Identity"), pooling=one("weightedmean"))
    for kind in ("query", "document"):
        yield f"prompt-{kind}", "bert", kind, pooled(pooling=one("mean"), **{SETTINGS: PROMPTS})
        yield f"prompt-{kind}-left-out", "bert", kind, pooled(
            pooling={"include_prompt": False, **one(["mean", "weightedmean", "max", "lasttoken", "mean_sqrt_len_tokens"])}, **{SETTINGS: PROMPTS})
    yield "truncated", "bert", "", pooled(NORMALIZE, pooling=one("mean"), **{SETTINGS: {"truncate_dim": 6}})
    yield "checkpoint-f16", "bert", "", pooled(pooling=one("mean"), **{"model.safetensors": bert(torch.float16)})
    yield "checkpoint-bf16", "bert", "", pooled(pooling=one("mean"), **{"model.safetensors": bert(torch.bfloat16)})
    cased = {"tokenizer.json": tokenizer(lowercase=False), "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}}
    yield "lowercased", "bert", "", pooled(pooling=one("mean"), **cased, **{"sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": True}})

    weights = tensor(len(WORDS), seed=40).abs() + 0.1
    mapping = torch.tensor([(7 * i) % 9 for i in range(len(WORDS))])
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
    yield "model2vec-f32", "static", "", {"model.safetensors": {"embeddings": table()}, "config.json": config}
    yield "model2vec-f16-f64-weights", "static", "", {"model.safetensors": {"embeddings": table(dtype=torch.float16), "weights": weights.double()}, "config.json": config}
    yield "model2vec-int8-mapping-short", "static", "", {
        "model.safetensors": {"embeddings": table(9, torch.int8), "weights": weights, "mapping": mapping}, "config.json": {"normalize": False, "max_length": 5}}
    yield "model2vec-modules", "static", "", modules([module(".", "StaticEmbedding")], [NORMALIZE], {
        "model.safetensors": {"embeddings": table(9, torch.float64), "mapping": mapping.int()}, "config.json": config | {"max_length": None}})
    yield "static-embedding-bf16", "static", "", modules(STATIC, [], {"model.safetensors": {"embedding.weight": table(dtype=torch.bfloat16)}})
    truncation = {"direction": "Left", "max_length": 7, "strategy": "LongestFirst", "stride": 0}
    folder = {"0_StaticEmbedding/tokenizer.json": tokenizer(special=False, truncation=truncation), "0_StaticEmbedding/model.safetensors": {"embedding.weight": table()}}
    yield "static-embedding-pipeline", "nothing", "query", modules([module("0_StaticEmbedding", "StaticEmbedding")], [dense(12, 10, "Tanh"), NORMALIZE], folder | {SETTINGS: PROMPTS | {"truncate_dim": 9}})


BASES = {
    "bert": {
        "config.json": {
            "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "vocab_size": len(WORDS), "hidden_size": HIDDEN,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 2 * HIDDEN, "max_position_embeddings": 32,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0},
        "sentence_bert_config.json": {"max_seq_length": 32},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "cls_token": "[CLS]", "sep_token": "[SEP]",
                                  "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": None},
        "model.safetensors": bert(),
    },
    "static": {"tokenizer.json": tokenizer()},
    "nothing": {},
}


def load(directory):
    encoders.loadable(directory)
    model = SentenceTransformer(str(directory), device="cpu", model_kwargs={"torch_dtype": torch.float64}).double()
    encoders.exact_positions(model)
    return model


def vectors(directory, kind, texts):
    if not (directory / "modules.json").exists() or "embeddings" in header(directory):
        model = StaticModel.from_pretrained(directory)
        rows = [model._encode_helper_f64(ids) for ids in tokens(model)]
    else:
        model = load(directory)
        prompt = model.prompts.get(kind) or None
        with encoders.exact():
            rows = [model.encode([text], prompt=prompt, convert_to_numpy=True)[0] for text in texts]
        assert all(row.dtype == np.float64 for row in rows)
    return [(row / np.linalg.norm(row)).tolist() for row in rows]


def header(directory):
    path = directory / "model.safetensors"
    if not path.exists():
        return {}
    with open(path, "rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def tokens(model):
    """Yields the ids of each text as `encode` finds them."""
    for text in TEXTS:
        if model.max_length is not None:
            text = text[: model.max_length * model.median_token_length]
        yield model.tokenize([text])[0]


def mean(model, ids):
    rows = ids if model.token_mapping is None else model.token_mapping[ids]
    values = model.embedding[rows].astype(np.float64)
    if model.weights is not None:
        values *= model.weights[ids].astype(np.float64)[:, None]
    return values.mean(0)


StaticModel._encode_helper_f64 = mean


def hidden(base):
    """Returns the vectors of tokens of two texts, computed in float64 and rounded to float32."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(base, directory, dirs_exist_ok=True)
        found = encoders.states(load(Path(directory)), [TEXTS[2], encoders.LONG])
    return {name: value.to(torch.float32) if value.is_floating_point() else value for name, value in found.items()}


def pairs(check):
    """Yields the pairs of all rerankers with their numbers."""
    for name, files in rerankers.models(encoders.bases(tokenizer(), WORDS)):
        folder = HERE / "rerankers" / name
        if not check:
            for file, content in files.items():
                write(folder / file, content)
        with tempfile.TemporaryDirectory() as directory:
            shutil.copytree(folder, directory, dirs_exist_ok=True)
            for pair in rerankers.numbers(name, Path(directory)):
                yield pair | {"logit": float(f"{pair['logit']:.10g}")}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true")
    check = arguments.parse_args().check
    if not check:
        of_encoders = encoders.bases(tokenizer(), WORDS)
        for base, files in (BASES | of_encoders).items():
            for file, content in files.items():
                write(HERE / base / file, content)
        for base in of_encoders:
            write(HERE / base / "hidden.safetensors", hidden(HERE / base))
    there = {case["model"]: case for case in map(json.loads, (HERE / "cases.jsonl").read_text().splitlines())} if check else {}
    lines, worst = [], 0
    for name, base, kind, files, texts in [(*model, TEXTS) for model in models()] + list(encoders.models(TEXTS)):
        folder = HERE / "models" / name
        if not check:
            for file, content in files.items():
                write(folder / file, content)
        with tempfile.TemporaryDirectory() as directory:
            for source in (HERE / base, folder):
                if source.exists():
                    shutil.copytree(source, directory, dirs_exist_ok=True)
            rows = vectors(Path(directory), kind, texts)
        if check:
            worst = max(worst, np.abs(np.array(rows) - np.array(there[name]["vectors"])).max())
        rows = [[float(f"{x:.8g}") for x in row] for row in rows]
        lines.append(json.dumps({"model": name, "base": base, "kind": kind, "texts": texts, "vectors": rows}, ensure_ascii=False))
    scored = list(pairs(check))
    if check:
        there_too = map(json.loads, (HERE / "rerankers.jsonl").read_text().splitlines())
        worst = max(worst, *(abs(one["logit"] - other["logit"]) for one, other in zip(scored, there_too, strict=True)))
        for file in HERE.glob("*/hidden.safetensors"):
            there_too = load_file(file)
            differences = [(x - there_too[name]).abs().max().item() for name, x in hidden(file.parent).items()]
            worst = max(worst, *differences)
        print(f"{len(there)} models, largest difference {worst:.1e}")
    else:
        (HERE / "cases.jsonl").write_text("\n".join(lines) + "\n")
        (HERE / "rerankers.jsonl").write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in scored))


main()
