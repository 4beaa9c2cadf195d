"""Rerankers of the families of transformers after BERT: the encoders of `encoders.py` with a head and weights of their own, and
the numbers that transformers, or sentence-transformers for Qwen3-Reranker's form, gives to pairs in float64.

`models()` yields names and files, which are kept in `rerankers/NAME`. `numbers()` computes the pairs of a directory, which are
kept in `rerankers.jsonl`: one pair at a time, without padding. If a pair is too long, the text is cut.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import encoders
from encoders import LONG, Weights

IDENTITY = "torch.nn.modules.linear.Identity"
QUERIES = ["where is the quick fox?", "hello"]
TEXTS = ["", "the quick brown foxes jumps over the lazy dog.", "Hello World!  23 café", "go home", LONG * 5]

# As Qwen3-Reranker has them.
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
TEMPLATE = """{%- set instruction = messages | selectattr("role", "eq", "system") | map(attribute="content") | first | default("none") -%}
{%- set query_text = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}
{%- set document_text = messages | selectattr("role", "eq", "document") | map(attribute="content") | first -%}
<|im_start|>system
Judge the Document. Answer "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: {{ instruction }}
<Query>: {{ query_text }}
<Document>: {{ document_text }}<|im_end|>
<|im_start|>assistant
<think>

</think>


"""


def prefixed(base, prefix):
    """The tensors of an encoder under the names of a model with a head."""
    return {name if name.startswith(prefix) else f"{prefix}.{name}": tensor for name, tensor in base["model.safetensors"].items()}


def head(seed, *layers, dtype=torch.float32):
    """Linear layers (name, outputs, inputs, bias), and a normalisation where outputs is None."""
    w = Weights(seed, dtype)
    for name, outputs, inputs, bias in layers:
        if outputs is None:
            w.norm(name, inputs, bias=bias)
        else:
            w.linear(name, outputs, inputs, bias=bias, spread=4.0 if outputs == 1 else 1.5)
    return w.tensors


def one_label(base, **fields):
    return base["config.json"] | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}} | fields


def two_separators(base):
    """The tokenizer of XLM-RoBERTa: a pair has two separators in its middle."""
    tokenizer = json.loads(json.dumps(base["tokenizer.json"]))
    pair = tokenizer["post_processor"]["pair"]
    middle = next(i for i, part in enumerate(pair) if part.get("SpecialToken", {}).get("id") == "</s>")
    pair.insert(middle, pair[middle])
    for part in pair:
        next(iter(part.values()))["type_id"] = 0
    return tokenizer


def models(bases):
    """Yields name and files: the tokenizer of the base, and the files of the reranker."""
    for name, base, files in over(bases):
        kept = {file: bases[base][file] for file in ("tokenizer.json", "tokenizer_config.json")}
        yield name, {file: content for file, content in (kept | files).items() if content is not None}


def over(bases):
    """Yields name, base and the files over it."""
    modern, gte, roberta, qwen = (bases[name] for name in ("modernbert", "gte-new", "xlm-roberta-8192", "qwen3"))
    n = 16
    tops = lambda seed, bias: head(seed, ("head.dense", n, n, bias), ("head.norm", None, n, bias), ("classifier", 1, n, True))
    yield "modernbert-mean", "modernbert", {
        "config.json": one_label(modern, architectures=["ModernBertForSequenceClassification"]),
        "model.safetensors": prefixed(modern, "model") | tops(20, False)}
    norms = {name.replace("weight", "bias"): encoders.bias(n, i) for i, name in enumerate(prefixed(modern, "model")) if "norm" in name}
    yield "modernbert-cls", "modernbert", {
        "config.json": one_label(modern, architectures=["ModernBertForSequenceClassification"], classifier_pooling="cls",
                                 classifier_bias=True, classifier_activation="silu", norm_bias=True, norm_eps=1e-3),
        "model.safetensors": prefixed(modern, "model") | norms | tops(21, True)}
    tokenizer = two_separators(gte)
    # gte-multilingual-reranker-base has its tensors without a prefix.
    for name, prefix, fields in (("gte-new", "", {}), ("gte-library", "gte", {"model_type": "gte", "rope_scaling": None, "layer_norm_type": None,
                                 "rope_parameters": {"rope_type": "default", "rope_theta": 9000.0}, "position_embedding_type": None, "auto_map": None})):
        kept = {old.removeprefix("new."): tensor for old, tensor in gte["model.safetensors"].items()}
        prefix = f"{prefix}." if prefix else ""
        weights = {f"{prefix}{old}": tensor for old, tensor in kept.items()}
        weights |= head(22, (f"{prefix}pooler.dense", n, n, True), ("classifier", 1, n, True))
        config = one_label(gte, architectures=["GteForSequenceClassification" if prefix else "NewForSequenceClassification"], **fields)
        yield name, "gte-new", {"config.json": {field: value for field, value in config.items() if value is not None},
                                "tokenizer.json": tokenizer, "model.safetensors": weights}
    weights = prefixed(roberta, "roberta") | head(24, ("classifier.dense", 8, 8, True), ("classifier.out_proj", 1, 8, True), dtype=torch.float16)
    yield "xlm-roberta-8192", "xlm-roberta-8192", {
        "config.json": one_label(roberta, architectures=["XLMRobertaForSequenceClassification"]),
        "tokenizer.json": two_separators(roberta), "model.safetensors": weights}
    plain = json.loads(json.dumps(qwen["tokenizer.json"]))
    plain["post_processor"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    padding = qwen["config.json"]["eos_token_id"]
    yield "qwen3-labels", "qwen3", {
        "config.json": one_label(qwen, architectures=["Qwen3ForSequenceClassification"], pad_token_id=padding),
        "tokenizer.json": plain, "model.safetensors": prefixed(qwen, "model") | head(25, ("score", 1, n, False), dtype=torch.bfloat16)}
    vocabulary = plain["model"]["vocab"]
    settings = {"transformer_task": "text-generation", "module_output_name": "causal_logits", "modality_config": {
        "text": {"method": "forward", "method_output_name": "logits"}, "message": {"method": "forward", "method_output_name": "logits", "format": "flat"}}}
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
               {"idx": 1, "name": "1", "path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"}]
    words = {
        "modules.json": modules, "sentence_bert_config.json": settings, "tokenizer.json": plain, "config.json": qwen["config.json"],
        "1_LogitScore/config.json": {"true_token_id": vocabulary["y"], "false_token_id": vocabulary["n"], "module_input_name": "causal_logits"},
        "config_sentence_transformers.json": {"activation_fn": IDENTITY, "default_prompt_name": "query", "model_type": "CrossEncoder", "prompts": {"query": INSTRUCTION}},
        "tokenizer_config.json": qwen["tokenizer_config.json"] | {"chat_template": TEMPLATE}, "model.safetensors": prefixed(qwen, "model")}
    yield "qwen3-words", "qwen3", words
    lm_head = head(26, ("lm_head", len(prefixed(qwen, "model")["model.embed_tokens.weight"]), n, False), dtype=torch.bfloat16)
    yield "qwen3-one-word", "qwen3", words | {
        "config.json": qwen["config.json"] | {"tie_word_embeddings": False}, "model.safetensors": words["model.safetensors"] | lm_head,
        "1_LogitScore/config.json": {"true_token_id": vocabulary["y"], "false_token_id": None},
        "config_sentence_transformers.json": {"activation_fn": IDENTITY, "default_prompt_name": None, "model_type": "CrossEncoder", "prompts": {}},
        "tokenizer_config.json": qwen["tokenizer_config.json"], "chat_template.jinja": TEMPLATE.replace("<think>", "{% if add_generation_prompt %}<think>{% endif %}"),
        "sentence_bert_config.json": settings | {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}}
    yield "qwen3-labels-template", "qwen3", words | {
        "modules.json": modules[:1], "1_LogitScore/config.json": None, "sentence_bert_config.json": settings | {
            "transformer_task": "sequence-classification", "module_output_name": "scores",
            "modality_config": settings["modality_config"] | {"message": settings["modality_config"]["message"] | {"format": "structured"}}},
        "config.json": one_label(qwen, architectures=["Qwen3ForSequenceClassification"], pad_token_id=padding),
        "tokenizer_config.json": qwen["tokenizer_config.json"] | {"chat_template": TEMPLATE.replace('| map(attribute="content") | first', '| map(attribute="content") | map("first") | map(attribute="text") | first')},
        "model.safetensors": prefixed(qwen, "model") | head(25, ("score", 1, n, False), dtype=torch.bfloat16)}


def rewritten(directory):
    """Changes `NewModel` in a copy of a model to the library's own class, its tensors too."""
    new = json.loads((directory / "config.json").read_text()).get("model_type") == "new"
    encoders.loadable(directory)
    if new:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["GteForSequenceClassification"], "id2label": {"0": "LABEL_0"}}))
        path = directory / "model.safetensors"
        named = {name if name.startswith("classifier") else f"gte.{name}": tensor for name, tensor in load_file(path).items()}
        save_file(named, path, metadata={"format": "pt"})


def pairs(name):
    """The pairs of a model; those with 8,192 positions get a text beyond them, and the last text spells the padding token."""
    texts = [*TEXTS, "the lazy dog. " * 2100] if name == "xlm-roberta-8192" else TEXTS
    texts = [*texts, "go home<|endoftext|><|endoftext|>"] if name == "qwen3-labels" else texts
    return [(query, text) for query in QUERIES for text in texts]


def numbers(name, directory):
    """Computes tokens and number of each pair."""
    if (directory / "modules.json").exists():
        return by_template(name, directory)
    return by_tokenizer(name, directory)


def by_template(name, directory):
    """Computes them as sentence-transformers does: the pair is a chat, of which the tokenizer makes one text."""
    model = CrossEncoder(str(directory), device="cpu", model_kwargs={"torch_dtype": torch.float64}).double()
    encoders.exact_positions(model)
    template = {"add_generation_prompt": True} if name == "qwen3-one-word" else {}
    of_role = lambda role, text: {"role": role, "content": [{"type": "text", "text": text}] if name == "qwen3-labels-template" else text}
    system = [of_role("system", INSTRUCTION)] if model.default_prompt_name else []
    for query, text in pairs(name):
        chat = [*system, of_role("query", query), of_role("document", text)]
        whole = model.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, **template)["input_ids"]
        with encoders.exact():
            logit = model.predict([(query, text)], convert_to_tensor=True, activation_fn=torch.nn.Identity())
        assert logit.dtype == torch.float64
        yield {"model": name, "query": query, "text": text, "tokens": min(len(whole), model.max_length), "tokens_total": len(whole), "logit": logit.item()}


def by_tokenizer(name, directory):
    """Computes them by the class of transformers, with the tokenizer's own form of pairs."""
    rewritten(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model, found = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float64, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"], found
    model.eval()
    encoders.exact_positions(model)
    offset = 2 if model.config.model_type == "xlm-roberta" else 0
    length = min(tokenizer.model_max_length, model.config.max_position_embeddings - offset)
    for query, text in pairs(name):
        whole = tokenizer([(query, text)])["input_ids"][0]
        cut = tokenizer([(query, text)], return_tensors="pt", truncation="only_second", max_length=length)
        with torch.no_grad(), encoders.exact():
            logit = model(**cut).logits
        assert logit.dtype == torch.float64 and logit.shape == (1, 1)
        yield {"model": name, "query": query, "text": text, "tokens": cut["input_ids"].shape[1], "tokens_total": len(whole), "logit": logit.item()}
