//! The reading of an architecture from `config.json`: its family, and the sizes of BERT and its nearest relatives. Each
//! other family has a file of its own. Other architectures are refused by name. So are models that use a name of a
//! family and compute something else (ALiBi, relative keys, decoders).

use std::path::Path;

use serde::Deserialize;

use super::fields::{Fields, MOST_LAYERS};
use super::{
    Activation, Architecture, Design, Family, Layer, Positions, RELATIVE_BUCKETS, gemma3, gte_new, modern_bert,
    nomic_bert, qwen3,
};
use crate::model::error::CardError;
use crate::model::file::read_json;

/// The supported models, for error messages.
const SUPPORTED: &str = "bert (BertModel), roberta, xlm-roberta, camembert, distilbert, mpnet, modernbert, qwen3, \
                         nomic_bert, new and gte (GTE), and gemma3_text, for example all-MiniLM-L6-v2, \
                         gte-modernbert-base or Qwen3-Embedding-0.6B; and static vectors of model2vec and \
                         StaticEmbedding, for example potion-base-8M";

/// The families: `model_type`, the prefix of the class names in `architectures`, and our name.
const KINDS: [(&str, &str, Family); 13] = [
    ("bert", "Bert", Family::Bert),
    ("roberta", "Roberta", Family::Roberta),
    ("xlm-roberta", "XLMRoberta", Family::Roberta),
    ("camembert", "Camembert", Family::Roberta),
    ("distilbert", "DistilBert", Family::DistilBert),
    ("mpnet", "MPNet", Family::Mpnet),
    ("modernbert", "ModernBert", Family::ModernBert),
    ("qwen3", "Qwen3", Family::Qwen3),
    ("nomic_bert", "NomicBert", Family::NomicBert),
    ("new", "New", Family::GteNew),
    ("gte", "Gte", Family::GteNew),
    ("gemma3_text", "Gemma3Text", Family::Gemma3),
    ("gemma3_text", "Gemma3", Family::Gemma3),
];

/// The padding token of MPNet. It is a constant in transformers too, whatever the configuration says.
const MPNET_PADDING: u32 = 1;

impl Family {
    /// Finds the family of a class: `XLMRobertaForMaskedLM` is `Roberta`. `XLMRobertaXLModel` is another architecture.
    fn of_class(class: &str) -> Option<Self> {
        let is_head = |rest: &str| matches!(rest, "Model" | "LMHeadModel") || rest.starts_with("For");
        let kind = KINDS.iter().find(|(_, prefix, _)| class.strip_prefix(prefix).is_some_and(is_head));
        kind.map(|(_, _, family)| *family)
    }
}

/// The fields that tell the architecture. Other architectures have other names for their sizes.
#[derive(Deserialize)]
pub(in crate::model) struct Names {
    /// The family, in lower case.
    pub model_type: Option<String>,
    /// The class of the tokenizer, if the configuration names it.
    pub tokenizer_class: Option<String>,
    /// The classes of the model.
    pub architectures: Option<Vec<String>>,
}

impl Names {
    /// Reads `config.json`.
    pub(in crate::model) fn read(path: &Path) -> Result<Self, CardError> {
        read_json(path)
    }
}

/// Fields that change the computation or the weights at the same sizes. They must be missing or empty.
#[derive(Deserialize)]
struct Altered {
    pruned_heads: Option<serde_json::Value>,
    quantization_config: Option<serde_json::Value>,
}

impl Altered {
    /// Refuses a field that is set.
    fn check(&self, path: &Path) -> Result<(), CardError> {
        let empty = |value: &serde_json::Value| match value {
            serde_json::Value::Object(fields) => fields.is_empty(),
            other => other.is_null(),
        };
        for (setting, value, supported) in [
            ("pruned_heads", &self.pruned_heads, "none: every layer has all of its heads"),
            ("quantization_config", &self.quantization_config, "none: weights of a float type"),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !empty(value)) {
                let value = value.to_string();
                return Err(CardError::unsupported(path, setting, value, supported));
            }
        }
        Ok(())
    }
}

/// The sizes under the names of most families.
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
    pad_token_id: Option<u32>,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
    relative_attention_num_buckets: Option<usize>,
}

/// The sizes under DistilBERT's names. `sinusoidal_pos_embds` has no effect: the sines are in the weights.
#[derive(Deserialize)]
struct DistilBertConfig {
    position_embedding_type: Option<String>,
    activation: Option<String>,
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    max_position_embeddings: usize,
}

impl From<DistilBertConfig> for Config {
    fn from(config: DistilBertConfig) -> Self {
        Self {
            position_embedding_type: config.position_embedding_type,
            is_decoder: None,
            hidden_act: config.activation,
            vocab_size: config.vocab_size,
            hidden_size: config.dim,
            num_hidden_layers: config.n_layers,
            num_attention_heads: config.n_heads,
            intermediate_size: config.hidden_dim,
            max_position_embeddings: config.max_position_embeddings,
            pad_token_id: None,
            type_vocab_size: None,
            layer_norm_eps: None,
            relative_attention_num_buckets: None,
        }
    }
}

impl Architecture {
    /// Reads the architecture from `config.json`.
    pub(in crate::model) fn read(path: &Path) -> Result<Self, CardError> {
        let family = family(path, &Names::read(path)?)?;
        read_json::<Altered>(path)?.check(path)?;
        match family {
            Family::Bert | Family::Roberta | Family::Mpnet => read_json::<Config>(path)?.parse(family, path),
            Family::DistilBert => Config::from(read_json::<DistilBertConfig>(path)?).parse(family, path),
            Family::ModernBert => modern_bert::read(Fields::read(path)?),
            Family::Qwen3 => qwen3::read(Fields::read(path)?),
            Family::NomicBert => nomic_bert::read(Fields::read(path)?),
            Family::GteNew => gte_new::read(Fields::read(path)?),
            Family::Gemma3 => gemma3::read(Fields::read(path)?),
        }
    }
}

/// Determines the family.
fn family(path: &Path, kind: &Names) -> Result<Family, CardError> {
    let unsupported = |setting, value: &str| CardError::unsupported(path, setting, value, SUPPORTED);
    let classes = kind.architectures.as_deref().unwrap_or_default();
    let family = match (kind.model_type.as_deref(), classes.first()) {
        (Some(kind), _) => {
            let known = KINDS.iter().find(|(model_type, ..)| *model_type == kind);
            known.ok_or_else(|| unsupported("model_type", kind))?.2
        }
        (None, Some(class)) => Family::of_class(class).ok_or_else(|| unsupported("architectures", class))?,
        (None, None) => return Err(unsupported("model_type", "missing")),
    };
    // Some models have the type bert and code of their own: JinaBertModel.
    match classes.iter().find(|class| Family::of_class(class) != Some(family)) {
        Some(other) => Err(unsupported("architectures", other)),
        None => Ok(family),
    }
}

impl Config {
    /// Checks the sizes of a family.
    fn parse(self, family: Family, path: &Path) -> Result<Architecture, CardError> {
        let unsupported = |setting, value: String, supported| CardError::unsupported(path, setting, value, supported);
        if let Some(positions) = self.position_embedding_type.filter(|positions| positions != "absolute") {
            return Err(unsupported("position_embedding_type", positions, "absolute"));
        }
        if self.is_decoder == Some(true) {
            return Err(unsupported("is_decoder", "true".to_owned(), "false"));
        }
        let activation = self.hidden_act.unwrap_or_else(|| "gelu".to_owned());
        let Some(hidden_act) = Activation::parse(&activation) else {
            let supported = "gelu, gelu_new, gelu_pytorch_tanh, relu";
            return Err(unsupported(family.name("hidden_act"), activation, supported));
        };
        let buckets = self.relative_attention_num_buckets.filter(|&buckets| buckets != RELATIVE_BUCKETS);
        if let (Family::Mpnet, Some(buckets)) = (family, buckets) {
            return Err(unsupported("relative_attention_num_buckets", buckets.to_string(), "32"));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            let problem = format!(
                "{} is {}, and must be at most {MOST_LAYERS}",
                family.name("num_hidden_layers"),
                self.num_hidden_layers
            );
            return Err(CardError::malformed(path, problem));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if hidden.checked_rem(heads).is_some_and(|rest| rest != 0) {
            let (hidden_size, num_heads) = (family.name("hidden_size"), family.name("num_attention_heads"));
            let problem = format!("{hidden_size} {hidden} must be a multiple of {num_heads} {heads}");
            return Err(CardError::malformed(path, problem));
        }
        let head_dim = hidden.checked_div(heads).unwrap_or_default();
        let architecture = Architecture {
            family,
            vocab_size: self.vocab_size,
            hidden_size: hidden,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            query_pre_attn_scalar: head_dim as f64,
            intermediate_size: self.intermediate_size,
            hidden_act,
            max_position_embeddings: self.max_position_embeddings,
            padding: match family {
                Family::Roberta => Some(self.pad_token_id.unwrap_or(1)),
                Family::Mpnet => Some(MPNET_PADDING),
                _ => None,
            },
            type_vocab_size: if family.has_token_types() { self.type_vocab_size.unwrap_or(2) } else { 0 },
            // DistilBERT has no setting for it; the others' default is the same.
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-12),
            design: match family {
                Family::Mpnet => Design { positions: Positions::LearnedAndRelative, ..Design::BERT },
                _ => Design::BERT,
            },
            layers: vec![Layer::BERT; self.num_hidden_layers],
        };
        architecture.check().map_err(|problem| CardError::malformed(path, problem))?;
        Ok(architecture)
    }
}
