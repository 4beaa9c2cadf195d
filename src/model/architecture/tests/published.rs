//! Configurations as published models have them, and the parts that they describe.

use super::*;

fn read_all(config: &Value) -> Architecture {
    read_from(config).unwrap_or_else(|error| panic!("{error}"))
}

/// Parses a configuration, which is longer than `json!` takes.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("valid JSON")
}

/// granite-embedding-english-r2; with other numbers ModernBERT itself and gte-modernbert-base.
fn granite() -> Value {
    parsed(
        r#"{
        "architectures": ["ModernBertModel"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 50281,
        "classifier_activation": "gelu", "classifier_bias": false, "classifier_dropout": 0.0,
        "classifier_pooling": "mean", "cls_token_id": 50281, "decoder_bias": true, "deterministic_flash_attn": false,
        "embedding_dropout": 0.0, "eos_token_id": 50282, "global_attn_every_n_layers": 3,
        "global_rope_theta": 80000.0, "gradient_checkpointing": false, "hidden_activation": "gelu",
        "hidden_size": 768, "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": 1152,
        "layer_norm_eps": 1e-05, "local_attention": 128, "local_rope_theta": 10000.0,
        "max_position_embeddings": 8192, "mlp_bias": false, "mlp_dropout": 0.0, "model_type": "modernbert",
        "norm_bias": false, "norm_eps": 1e-05, "num_attention_heads": 12, "num_hidden_layers": 22,
        "pad_token_id": 50283, "position_embedding_type": "absolute", "reference_compile": false,
        "repad_logits_with_grad": false, "sep_token_id": 50282, "sparse_pred_ignore_index": -100,
        "sparse_prediction": false, "torch_dtype": "bfloat16", "transformers_version": "4.49.0", "vocab_size": 50368
    }"#,
    )
}

/// Qwen3-Embedding-0.6B.
fn qwen3() -> Value {
    parsed(
        r#"{
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151643, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
        "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 32768,
        "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1000000,
        "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.3", "use_cache": true, "use_sliding_window": false, "vocab_size": 151669
    }"#,
    )
}

/// nomic-embed-text-v1.5.
fn nomic() -> Value {
    parsed(
        r#"{
        "activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0,
        "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        "bos_token_id": null, "causal": false, "dense_seq_output": true, "embd_pdrop": 0.0, "eos_token_id": null,
        "fused_bias_fc": true, "fused_dropout_add_ln": true, "initializer_range": 0.02, "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 2048, "mlp_fc1_bias": false, "mlp_fc2_bias": false, "model_type": "nomic_bert",
        "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12, "n_positions": 8192,
        "pad_vocab_size_multiple": 64, "parallel_block": false, "parallel_block_tied_norm": false, "prenorm": false,
        "qkv_proj_bias": false, "reorder_and_upcast_attn": false, "resid_pdrop": 0.0, "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false, "rotary_emb_scale_base": null,
        "rotary_scaling_factor": null, "scale_attn_by_inverse_layer_idx": false, "scale_attn_weights": true,
        "summary_activation": null, "summary_first_dropout": 0.0, "summary_proj_to_labels": true,
        "summary_type": "cls_index", "summary_use_proj": true, "torch_dtype": "float32",
        "transformers_version": "4.37.2", "type_vocab_size": 2, "use_cache": true, "use_flash_attn": true,
        "use_rms_norm": false, "use_xentropy": true, "vocab_size": 30528
    }"#,
    )
}

/// gte-multilingual-base.
fn gte() -> Value {
    parsed(
        r#"{
        "architectures": ["NewModel", "NewForTokenClassification"], "attention_probs_dropout_prob": 0.0,
        "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"}, "classifier_dropout": 0.0,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "id2label": {"0": "LABEL_0"},
        "initializer_range": 0.02, "intermediate_size": 3072, "label2id": {"LABEL_0": 0}, "layer_norm_eps": 1e-12,
        "layer_norm_type": "layer_norm", "logn_attention_clip1": false, "logn_attention_scale": false,
        "max_position_embeddings": 8192, "model_type": "new", "num_attention_heads": 12, "num_hidden_layers": 12,
        "pack_qkv": true, "pad_token_id": 1, "position_embedding_type": "rope",
        "rope_scaling": {"factor": 8.0, "type": "ntk"}, "rope_theta": 20000, "torch_dtype": "float16",
        "transformers_version": "4.39.1", "type_vocab_size": 1, "unpad_inputs": false,
        "use_memory_efficient_attention": false, "vocab_size": 250048
    }"#,
    )
}

/// embeddinggemma-300m.
fn gemma() -> Value {
    let kind = |layer| if layer % 6 == 5 { "full_attention" } else { "sliding_attention" };
    let config = parsed(
        r#"{
        "_sliding_window_pattern": 6, "architectures": ["Gemma3TextModel"], "attention_bias": false,
        "attention_dropout": 0.0, "attn_logit_softcapping": null, "bos_token_id": 2, "dtype": "float32",
        "eos_token_id": 1, "final_logit_softcapping": null, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 1152,
        "max_position_embeddings": 2048, "model_type": "gemma3_text", "num_attention_heads": 3,
        "num_hidden_layers": 24, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000.0, "rope_scaling": null, "rope_theta": 1000000.0,
        "sliding_window": 512, "transformers_version": "4.57.0.dev0", "use_bidirectional_attention": true,
        "use_cache": true, "vocab_size": 262144
    }"#,
    );
    changed(config, json!({"layer_types": (0..24).map(kind).collect::<Vec<_>>()}))
}

fn rope(theta: f64) -> Option<Rope> {
    Some(Rope { theta, factor: 1.0 })
}

#[test]
fn modernbert_has_a_window_in_two_of_three_layers_and_another_base_there() {
    let found = read_all(&granite());
    assert_eq!(
        (found.family, found.hidden_size, found.head_dim, found.layers.len()),
        (Family::ModernBert, 768, 64, 22)
    );
    assert_eq!((found.hidden_act, found.layer_norm_eps, found.positions()), (Activation::Gelu, 1e-5, 8192));
    assert_eq!((found.design.norm, found.design.norm_place), (Norm::Layer, NormPlace::Before));
    let none = Biases { qkv: false, output: false, up: false, down: false, norm: false };
    assert!(found.design.gated && found.design.normalises_embeddings && found.design.biases == none);
    for (i, layer) in found.layers.iter().enumerate() {
        let (span, theta) = if i % 3 == 0 { (Span::ALL, 80_000.0) } else { (Span::window(64), 10_000.0) };
        assert_eq!(*layer, Layer { span, rope: rope(theta), normalises_attention: i > 0 }, "layer {i}");
    }
    // gte-modernbert-base and mmBERT-base.
    let gte =
        read_all(&changed(granite(), json!({"global_rope_theta": 160000.0, "architectures": ["ModernBertModel"]})));
    assert_eq!((gte.layers[3].rope, gte.layers[4].rope), (rope(160_000.0), rope(10_000.0)));
    let mm = json!({
        "architectures": ["ModernBertForMaskedLM"], "global_rope_theta": 160000, "local_rope_theta": 160000,
        "vocab_size": 256000, "position_embedding_type": "sans_pos", "pad_token_id": 0, "bos_token_id": 2,
        "cls_token_id": 1, "eos_token_id": 1, "sep_token_id": 1, "mask_token_id": 4, "unk_token_id": 3,
    });
    let mm = read_all(&changed(granite(), mm));
    assert_eq!((mm.layers[3].rope, mm.layers[4].rope, mm.vocab_size), (rope(160_000.0), rope(160_000.0), 256_000));
}

#[test]
fn qwen3_is_causal_with_grouped_queries_and_heads_of_their_own_width() {
    let found = read_all(&qwen3());
    let heads = (found.num_attention_heads, found.num_key_value_heads, found.head_dim, found.hidden_size);
    assert_eq!((heads, found.positions(), found.layers.len()), ((16, 8, 128, 1024), 32_768, 28));
    assert_eq!((found.hidden_act, found.layer_norm_eps, found.query_pre_attn_scalar), (Activation::Silu, 1e-6, 128.0));
    assert_eq!((found.design.norm, found.design.norm_place), (Norm::Rms, NormPlace::Before));
    assert!(found.design.normalises_queries_and_keys && !found.design.normalises_embeddings);
    let layer = Layer { span: Span::CAUSAL, rope: rope(1_000_000.0), normalises_attention: true };
    assert!(found.layers.iter().all(|found| *found == layer));
    let sliding = json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 26});
    let spans = read_all(&changed(qwen3(), sliding)).layers.iter().map(|layer| layer.span).collect::<Vec<_>>();
    assert_eq!(spans[25..], [Span::CAUSAL, Span { before: 63, after: 0 }, Span { before: 63, after: 0 }]);
}

#[test]
fn nomic_bert_is_read_in_its_own_form_and_in_that_of_transformers() {
    let found = read_all(&nomic());
    assert_eq!((found.vocab_size, found.hidden_size, found.intermediate_size), (30_528, 768, 3072));
    assert_eq!((found.hidden_act, found.type_vocab_size, found.positions()), (Activation::Silu, 2, 8192));
    assert_eq!((found.design.norm_place, found.layers[11].rope), (NormPlace::After, rope(1000.0)));
    let biases = Biases { qkv: false, output: false, up: false, down: false, norm: true };
    assert_eq!((found.design.biases, found.design.gated, found.layer_norm_eps), (biases, true, 1e-12));
    let library = json!({
        "architectures": ["NomicBertModel"], "model_type": "nomic_bert", "vocab_size": 30528, "hidden_size": 768,
        "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "silu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 8192,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "head_dim": 64,
        "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}, "transformers_version": "5.5.0",
    });
    assert_eq!(read_all(&library), found);
    // The published file has got fields of the library later, beside those of its own code.
    let both = json!({
        "max_position_embeddings": 2048, "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
        "hidden_size": 768, "num_hidden_layers": 12, "hidden_act": "silu", "layer_norm_eps": 1e-12,
    });
    assert_eq!(read_all(&changed(nomic(), both)), found);
    // Sizes that the model's own code rounds up.
    let odd =
        read_all(&changed(nomic(), json!({"vocab_size": 30522, "n_inner": 3000, "activation_function": "geglu"})));
    assert_eq!((odd.vocab_size, odd.intermediate_size, odd.hidden_act), (30_528, 3072, Activation::Gelu));
}

#[test]
fn gte_scales_its_positions_by_ntk() {
    let found = read_all(&gte());
    let Some(Rope { theta, factor }) = found.layers[0].rope else { panic!("{found:?}") };
    assert_eq!((theta, factor), (160_000.0, 8f64.powf(1.0 / 32.0)));
    assert_eq!((found.type_vocab_size, found.positions(), found.layers.len()), (1, 8192, 12));
    let biases = Biases { qkv: true, output: true, up: false, down: true, norm: true };
    assert_eq!((found.design.norm_place, found.design.biases), (NormPlace::After, biases));
    // transformers' own class writes the scaling in its way.
    let mut library = gte();
    for field in ["rope_scaling", "rope_theta", "auto_map", "architectures"] {
        library.as_object_mut().unwrap().remove(field);
    }
    let parameters = json!({"rope_type": "linear", "rope_theta": 160_000.0, "factor": 8f64.powf(1.0 / 32.0)});
    let library = changed(library, json!({"model_type": "gte", "rope_parameters": parameters}));
    assert_eq!(read_all(&library), found);
    // gte-base-en-v1.5 has no token types.
    let english = json!({"type_vocab_size": 0, "vocab_size": 30528, "rope_theta": 500000, "rope_scaling": null});
    let english = read_all(&changed(gte(), english));
    assert_eq!((english.type_vocab_size, english.layers[0].rope), (0, rope(500_000.0)));
}

#[test]
fn embedding_gemma_looks_in_both_directions_and_gemma_backwards() {
    let found = read_all(&gemma());
    let heads = (found.num_attention_heads, found.num_key_value_heads, found.head_dim, found.hidden_size);
    assert_eq!((heads, found.query_pre_attn_scalar, found.positions()), ((3, 1, 256, 768), 256.0, 2048));
    assert_eq!((found.design.norm, found.design.norm_place), (Norm::RmsPlusOne, NormPlace::BeforeAndAfter));
    assert!(found.design.scales_embeddings && found.design.normalises_queries_and_keys);
    for (i, layer) in found.layers.iter().enumerate() {
        let (span, theta) = if i % 6 == 5 { (Span::ALL, 1e6) } else { (Span::window(256), 1e4) };
        assert_eq!(*layer, Layer { span, rope: rope(theta), normalises_attention: true }, "layer {i}");
    }
    let mut causal = gemma();
    for field in ["layer_types", "use_bidirectional_attention"] {
        causal.as_object_mut().unwrap().remove(field);
    }
    let scaled =
        json!({"architectures": ["Gemma3ForCausalLM"], "rope_scaling": {"factor": 8.0, "rope_type": "linear"}});
    let causal = read_all(&changed(causal, scaled));
    assert_eq!((causal.layers[4].span, causal.layers[4].rope), (Span { before: 511, after: 0 }, rope(1e4)));
    assert_eq!((causal.layers[5].span, causal.layers[5].rope), (Span::CAUSAL, Some(Rope { theta: 1e6, factor: 8.0 })));
}

#[test]
fn bge_m3_and_its_reranker_have_8192_positions() {
    let of_class = |class: &str| {
        read_all(&json!({
            "architectures": [class], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
            "classifier_dropout": null, "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 4096, "layer_norm_eps": 1e-5,
            "max_position_embeddings": 8194, "model_type": "xlm-roberta", "num_attention_heads": 16,
            "num_hidden_layers": 24, "output_past": true, "pad_token_id": 1, "position_embedding_type": "absolute",
            "torch_dtype": "float32", "type_vocab_size": 1, "use_cache": true, "vocab_size": 250002,
        }))
    };
    let found = of_class("XLMRobertaModel");
    assert_eq!((found.positions(), found.padding, found.layers.len()), (8192, Some(1), 24));
    assert_eq!(of_class("XLMRobertaForSequenceClassification"), found);
}

/// gte-reranker-modernbert-base differs from granite in this.
#[test]
fn the_reranker_of_gte_is_modernbert_itself() {
    let reranker = json!({
        "architectures": ["ModernBertForSequenceClassification"], "global_rope_theta": 160000.0,
        "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "torch_dtype": "float32",
        "transformers_version": "4.48.0.dev0",
    });
    let found = read_all(&changed(granite(), reranker));
    assert_eq!((found.layers[3].rope, found.layers[4].span), (rope(160_000.0), Span::window(64)));
}

/// The form that version 5 of transformers writes.
#[test]
fn rotations_and_kinds_of_layers_are_read_in_the_newer_form_too() {
    let kind = |layer| if layer % 3 == 0 { "full_attention" } else { "sliding_attention" };
    let newer = |theta: f64| json!({"rope_theta": theta, "rope_type": "default"});
    let mut config = granite();
    for field in ["global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"] {
        config.as_object_mut().unwrap().remove(field);
    }
    let config = changed(
        config,
        json!({
            "layer_types": (0..22).map(kind).collect::<Vec<_>>(),
            "rope_parameters": {"full_attention": newer(80_000.0), "sliding_attention": newer(10_000.0)},
        }),
    );
    assert_eq!(read_all(&config), read_all(&granite()));
    let mut config = qwen3();
    config.as_object_mut().unwrap().remove("rope_theta");
    let config = changed(config, json!({"rope_parameters": newer(1e6), "layer_types": vec!["full_attention"; 28]}));
    assert_eq!(read_all(&config), read_all(&qwen3()));
}

#[test]
fn what_a_family_does_not_compute_is_refused_by_the_name_of_its_field() {
    let refused = |config: &Value, changes: Value, named: &str| {
        let error = read_from(&changed(config.clone(), changes)).unwrap_err();
        assert!(error.contains(named) && error.contains("config.json"), "{named}: {error}");
    };
    for config in [granite(), qwen3(), nomic(), gte(), gemma()] {
        refused(&config, json!({"a_new_idea": 1}), "a_new_idea is 1, which is not supported");
        refused(&config, json!({"quantization_config": {"bits": 4}}), "quantization_config is");
        refused(&config, json!({"vocab_size": 0}), "vocab_size is 0");
        refused(&config, json!({"vocab_size": "many"}), "vocab_size: invalid type");
        refused(&config, json!({"architectures": ["BertModel"]}), "architectures is BertModel");
    }
    refused(&granite(), json!({"num_hidden_layers": 1001}), "num_hidden_layers is 1001, and must be at most 1000");
    refused(
        &granite(),
        json!({"num_attention_heads": 11}),
        "hidden_size 768 must be a multiple of num_attention_heads",
    );
    refused(&granite(), json!({"layer_types": ["full_attention"]}), "layer_types has 1 layers");
    refused(&granite(), json!({"rope_scaling": {"type": "yarn"}}), "rope_scaling.rope_type is yarn");
    refused(&granite(), json!({"is_decoder": true}), "is_decoder is true");
    refused(&qwen3(), json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}), "rope_type is dynamic");
    refused(&qwen3(), json!({"rope_scaling": {"type": "ntk", "factor": 2.0}}), "rope_type is ntk");
    refused(&qwen3(), json!({"rope_parameters": {"beta_fast": 32}}), "rope_parameters.beta_fast is 32");
    refused(&qwen3(), json!({"rope_theta": -1}), "the base of the rotation is -1");
    refused(&qwen3(), json!({"num_key_value_heads": 5}), "num_attention_heads 16 must be a multiple of");
    refused(&qwen3(), json!({"layer_types": vec!["chunked_attention"; 28]}), "layer_types is chunked_attention");
    refused(&qwen3(), json!({"use_bidirectional_attention": true}), "use_bidirectional_attention is true");
    refused(&qwen3(), json!({"head_dim": 127}), "head_dim is 127");
    refused(&nomic(), json!({"rotary_scaling_factor": 2.0}), "rotary_scaling_factor is 2.0");
    refused(&nomic(), json!({"rope_parameters": {"rope_theta": 10.0}}), "rope_parameters is another rotation");
    refused(&nomic(), json!({"hidden_size": 512}), "hidden_size is 512");
    refused(&nomic(), json!({"rotary_emb_fraction": 0.5}), "rotary_emb_fraction is 0.5");
    refused(&nomic(), json!({"activation_function": "gelu"}), "activation_function is gelu");
    refused(&nomic(), json!({"num_experts": 8, "moe_every_n_layers": 2}), "moe_every_n_layers is 2");
    refused(&gte(), json!({"rope_scaling": {"type": "ntk", "factor": 8.0, "mixed_b": 0.6}}), "rope_scaling.mixed_b is");
    refused(&gte(), json!({"logn_attention_scale": true}), "logn_attention_scale is true");
    refused(&gte(), json!({"position_embedding_type": "absolute"}), "position_embedding_type is absolute");
    refused(&gte(), json!({"pack_qkv": false}), "pack_qkv is false");
    refused(&gemma(), json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping is 50.0");
    refused(&gemma(), json!({"sliding_window": 0}), "sliding_window is 0");
    refused(&gemma(), json!({"query_pre_attn_scalar": 0}), "query_pre_attn_scalar is 0");
}
