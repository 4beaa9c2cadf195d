//! Settings of models: embedding models, classifiers, rerankers, and the machine that computes them.

use super::setting::{Setting, setting};
use crate::model;

pub const MODELS: &[Setting] = &[
    setting(
        "model",
        "PLACE",
        model::DEFAULT_MODEL,
        "Embedding model: an id on the hub or a directory, or NAME=DIR or NAME=owner/name[@revision]; repeat for \
         several, the first is the default; each takes the memory of its weights",
    ),
    setting(
        "revision",
        "REV",
        "",
        "Branch, tag or commit on the hub of the model without a name; default: its main branch",
    ),
    setting("offline", "BOOL", "false", "Load models from disk only; fail at once if one is not there"),
    setting(
        "backend",
        "BACKEND",
        "candle",
        "Engine of the embedding models: candle, or onnx for the ONNX graph of each on the CPU",
    ),
    setting(
        "device",
        "DEVICE",
        "auto",
        "Device of the models: auto (the best one present), cpu, cuda, cuda:N or metal",
    ),
    setting(
        "cpu",
        "LEVEL",
        "auto",
        "CPU instructions: auto (the best that the CPU has), or a lower level to compare, for example portable or avx2",
    ),
    setting(
        "precision",
        "PRECISION",
        "f32",
        "Arithmetic of the models: f32; on a CPU int8, faster (most with VNNI) and nearly as accurate; on a GPU f16 or \
         bf16",
    ),
    setting(
        "allow_precision_mix",
        "BOOL",
        "false",
        "Allow collections that the same model filled in another precision; their scores differ by about 0.003",
    ),
    setting(
        "threads",
        "N",
        "auto",
        "Worker threads on a CPU, which the models share, and threads that build graphs; auto follows the container's \
         quota, more threads than that are slower",
    ),
    setting(
        "batch_tokens",
        "N",
        "auto",
        "Tokens in one batch at most; higher: more throughput on an accelerator, small calls wait longer",
    ),
    setting(
        "queue_tokens",
        "N",
        "262144",
        "Tokens that may wait for each model; above it unary calls get RESOURCE_EXHAUSTED and streams wait",
    ),
    setting(
        "embed_cache_bytes",
        "SIZE",
        "auto",
        "Cache for the vectors of repeated texts, divided evenly between the models, 0 for none; higher: more repeated \
         texts cost nothing; auto: 64 MiB, or less in a small container",
    ),
    setting(
        "classifier",
        "NAME=PLACE",
        "sentiment",
        "Text classifier: sentiment, none, NAME=DIR, NAME=owner/name[@revision] or NAME=FILE of train-head; #FILE.onnx \
         selects another graph; repeat for several, the first is the default",
    ),
    setting(
        "classifier_labels",
        "NAME=A,B",
        "",
        "Labels of a classifier without labels in its configuration, in the order of its scores; repeat for several",
    ),
    setting(
        "reranker",
        "NAME=PLACE",
        "",
        "Cross-encoder for Rerank: NAME=DIR or NAME=owner/name[@revision] with safetensors, or with #FILE.onnx for a \
         graph; repeat for several, the first is the default; each takes the memory of its model",
    ),
    setting(
        "reranker_precision",
        "PRECISION",
        "auto",
        "Arithmetic of rerankers with safetensors: f32, int8, f16, bf16, or auto: that of precision",
    ),
    setting(
        "onnx_runtime",
        "RUNTIME",
        "auto",
        "Engine for ONNX graphs: onnxruntime, rten, or auto: ONNX Runtime if its library is found, otherwise rten",
    ),
    setting(
        "onnxruntime",
        "PATH",
        "",
        "ONNX Runtime's library, or its directory; default: the usual directories are searched",
    ),
    setting(
        "onnx_optimization",
        "LEVEL",
        "all",
        "Optimisation of a graph when it is loaded: none, basic, extended or all; more: faster, slower to load",
    ),
    setting("onnx_threads", "N", "auto", "Threads that share a batch of an ONNX graph; auto: the value of threads"),
];
