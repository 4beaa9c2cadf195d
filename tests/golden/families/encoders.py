"""The families of transformers after BERT: tiny checkpoints with random weights, in the form of published models, and the
vectors of their tokens.

`models()` and `BASES` are as in make.py. `exact()` makes the library compute in float64 where its code says float32: norms,
angles of positions, softmax. `states()` gives the vectors of each token of some texts, as a model with only the first 0, 1, 2, …
layers gives them; they are kept in `hidden.safetensors` of the base, with the tokens.

transformers has a class for each family. Alibaba's `NewModel` is computed by its class `gte`, with a configuration that says the
same (`loadable`): its NTK scaling by s is the base θ s, and frequencies divided by s^(2/d).
"""
import contextlib, copy, json
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models as kinds, normalizers, pre_tokenizers, processors, trainers

LONG = "the quick brown fox jumps over the lazy dog, and a b c d e f go home. " * 4
WORDS = "hello world the fox foxes quick brown jump jumps over lazy dog query passage search result title none text go home and cafe café"
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Weights:
    """Random tensors, each from a seed of its own name's place."""

    def __init__(self, seed, dtype=torch.float32):
        self.seed, self.dtype, self.tensors = seed, dtype, {}

    def add(self, name, *shape, scale=None, around=0.0):
        generator = torch.Generator().manual_seed(1000 * self.seed + len(self.tensors))
        scale = scale or (1.0 if len(shape) == 1 else 1.5 / shape[-1] ** 0.5)
        self.tensors[name] = (around + scale * torch.randn(*shape, generator=generator)).to(self.dtype)

    def linear(self, name, outputs, inputs, bias=False, spread=1.5):
        """`spread`: smaller for queries and keys whose scores would be so large that float32 loses digits."""
        self.add(f"{name}.weight", outputs, inputs, scale=spread / inputs**0.5)
        if bias:
            self.add(f"{name}.bias", outputs, scale=0.3)

    def norm(self, name, n, bias=False, around=1.0):
        self.add(f"{name}.weight", n, scale=0.25, around=around)
        if bias:
            self.add(f"{name}.bias", n, scale=0.3)


def corpus():
    return [WORDS, LONG, "Hello World! 23, unknownword " * 3]


def byte_level(size, special, split=None):
    """A byte-level BPE in the parts of ModernBERT's file, or with `split` of Qwen's."""
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.normalizer = normalizers.NFC()
    parts = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = parts if split is None else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), parts])
    trainer = trainers.BpeTrainer(vocab_size=size - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def around(tokenizer, first=None, last=None, before=()):
    """Puts the tokens around a text that its file asks for."""
    single = [token for token in (first, "$A", last) if token]
    special = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys((first, last)) if token]
    template = processors.TemplateProcessing(single=" ".join(single), pair=" ".join(single + ["$B:1"] + ([f"{last}:1"] if last else [])), special_tokens=special)
    tokenizer.post_processor = processors.Sequence([*before, template]) if before else template
    return json.loads(tokenizer.to_str())


def gemma_tokenizer():
    """A BPE with byte fallback in the parts of Gemma's file."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(kinds.BPE(fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f" {word}" for word in WORDS.split()]  # one by one, because a text is not divided before the merges
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=400, special_tokens=special + fallback, show_progress=False))
    whole = json.loads(tokenizer.to_str())
    whole["added_tokens"] = whole["added_tokens"][: len(special)]  # the bytes are tokens of the vocabulary only
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return around(tokenizer, "<bos>", "<eos>")


def unigram_tokenizer():
    """A Unigram in the parts of XLM-RoBERTa's file, but for its table of characters."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = ["▁", *"abcdefghijklmnopqrstuvwxyz.,!:", *(f"▁{word}" for word in WORDS.split()), "▁a", "▁b", "es", "s"]
    tokenizer = Tokenizer(kinds.Unigram(special + [(piece, -1.0 - i / 10) for i, piece in enumerate(pieces)], unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")])
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, _ in special])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    whole = around(tokenizer, "<s>", "</s>")
    return whole, tokenizer.get_vocab_size()


def modules(pooling, *after, prompts=None, **files):
    """A list of modules with its files: a transformer, a pooling, then (name, config, weights) each."""
    path = "sentence_transformers.models."
    listed = [{"idx": 0, "name": "0", "path": "", "type": f"{path}Transformer"}, {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{path}Pooling"}]
    for i, (name, config, weights) in enumerate(after, start=2):
        folder = f"{i}_{name}"
        listed.append({"idx": i, "name": str(i), "path": folder, "type": path + name})
        files |= {f"{folder}/config.json": config, f"{folder}/model.safetensors": weights} if config else {}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"} if prompts else None
    files |= {"config_sentence_transformers.json": settings} if settings else {}
    return {"modules.json": listed, "1_Pooling/config.json": pooling, **files}


def switches(mode, n):
    """The settings of a pooling in the older style, as published models have them."""
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {"word_embedding_dimension": n} | {f"pooling_mode_{name}": name == mode for name in names} | {"include_prompt": True}


NORMALIZE = ("Normalize", None, None)


def modernbert():
    """The form of gte-modernbert-base: layers 0 and 3 see the whole text, the others 4 tokens to each side."""
    n, inner, layers = 16, 24, 5
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer = byte_level(300, special)
    rows = tokenizer.get_vocab_size() + 4
    w = Weights(1, torch.bfloat16)
    w.add("embeddings.tok_embeddings.weight", rows, n, scale=1.0)
    w.norm("embeddings.norm", n)
    for i in range(layers):
        at = f"layers.{i}"
        if i > 0:
            w.norm(f"{at}.attn_norm", n)
        w.linear(f"{at}.attn.Wqkv", 3 * n, n, spread=0.9)
        w.linear(f"{at}.attn.Wo", n, n)
        w.norm(f"{at}.mlp_norm", n)
        w.linear(f"{at}.mlp.Wi", 2 * inner, n)
        w.linear(f"{at}.mlp.Wo", n, inner)
    w.norm("final_norm", n)
    id_of = tokenizer.token_to_id
    config = {
        "architectures": ["ModernBertModel"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": id_of("[CLS]"),
        "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0, "classifier_pooling": "mean",
        "cls_token_id": id_of("[CLS]"), "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0,
        "eos_token_id": id_of("[SEP]"), "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "gradient_checkpointing": False,
        "hidden_activation": "gelu", "hidden_size": n, "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": inner,
        "layer_norm_eps": 1e-05, "local_attention": 8, "local_rope_theta": 10000.0, "max_position_embeddings": 256, "mlp_bias": False,
        "mlp_dropout": 0.0, "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 2,
        "num_hidden_layers": layers, "pad_token_id": id_of("[PAD]"), "position_embedding_type": "absolute", "reference_compile": False,
        "repad_logits_with_grad": False, "sep_token_id": id_of("[SEP]"), "sparse_pred_ignore_index": -100, "sparse_prediction": False,
        "torch_dtype": "bfloat16", "transformers_version": "4.49.0", "vocab_size": rows,
    }
    settings = {
        "clean_up_tokenization_spaces": True, "cls_token": "[CLS]", "mask_token": "[MASK]", "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 256, "pad_token": "[PAD]", "sep_token": "[SEP]", "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]",
    }
    return modules(switches("cls_token", n)) | {
        "config.json": config, "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False}, "model.safetensors": w.tensors,
        "tokenizer.json": around(tokenizer, "[CLS]", "[SEP]"), "tokenizer_config.json": settings,
    }


def qwen3():
    """The form of Qwen3-Embedding: causal, two query heads for each key head, and heads wider than the hidden size."""
    n, inner, layers, heads, shared, of_head = 16, 40, 3, 4, 2, 8
    tokenizer = byte_level(300, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], SPLIT)
    w = Weights(2, torch.bfloat16)
    w.add("embed_tokens.weight", tokenizer.get_vocab_size(), n, scale=1.0)
    for i in range(layers):
        at = f"layers.{i}"
        w.norm(f"{at}.input_layernorm", n)
        for name, outputs, inputs in (("q_proj", heads * of_head, n), ("k_proj", shared * of_head, n), ("v_proj", shared * of_head, n), ("o_proj", n, heads * of_head)):
            w.linear(f"{at}.self_attn.{name}", outputs, inputs)
        for name in ("q_norm", "k_norm"):
            w.norm(f"{at}.self_attn.{name}", of_head)
        w.norm(f"{at}.post_attention_layernorm", n)
        w.linear(f"{at}.mlp.gate_proj", inner, n)
        w.linear(f"{at}.mlp.up_proj", inner, n)
        w.linear(f"{at}.mlp.down_proj", n, inner)
    w.norm("norm", n)
    config = {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|endoftext|>"), "head_dim": of_head, "hidden_act": "silu", "hidden_size": n, "initializer_range": 0.02,
        "intermediate_size": inner, "max_position_embeddings": 512, "max_window_layers": layers, "model_type": "qwen3", "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": shared, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
        "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.51.3", "use_cache": True,
        "use_sliding_window": False, "vocab_size": tokenizer.get_vocab_size(),
    }
    settings = {
        "add_bos_token": False, "add_prefix_space": False, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None,
        "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 512, "pad_token": "<|endoftext|>",
        "padding_side": "left", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }
    prompts = {"query": "Instruct: search the passage\nQuery:", "document": ""}
    return modules(switches("lasttoken", n), NORMALIZE, prompts=prompts) | {
        "config.json": config, "model.safetensors": w.tensors, "tokenizer_config.json": settings,
        "tokenizer.json": around(tokenizer, last="<|endoftext|>", before=[processors.ByteLevel(trim_offsets=False, use_regex=False)]),
    }


def nomic(tokenizer, words):
    """The form of nomic-embed-text-v1.5. Its feed-forward block is a multiple of 256 wide."""
    n, inner, layers = 16, 256, 2
    rows = 64
    w = Weights(3, torch.float16)
    w.add("embeddings.word_embeddings.weight", rows, n, scale=1.0)
    w.add("embeddings.token_type_embeddings.weight", 2, n, scale=0.5)
    w.norm("emb_ln", n, bias=True)
    for i in range(layers):
        at = f"encoder.layers.{i}"
        w.linear(f"{at}.attn.Wqkv", 3 * n, n)
        w.linear(f"{at}.attn.out_proj", n, n)
        w.norm(f"{at}.norm1", n, bias=True)
        w.linear(f"{at}.mlp.fc11", inner, n)
        w.linear(f"{at}.mlp.fc12", inner, n)
        w.linear(f"{at}.mlp.fc2", n, inner)
        w.norm(f"{at}.norm2", n, bias=True)
    config = {
        "activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0,
        "auto_map": {"AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig", "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        "bos_token_id": None, "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0, "eos_token_id": None, "fused_bias_fc": True,
        "fused_dropout_add_ln": True, "initializer_range": 0.02, "layer_norm_epsilon": 1e-12, "max_trained_positions": 128, "mlp_fc1_bias": False,
        "mlp_fc2_bias": False, "model_type": "nomic_bert", "n_embd": n, "n_head": 2, "n_inner": inner, "n_layer": layers, "n_positions": 512,
        "pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False, "prenorm": False, "qkv_proj_bias": False,
        "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
        "summary_activation": None, "summary_first_dropout": 0.0, "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
        "torch_dtype": "float32", "transformers_version": "4.37.2", "type_vocab_size": 2, "use_cache": True, "use_flash_attn": True,
        "use_rms_norm": False, "use_xentropy": True, "vocab_size": len(words),
    }
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": None}
    return modules(switches("mean_tokens", n)) | {
        "config.json": config, "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False}, "model.safetensors": w.tensors,
        "tokenizer.json": tokenizer, "tokenizer_config.json": settings,
    }


def gte():
    """The form of gte-multilingual-base: one token type, NTK scaling."""
    n, inner, layers = 16, 32, 2
    tokenizer, rows = unigram_tokenizer()
    w = Weights(4)
    w.add("new.embeddings.word_embeddings.weight", rows, n, scale=1.0)
    w.add("new.embeddings.token_type_embeddings.weight", 1, n, scale=0.5)
    w.norm("new.embeddings.LayerNorm", n, bias=True)
    for i in range(layers):
        at = f"new.encoder.layer.{i}"
        w.linear(f"{at}.attention.qkv_proj", 3 * n, n, bias=True, spread=0.9)
        w.linear(f"{at}.attention.o_proj", n, n, bias=True)
        w.norm(f"{at}.attn_ln", n, bias=True)
        w.linear(f"{at}.mlp.up_gate_proj", 2 * inner, n)
        w.linear(f"{at}.mlp.down_proj", n, inner, bias=True)
        w.norm(f"{at}.mlp_ln", n, bias=True)
    config = {
        "architectures": ["NewModel", "NewForTokenClassification"], "attention_probs_dropout_prob": 0.0,
        "auto_map": {"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig", "AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
        "classifier_dropout": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": n, "id2label": {"0": "LABEL_0"}, "initializer_range": 0.02,
        "intermediate_size": inner, "label2id": {"LABEL_0": 0}, "layer_norm_eps": 1e-12, "layer_norm_type": "layer_norm", "logn_attention_clip1": False,
        "logn_attention_scale": False, "max_position_embeddings": 256, "model_type": "new", "num_attention_heads": 2, "num_hidden_layers": layers,
        "pack_qkv": True, "pad_token_id": 1, "position_embedding_type": "rope", "rope_scaling": {"factor": 8.0, "type": "ntk"}, "rope_theta": 20000,
        "torch_dtype": "float16", "transformers_version": "4.39.1", "type_vocab_size": 1, "unpad_inputs": False, "use_memory_efficient_attention": False, "vocab_size": rows,
    }
    return modules(switches("cls_token", n), NORMALIZE) | {
        "config.json": config, "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False}, "model.safetensors": w.tensors,
        "tokenizer.json": tokenizer, "tokenizer_config.json": roberta_settings(256),
    }


def roberta_settings(length):
    return {
        "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False},
        "model_max_length": length, "pad_token": "<pad>", "sep_token": "</s>", "tokenizer_class": "XLMRobertaTokenizer", "unk_token": "<unk>",
    }


def gemma(bidirectional):
    """The form of embeddinggemma-300m; or of Gemma 3 itself, causal, with scaled positions in the layers that see the whole text."""
    n, inner, layers, heads, shared, of_head = 24, 36, 4, 3, 1, 8
    tokenizer = gemma_tokenizer()
    rows = len(tokenizer["model"]["vocab"])
    w = Weights(5 if bidirectional else 6, torch.bfloat16)
    w.add("embed_tokens.weight", rows, n, scale=0.3)
    for i in range(layers):
        at = f"layers.{i}"
        for name in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"):
            w.norm(f"{at}.{name}", n, around=0.0)
        for name, outputs, inputs in (("q_proj", heads * of_head, n), ("k_proj", shared * of_head, n), ("v_proj", shared * of_head, n), ("o_proj", n, heads * of_head)):
            w.linear(f"{at}.self_attn.{name}", outputs, inputs)
        for name in ("q_norm", "k_norm"):
            w.norm(f"{at}.self_attn.{name}", of_head, around=0.0)
        w.linear(f"{at}.mlp.gate_proj", inner, n)
        w.linear(f"{at}.mlp.up_proj", inner, n)
        w.linear(f"{at}.mlp.down_proj", n, inner)
    w.norm("norm", n, around=0.0)
    kinds_of_layers = ["sliding_attention"] * 2 + ["full_attention"] + ["sliding_attention"]
    config = {
        "_sliding_window_pattern": 3, "architectures": ["Gemma3TextModel"], "attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": None,
        "bos_token_id": 2, "dtype": "float32", "eos_token_id": 1, "final_logit_softcapping": None, "head_dim": of_head, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": n, "initializer_range": 0.02, "intermediate_size": inner, "layer_types": kinds_of_layers, "max_position_embeddings": 256,
        "model_type": "gemma3_text", "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": shared, "pad_token_id": 0,
        "query_pre_attn_scalar": 12, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0, "rope_scaling": None, "rope_theta": 1000000.0,
        "sliding_window": 10, "transformers_version": "4.57.0", "use_bidirectional_attention": True, "use_cache": True, "vocab_size": rows,
    }
    settings = {
        "add_bos_token": True, "add_eos_token": True, "bos_token": "<bos>", "clean_up_tokenization_spaces": False, "eos_token": "<eos>", "mask_token": "<mask>",
        "model_max_length": 256, "pad_token": "<pad>", "padding_side": "right", "sp_model_kwargs": None, "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False,
    }
    files = {"config.json": config, "model.safetensors": w.tensors, "tokenizer.json": tokenizer, "tokenizer_config.json": settings,
             "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False}}
    if not bidirectional:
        for field in ("layer_types", "_sliding_window_pattern", "use_bidirectional_attention"):
            del config[field]
        config |= {"sliding_window_pattern": 2, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "attention_bias": True}
        w.tensors |= {f"layers.{i}.self_attn.{name}.bias": bias(len(w.tensors[f"layers.{i}.self_attn.{name}.weight"]), 10 * i + j)
                      for i in range(layers) for j, name in enumerate(("q_proj", "k_proj", "v_proj", "o_proj"))}
        return modules(switches("lasttoken", n)) | files

    def dense(outputs, inputs, seed):
        layer = Weights(seed)
        layer.linear("linear", outputs, inputs)
        return "Dense", {"in_features": inputs, "out_features": outputs, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}, layer.tensors

    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    return modules(switches("mean_tokens", n), dense(40, n, 7), dense(n, 40, 8), NORMALIZE, prompts=prompts) | files


def bias(n, seed):
    return 0.3 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def long_roberta():
    """The form of bge-m3's dense vectors: XLM-RoBERTa with 8,192 positions. The rows of the table repeat, so it packs well."""
    n, inner, positions = 8, 16, 8194
    tokenizer, rows = unigram_tokenizer()
    w = Weights(9, torch.float16)
    w.add("embeddings.word_embeddings.weight", rows, n, scale=1.0)
    w.add("embeddings.position_embeddings.weight", 131, n, scale=0.5)
    w.add("embeddings.token_type_embeddings.weight", 1, n, scale=0.5)
    w.norm("embeddings.LayerNorm", n, bias=True)
    at = "encoder.layer.0"
    for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        w.linear(f"{at}.{name}", n, n, bias=True)
    w.linear(f"{at}.intermediate.dense", inner, n, bias=True)
    w.linear(f"{at}.output.dense", n, inner, bias=True)
    for name in ("attention.output", "output"):
        w.norm(f"{at}.{name}.LayerNorm", n, bias=True)
    table = w.tensors["embeddings.position_embeddings.weight"]
    w.tensors["embeddings.position_embeddings.weight"] = table.repeat(positions // len(table) + 1, 1)[:positions]
    config = {
        "architectures": ["XLMRobertaModel"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "classifier_dropout": None, "eos_token_id": 2,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": n, "initializer_range": 0.02, "intermediate_size": inner, "layer_norm_eps": 1e-05,
        "max_position_embeddings": positions, "model_type": "xlm-roberta", "num_attention_heads": 2, "num_hidden_layers": 1, "output_past": True,
        "pad_token_id": 1, "position_embedding_type": "absolute", "torch_dtype": "float32", "transformers_version": "4.33.0", "type_vocab_size": 1,
        "use_cache": True, "vocab_size": rows,
    }
    return modules(switches("cls_token", n), NORMALIZE) | {
        "config.json": config, "sentence_bert_config.json": {"max_seq_length": 8192, "do_lower_case": False}, "model.safetensors": w.tensors,
        "tokenizer.json": tokenizer, "tokenizer_config.json": roberta_settings(8192),
    }


def bases(tokenizer, words):
    """Returns the bases. `tokenizer` is that of BERT, for `words`."""
    return {
        "modernbert": modernbert(), "qwen3": qwen3(), "nomic-bert": nomic(tokenizer, words), "gte-new": gte(),
        "gemma3": gemma(True), "gemma3-causal": gemma(False), "xlm-roberta-8192": long_roberta(),
    }


def models(texts):
    """Yields name, base, kind of text, the files over the base, and the texts."""
    longer = [*texts, LONG]
    yield "modernbert-cls", "modernbert", "", {}, longer
    yield "modernbert-mean", "modernbert", "", {"1_Pooling/config.json": switches("mean_tokens", 16)}, longer
    for kind in ("query", "document"):
        yield f"qwen3-{kind}", "qwen3", kind, {}, longer
    truncated = {"prompts": {}, "default_prompt_name": None, "truncate_dim": 10}
    yield "qwen3-truncated", "qwen3", "", {"config_sentence_transformers.json": truncated}, longer
    yield "nomic-bert-mean", "nomic-bert", "", {}, longer
    yield "gte-new-cls", "gte-new", "", {}, longer
    for kind in ("query", "document"):
        yield f"gemma3-{kind}", "gemma3", kind, {}, longer
    yield "gemma3-causal-lasttoken", "gemma3-causal", "", {}, longer
    yield "xlm-roberta-8192-cls", "xlm-roberta-8192", "", {}, [*texts, LONG * 12, "the lazy dog. " * 1700]


def loadable(directory):
    """Changes the configuration in a copy of a model to that of the library's own class."""
    path = Path(directory) / "config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    if config.get("model_type") == "new":
        of_head = config["hidden_size"] // config["num_attention_heads"]
        factor = config["rope_scaling"]["factor"]
        rope = {"rope_type": "linear", "rope_theta": config["rope_theta"] * factor, "factor": factor ** (2 / of_head)}
        same = ("hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "pad_token_id", "type_vocab_size", "vocab_size")
        config = {"model_type": "gte", "architectures": ["GteModel"], "rope_parameters": rope} | {name: config[name] for name in same}
    elif config.get("model_type") == "nomic_bert":
        names = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "intermediate_size": "n_inner", "num_hidden_layers": "n_layer", "max_position_embeddings": "n_positions", "layer_norm_eps": "layer_norm_epsilon"}
        multiple = config["pad_vocab_size_multiple"]
        own = {"vocab_size": -(-config["vocab_size"] // multiple) * multiple, "hidden_act": "silu", "pad_token_id": 0}
        rope = {"rope_type": "default", "rope_theta": config["rotary_emb_base"]}
        config = {"model_type": "nomic_bert", "architectures": ["NomicBertModel"], "type_vocab_size": 2, "rope_parameters": rope} | own | {name: config[old] for name, old in names.items()}
    path.write_text(json.dumps(config)) if config else None


@contextlib.contextmanager
def exact():
    """Makes float64 of the float32 that the library asks for."""
    before = torch.float, torch.float32, torch.Tensor.float
    torch.float, torch.float32, torch.Tensor.float = torch.float64, torch.float64, torch.Tensor.double
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = before


def exact_positions(model):
    """Computes the frequencies of positions again, in float64."""
    for module in model.modules():
        if "Rotary" in type(module).__name__:
            with exact():
                module.__init__(module.config)


def states(model, texts):
    """Returns the tokens of each text, and their vectors after each number of layers: [layers + 1, tokens, hidden_size]."""
    with exact():
        return exact_states(model, texts)


def exact_states(model, texts):
    network, found = model[0].auto_model, {}
    layers = network.layers if hasattr(network, "layers") else network.encoder.layer
    final = next((getattr(network, name) for name in ("final_norm", "norm") if hasattr(network, name)), None)
    for i, text in enumerate(texts):
        seen = []
        hooks = [layers[0].register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)]
        hooks += [layer.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out)) for layer in layers]
        tokens = model.tokenize([text])
        with torch.no_grad():
            last = network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
            rows = torch.cat([final(x) if final is not None else x for x in seen])
        for hook in hooks:
            hook.remove()
        assert torch.equal(rows[-1], last[0]) and rows.dtype == torch.float64, (rows.dtype, (rows[-1] - last[0]).abs().max())
        found |= {f"tokens.{i}": tokens["input_ids"][0].clone(), f"states.{i}": rows}
    return found
