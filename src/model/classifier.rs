//! The card of a classifier: all settings that are needed beside its graph, read from its own files and checked.
//!
//! `config.json` has `id2label`, `problem_type` and lengths, as transformers writes it. The tokenizer is read as for
//! encoders (`tokenizer.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::CardError;
use super::file::{parse, read_json_if_present};
use super::tokenizer::{Beside, TokenizerFile, TruncationSide};
use super::{Files, Kind, digest, layout};

/// The maximum tokens of a text if no file has a length: the length with which BERT and its relatives were trained.
const USUAL_TOKENS: usize = 512;

/// Families whose positions begin behind the padding token, which is 1 by default. Their tables have rows up to that
/// token that no text uses.
const OFFSET_FAMILIES: [&str; 15] = [
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
    MPNET,
];

/// The family whose positions always begin behind token 1, whatever `config.json` says.
const MPNET: &str = "mpnet";

/// The default padding token of [`OFFSET_FAMILIES`].
const OFFSET_PADDING: u32 = 1;

/// The kind of problem, which decides how scores become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Exactly one label applies: a softmax over all.
    SingleLabel,
    /// Each label applies or not, independent of the others: a sigmoid for each.
    MultiLabel,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SingleLabel => "single_label_classification",
            Self::MultiLabel => "multi_label_classification",
        })
    }
}

/// The location of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphFile {
    /// A file on disk, possibly with weights in files beside it.
    Disk(PathBuf),
    /// Bytes in this binary.
    BuiltIn(&'static [u8]),
}

/// A classifier's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierCard {
    /// Hub id, directory or built-in name, as configured.
    pub id: String,
    /// The commit of the files, or a name in its place.
    pub revision: String,
    /// Hexadecimal digest of graph and tokenizer.
    pub fingerprint: String,
    /// The name of each score, in the graph's order; `None` if the configuration has no names.
    pub labels: Option<Vec<String>>,
    /// The meaning of the scores.
    pub problem: Problem,
    /// The problem is set in `config.json` and not a default.
    pub problem_is_given: bool,
    /// Maximum tokens of a text, with special tokens.
    pub max_tokens: usize,
    /// The token that pads the shorter texts of a batch.
    pub pad_token: u32,
    /// The content of `tokenizer.json`, with the changes of the settings beside it.
    pub tokenizer: Vec<u8>,
    /// The end at which a long text is cut off.
    pub truncation_side: TruncationSide,
    /// The graph.
    pub graph: GraphFile,
}

/// The fields of `config.json` that matter.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    pub model_type: Option<String>,
    pub tokenizer_class: Option<String>,
    pub id2label: Option<BTreeMap<String, String>>,
    problem_type: Option<String>,
    function_to_apply: Option<String>,
    pad_token_id: Option<u32>,
    max_position_embeddings: Option<i64>,
    n_positions: Option<i64>,
}

impl ClassifierCard {
    /// Reads a classifier's files.
    ///
    /// # Errors
    /// The error names the file and its fault, or the unsupported setting and the supported values.
    pub fn read(files: &Files) -> Result<Self, CardError> {
        let directory = &files.directory;
        let file = match &files.kind {
            Kind::Classifier(file) => file.as_deref(),
            Kind::Encoder | Kind::OnnxEncoder | Kind::Reranker(_) => None,
        };
        let mut graph = layout::graph_and_data(directory, file)?;
        let path = directory.join("config.json");
        let config = read_json_if_present::<Config>(&path)?.unwrap_or_default();
        let beside = Beside {
            model_type: config.model_type.as_deref(),
            class: config.tokenizer_class.as_deref(),
            ..Beside::default()
        };
        let tokenizer = TokenizerFile::read(directory, beside)?;
        Ok(Self {
            id: files.id.clone(),
            revision: files.revision.clone(),
            fingerprint: [digest::of_files(&graph)?, tokenizer.digest].concat(),
            labels: labels(&config, &path)?,
            problem: problem(&config, &path)?,
            problem_is_given: config.problem_type.is_some(),
            max_tokens: max_tokens(&config, tokenizer.max_tokens),
            pad_token: pad_token(&config),
            tokenizer: tokenizer.json,
            truncation_side: tokenizer.truncation_side,
            graph: GraphFile::Disk(graph.swap_remove(0)),
        })
    }

    /// Reads the card of a classifier in this binary.
    ///
    /// # Errors
    /// The error names the fault of its configuration, as for files on disk.
    pub fn built_in(
        id: &str,
        config: &[u8],
        tokenizer: &'static [u8],
        graph: &'static [u8],
    ) -> Result<Self, CardError> {
        let path = Path::new("config.json");
        let config: Config = parse(path, config)?;
        Ok(Self {
            id: id.to_owned(),
            revision: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: [graph, tokenizer].map(digest::of_bytes).concat(),
            labels: labels(&config, path)?,
            problem: problem(&config, path)?,
            problem_is_given: config.problem_type.is_some(),
            max_tokens: max_tokens(&config, None),
            pad_token: pad_token(&config),
            tokenizer: tokenizer.to_vec(),
            truncation_side: TruncationSide::default(),
            graph: GraphFile::BuiltIn(graph),
        })
    }
}

/// Reads labels, `{"0": "negative", "1": "positive"}`, in the order of their numbers.
fn labels(config: &Config, path: &Path) -> Result<Option<Vec<String>>, CardError> {
    let Some(named) = config.id2label.as_ref().filter(|named| !named.is_empty()) else { return Ok(None) };
    let malformed = |problem: String| CardError::malformed(path, problem);
    let label = |n: usize| {
        named.get(&n.to_string()).cloned().ok_or_else(|| {
            malformed(format!(
                "id2label has {} labels and no label {n}; expected the numbers from 0 without gaps",
                named.len()
            ))
        })
    };
    let labels = (0..named.len()).map(label).collect::<Result<Vec<_>, _>>()?;
    check_labels(&labels).map_err(|problem| malformed(format!("id2label: {problem}")))?;
    Ok(Some(labels))
}

/// Checks that labels differ and none is empty.
pub fn check_labels(labels: &[String]) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    for (n, label) in labels.iter().enumerate() {
        if label.is_empty() {
            return Err(format!("label {n} is empty; give each label a name"));
        }
        if !seen.insert(label) {
            return Err(format!("label {label:?} is there twice; give each score its own label"));
        }
    }
    Ok(())
}

/// Determines the problem as transformers' pipelines do: sigmoids if `config.json` says so, or if there is one label.
fn problem(config: &Config, path: &Path) -> Result<Problem, CardError> {
    let one_label = config.id2label.as_ref().is_some_and(|labels| labels.len() == 1);
    let unsupported = |setting, value, supported| CardError::unsupported(path, setting, value, supported);
    let problem = match config.problem_type.as_deref() {
        Some("multi_label_classification") => Problem::MultiLabel,
        None if one_label => Problem::MultiLabel,
        Some("single_label_classification") | None => Problem::SingleLabel,
        Some(other) => {
            let supported = "single_label_classification and multi_label_classification";
            return Err(unsupported("problem_type", other, supported));
        }
    };
    // The pipelines ignore it if there are labels, so it must agree with the problem.
    let function = config.function_to_apply.as_deref().unwrap_or("default");
    match (problem, function.to_lowercase().as_str()) {
        (_, "default") | (Problem::SingleLabel, "softmax") | (Problem::MultiLabel, "sigmoid") => Ok(problem),
        (Problem::SingleLabel, _) => Err(unsupported("function_to_apply", function, "softmax with this problem_type")),
        (Problem::MultiLabel, _) => Err(unsupported("function_to_apply", function, "sigmoid with this problem_type")),
    }
}

/// Returns whether positions begin behind the padding token.
fn has_offset(config: &Config) -> bool {
    config.model_type.as_deref().is_some_and(|family| OFFSET_FAMILIES.contains(&family))
}

/// Determines the padding token.
pub(super) fn pad_token(config: &Config) -> u32 {
    config.pad_token_id.unwrap_or(if has_offset(config) { OFFSET_PADDING } else { 0 })
}

/// Determines the maximum tokens of a text. `in_tokenizer` is the length in the tokenizer's settings.
pub(super) fn max_tokens(config: &Config, in_tokenizer: Option<usize>) -> usize {
    let offset = match config.model_type.as_deref() {
        Some(MPNET) => OFFSET_PADDING as usize + 1,
        _ if has_offset(config) => pad_token(config) as usize + 1,
        _ => 0,
    };
    // Some models with relative positions have -1.
    let rows = config.max_position_embeddings.or(config.n_positions).and_then(|rows| usize::try_from(rows).ok());
    let positions = rows.map(|rows| rows.saturating_sub(offset)).filter(|&positions| positions > 0);
    match (positions, in_tokenizer) {
        (Some(positions), Some(length)) => positions.min(length),
        (Some(positions), None) => positions,
        // Without absolute positions a huge number means that no length was set.
        (None, Some(length)) if length < 1 << 20 => length,
        (None, _) => USUAL_TOKENS,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::write_json;
    use super::*;

    fn read(config: Option<Value>, tokenizer_config: Option<Value>) -> Result<ClassifierCard, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        std::fs::create_dir(file("onnx")).unwrap();
        // ModelProto with an empty graph.
        std::fs::write(file("onnx/model.onnx"), [7 << 3 | 2, 0]).unwrap();
        std::fs::write(file("tokenizer.json"), "{}").unwrap();
        for (name, value) in [("config.json", config), ("tokenizer_config.json", tokenizer_config)] {
            if let Some(value) = value {
                write_json(&file(name), &value);
            }
        }
        let files = Files { kind: Kind::Classifier(None), ..Files::in_directory(directory.path()) };
        ClassifierCard::read(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_come_in_the_order_of_their_numbers() {
        let eleven: BTreeMap<String, String> = (0..11).map(|n| (n.to_string(), format!("label {n}"))).collect();
        let card = read(Some(json!({"id2label": eleven})), None).unwrap();
        let labels = card.labels.unwrap();
        assert_eq!((labels[2].as_str(), labels[10].as_str()), ("label 2", "label 10"));
    }

    #[test]
    fn without_labels_or_a_configuration_there_are_none() {
        assert_eq!(read(None, None).unwrap().labels, None);
        assert_eq!(read(Some(json!({"id2label": {}})), None).unwrap().labels, None);
    }

    #[test]
    fn labels_that_cannot_be_told_apart_or_are_not_counted_from_0_are_refused() {
        for (labels, reason) in [
            (json!({"0": "a", "1": "a"}), "\"a\" is there twice"),
            (json!({"0": "a", "1": ""}), "label 1 is empty"),
            (json!({"1": "a", "2": "b"}), "no label 0"),
        ] {
            let error = read(Some(json!({"id2label": labels})), None).unwrap_err();
            assert!(error.contains(reason) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn the_problem_decides_what_scores_mean() {
        let problem = |config: Value| read(Some(config), None).map(|card| card.problem);
        let two = json!({"0": "a", "1": "b"});
        assert_eq!(problem(json!({"id2label": two})), Ok(Problem::SingleLabel));
        assert_eq!(problem(json!({"id2label": {"0": "toxic"}})), Ok(Problem::MultiLabel));
        let multi = json!({"id2label": two, "problem_type": "multi_label_classification"});
        assert_eq!(problem(multi), Ok(Problem::MultiLabel));
        let error = problem(json!({"problem_type": "regression"})).unwrap_err();
        assert!(error.contains("problem_type is regression, which is not supported"), "{error}");
    }

    #[test]
    fn a_function_that_contradicts_the_problem_is_refused() {
        let two = json!({"0": "a", "1": "b"});
        let problem = |function: &str| {
            read(Some(json!({"id2label": two, "function_to_apply": function})), None).map(|card| card.problem)
        };
        assert_eq!(problem("softmax"), Ok(Problem::SingleLabel));
        for function in ["sigmoid", "none"] {
            let error = problem(function).unwrap_err();
            assert!(error.contains(&format!("function_to_apply is {function}")), "{error}");
        }
    }

    #[test]
    fn rows_of_positions_before_and_at_the_padding_token_are_no_length() {
        let length = |family: &str, padding: Value| {
            let config = json!({"model_type": family, "max_position_embeddings": 514, "pad_token_id": padding});
            read(Some(config), None).unwrap()
        };
        for family in ["mpnet", "longformer", "data2vec-text", "xlm-roberta", "roberta-prelayernorm"] {
            assert_eq!(length(family, json!(1)).max_tokens, 512, "{family}");
            assert_eq!(length(family, Value::Null).max_tokens, 512, "{family}");
        }
        assert_eq!(length("longformer", json!(2)).max_tokens, 511);
        assert_eq!(length("mpnet", json!(2)).max_tokens, 512);
        assert_eq!(length("electra", json!(1)).max_tokens, 514);
        assert_eq!((length("roberta", Value::Null).pad_token, length("bert", Value::Null).pad_token), (1, 0));
        let xlnet = json!({"model_type": "xlnet", "max_position_embeddings": -1});
        assert_eq!(read(Some(xlnet), None).unwrap().max_tokens, USUAL_TOKENS);
    }

    #[test]
    fn the_settings_of_the_tokenizer_count_and_are_part_of_the_fingerprint() {
        let (plain, left) = (read(None, None).unwrap(), read(None, Some(json!({"truncation_side": "left"}))).unwrap());
        assert_eq!((plain.truncation_side, left.truncation_side), (TruncationSide::Right, TruncationSide::Left));
        assert_ne!(plain.fingerprint, left.fingerprint);
    }

    #[test]
    fn the_length_is_the_least_that_model_and_tokenizer_allow() {
        let length = |config: Value, tokenizer: Value| read(Some(config), Some(tokenizer)).unwrap().max_tokens;
        let bert = json!({"model_type": "bert", "max_position_embeddings": 512});
        assert_eq!(length(bert.clone(), json!({"model_max_length": 128})), 128);
        assert_eq!(length(bert, json!({"model_max_length": 1e30})), 512);
        let roberta = json!({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1});
        assert_eq!(length(roberta, json!({})), 512);
        assert_eq!(length(json!({}), json!({"model_max_length": 1e30})), USUAL_TOKENS);
        assert_eq!(length(json!({}), json!({"model_max_length": 2048})), 2048);
    }
}
