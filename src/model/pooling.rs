//! The pooling of a model, read as sentence-transformers reads it. A pooling that we do not have is refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::architecture::Architecture;
use super::error::CardError;
use super::file::read_json;
use super::layout::Layout;
use super::switch;

/// The way in which the vectors of a text's tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens of the text, with special tokens and without padding.
    Mean,
    /// The vector of the first token.
    Cls,
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        })
    }
}

impl Pooling {
    /// Reads the pooling module's `config.json`. A model without modules is pooled by the mean.
    pub(super) fn read(layout: &Layout, architecture: &Architecture) -> Result<Self, CardError> {
        let Some(path) = &layout.pooling else { return Ok(Self::Mean) };
        let config: PoolingConfig = read_json(path)?;
        if let Some(length) = config.word_embedding_dimension.or(config.embedding_dimension)
            && length != architecture.hidden_size
        {
            let problem = format!(
                "it pools vectors of length {length}, and the model's vectors have length {}",
                architecture.hidden_size
            );
            return Err(CardError::malformed(path, problem));
        }
        if config.include_prompt == Some(false) {
            return Err(CardError::unsupported(path, "include_prompt", "false", "true"));
        }
        config.refuse_unknown(path)?;
        match config.modes(path)?.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["mean"] => Ok(Self::Mean),
            ["cls"] => Ok(Self::Cls),
            ref modes => {
                let value = if modes.is_empty() { "none".to_owned() } else { modes.join(" and ") };
                Err(CardError::unsupported(path, "the pooling mode", value, "mean or cls, only one of them"))
            }
        }
    }
}

/// The pooling module's `config.json`.
#[derive(Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    embedding_dimension: Option<usize>,
    #[serde(default, deserialize_with = "switch::optional")]
    include_prompt: Option<bool>,
    /// The newer style: a name, names joined by `+`, or a list.
    pooling_mode: Option<OneOrMany>,
    /// The other fields. In the older style they have a switch for each mode: `pooling_mode_cls_token`.
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// A text or a list of texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The switch that is on if the older style does not mention it, as in sentence-transformers.
const MEAN_SWITCH: &str = "mean_tokens";

/// The prefix of the older style's switches.
const SWITCH: &str = "pooling_mode_";

/// The modes that have a switch in the older style.
const SWITCHES: [&str; 6] =
    ["cls_token", "max_tokens", MEAN_SWITCH, "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"];

impl PoolingConfig {
    /// Refuses fields that the library does not know: they could change the vector.
    fn refuse_unknown(&self, path: &Path) -> Result<(), CardError> {
        let known = |key: &str| key.strip_prefix(SWITCH).is_some_and(|switch| SWITCHES.contains(&switch));
        // A switch that is off changes nothing.
        match self.other.iter().find(|(key, value)| !known(key) && switch::of(value) != Some(false)) {
            Some((key, value)) => {
                let supported =
                    "pooling_mode (mean or cls) or its older switches, embedding_dimension and include_prompt";
                Err(CardError::unsupported(path, key, value.to_string(), supported))
            }
            None => Ok(()),
        }
    }

    /// Lists the modes that are on.
    fn modes(&self, path: &Path) -> Result<Vec<String>, CardError> {
        match &self.pooling_mode {
            Some(OneOrMany::One(modes)) => return Ok(modes.split('+').map(str::to_owned).collect()),
            Some(OneOrMany::Many(modes)) => return Ok(modes.clone()),
            None => {}
        }
        let mut switches: BTreeMap<&str, bool> = BTreeMap::from([(MEAN_SWITCH, true)]);
        for (key, value) in &self.other {
            let Some(mode) = key.strip_prefix(SWITCH) else { continue };
            let on = switch::of(value)
                .ok_or_else(|| CardError::malformed(path, format!("{key} is {value}, and must be true or false")))?;
            switches.insert(mode, on);
        }
        let on = switches.into_iter().filter(|(_, on)| *on);
        Ok(on.map(|(mode, _)| mode.trim_end_matches("_tokens").trim_end_matches("_token").to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::TestModel;
    use super::*;

    const POOLING: &str = "1_Pooling/config.json";

    impl TestModel {
        fn pooling(&self) -> Result<Pooling, String> {
            let layout = self.layout();
            Pooling::read(&layout, &Architecture::read(&layout.config).unwrap()).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn mean_and_cls_are_read_in_both_styles() {
        for (config, pooling) in [
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}), Pooling::Mean),
            (json!({"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true}), Pooling::Cls),
            (json!({"pooling_mode": "mean", "embedding_dimension": 32}), Pooling::Mean),
            (json!({"pooling_mode": "cls", "include_prompt": true}), Pooling::Cls),
            (json!({"pooling_mode": ["cls"]}), Pooling::Cls),
            (json!({"pooling_mode_mean_tokens": 0, "pooling_mode_cls_token": 1}), Pooling::Cls),
            (json!({"pooling_mode_mean_tokens": 1, "pooling_mode_other": 0, "include_prompt": 1}), Pooling::Mean),
            (json!({}), Pooling::Mean),
        ] {
            assert_eq!(TestModel::new().with(POOLING, config.clone()).pooling(), Ok(pooling), "{config}");
        }
    }

    #[test]
    fn a_model_without_modules_is_pooled_by_the_mean() {
        assert_eq!(TestModel::new().without("modules.json").without(POOLING).pooling(), Ok(Pooling::Mean));
    }

    #[test]
    fn other_poolings_are_refused_by_name() {
        let off = |switch: &str| json!({"pooling_mode_mean_tokens": false, switch: true});
        for (config, name) in [
            (off("pooling_mode_max_tokens"), "max"),
            (off("pooling_mode_weightedmean_tokens"), "weightedmean"),
            (off("pooling_mode_lasttoken"), "lasttoken"),
            (off("pooling_mode_mean_sqrt_len_tokens"), "mean_sqrt_len"),
            (json!({"pooling_mode_mean_tokens": false}), "none"),
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}), "cls and mean"),
            (json!({"pooling_mode": "lasttoken"}), "lasttoken"),
            (json!({"pooling_mode": "mean+max"}), "mean and max"),
        ] {
            let error = TestModel::new().with(POOLING, config).pooling().unwrap_err();
            assert!(error.contains(&format!("pooling mode is {name}, which")), "{name}: {error}");
            assert!(error.contains("mean or cls"), "{error}");
        }
    }

    #[test]
    fn fields_of_a_pooling_that_nobody_knows_are_refused_by_name() {
        for (config, reason) in [
            (json!({"pooling_mode_first_last": true}), "pooling_mode_first_last is true"),
            (json!({"weights": [1, 2]}), "weights is [1,2]"),
            (json!({"pooling_mode_mean_tokens": "yes"}), "pooling_mode_mean_tokens is \"yes\""),
        ] {
            let error = TestModel::new().with(POOLING, config).pooling().unwrap_err();
            assert!(error.contains(reason) && error.contains(POOLING), "{error}");
        }
    }

    #[test]
    fn prompts_left_out_of_the_mean_are_refused() {
        let error = TestModel::new().with(POOLING, json!({"include_prompt": false})).pooling().unwrap_err();
        assert!(error.contains("include_prompt is false"), "{error}");
    }

    #[test]
    fn a_pooling_for_another_length_is_malformed() {
        let error = TestModel::new().with(POOLING, json!({"word_embedding_dimension": 768})).pooling().unwrap_err();
        assert!(error.contains("768") && error.contains("32"), "{error}");
    }
}
