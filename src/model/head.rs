//! The head of a reranker: the way from the vectors of a pair's tokens to one number. Each family has its own, as the
//! class in transformers has it, or the model's own code (GTE). Only ModernBERT's has settings in `config.json`.
//!
//! Invariant: a class without a known head is refused by name, with the list of those that are known.

use std::path::Path;

use serde::Deserialize;

use super::architecture::{Architecture, Family, Names};
use super::error::CardError;
use super::file::read_json;
use super::pooling::Mode;
use super::steps::Function;

/// The end of the names of classes with a head for sequences.
const CLASS: &str = "ForSequenceClassification";

/// The classes whose heads are known, for error messages.
const SUPPORTED: &str = "BertForSequenceClassification, and the same of Roberta, XLMRoberta, Camembert, DistilBert, \
                         MPNet, ModernBert, New and Gte (GTE) and Qwen3; Qwen3ForCausalLM with the module LogitScore \
                         in modules.json; or export the model as ONNX";

/// The class of a language model whose words are scores.
const WORDS: &str = "Qwen3ForCausalLM";

/// A head: `w · N(f(D x + b)) + c` of the pooled vector x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// The mode of the pooling that gives x.
    pub pooling: Mode,
    /// The layer before w.
    pub dense: Option<HeadLayer>,
    /// w and c.
    pub output: HeadOutput,
    /// The token that is not read at the end of a pair: the last token before it counts.
    pub padding: Option<u32>,
}

/// The last layer of a head, w and c.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadOutput {
    /// A layer with one output. It may have no c.
    Layer {
        /// The layer has c.
        bias: bool,
    },
    /// Rows of the layer in which a language model has one for each token. w is the row of one token, less that of
    /// another one: the logarithm of the odds between both.
    Words {
        /// The token that speaks for the text.
        yes: u32,
        /// The token against it.
        no: Option<u32>,
        /// The layer is the table of token embeddings.
        tied: bool,
    },
}

/// The layer `N(f(D x + b))` of a head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadLayer {
    /// f
    pub function: Function,
    /// The layer has b.
    pub bias: bool,
    /// The layer ends with N, the normalisation of the encoder with weights of its own.
    pub normalises: bool,
}

/// The fields of ModernBERT's head, and the padding token of Qwen3.
#[derive(Deserialize)]
struct Config {
    classifier_pooling: Option<String>,
    classifier_activation: Option<String>,
    classifier_bias: Option<bool>,
    pad_token_id: Option<u32>,
    tie_word_embeddings: Option<bool>,
}

/// The settings of `LogitScore`.
#[derive(Deserialize)]
struct LogitScore {
    true_token_id: u32,
    false_token_id: Option<u32>,
    module_input_name: Option<String>,
}

impl Head {
    /// Reads the head of a model. `logit_score` are the settings of that module, if the model has it.
    pub(super) fn read(
        path: &Path,
        architecture: &Architecture,
        logit_score: Option<&Path>,
    ) -> Result<Self, CardError> {
        let unsupported = |setting, value: String, supported| CardError::unsupported(path, setting, value, supported);
        let class = Names::read(path)?.architectures.and_then(|classes| classes.into_iter().next());
        let class = class.unwrap_or_else(|| "missing".to_owned());
        let config: Config = read_json(path)?;
        match logit_score {
            Some(settings) if class == WORDS => {
                let tied = config.tie_word_embeddings.unwrap_or(false);
                return Self::of_words(settings, architecture.vocab_size, tied);
            }
            Some(_) => return Err(unsupported("architectures", class, "Qwen3ForCausalLM with the module LogitScore")),
            None if !class.ends_with(CLASS) => return Err(unsupported("architectures", class, SUPPORTED)),
            None => {}
        }
        let output = HeadOutput::Layer { bias: true };
        let of_first = |function| {
            let dense = Some(HeadLayer { function, bias: true, normalises: false });
            Ok(Self { pooling: Mode::Cls, dense, output, padding: None })
        };
        match architecture.family {
            Family::Bert | Family::Roberta | Family::Mpnet | Family::GteNew => of_first(Function::Tanh),
            Family::DistilBert => of_first(Function::Relu),
            Family::ModernBert => {
                let pooling = match config.classifier_pooling.as_deref() {
                    None | Some("cls") => Mode::Cls,
                    Some("mean") => Mode::Mean,
                    Some(other) => return Err(unsupported("classifier_pooling", other.to_owned(), "cls and mean")),
                };
                let function = match config.classifier_activation.as_deref() {
                    None | Some("gelu") => Function::Gelu,
                    Some("relu") => Function::Relu,
                    Some("silu" | "swish") => Function::Silu,
                    Some("tanh") => Function::Tanh,
                    Some(other) => {
                        let supported = "gelu, relu, silu and tanh";
                        return Err(unsupported("classifier_activation", other.to_owned(), supported));
                    }
                };
                let bias = config.classifier_bias.unwrap_or(false);
                let dense = Some(HeadLayer { function, bias, normalises: true });
                Ok(Self { pooling, dense, output, padding: None })
            }
            Family::Qwen3 => {
                let output = HeadOutput::Layer { bias: false };
                Ok(Self { pooling: Mode::LastToken, dense: None, output, padding: config.pad_token_id })
            }
            Family::NomicBert | Family::Gemma3 => Err(unsupported("architectures", class, SUPPORTED)),
        }
    }
    /// Reads the head of a language model of `tokens` tokens.
    fn of_words(settings: &Path, tokens: usize, tied: bool) -> Result<Self, CardError> {
        let LogitScore { true_token_id: yes, false_token_id: no, module_input_name } = read_json(settings)?;
        if let Some(name) = module_input_name.filter(|name| name != "causal_logits") {
            return Err(CardError::unsupported(settings, "module_input_name", name, "causal_logits"));
        }
        if let Some(id) = [Some(yes), no].into_iter().flatten().find(|id| *id as usize >= tokens) {
            let problem = format!("token {id} has no number, the vocabulary ends at {tokens}");
            return Err(CardError::malformed(settings, problem));
        }
        let output = HeadOutput::Words { yes, no, tied };
        Ok(Self { pooling: Mode::LastToken, dense: None, output, padding: None })
    }
}
