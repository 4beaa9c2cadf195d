//! The steps after the pooling, read from the modules of sentence-transformers and from `truncate_dim`.
//!
//! Invariant: each step takes a vector of the length that the step before it gives. A field that is not honoured
//! exactly is refused by name.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::CardError;
use super::file::{read_json, read_json_if_present};
use super::modules::{After, AfterKind, WEIGHTS, check_names};
use super::{digest, layout};

/// A step from a vector of a text to another one.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// f(W x + b), plus the residual.
    Dense(Dense),
    /// A layer normalisation with the weights in this file.
    LayerNorm {
        /// `norm.weight` and `norm.bias`
        weights: PathBuf,
        /// The length of a vector.
        dimensions: usize,
    },
    /// The vector is scaled to length 1.
    Normalize,
    /// The first components.
    Truncate(usize),
}

/// A linear layer with a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// `linear.weight` and `linear.bias`, and `residual.weight` for a residual of another length.
    pub weights: PathBuf,
    /// The length of x.
    pub inputs: usize,
    /// The length of the result.
    pub outputs: usize,
    /// The layer has a bias.
    pub bias: bool,
    /// f
    pub function: Function,
    /// x is added to the result; R x if the lengths differ.
    pub residual: bool,
}

/// The function of a dense module: a class of torch with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of torch")]
pub enum Function {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Sigmoid,
    Silu,
}

/// The functions with their classes in torch.
const FUNCTIONS: [(Function, &str); 6] = [
    (Function::Identity, "Identity"),
    (Function::Tanh, "Tanh"),
    (Function::Relu, "ReLU"),
    (Function::Gelu, "GELU"),
    (Function::Sigmoid, "Sigmoid"),
    (Function::Silu, "SiLU"),
];

impl Function {
    /// Parses the path of a class: `torch.nn.modules.activation.Tanh`, or `torch.nn.Tanh`.
    fn parse(class: &str) -> Option<Self> {
        let (path, name) = class.rsplit_once('.')?;
        let is_torch = matches!(path, "torch.nn" | "torch.nn.modules.activation" | "torch.nn.modules.linear");
        FUNCTIONS.iter().find(|(_, known)| is_torch && *known == name).map(|(function, _)| *function)
    }
}

/// The fields of a dense module's `config.json`.
#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    bias: Option<bool>,
    activation_function: Option<Value>,
    use_residual: Option<bool>,
    /// Checked by [`check_names`].
    #[serde(rename = "module_input_name")]
    _input: Option<Value>,
    #[serde(rename = "module_output_name")]
    _output: Option<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The fields of a layer normalisation's `config.json`.
#[derive(Deserialize)]
struct LayerNormConfig {
    dimension: usize,
}

/// The fields of `config_sentence_transformers.json` that matter.
#[derive(Default, Deserialize)]
struct Settings {
    truncate_dim: Option<Value>,
}

/// The steps after the pooling.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steps {
    pub steps: Vec<Step>,
    /// The length of the last vector.
    pub dimensions: usize,
}

impl Steps {
    /// Reads the steps after a pooling that gives vectors of length `dimensions`.
    pub(super) fn read(directory: &Path, after: &[After], dimensions: usize) -> Result<Self, CardError> {
        let mut steps = Self { steps: Vec::new(), dimensions };
        for After { kind, folder } in after {
            let path = folder.join("config.json");
            let step = match kind {
                AfterKind::Normalize => Step::Normalize,
                AfterKind::Dense => steps.dense(&path)?,
                AfterKind::LayerNorm => {
                    let LayerNormConfig { dimension: dimensions } = read_json(&path)?;
                    steps.check(&path, dimensions)?;
                    Step::LayerNorm { weights: folder.join(WEIGHTS), dimensions }
                }
            };
            if let Step::Dense(dense) = &step {
                steps.dimensions = dense.outputs;
            }
            steps.steps.push(step);
        }
        steps.truncate(&directory.join(layout::SENTENCE_SETTINGS))?;
        Ok(steps)
    }

    fn dense(&self, path: &Path) -> Result<Step, CardError> {
        check_names(path)?;
        let config: DenseConfig = read_json(path)?;
        if let Some((field, value)) = config.other.iter().find(|(_, value)| !value.is_null()) {
            let supported = "in_features, out_features, bias, activation_function and use_residual";
            return Err(CardError::unsupported(path, field, value.to_string(), supported));
        }
        self.check(path, config.in_features)?;
        if config.out_features == 0 {
            return Err(CardError::malformed(path, "out_features is 0, and must be positive"));
        }
        let function = match &config.activation_function {
            // torch.nn.Tanh is the default of the library.
            None => Function::Tanh,
            Some(class) => class.as_str().and_then(Function::parse).ok_or_else(|| {
                let supported = "Identity, Tanh, ReLU, GELU, Sigmoid and SiLU of torch.nn";
                CardError::unsupported(path, "activation_function", class.to_string(), supported)
            })?,
        };
        Ok(Step::Dense(Dense {
            weights: path.with_file_name(WEIGHTS),
            inputs: config.in_features,
            outputs: config.out_features,
            bias: config.bias != Some(false),
            function,
            residual: config.use_residual == Some(true),
        }))
    }

    /// Checks that a module takes the vectors that it gets.
    fn check(&self, path: &Path, length: usize) -> Result<(), CardError> {
        if length == self.dimensions {
            return Ok(());
        }
        let problem = format!("it takes vectors of length {length}, and gets vectors of length {}", self.dimensions);
        Err(CardError::malformed(path, problem))
    }

    /// Reads `truncate_dim`. Like a slice in Python, it changes no vector that is shorter.
    fn truncate(&mut self, path: &Path) -> Result<(), CardError> {
        let settings: Settings = read_json_if_present(path)?.unwrap_or_default();
        let Some(value) = settings.truncate_dim else { return Ok(()) };
        match value.as_u64().and_then(|length| usize::try_from(length).ok()) {
            Some(length) if length > 0 => {
                if length < self.dimensions {
                    self.steps.push(Step::Truncate(length));
                    self.dimensions = length;
                }
                Ok(())
            }
            _ => Err(CardError::malformed(path, format!("truncate_dim is {value}, and must be a positive number"))),
        }
    }

    /// Describes the steps for a fingerprint, with the digests of their weights. Empty without steps.
    pub(super) fn description(&self) -> Result<String, CardError> {
        let describe = |step: &Step| {
            Ok(match step {
                Step::Dense(dense) => {
                    let Dense { weights, inputs, outputs, bias, function, residual } = dense;
                    let weights = digest::of_file(weights)?;
                    format!(
                        "dense {inputs} {outputs} bias={bias} function={function:?} residual={residual} \
                         weights={weights}"
                    )
                }
                Step::LayerNorm { weights, .. } => format!("layernorm weights={}", digest::of_file(weights)?),
                Step::Normalize => "normalize".to_owned(),
                Step::Truncate(length) => format!("truncate {length}"),
            })
        };
        let steps: Vec<String> = self.steps.iter().map(describe).collect::<Result<_, CardError>>()?;
        Ok(steps.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{TestModel, module};
    use super::*;
    use crate::model::{Card, Files};

    const SETTINGS: &str = "config_sentence_transformers.json";

    /// A model of vectors of length 32 with a dense module, whose settings a test changes.
    fn with_dense(changes: Value) -> TestModel {
        let mut config = json!({"in_features": 32, "out_features": 8, "bias": true});
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let modules = json!([module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Dense", "Dense")]);
        let model = TestModel::new().with("modules.json", modules).with("2_Dense/config.json", config);
        model.with_text("2_Dense/model.safetensors", "weights")
    }

    impl TestModel {
        fn steps(&self) -> Result<(Vec<Step>, usize), String> {
            let card = Card::read(&Files::in_directory(self.path("")), "f32").map_err(|error| error.to_string())?;
            Ok((card.steps, card.dimensions))
        }
    }

    #[test]
    fn a_dense_module_has_the_function_of_its_class_or_else_tanh() {
        for (class, function) in [
            (json!("torch.nn.modules.linear.Identity"), Function::Identity),
            (json!("torch.nn.modules.activation.ReLU"), Function::Relu),
            (json!("torch.nn.GELU"), Function::Gelu),
            (json!(null), Function::Tanh),
        ] {
            let (steps, dimensions) = with_dense(json!({"activation_function": class})).steps().unwrap();
            let [Step::Dense(dense)] = &steps[..] else { panic!("{steps:?}") };
            assert_eq!((dense.function, dense.outputs, dense.residual, dimensions), (function, 8, false, 8), "{class}");
        }
    }

    #[test]
    fn a_dense_module_that_is_not_honoured_exactly_is_refused_by_name() {
        for (changes, reason) in [
            (json!({"activation_function": "torch.nn.Softmax"}), "activation_function is \"torch.nn.Softmax\""),
            (json!({"activation_function": "mine.Tanh"}), "activation_function is \"mine.Tanh\""),
            (json!({"activation_function": 1}), "activation_function is 1"),
            (json!({"module_input_name": "token_embeddings"}), "module_input_name is \"token_embeddings\""),
            (json!({"module_output_name": "other"}), "module_output_name is \"other\""),
            (json!({"scale": 2}), "scale is 2"),
            (json!({"in_features": 16}), "it takes vectors of length 16, and gets vectors of length 32"),
            (json!({"out_features": 0}), "out_features is 0"),
        ] {
            let error = with_dense(changes).steps().unwrap_err();
            assert!(error.contains(reason) && error.contains("2_Dense/config.json"), "{reason}: {error}");
        }
        let error = with_dense(json!({})).without("2_Dense/model.safetensors").steps().unwrap_err();
        assert!(error.contains("2_Dense/model.safetensors is missing"), "{error}");
    }

    #[test]
    fn vectors_are_cut_to_truncate_dim_and_a_longer_one_changes_nothing() {
        let model = |length: Value| TestModel::new().with(SETTINGS, json!({"truncate_dim": length})).steps();
        assert_eq!(model(json!(8)), Ok((vec![Step::Truncate(8)], 8)));
        for whole in [json!(32), json!(64), json!(null)] {
            assert_eq!(model(whole), Ok((vec![], 32)));
        }
        for wrong in [json!(0), json!(-1), json!("8")] {
            let error = model(wrong.clone()).unwrap_err();
            assert!(error.contains(&format!("truncate_dim is {wrong}")) && error.contains(SETTINGS), "{error}");
        }
    }

    #[test]
    fn the_weights_and_settings_of_steps_change_the_fingerprint() {
        let fingerprint =
            |model: &TestModel| Card::read(&Files::in_directory(model.path("")), "f32").unwrap().fingerprint;
        let one = with_dense(json!({}));
        let others = [
            TestModel::new(),
            with_dense(json!({"bias": false})),
            with_dense(json!({"activation_function": "torch.nn.ReLU"})),
            with_dense(json!({"use_residual": true})),
            with_dense(json!({})).with_text("2_Dense/model.safetensors", "other"),
            with_dense(json!({})).with(SETTINGS, json!({"truncate_dim": 4})),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(fingerprint(other), fingerprint(&one), "{i}");
        }
        assert_eq!(fingerprint(&with_dense(json!({}))), fingerprint(&one));
    }
}
