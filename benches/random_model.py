"""Models with random weights in the sizes of published ones, for measurements: random weights take the same time.

ModernBERT-base (22 layers of 768, 149 million weights), Qwen3-Embedding-0.6B, embeddinggemma-300m, all-MiniLM-L6-v2.
The vocabulary is that of the tokenizer, which takes no part in the time. Pooling is the mean. Needs torch and
transformers.
"""

import json
import pathlib
import shutil

import torch
import transformers

FAMILIES = ["modernbert", "qwen3", "gemma3", "bert"]


def configuration(family, most):
    """Returns the sizes of a published model."""
    common = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "vocab_size": 32000}
    common["max_position_embeddings"] = max(8192, most)
    match family:
        case "modernbert":
            return transformers.ModernBertConfig(**common, cls_token_id=0, sep_token_id=0)
        case "qwen3":
            sizes = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "head_dim": 128}
            return transformers.Qwen3Config(**common, **sizes, num_attention_heads=16, num_key_value_heads=8)
        case "gemma3":
            sizes = {"hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 24, "sliding_window": 512}
            heads = {"num_attention_heads": 3, "num_key_value_heads": 1, "use_bidirectional_attention": True}
            return transformers.Gemma3TextConfig(**common, **sizes, **heads)
        case "bert":
            sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
            return transformers.BertConfig(vocab_size=32000, **sizes, max_position_embeddings=most)


def write(directory, family, tokenizer, most):
    """Writes a model as sentence-transformers has it, and returns it. `tokenizer` has a tokenizer.json with at most
    as many tokens, and `most` is the most tokens of a text."""
    directory = pathlib.Path(directory)
    torch.manual_seed(1)
    model = transformers.AutoModel.from_config(configuration(family, most), attn_implementation="sdpa").eval()
    model.save_pretrained(directory)
    shutil.copy(pathlib.Path(tokenizer) / "tokenizer.json", directory)
    path = "sentence_transformers.models."
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"idx": i, "name": str(i), "path": at, "type": path + name} for i, (at, name) in enumerate(parts)]
    pooling = {"word_embedding_dimension": model.config.hidden_size, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling").mkdir()
    for name, content in {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": most},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }.items():
        (directory / name).write_text(json.dumps(content))
    return model
