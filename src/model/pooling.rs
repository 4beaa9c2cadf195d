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

/// A way in which the vectors of a text's tokens become one vector. Padding takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The vector of the first token.
    Cls,
    /// The greatest of each component.
    Max,
    /// The mean, special tokens included.
    Mean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The mean with the weights 1, 2, 3, … (Muennighoff, 2022).
    WeightedMean,
    /// The vector of the last token.
    LastToken,
}

/// The modes with their names: in the newer style, and as a switch of the older style, in the order in which the older
/// style concatenates them.
const MODES: [(Mode, &str, &str); 6] = [
    (Mode::Cls, "cls", "cls_token"),
    (Mode::Max, "max", "max_tokens"),
    (Mode::Mean, "mean", MEAN_SWITCH),
    (Mode::MeanSqrtLen, "mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    (Mode::WeightedMean, "weightedmean", "weightedmean_tokens"),
    (Mode::LastToken, "lasttoken", "lasttoken"),
];

/// The supported modes, for error messages.
const SUPPORTED: &str = "cls, max, mean, mean_sqrt_len_tokens, weightedmean and lasttoken, one or several";

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = MODES.iter().find(|(mode, ..)| mode == self);
        f.write_str(named.expect("each mode is in the table").1)
    }
}

/// The pooling of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooling {
    /// The modes, whose vectors stand one after another; at least one.
    pub modes: Vec<Mode>,
    /// The tokens of the model's prompt take part.
    pub include_prompt: bool,
}

impl From<Mode> for Pooling {
    fn from(mode: Mode) -> Self {
        Self { modes: vec![mode], include_prompt: true }
    }
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let modes: Vec<String> = self.modes.iter().map(Mode::to_string).collect();
        f.write_str(&modes.join("+"))?;
        f.write_str(if self.include_prompt { "" } else { " without the prompt" })
    }
}

impl Pooling {
    /// Reads the pooling module's `config.json`. A model without modules is pooled by the mean.
    pub(super) fn read(layout: &Layout, architecture: &Architecture) -> Result<Self, CardError> {
        let Some(path) = &layout.pooling else { return Ok(Mode::Mean.into()) };
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
        config.refuse_unknown(path)?;
        let pooling = Self { modes: config.modes(path)?, include_prompt: config.include_prompt != Some(false) };
        if !pooling.include_prompt && pooling.modes.contains(&Mode::Cls) {
            // Version 5 takes the prompt's first token, version 6 the first token after the prompt.
            let supported = "true with the pooling mode cls, because versions of sentence-transformers differ";
            return Err(CardError::unsupported(path, "include_prompt", "false", supported));
        }
        Ok(pooling)
    }
}

/// The pooling module's `config.json`.
#[derive(Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    embedding_dimension: Option<usize>,
    #[serde(default, deserialize_with = "switch::optional")]
    include_prompt: Option<bool>,
    /// The newer style: a name or a list.
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

/// The switch that is on if the older style mentions no mode, as in sentence-transformers.
const MEAN_SWITCH: &str = "mean_tokens";

/// The prefix of the older style's switches.
const SWITCH: &str = "pooling_mode_";

impl PoolingConfig {
    /// Refuses fields that the library does not know: they could change the vector.
    fn refuse_unknown(&self, path: &Path) -> Result<(), CardError> {
        let is_mode = |switch: &str| MODES.iter().any(|(.., known)| *known == switch);
        let known = |key: &str| key.strip_prefix(SWITCH).is_some_and(is_mode);
        // A switch that is off changes nothing.
        match self.other.iter().find(|(key, value)| !known(key) && switch::of(value) != Some(false)) {
            Some((key, value)) => {
                let supported = "pooling_mode or its older switches, embedding_dimension and include_prompt";
                Err(CardError::unsupported(path, key, value.to_string(), supported))
            }
            None => Ok(()),
        }
    }

    /// Lists the modes in the order of their vectors.
    fn modes(&self, path: &Path) -> Result<Vec<Mode>, CardError> {
        let unsupported = |value: &str| CardError::unsupported(path, "the pooling mode", value, SUPPORTED);
        let named = |name: &String| {
            let known = MODES.iter().find(|(_, known, _)| known == name);
            known.map(|(mode, ..)| *mode).ok_or_else(|| unsupported(name))
        };
        let modes = match &self.pooling_mode {
            Some(OneOrMany::One(mode)) => vec![named(mode)?],
            Some(OneOrMany::Many(modes)) => modes.iter().map(named).collect::<Result<_, _>>()?,
            None => self.switches(path)?,
        };
        if modes.is_empty() { Err(unsupported("none")) } else { Ok(modes) }
    }

    /// Lists the modes whose switches are on.
    fn switches(&self, path: &Path) -> Result<Vec<Mode>, CardError> {
        let switch = |name: &str| {
            let key = format!("{SWITCH}{name}");
            let Some(value) = self.other.get(&key) else { return Ok(None) };
            let problem = || CardError::malformed(path, format!("{key} is {value}, and must be true or false"));
            switch::of(value).map(Some).ok_or_else(problem)
        };
        let mut modes = Vec::new();
        for (mode, _, name) in MODES {
            if switch(name)? == Some(true) {
                modes.push(mode);
            }
        }
        match switch(MEAN_SWITCH)? {
            Some(_) => Ok(modes),
            None if modes.is_empty() => Ok(vec![Mode::Mean]),
            // Version 5 takes the mean too, version 6 does not.
            None => {
                let setting = format!("{SWITCH}{MEAN_SWITCH}");
                Err(CardError::unsupported(path, setting, "missing", "true or false beside another mode"))
            }
        }
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
    fn modes_are_read_in_both_styles_and_in_the_order_of_their_vectors() {
        use Mode::*;
        let off = |switch: &str| json!({"pooling_mode_mean_tokens": false, switch: true});
        for (config, modes) in [
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}), &[Mean][..]),
            (json!({"pooling_mode": "mean", "embedding_dimension": 32}), &[Mean]),
            (json!({"pooling_mode": "cls", "include_prompt": true}), &[Cls]),
            (json!({"pooling_mode": ["cls"]}), &[Cls]),
            (json!({"pooling_mode": ["mean", "cls", "lasttoken"]}), &[Mean, Cls, LastToken]),
            (json!({"pooling_mode_mean_tokens": 0, "pooling_mode_cls_token": 1}), &[Cls]),
            (json!({"pooling_mode_mean_tokens": 1, "pooling_mode_other": 0, "include_prompt": 1}), &[Mean]),
            (json!({"pooling_mode_weightedmean_tokens": 1, "pooling_mode_mean_tokens": 1}), &[Mean, WeightedMean]),
            (off("pooling_mode_max_tokens"), &[Max]),
            (off("pooling_mode_weightedmean_tokens"), &[WeightedMean]),
            (off("pooling_mode_lasttoken"), &[LastToken]),
            (off("pooling_mode_mean_sqrt_len_tokens"), &[MeanSqrtLen]),
            (json!({}), &[Mean]),
        ] {
            let expected = Pooling { modes: modes.to_vec(), include_prompt: true };
            assert_eq!(TestModel::new().with(POOLING, config.clone()).pooling(), Ok(expected), "{config}");
        }
    }

    #[test]
    fn a_model_without_modules_is_pooled_by_the_mean() {
        assert_eq!(TestModel::new().without("modules.json").without(POOLING).pooling(), Ok(Mode::Mean.into()));
    }

    #[test]
    fn other_poolings_are_refused_by_name_with_those_that_there_are() {
        for (config, name) in [
            (json!({"pooling_mode_mean_tokens": false}), "the pooling mode is none"),
            (json!({"pooling_mode": []}), "the pooling mode is none"),
            (json!({"pooling_mode": "median"}), "the pooling mode is median"),
            (json!({"pooling_mode": ["mean", "splade"]}), "the pooling mode is splade"),
            (json!({"pooling_mode_cls_token": true}), "pooling_mode_mean_tokens is missing"),
        ] {
            let error = TestModel::new().with(POOLING, config).pooling().unwrap_err();
            assert!(error.contains(&format!("{name}, which")), "{name}: {error}");
            assert!(error.contains("weightedmean and lasttoken") || error.contains("true or false"), "{error}");
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
    fn prompts_may_be_left_out_of_each_mode_but_the_first_token() {
        let pooling = |modes| TestModel::new().with(POOLING, json!({"include_prompt": false, "pooling_mode": modes}));
        let expected = Pooling { modes: vec![Mode::Max, Mode::Mean], include_prompt: false };
        assert_eq!(expected.to_string(), "max+mean without the prompt");
        assert_eq!(pooling(json!(["max", "mean"])).pooling(), Ok(expected));
        let error = pooling(json!(["mean", "cls"])).pooling().unwrap_err();
        assert!(error.contains("include_prompt is false"), "{error}");
    }

    #[test]
    fn a_pooling_for_another_length_is_malformed() {
        let error = TestModel::new().with(POOLING, json!({"word_embedding_dimension": 768})).pooling().unwrap_err();
        assert!(error.contains("768") && error.contains("32"), "{error}");
    }
}
