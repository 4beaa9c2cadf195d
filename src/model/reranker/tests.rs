//! Cards of rerankers: what is read, and what is refused by name.

use serde_json::{Value, json};

use super::super::tests::{TestModel, config};
use super::super::{Function, HeadLayer, HeadOutput, Kind, Mode};
use super::*;

/// `config.json` of the small model as a cross-encoder, with other fields.
fn cross_encoder(fields: Value) -> Value {
    let mut config = config();
    let own = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}});
    for (key, value) in own.as_object().into_iter().chain(fields.as_object()).flatten() {
        config[key] = value.clone();
    }
    config
}

/// The small model without the files of an embedding model.
fn plain(fields: Value) -> TestModel {
    TestModel::new().without("modules.json").with("config.json", cross_encoder(fields))
}

/// The small model as sentence-transformers saves a cross-encoder.
fn saved() -> TestModel {
    let module = json!([{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]);
    let transformer = json!({
        "transformer_task": "sequence-classification", "module_output_name": "scores",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    });
    plain(json!({})).with("modules.json", module).with("sentence_bert_config.json", transformer)
}

const LOGIT_SCORE: &str = "1_LogitScore/config.json";

/// A template that has the messages one after another.
const CHAT: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}. {% endfor %}Answer:";

/// The small model as another family, with other fields.
fn of_family(model_type: &str, class: &str, fields: Value) -> TestModel {
    let own = json!({
        "model_type": model_type, "architectures": [class], "hidden_act": null, "type_vocab_size": null,
        "position_embedding_type": null, "layer_norm_eps": null,
    });
    let mut all = own.as_object().unwrap().clone();
    all.extend(fields.as_object().unwrap().clone());
    plain(Value::Object(all))
}

fn modernbert(fields: Value) -> TestModel {
    of_family("modernbert", "ModernBertForSequenceClassification", fields)
}

/// The small model in the form of Qwen3-Reranker.
fn qwen3(fields: Value) -> TestModel {
    let modules = json!([
        {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"},
    ]);
    let form = json!({"method": "forward", "method_output_name": "logits"});
    let mut message = form.clone();
    message["format"] = "flat".into();
    let transformer = json!({
        "transformer_task": "text-generation", "module_output_name": "causal_logits",
        "modality_config": {"text": form, "message": message},
    });
    of_family("qwen3", "Qwen3ForCausalLM", fields)
        .with("modules.json", modules)
        .with("sentence_bert_config.json", transformer)
        .with(LOGIT_SCORE, json!({"true_token_id": 7, "false_token_id": 3}))
        .with("tokenizer_config.json", json!({"chat_template": CHAT}))
}

#[test]
fn the_words_of_a_language_model_are_a_head_and_its_template_stands_around_a_pair() {
    let prompts = json!({"prompts": {"query": "Find it"}, "default_prompt_name": "query"});
    let card = read(&qwen3(json!({"id2label": null, "tie_word_embeddings": true}))).unwrap();
    let RerankerWeights::Safetensors(_, _, head) = &card.weights else { panic!("{card:?}") };
    let words = HeadOutput::Words { yes: 7, no: Some(3), tied: true };
    assert_eq!((head.pooling, head.output, head.dense), (Mode::LastToken, words, None));
    let parts = |before: &str| PairTemplate {
        before: before.to_owned(),
        between: ". document: ".to_owned(),
        after: ". Answer:".to_owned(),
    };
    assert_eq!(card.template, Some(parts("query: ")));
    let prompted = read(&qwen3(json!({})).with(layout::SENTENCE_SETTINGS, prompts)).unwrap();
    assert_eq!(prompted.template, Some(parts("system: Find it. query: ")));
    assert_ne!(prompted.fingerprint, card.fingerprint);
    let other = read(&qwen3(json!({})).with(LOGIT_SCORE, json!({"true_token_id": 7}))).unwrap();
    assert_ne!(other.fingerprint, card.fingerprint);
}

#[test]
fn modernberts_head_is_in_its_configuration() {
    let head = |fields: Value| match read(&modernbert(fields)).unwrap().weights {
        RerankerWeights::Safetensors(_, _, head) => (head.pooling, head.dense.expect("it has a layer")),
        RerankerWeights::Graph(graph) => panic!("{graph:?}"),
    };
    let layer = |function, bias| HeadLayer { function, bias, normalises: true };
    assert_eq!(head(json!({})), (Mode::Cls, layer(Function::Gelu, false)));
    let fields = json!({"classifier_pooling": "mean", "classifier_activation": "relu", "classifier_bias": true});
    assert_eq!(head(fields), (Mode::Mean, layer(Function::Relu, true)));
}

fn read(model: &TestModel) -> Result<RerankerCard, String> {
    let files = Files { kind: Kind::Reranker(None), ..Files::in_directory(model.path("")) };
    RerankerCard::read(&files).map_err(|error| error.to_string())
}

#[test]
fn a_card_has_the_settings_of_the_files() {
    let card = read(&plain(json!({"pad_token_id": 3}))).unwrap();
    let RerankerWeights::Safetensors(files, architecture, head) = &card.weights else { panic!("{card:?}") };
    assert!(files[0].ends_with("model.safetensors") && architecture.hidden_size == 32);
    assert_eq!((head.pooling, head.output), (Mode::Cls, HeadOutput::Layer { bias: true }));
    // The 48 tokens of sentence_bert_config.json count only beside a modules.json.
    assert_eq!((card.max_tokens, card.pad_token, card.typed, card.lowercase), (64, 3, true, false));
}

#[test]
fn the_function_is_that_of_any_version_of_the_library_or_the_sigmoid() {
    use ScoreFunction::{Identity, Sigmoid};
    let (identity, sigmoid) = ("torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid");
    for (fields, function) in [
        (json!({}), Sigmoid),
        (json!({"sbert_ce_default_activation_function": null}), Sigmoid),
        (json!({"sbert_ce_default_activation_function": identity}), Identity),
        (json!({"sentence_transformers": {"activation_fn": identity, "version": "4.0.1"}}), Identity),
        (json!({"sentence_transformers": {"activation_fn": sigmoid}}), Sigmoid),
    ] {
        assert_eq!(read(&plain(fields.clone())).unwrap().function, function, "{fields}");
    }
    let own = json!({"activation_fn": identity, "default_prompt_name": null, "model_type": "CrossEncoder"});
    assert_eq!(read(&saved()).unwrap().function, Sigmoid);
    assert_eq!(read(&saved().with(layout::SENTENCE_SETTINGS, own.clone())).unwrap().function, Identity);
    assert_eq!(read(&plain(json!({})).with(layout::SENTENCE_SETTINGS, own)).unwrap().function, Sigmoid);
}

#[test]
fn what_is_not_honoured_is_refused_by_name() {
    let several = json!({"id2label": {"0": "a", "1": "b", "2": "c"}});
    let tanh = "torch.nn.modules.activation.Tanh";
    let dense = json!([
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Dense", "type": "sentence_transformers.models.Dense"},
    ]);
    for (model, reason) in [
        (plain(json!({"architectures": ["BertModel"]})), "architectures is BertModel, which is not supported"),
        (plain(json!({"architectures": null})), "architectures is missing"),
        (plain(json!({"model_type": "deberta-v2"})), "model_type is deberta-v2"),
        (
            plain(json!({"model_type": "nomic_bert", "architectures": ["NomicBertForSequenceClassification"],
                         "position_embedding_type": null})),
            "architectures is NomicBertForSequenceClassification, which is not supported; supported: Bert",
        ),
        (modernbert(json!({"classifier_pooling": "max"})), "classifier_pooling is max"),
        (modernbert(json!({"classifier_activation": "mish"})), "classifier_activation is mish"),
        (qwen3(json!({})).without("modules.json"), "architectures is Qwen3ForCausalLM, which is not supported"),
        (qwen3(json!({"architectures": ["Qwen3ForSequenceClassification"]})), "Qwen3ForCausalLM with the module"),
        (qwen3(json!({})).with(LOGIT_SCORE, json!({"true_token_id": 100})), "token 100 has no number"),
        (
            qwen3(json!({})).with(LOGIT_SCORE, json!({"true_token_id": 1, "module_input_name": "x"})),
            "module_input_name is x",
        ),
        (qwen3(json!({})).without(LOGIT_SCORE), "1_LogitScore/config.json is missing"),
        (qwen3(json!({})).with("tokenizer_config.json", json!({})), "chat_template.jinja is missing"),
        (
            qwen3(json!({})).with("tokenizer_config.json", json!({"chat_template": CHAT, "truncation_side": "left"})),
            "truncation_side is left",
        ),
        (
            qwen3(json!({})).with(layout::SENTENCE_SETTINGS, json!({"default_prompt_name": "web"})),
            "prompts has no prompt of that name",
        ),
        // The library reads this one by the template since 5.4, and as a pair before.
        (
            plain(json!({})).with("tokenizer_config.json", json!({"chat_template": CHAT})),
            "chat_template is one for pairs",
        ),
        (plain(several), "the number of labels (id2label) is 3"),
        (plain(json!({"id2label": null})), "the number of labels (id2label) is 2"),
        (
            plain(json!({"sbert_ce_default_activation_function": tanh})),
            "sbert_ce_default_activation_function is torch.nn.modules.activation.Tanh",
        ),
        (
            plain(json!({"sentence_transformers": {"activation_fn": "my.code.Scale"}})),
            "sentence_transformers.activation_fn is my.code.Scale",
        ),
        (saved().with(layout::SENTENCE_SETTINGS, json!({"activation_fn": tanh})), ": activation_fn is torch"),
        (saved().with(layout::SENTENCE_SETTINGS, json!({"default_prompt_name": "web"})), "default_prompt_name is web"),
        (saved().with("modules.json", dense), "the list of modules is Transformer, Dense"),
        (TestModel::new().with("config.json", cross_encoder(json!({}))), "Transformer, Pooling, Normalize"),
        (
            saved().with("sentence_bert_config.json", json!({"transformer_task": "feature-extraction"})),
            "transformer_task is \"feature-extraction\"",
        ),
        (plain(json!({})).without("model.safetensors"), "model.safetensors is missing"),
        (plain(json!({})).without("tokenizer.json"), "tokenizer.json is missing"),
    ] {
        let error = read(&model).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert!(read(&plain(json!({"id2label": null, "num_labels": 1}))).is_ok());
}

#[test]
fn token_types_are_for_tokenizers_that_give_them() {
    let typed = |settings: Value| read(&plain(json!({})).with("tokenizer_config.json", settings)).unwrap().typed;
    assert!(typed(json!({})) && typed(json!({"tokenizer_class": "BertTokenizerFast"})));
    assert!(!typed(json!({"tokenizer_class": "RobertaTokenizerFast"})));
    assert!(!typed(json!({"model_input_names": ["input_ids", "attention_mask"]})));
    let both = json!({"tokenizer_class": "RobertaTokenizer", "model_input_names": ["input_ids", "token_type_ids"]});
    assert!(typed(both));
}
