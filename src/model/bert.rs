//! `config.json`: the architecture and its sizes. BERT for now; everything else is refused by name,
//! also what calls itself BERT and computes something else (ALiBi, relative positions, decoders).

use std::path::Path;

use serde::Deserialize;

use super::error::CardError;
use super::layout::read_json;

/// What works, for the messages.
const SUPPORTED: &str = "bert (BertModel), such as all-MiniLM-L6-v2, bge-small-en-v1.5 or e5-small-v2";

/// The sizes of a BERT encoder, under the names of `config.json`; all positive, and the heads divide
/// the hidden size. Names and defaults: `BertConfig` of Hugging Face transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct Bert {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Length of a token's vector, and of the model's.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads in each layer.
    pub num_attention_heads: usize,
    /// Length of a token's vector inside the feed-forward block.
    pub intermediate_size: usize,
    /// The function inside the feed-forward block.
    pub hidden_act: Activation,
    /// Rows of the position embedding: no text can have more tokens.
    pub max_position_embeddings: usize,
    /// Rows of the segment embedding; only row 0 is used.
    pub type_vocab_size: usize,
    /// Added to the variance in each layer normalisation.
    pub layer_norm_eps: f64,
}

/// The function inside the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x), with the error function: `gelu`.
    Gelu,
    /// Its approximation by tanh: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// max(x, 0): `relu`.
    Relu,
}

impl Activation {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }
}

/// Only what tells the architecture: the sizes of others have other names.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    hidden_act: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
}

impl Bert {
    pub(super) fn read(path: &Path) -> Result<Self, CardError> {
        check_kind(path, &read_json(path)?)?;
        let config: Config = read_json(path)?;
        config.parse(path)
    }
}

fn check_kind(path: &Path, kind: &Kind) -> Result<(), CardError> {
    let unsupported = |setting, value: &str| {
        Err(CardError::Unsupported { path: path.to_owned(), setting, value: value.to_owned(), supported: SUPPORTED })
    };
    let architectures = kind.architectures.as_deref().unwrap_or_default();
    match kind.model_type.as_deref() {
        Some("bert") => {}
        Some(other) => return unsupported("model_type", other),
        None if architectures.is_empty() => return unsupported("model_type", "missing"),
        None => {}
    }
    // Some models call their type bert and bring code of their own: JinaBertModel.
    match architectures.iter().find(|name| !name.starts_with("Bert")) {
        Some(other) => unsupported("architectures", other),
        None => Ok(()),
    }
}

impl Config {
    fn parse(self, path: &Path) -> Result<Bert, CardError> {
        let unsupported = |setting, value: String, supported| CardError::Unsupported {
            path: path.to_owned(),
            setting,
            value,
            supported,
        };
        if let Some(positions) = self.position_embedding_type.filter(|positions| positions != "absolute") {
            return Err(unsupported("position_embedding_type", positions, "absolute"));
        }
        if self.is_decoder == Some(true) {
            return Err(unsupported("is_decoder", "true".to_owned(), "false"));
        }
        let activation = self.hidden_act.unwrap_or_else(|| "gelu".to_owned());
        let Some(hidden_act) = Activation::parse(&activation) else {
            return Err(unsupported("hidden_act", activation, "gelu, gelu_new, gelu_pytorch_tanh, relu"));
        };
        let bert = Bert {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size.unwrap_or(2),
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-12),
        };
        bert.check().map_err(|problem| CardError::Malformed { path: path.to_owned(), problem })?;
        Ok(bert)
    }
}

impl Bert {
    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("{name} is 0"));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            return Err(format!("hidden_size {hidden} is no multiple of num_attention_heads {heads}"));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(format!("layer_norm_eps is {}, not a positive number", self.layer_norm_eps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{config, write_json};
    use super::*;

    fn read(changes: Value) -> Result<Bert, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let mut config = config();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        write_json(&path, &config);
        Bert::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_come_from_the_file_and_defaults_from_transformers() {
        let bert = read(json!({"layer_norm_eps": 1e-5, "type_vocab_size": 1})).unwrap();
        assert_eq!((bert.hidden_size, bert.num_hidden_layers, bert.num_attention_heads), (32, 2, 4));
        assert_eq!((bert.layer_norm_eps, bert.type_vocab_size), (1e-5, 1));
        let bert = read(json!({"layer_norm_eps": null, "type_vocab_size": null, "hidden_act": null})).unwrap();
        assert_eq!((bert.layer_norm_eps, bert.type_vocab_size, bert.hidden_act), (1e-12, 2, Activation::Gelu));
    }

    #[test]
    fn both_geluses_are_told_apart_and_others_are_refused_by_name() {
        assert_eq!(read(json!({"hidden_act": "gelu"})).unwrap().hidden_act, Activation::Gelu);
        assert_eq!(read(json!({"hidden_act": "gelu_new"})).unwrap().hidden_act, Activation::GeluTanh);
        assert_eq!(read(json!({"hidden_act": "relu"})).unwrap().hidden_act, Activation::Relu);
        let error = read(json!({"hidden_act": "silu"})).unwrap_err();
        assert!(error.contains("hidden_act is silu"), "{error}");
    }

    #[test]
    fn another_architecture_is_refused_by_name_with_what_works() {
        for kind in ["xlm-roberta", "roberta", "distilbert", "mpnet", "nomic_bert", "modernbert"] {
            let error = read(json!({"model_type": kind, "architectures": ["Other"]})).unwrap_err();
            assert!(error.contains(&format!("model_type is {kind}")) && error.contains("BertModel"), "{error}");
        }
    }

    #[test]
    fn another_architecture_is_named_even_where_its_sizes_have_other_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        write_json(&path, &json!({"model_type": "distilbert", "dim": 768, "n_layers": 6}));
        let error = Bert::read(&path).unwrap_err().to_string();
        assert!(error.contains("distilbert"), "{error}");
    }

    #[test]
    fn what_calls_itself_bert_and_is_not_is_refused() {
        let error = read(json!({"architectures": ["JinaBertForMaskedLM"]})).unwrap_err();
        assert!(error.contains("JinaBertForMaskedLM"), "{error}");
        let error = read(json!({"position_embedding_type": "alibi"})).unwrap_err();
        assert!(error.contains("position_embedding_type is alibi"), "{error}");
        let error = read(json!({"is_decoder": true})).unwrap_err();
        assert!(error.contains("is_decoder"), "{error}");
    }

    #[test]
    fn impossible_sizes_are_named() {
        let error = read(json!({"num_attention_heads": 5})).unwrap_err();
        assert!(error.contains("hidden_size 32 is no multiple of num_attention_heads 5"), "{error}");
        let error = read(json!({"num_attention_heads": 0})).unwrap_err();
        assert!(error.contains("num_attention_heads is 0"), "{error}");
        let error = read(json!({"vocab_size": "many"})).unwrap_err();
        assert!(error.contains("config.json is malformed"), "{error}");
    }
}
