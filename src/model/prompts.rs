//! The prompts of a model, read as sentence-transformers reads them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::CardError;
use super::file::read_json_if_present;
use super::layout::{self, Layout};

/// The prompts that the model wants before a text; `None` for no prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// The prompt for a question or a search phrase: `query` in the card.
    pub query: Option<String>,
    /// The prompt for a text that is searched: the first of `document`, `passage` and `corpus` in the card. It counts
    /// even if it is empty.
    pub document: Option<String>,
    /// The prompt for other texts: the one that `default_prompt_name` names.
    pub default: Option<String>,
}

/// The fields of `config_sentence_transformers.json` that matter.
#[derive(Default, Deserialize)]
struct CardConfig {
    prompts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
    similarity_fn_name: Option<String>,
}

impl Prompts {
    /// Reads `config_sentence_transformers.json`.
    pub(super) fn read(directory: &Path, layout: &Layout) -> Result<Self, CardError> {
        let path = directory.join(layout::SENTENCE_SETTINGS);
        let config: CardConfig = read_json_if_present(&path)?.unwrap_or_default();
        if let Some(similarity) = config.similarity_fn_name.filter(|name| name != "cosine" && !layout.normalizes) {
            tracing::warn!(
                similarity,
                "the model was trained for another similarity than cosine; vectors are compared by cosine"
            );
        }
        let prompts = config.prompts.unwrap_or_default();
        let named = |name: &str| prompts.get(name).cloned().flatten().filter(|prompt| !prompt.is_empty());
        let default = match config.default_prompt_name {
            Some(name) if !prompts.contains_key(&name) => {
                let problem = format!("default_prompt_name is {name:?}, and prompts has no prompt of that name");
                return Err(CardError::malformed(&path, problem));
            }
            Some(name) => named(&name),
            None => None,
        };
        let given = |name: &&str| prompts.get(*name).is_some_and(Option::is_some);
        let document = ["document", "passage", "corpus"].into_iter().find(given).and_then(named);
        Ok(Self { query: named("query"), document, default })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::TestModel;
    use super::*;

    const CARD: &str = "config_sentence_transformers.json";

    impl TestModel {
        fn prompts(&self) -> Result<Prompts, String> {
            Prompts::read(&self.path(""), &self.layout()).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn prompts_go_by_their_names() {
        let some = |text: &str| Some(text.to_owned());
        let config = json!({"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"});
        let prompts = TestModel::new().with(CARD, config).prompts().unwrap();
        assert_eq!(prompts, Prompts { query: some("query: "), document: some("passage: "), default: some("query: ") });
        let config =
            json!({"prompts": {"document": "d: ", "passage": "p: ", "query": ""}, "default_prompt_name": null});
        let prompts = TestModel::new().with(CARD, config).prompts().unwrap();
        assert_eq!(prompts, Prompts { query: None, document: some("d: "), default: None });
        assert_eq!(TestModel::new().prompts().unwrap(), Prompts::default());
        // An empty prompt for documents counts, and the next name is not used.
        let document =
            |prompts: Value| TestModel::new().with(CARD, json!({"prompts": prompts})).prompts().unwrap().document;
        assert_eq!(document(json!({"document": "", "passage": "p: "})), None);
        assert_eq!(document(json!({"document": null, "passage": "p: "})), some("p: "));
        assert_eq!(document(json!({"corpus": "c: "})), some("c: "));
    }

    #[test]
    fn a_default_prompt_that_is_not_there_is_malformed() {
        let config = json!({"prompts": {"query": "q"}, "default_prompt_name": "search"});
        let error = TestModel::new().with(CARD, config).prompts().unwrap_err();
        assert!(error.contains("\"search\""), "{error}");
    }
}
