//! The length of a text and its lowercasing, read as sentence-transformers reads them.

use super::architecture::Architecture;
use super::error::CardError;
use super::tokenizer::TokenizerFile;
use super::transformer::TransformerSettings;

/// The preparation of a text before and in the tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Maximum tokens of a text, with special tokens; at least 3.
    pub max_tokens: usize,
    /// The text is lowercased before it is tokenised.
    pub lowercase: bool,
}

/// The smallest maximum: `[CLS]`, `[SEP]` and one token between them.
const LEAST_MAX_TOKENS: usize = 3;

impl Reading {
    /// Reads the length from `sentence_bert_config.json`. If it has none, the positions and the tokenizer's settings
    /// decide, whichever allows less. The length inside `tokenizer.json` does not count: it is a leftover of an export
    /// (128 in the default model, whose length is 256).
    pub(super) fn read(
        settings: &TransformerSettings,
        tokenizer: &TokenizerFile,
        architecture: &Architecture,
    ) -> Result<Self, CardError> {
        let positions = architecture.positions();
        let (length, path) = match settings.max_tokens {
            Some(length) => (length, settings.path.clone()),
            None => (
                tokenizer.max_tokens.unwrap_or(positions).min(positions),
                tokenizer.path.with_file_name("tokenizer_config.json"),
            ),
        };
        if length < LEAST_MAX_TOKENS {
            let problem = format!(
                "the maximum length is {length} tokens, and must be at least {LEAST_MAX_TOKENS}, two of them special"
            );
            return Err(CardError::malformed(&path, problem));
        }
        // There are no vectors beyond the last position.
        Ok(Self { max_tokens: length.min(positions), lowercase: settings.lowercase })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{TestModel, config};
    use super::super::tokenizer::Beside;
    use super::super::transformer::Task;
    use super::*;

    const LENGTH: &str = "sentence_bert_config.json";

    impl TestModel {
        fn reading(&self) -> Result<Reading, String> {
            let layout = self.layout();
            let read = || {
                let settings = TransformerSettings::read(&layout.encoder, Task::Vectors)?;
                let beside = Beside { settings: settings.tokenizer.clone(), ..Beside::default() };
                let tokenizer = TokenizerFile::read(&layout.encoder, beside)?;
                Reading::read(&settings, &tokenizer, &Architecture::read(&layout.config)?)
            };
            read().map_err(|error: CardError| error.to_string())
        }
    }

    #[test]
    fn the_length_is_the_cards_and_never_beyond_the_positions() {
        // The small model has 64 positions.
        let length = |value: Value| TestModel::new().with(LENGTH, json!({"max_seq_length": value})).reading();
        assert_eq!(length(json!(48)).unwrap().max_tokens, 48);
        assert_eq!(length(json!(512)).unwrap().max_tokens, 64);
        assert!(length(json!(2)).unwrap_err().contains("sentence_bert_config.json is malformed"));
    }

    #[test]
    fn without_a_length_in_the_card_positions_and_tokenizer_decide() {
        let length = |config: Value| {
            let model = TestModel::new().with(LENGTH, json!({"max_seq_length": null}));
            model.with("tokenizer_config.json", config).reading().unwrap().max_tokens
        };
        assert_eq!(length(json!({"model_max_length": 40})), 40);
        assert_eq!(length(json!({"model_max_length": 1e30})), 64);
        assert_eq!(length(json!({})), 64);
        assert_eq!(TestModel::new().without(LENGTH).reading().unwrap().max_tokens, 64);
    }

    #[test]
    fn the_file_of_lengths_may_have_the_name_of_the_family() {
        for family in ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"] {
            let file = format!("sentence_{family}_config.json");
            let model = TestModel::new().with(&file, json!({"max_seq_length": 40}));
            assert_eq!(model.reading().unwrap().max_tokens, 48, "the usual name comes first");
            assert_eq!(model.without(LENGTH).reading().unwrap().max_tokens, 40, "{family}");
        }
    }

    #[test]
    fn a_length_may_be_an_argument_of_the_tokenizer_or_of_its_calls() {
        let length = |config: Value| TestModel::new().with(LENGTH, config).reading().map(|reading| reading.max_tokens);
        let arguments = json!({"model_max_length": 16});
        assert_eq!(length(json!({"max_seq_length": 48, "tokenizer_args": arguments})), Ok(16));
        assert_eq!(length(json!({"processor_kwargs": arguments})), Ok(16));
        let call = json!({"text": {"max_length": 12, "truncation": true}});
        assert_eq!(length(json!({"processing_kwargs": call, "tokenizer_args": arguments})), Ok(12));
    }

    #[test]
    fn fields_that_would_change_a_vector_otherwise_are_refused_by_name() {
        for (config, reason) in [
            (json!({"query_length": 32}), "query_length is 32"),
            (json!({"document_length": 32}), "document_length is 32"),
            (json!({"query_expansion": {"strategy": "fixed"}}), "query_expansion is"),
            (json!({"transformer_task": "fill-mask"}), "transformer_task is \"fill-mask\""),
            (json!({"module_output_name": "logits"}), "module_output_name is"),
            (json!({"modality_config": {"text": {"method": "get_text_features"}}}), "modality_config.text.method is"),
            (json!({"tokenizer_args": {"use_fast": false, "bos_token": "x"}}), "tokenizer_args.bos_token is \"x\""),
            (json!({"config_args": {"hidden_act": "relu"}}), "config_args.hidden_act is \"relu\""),
            (json!({"model_args": {"subfolder": "x"}}), "model_args.subfolder is \"x\""),
            (json!({"processing_kwargs": {"text": {"add_special_tokens": false}}}), "text.add_special_tokens is false"),
            (json!({"processing_kwargs": {"text": {"truncation": false}}}), "text.truncation is false"),
            (json!({"something": 1}), "something is 1"),
        ] {
            let error = TestModel::new().with(LENGTH, config).reading().unwrap_err();
            assert!(error.contains(reason) && error.contains(LENGTH), "{reason}: {error}");
        }
        let harmless = json!({
            "max_seq_length": 48, "model_args": {"torch_dtype": "float16", "attn_implementation": "sdpa"},
            "query_length": null, "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "processing_kwargs": {"text": {"padding": true}, "image": {"size": 3}}, "unpad_inputs": false,
        });
        assert_eq!(TestModel::new().with(LENGTH, harmless).reading().unwrap().max_tokens, 48);
    }

    #[test]
    fn rows_of_the_position_table_that_no_token_uses_are_no_length() {
        // As XLM-RoBERTa's 514 rows are 512 positions.
        let roberta = json!({"model_type": "roberta", "architectures": ["RobertaModel"], "pad_token_id": 1});
        let mut config = config();
        config.as_object_mut().unwrap().extend(roberta.as_object().unwrap().clone());
        let model = || TestModel::new().with("config.json", config.clone());
        let length = |model: TestModel| model.reading().unwrap().max_tokens;
        assert_eq!(length(model().with(LENGTH, json!({"max_seq_length": 64}))), 62);
        assert_eq!(length(model().without(LENGTH)), 62);
        assert_eq!(length(model().without(LENGTH).with("tokenizer_config.json", json!({"model_max_length": 64}))), 62);
        assert_eq!(length(model().without(LENGTH).with("tokenizer_config.json", json!({"model_max_length": 50}))), 50);
    }

    #[test]
    fn lowercasing_is_off_unless_the_card_wants_it() {
        assert!(!TestModel::new().reading().unwrap().lowercase);
        assert!(TestModel::new().with(LENGTH, json!({"do_lower_case": true})).reading().unwrap().lowercase);
    }
}
