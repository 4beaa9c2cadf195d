//! The changes of settings to a tokenizer, and the settings that are refused.

use serde_json::json;

use super::super::tests::write_json;
use super::*;

/// A short form of BERT's uncased WordPiece tokenizer.
fn word_piece() -> Value {
    json!({
        "truncation": null,
        "added_tokens": [
            {"id": 0, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "cat": 3}},
    })
}

/// A short form of RoBERTa's byte-level tokenizer.
fn byte_level(prefix_space: bool) -> Value {
    json!({
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix_space},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]},
    })
}

fn read_of(model_type: &str, tokenizer: &Value, settings: Value) -> Result<TokenizerFile, String> {
    let directory = tempfile::tempdir().unwrap();
    write_json(&directory.path().join("tokenizer.json"), tokenizer);
    write_json(&directory.path().join("tokenizer_config.json"), &settings);
    let beside = Beside { model_type: Some(model_type), ..Beside::default() };
    TokenizerFile::read(directory.path(), beside).map_err(|error| error.to_string())
}

fn part(file: &TokenizerFile, pointer: &str) -> Value {
    serde_json::from_slice::<Value>(&file.json).unwrap().pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn a_tokenizer_that_its_settings_leave_alone_is_handed_out_byte_for_byte() {
    let tokenizer = word_piece();
    for settings in [
        json!({}),
        json!({"do_lower_case": true, "strip_accents": null, "tokenize_chinese_chars": true, "cls_token": "[CLS]"}),
        json!({"do_lower_case": 1, "padding_side": "left", "tokenizer_class": "BertTokenizerFast"}),
        json!({"do_lower_case": false, "tokenizer_class": "PreTrainedTokenizerFast"}),
    ] {
        let file = read_of("bert", &tokenizer, settings.clone()).unwrap();
        assert_eq!(file.json, tokenizer.to_string().as_bytes(), "{settings}");
        assert_eq!(file.digest, digest::of_bytes(tokenizer.to_string().as_bytes()));
    }
}

#[test]
fn berts_settings_are_put_over_the_normalizer_defaults_included() {
    let changed = |settings: Value| {
        let file = read_of("bert", &word_piece(), settings).unwrap();
        let normalizer = part(&file, "/normalizer");
        assert_eq!(normalizer["clean_text"], true);
        (
            normalizer["lowercase"].clone(),
            normalizer["strip_accents"].clone(),
            normalizer["handle_chinese_chars"].clone(),
        )
    };
    assert_eq!(changed(json!({"do_lower_case": false})), (json!(false), json!(null), json!(true)));
    assert_eq!(changed(json!({"strip_accents": false})), (json!(true), json!(false), json!(true)));
    assert_eq!(changed(json!({"tokenize_chinese_chars": 0})), (json!(true), json!(null), json!(false)));
    // A cased file with a class that lowercases by default.
    let mut cased = word_piece();
    cased["normalizer"]["lowercase"] = json!(false);
    let file = read_of("distilbert", &cased, json!({})).unwrap();
    assert_eq!(part(&file, "/normalizer/lowercase"), true);
    assert!(file.digest.ends_with(" lowercase=true strip_accents=none chinese=true"), "{}", file.digest);
    assert_eq!(part(&read_of("xlm-roberta", &cased, json!({})).unwrap(), "/normalizer/lowercase"), false);
}

#[test]
fn robertas_setting_is_put_over_the_pre_tokenizer() {
    let space = |in_file: bool, settings: Value| {
        read_of("roberta", &byte_level(in_file), settings).map(|file| part(&file, "/pre_tokenizer/add_prefix_space"))
    };
    assert_eq!(space(false, json!({"add_prefix_space": true})), Ok(json!(true)));
    assert_eq!(space(true, json!({})), Ok(json!(false)));
    assert_eq!(space(true, json!({"tokenizer_class": "PreTrainedTokenizerFast"})), Ok(json!(true)));
    let error = space(true, json!({"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": false}));
    assert!(error.unwrap_err().contains("add_prefix_space is false, which is not supported"));
    let metaspace = json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    ]}});
    assert!(read_of("xlm-roberta", &metaspace, json!({"add_prefix_space": true})).is_ok());
    assert!(read_of("xlm-roberta", &metaspace, json!({"add_prefix_space": false})).is_err());
}

#[test]
fn a_normalizer_of_other_parts_must_do_what_the_settings_say() {
    let mut parts = word_piece();
    parts["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]});
    assert!(read_of("bert", &parts, json!({"do_lower_case": true})).is_ok());
    let error = read_of("bert", &parts, json!({"do_lower_case": false})).unwrap_err();
    assert!(error.contains("tokenizer_config.json: do_lower_case is false, which is not supported"), "{error}");
    let error = read_of("bert", &parts, json!({"strip_accents": true})).unwrap_err();
    assert!(error.contains("strip_accents is true"), "{error}");
}

#[test]
fn the_side_of_truncation_is_that_of_the_settings_or_else_of_the_file() {
    let side = |in_file: Value, settings: Value| {
        let mut tokenizer = word_piece();
        tokenizer["truncation"] = in_file;
        read_of("bert", &tokenizer, settings).map(|file| file.truncation_side)
    };
    let left = json!({"direction": "Left", "max_length": 8});
    assert_eq!(side(json!(null), json!({})), Ok(TruncationSide::Right));
    assert_eq!(side(json!(null), json!({"truncation_side": "left"})), Ok(TruncationSide::Left));
    assert_eq!(side(left.clone(), json!({})), Ok(TruncationSide::Left));
    assert_eq!(side(left, json!({"truncation_side": "right"})), Ok(TruncationSide::Right));
    assert!(side(json!(null), json!({"truncation_side": "middle"})).unwrap_err().contains("truncation_side is middle"));
}

#[test]
fn tokens_of_the_settings_get_the_number_of_the_vocabulary_or_the_next_one() {
    let added = |settings: Value| part(&read_of("bert", &word_piece(), settings).unwrap(), "/added_tokens");
    let tokens = added(json!({"added_tokens_decoder": {
        "9": {"content": "<ent>", "normalized": false}, "3": {"content": "cat", "single_word": true},
    }}));
    let found: Vec<(u64, &str)> = tokens
        .as_array()
        .unwrap()
        .iter()
        .map(|token| (token["id"].as_u64().unwrap(), token["content"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [(0, "[CLS]"), (3, "cat"), (4, "<ent>")]);
    assert_eq!(tokens[1]["single_word"], true);
    // A token with a role is found in texts too, if the vocabulary has it.
    let tokens = added(json!({"sep_token": "[SEP]", "mask_token": "[MASK]"}));
    assert_eq!(
        (tokens.as_array().unwrap().len(), &tokens[1]["content"], &tokens[1]["special"]),
        (2, &json!("[SEP]"), &json!(true))
    );
    let tokens = added(json!({"additional_special_tokens": ["<query>"]}));
    assert_eq!((&tokens[1]["content"], &tokens[1]["id"]), (&json!("<query>"), &json!(4)));
}

#[test]
fn settings_that_cannot_be_honoured_are_refused_by_name() {
    for (settings, reason) in [
        (json!({"split_special_tokens": true}), "split_special_tokens is true"),
        (json!({"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}), "fast_tokenizer_files is tokenizer.4.0.0.json"),
        (json!({"cls_token": "<s>"}), "cls_token is \"<s>\""),
        (json!({"sep_token": {"content": "</s>"}}), "sep_token is \"</s>\""),
        (json!({"unk_token": "<unk>"}), "unk_token is \"<unk>\""),
        (json!({"model_max_length": -1}), "model_max_length is -1"),
        (json!({"do_lower_case": "no"}), "expected true or false, found \"no\""),
    ] {
        let error = read_of("bert", &word_piece(), settings).unwrap_err();
        assert!(error.contains(reason) && error.contains("tokenizer_config.json"), "{reason}: {error}");
    }
}

#[test]
fn the_tokens_around_a_text_are_those_of_the_file_and_settings_that_want_others_are_refused() {
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let tokenizer = json!({"post_processor": {"type": "TemplateProcessing", "single": [
        special("<bos>"), {"Sequence": {"id": "A", "type_id": 0}}, special("<eos>"),
    ]}});
    let read = |class: &str, bos: bool, eos: bool| {
        let settings = json!({"tokenizer_class": class, "add_bos_token": bos, "add_eos_token": eos});
        read_of("gemma3_text", &tokenizer, settings).map(drop)
    };
    assert_eq!(read("GemmaTokenizerFast", true, true), Ok(()));
    assert!(read("GemmaTokenizer", true, false).unwrap_err().contains("add_eos_token is false"));
    assert!(read("LlamaTokenizerFast", false, true).unwrap_err().contains("add_bos_token is false"));
    // Qwen's class does not read them.
    assert_eq!(read("Qwen2Tokenizer", false, false), Ok(()));
}

#[test]
fn the_length_has_an_older_name() {
    let length = |settings: Value| read_of("bert", &word_piece(), settings).unwrap().max_tokens;
    assert_eq!(length(json!({"max_len": 128})), Some(128));
    assert_eq!(length(json!({"model_max_length": 64, "max_len": 128})), Some(64));
    assert_eq!(length(json!({})), None);
}
