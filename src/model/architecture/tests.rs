//! Models that are supported, with their sizes, and models that are refused.

use serde_json::{Value, json};

use super::super::tests::{config, write_json};
use super::*;

mod published;

fn read_from(config: &Value) -> Result<Architecture, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    write_json(&path, config);
    Architecture::read(&path).map_err(|error| error.to_string())
}

fn changed(mut config: Value, changes: Value) -> Value {
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

/// Changes settings of the small BERT.
fn read(changes: Value) -> Result<Architecture, String> {
    read_from(&changed(config(), changes))
}

/// Makes a DistilBERT of the small BERT's sizes.
fn distilbert() -> Value {
    json!({
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "activation": "gelu",
        "vocab_size": 100,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "sinusoidal_pos_embds": false,
    })
}

/// Makes a RoBERTa or an MPNet of the small BERT's sizes.
fn offset(model_type: &str, class: &str) -> Value {
    let sizes = json!({"max_position_embeddings": 66, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1});
    changed(changed(config(), sizes), json!({"model_type": model_type, "architectures": [class]}))
}

#[test]
fn sizes_come_from_the_file_and_defaults_from_transformers() {
    let bert = read(json!({"layer_norm_eps": 1e-5, "type_vocab_size": 1})).unwrap();
    assert_eq!((bert.hidden_size, bert.layers.len(), bert.num_attention_heads, bert.head_dim), (32, 2, 4, 8));
    assert_eq!((bert.layer_norm_eps, bert.type_vocab_size), (1e-5, 1));
    let bert = read(json!({"layer_norm_eps": null, "type_vocab_size": null, "hidden_act": null})).unwrap();
    assert_eq!((bert.layer_norm_eps, bert.type_vocab_size, bert.hidden_act), (1e-12, 2, Activation::Gelu));
}

#[test]
fn both_geluses_are_told_apart() {
    assert_eq!(read(json!({"hidden_act": "gelu"})).unwrap().hidden_act, Activation::Gelu);
    assert_eq!(read(json!({"hidden_act": "gelu_new"})).unwrap().hidden_act, Activation::GeluTanh);
    assert_eq!(read(json!({"hidden_act": "relu"})).unwrap().hidden_act, Activation::Relu);
}

#[test]
fn rotations_end_at_the_longest_text_and_learned_positions_stay() {
    let learned = read(json!({})).unwrap();
    assert_eq!(learned.up_to(10), learned);
    let rotary = Architecture { design: Design { positions: Positions::Rotary, ..Design::BERT }, ..learned };
    assert_eq!((rotary.up_to(10).positions(), rotary.up_to(100).positions()), (10, 64));
}

#[test]
fn each_family_is_read_with_its_own_names_positions_and_token_types() {
    let bert = read(json!({})).unwrap();
    assert_eq!((bert.family, bert.padding, bert.positions(), bert.type_vocab_size), (Family::Bert, None, 64, 2));
    for (model_type, class) in [
        ("roberta", "RobertaModel"),
        ("roberta", "RobertaForMaskedLM"),
        ("xlm-roberta", "XLMRobertaModel"),
        ("xlm-roberta", "XLMRobertaForSequenceClassification"),
        ("camembert", "CamembertForMaskedLM"),
    ] {
        let roberta = read_from(&offset(model_type, class)).unwrap();
        let expected = Architecture {
            family: Family::Roberta,
            padding: Some(1),
            max_position_embeddings: 66,
            type_vocab_size: 1,
            layer_norm_eps: 1e-5,
            ..bert.clone()
        };
        assert_eq!(roberta, expected, "{model_type} {class}");
        assert_eq!((roberta.position_offset(), roberta.positions()), (2, 64));
    }
    let distil = read_from(&distilbert()).unwrap();
    assert_eq!(distil, Architecture { family: Family::DistilBert, type_vocab_size: 0, ..bert.clone() });
    let mpnet = changed(offset("mpnet", "MPNetForMaskedLM"), json!({"relative_attention_num_buckets": 32}));
    let expected = Architecture {
        family: Family::Mpnet,
        padding: Some(1),
        max_position_embeddings: 66,
        type_vocab_size: 0,
        layer_norm_eps: 1e-5,
        design: Design { positions: Positions::LearnedAndRelative, ..Design::BERT },
        ..bert
    };
    assert_eq!(read_from(&mpnet), Ok(expected));
}

#[test]
fn the_padding_token_is_robertas_own_and_mpnets_is_always_1() {
    let padding = |model_type, class, id: Value| {
        read_from(&changed(offset(model_type, class), json!({"pad_token_id": id}))).unwrap().padding
    };
    assert_eq!(padding("roberta", "RobertaModel", json!(5)), Some(5));
    assert_eq!(padding("roberta", "RobertaModel", Value::Null), Some(1));
    assert_eq!(padding("mpnet", "MPNetModel", json!(5)), Some(1));
    assert_eq!(read(json!({"pad_token_id": 5})).unwrap().padding, None);
}

#[test]
fn without_a_model_type_the_class_decides() {
    let untyped = |config: Value| read_from(&changed(config, json!({"model_type": null})));
    assert_eq!(untyped(config()).unwrap().family, Family::Bert);
    assert_eq!(untyped(offset("", "XLMRobertaModel")).unwrap().family, Family::Roberta);
    assert_eq!(untyped(distilbert()).unwrap().family, Family::DistilBert);
    let error = untyped(offset("", "ElectraModel")).unwrap_err();
    assert!(error.contains("architectures is ElectraModel"), "{error}");
    let error = read(json!({"model_type": null, "architectures": []})).unwrap_err();
    assert!(error.contains("model_type is missing"), "{error}");
}

#[test]
fn another_architecture_is_refused_by_name_with_what_works() {
    for kind in ["deberta", "deberta-v2", "xlm-roberta-xl", "electra", "qwen2", "gemma3", "modernbert-decoder", "t5"] {
        let error = read(json!({"model_type": kind, "architectures": ["Other"]})).unwrap_err();
        assert!(error.contains(&format!("model_type is {kind}")), "{error}");
        for known in [
            "bert (BertModel)",
            "xlm-roberta",
            "camembert",
            "mpnet",
            "modernbert",
            "qwen3",
            "nomic_bert",
            "gemma3_text",
        ] {
            assert!(error.contains(known), "{known}: {error}");
        }
    }
}

#[test]
fn a_false_name_of_a_family_is_refused() {
    let error = read(json!({"architectures": ["JinaBertForMaskedLM"]})).unwrap_err();
    assert!(error.contains("JinaBertForMaskedLM"), "{error}");
    for (model_type, class) in [
        ("bert", "RobertaModel"),
        ("roberta", "RobertaPreLayerNormModel"),
        ("xlm-roberta", "XLMRobertaXLModel"),
        ("xlm-roberta", "XLMRobertaLoRA"),
        ("distilbert", "BertModel"),
        ("mpnet", "XLMRobertaModel"),
    ] {
        let error = read_from(&offset(model_type, class)).unwrap_err();
        assert!(error.contains(&format!("architectures is {class}")), "{error}");
    }
    for positions in ["alibi", "relative_key", "relative_key_query", "rotary"] {
        for config in [config(), offset("xlm-roberta", "XLMRobertaModel"), distilbert()] {
            let error = read_from(&changed(config, json!({"position_embedding_type": positions}))).unwrap_err();
            assert!(error.contains(&format!("position_embedding_type is {positions}")), "{error}");
        }
    }
}

#[test]
fn a_setting_that_cannot_be_computed_is_refused_by_the_name_that_its_family_gives_it() {
    let bert = |changes| changed(config(), changes);
    let distil = |changes| changed(distilbert(), changes);
    for (config, named) in [
        (bert(json!({"hidden_act": "silu"})), "hidden_act is silu"),
        (bert(json!({"num_attention_heads": 5})), "hidden_size 32 must be a multiple of num_attention_heads 5"),
        (bert(json!({"num_attention_heads": 0})), "num_attention_heads is 0"),
        (bert(json!({"type_vocab_size": 0})), "type_vocab_size is 0"),
        (bert(json!({"vocab_size": "many"})), "config.json is malformed"),
        (bert(json!({"pruned_heads": {"0": [1]}})), "pruned_heads is {\"0\":[1]}"),
        (bert(json!({"quantization_config": {"quant_method": "bitsandbytes"}})), "quantization_config is"),
        (bert(json!({"is_decoder": true})), "is_decoder"),
        (changed(offset("roberta", "RobertaModel"), json!({"pad_token_id": 65})), "max_position_embeddings is 66"),
        (
            changed(offset("mpnet", "MPNetModel"), json!({"relative_attention_num_buckets": 64})),
            "relative_attention_num_buckets is 64",
        ),
        (distil(json!({"n_heads": 5})), "dim 32 must be a multiple of n_heads 5"),
        (distil(json!({"n_layers": 0})), "n_layers is 0"),
        (distil(json!({"n_layers": 1_000_000_000_000_u64})), "n_layers is 1000000000000, and must be at most 1000"),
        (distil(json!({"hidden_dim": 0})), "hidden_dim is 0"),
        (distil(json!({"activation": "silu"})), "activation is silu"),
        // Named even where the sizes have other names.
        (json!({"model_type": "t5", "d_model": 768, "d_ff": 6}), "model_type is t5"),
    ] {
        let error = read_from(&config).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
    assert!(read(json!({"pruned_heads": {}, "quantization_config": null})).is_ok());
}
