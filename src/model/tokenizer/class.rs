//! The classes of tokenizers, and the changes that each makes for its settings.
//!
//! Classes like BERT's have settings for lowercasing, accents and Chinese characters. Classes like RoBERTa's have one
//! for a space before the first word. Both apply them to `tokenizer.json`, including their defaults: a BERT tokenizer
//! lowercases unless its settings turn that off. Classes like Llama's have settings for the tokens around a text, which
//! must be those of `tokenizer.json`. Other classes take `tokenizer.json` as it is.

use serde_json::{Value, json};

use super::settings::{Change, Head, Settings, SettingsFile};
use crate::model::error::CardError;

/// Classes with a WordPiece tokenizer and BERT's settings.
const WORD_PIECE: [&str; 12] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "FunnelTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MPNetTokenizer",
    "MobileBertTokenizer",
    "RealmTokenizer",
    "RetriBertTokenizer",
    "SqueezeBertTokenizer",
];

/// Classes with a byte-level tokenizer and RoBERTa's setting.
const BYTE_LEVEL: [&str; 8] = [
    "BartTokenizer",
    "BlenderbotTokenizer",
    "DebertaTokenizer",
    "GPT2Tokenizer",
    "LEDTokenizer",
    "LongformerTokenizer",
    "MvpTokenizer",
    "RobertaTokenizer",
];

/// Classes with settings for a token before and after a text.
const WITH_ENDS: [&str; 4] = ["CodeLlamaTokenizer", "CohereTokenizer", "GemmaTokenizer", "LlamaTokenizer"];

/// Classes that give a model no token types, and their models.
const WITHOUT_TYPES: [(&str, &str); 5] = [
    ("CamembertTokenizer", "camembert"),
    ("DistilBertTokenizer", "distilbert"),
    ("MPNetTokenizer", "mpnet"),
    ("RobertaTokenizer", "roberta"),
    ("XLMRobertaTokenizer", "xlm-roberta"),
];

/// The class of a model whose settings do not name one, as in transformers.
const OF_MODELS: [(&str, Class); 17] = [
    ("bert", Class::WordPiece),
    ("convbert", Class::WordPiece),
    ("distilbert", Class::WordPiece),
    ("electra", Class::WordPiece),
    ("ernie", Class::WordPiece),
    ("funnel", Class::WordPiece),
    ("layoutlm", Class::WordPiece),
    ("lxmert", Class::WordPiece),
    ("megatron-bert", Class::WordPiece),
    ("mobilebert", Class::WordPiece),
    ("mpnet", Class::WordPiece),
    ("squeezebert", Class::WordPiece),
    ("bart", Class::ByteLevel),
    ("data2vec-text", Class::ByteLevel),
    ("longformer", Class::ByteLevel),
    ("roberta", Class::ByteLevel),
    ("roberta-prelayernorm", Class::ByteLevel),
];

/// A kind of tokenizer class, by its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Classes like BERT's.
    WordPiece,
    /// Classes like RoBERTa's.
    ByteLevel,
    /// Classes like Llama's and Gemma's.
    WithEnds,
    /// All other classes.
    Other,
}

impl Class {
    /// Finds the class by its name, or else the usual one of the model.
    pub(super) fn of(name: Option<&str>, model_type: Option<&str>) -> Self {
        let Some(name) = name else {
            let known = OF_MODELS.iter().find(|(known, _)| Some(*known) == model_type);
            return known.map_or(Self::Other, |(_, class)| *class);
        };
        let name = name.strip_suffix("Fast").unwrap_or(name);
        if WORD_PIECE.contains(&name) {
            Self::WordPiece
        } else if BYTE_LEVEL.contains(&name) {
            Self::ByteLevel
        } else if WITH_ENDS.contains(&name) {
            Self::WithEnds
        } else {
            Self::Other
        }
    }
}

/// Determines if the model gets the types of tokens, as transformers does: by the settings, or else by the class.
pub(super) fn is_typed(settings: &Settings, class: Option<&str>, model_type: Option<&str>) -> bool {
    if let Some(names) = &settings.model_input_names {
        return names.iter().any(|name| name == "token_type_ids");
    }
    let class = class.map(|name| name.strip_suffix("Fast").unwrap_or(name));
    !WITHOUT_TYPES.iter().any(|(name, model)| class.map_or(Some(*model) == model_type, |class| class == *name))
}

/// Lists the changes of `settings` to a tokenizer of this class.
pub(super) fn changes(
    class: Class,
    head: &Head,
    settings: &Settings,
    source: &SettingsFile<'_>,
) -> Result<Vec<Change>, CardError> {
    let mut changes = Vec::new();
    match class {
        Class::WordPiece => {
            special_tokens_agree(head, settings, source)?;
            changes.extend(normalizer(head, settings, source)?);
        }
        Class::ByteLevel => {
            special_tokens_agree(head, settings, source)?;
            changes.extend(prefix_space(head, settings, source)?);
        }
        Class::WithEnds => {
            ends_agree(head, settings, source)?;
            prefix_space_agrees(head, settings, source)?;
        }
        Class::Other => prefix_space_agrees(head, settings, source)?,
    }
    Ok(changes)
}

/// Applies the settings of BERT's classes to the normalizer.
fn normalizer(head: &Head, settings: &Settings, source: &SettingsFile<'_>) -> Result<Option<Change>, CardError> {
    let lowercase = settings.do_lower_case.unwrap_or(true);
    let accents = settings.strip_accents;
    let chinese = settings.tokenize_chinese_chars.unwrap_or(true);
    let normalizer = head.normalizer.as_ref();
    let Some(bert) = normalizer.filter(|normalizer| kind(normalizer) == "BertNormalizer") else {
        // Version 5 of transformers would replace it with BERT's normalizer; version 4 would keep it.
        return other_normalizer_agrees(normalizer, settings, source).map(|()| None);
    };
    let mut changed = bert.clone();
    changed["lowercase"] = json!(lowercase);
    changed["strip_accents"] = json!(accents);
    changed["handle_chinese_chars"] = json!(chinese);
    if same(bert, &changed, &["lowercase", "strip_accents", "handle_chinese_chars"]) {
        return Ok(None);
    }
    let accents = accents.map_or("none".to_owned(), |strip| strip.to_string());
    let name = format!("lowercase={lowercase} strip_accents={accents} chinese={chinese}");
    Ok(Some(Change { pointer: "/normalizer", value: changed, name }))
}

/// Compares fields of two objects. A missing field is `null`.
fn same(one: &Value, other: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| one.get(field).unwrap_or(&Value::Null) == other.get(field).unwrap_or(&Value::Null))
}

/// Checks that another normalizer already does what the settings say.
fn other_normalizer_agrees(
    normalizer: Option<&Value>,
    settings: &Settings,
    source: &SettingsFile<'_>,
) -> Result<(), CardError> {
    const SUPPORTED: &str = "the value that the normalizer of tokenizer.json has, or a BertNormalizer there";
    let does = |wanted: &str, field: &str| {
        normalizer.is_some_and(|normalizer| {
            parts(normalizer).iter().any(|part| {
                kind(part) == wanted || kind(part) == "BertNormalizer" && part.get(field) == Some(&json!(true))
            })
        })
    };
    let lowercases = does("Lowercase", "lowercase");
    match settings.do_lower_case {
        Some(wanted) if wanted != lowercases => {
            return Err(source.unsupported("do_lower_case", wanted.to_string(), SUPPORTED));
        }
        _ => {}
    }
    match settings.strip_accents {
        Some(wanted) if wanted != does("StripAccents", "strip_accents") => {
            Err(source.unsupported("strip_accents", wanted.to_string(), SUPPORTED))
        }
        _ => Ok(()),
    }
}

/// Applies the setting of RoBERTa's classes to the pre-tokenizer.
fn prefix_space(head: &Head, settings: &Settings, source: &SettingsFile<'_>) -> Result<Option<Change>, CardError> {
    let Some(bytes) = head.pre_tokenizer.as_ref().filter(|part| kind(part) == "ByteLevel") else {
        return prefix_space_agrees(head, settings, source).map(|()| None);
    };
    let wanted = settings.add_prefix_space.unwrap_or(false);
    if bytes.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true) == wanted {
        return Ok(None);
    }
    let mut changed = bytes.clone();
    changed["add_prefix_space"] = json!(wanted);
    Ok(Some(Change { pointer: "/pre_tokenizer", value: changed, name: format!("add_prefix_space={wanted}") }))
}

/// Checks that `tokenizer.json` already does what the setting says. The class does not read the setting, or only in
/// some versions.
fn prefix_space_agrees(head: &Head, settings: &Settings, source: &SettingsFile<'_>) -> Result<(), CardError> {
    let Some(wanted) = settings.add_prefix_space else { return Ok(()) };
    let parts = head.pre_tokenizer.as_ref().map(parts).unwrap_or_default();
    let does = |part: &Value| match kind(part) {
        "ByteLevel" => Some(part.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true)),
        "Metaspace" => match part.get("prepend_scheme").and_then(Value::as_str) {
            Some(scheme) => Some(scheme != "never"),
            None => Some(part.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true)),
        },
        _ => None,
    };
    match parts.into_iter().find_map(does) {
        Some(found) if found != wanted => Err(source.unsupported(
            "add_prefix_space",
            wanted.to_string(),
            "the value that the pre_tokenizer of tokenizer.json has, with this tokenizer_class",
        )),
        _ => Ok(()),
    }
}

/// Checks that the settings and `tokenizer.json` have the same tokens around a text. Version 4 of transformers takes
/// those of `tokenizer.json`, and version 5 those of the settings.
fn special_tokens_agree(head: &Head, settings: &Settings, source: &SettingsFile<'_>) -> Result<(), CardError> {
    let (first, last) = head.post_processor.as_ref().map(around).unwrap_or_default();
    let unknown = head.model.as_ref().and_then(|model| model.unk_token.clone());
    for (setting, in_file) in [("cls_token", first), ("sep_token", last), ("unk_token", unknown)] {
        let named = settings.other.get(setting).and_then(super::added::content);
        if let (Some(named), Some(in_file)) = (named, in_file)
            && named != in_file
        {
            let supported = "the token that tokenizer.json has for it";
            return Err(source.unsupported(setting, format!("{named:?}"), supported));
        }
    }
    Ok(())
}

/// Checks that the settings want the tokens around a text that `tokenizer.json` has. Version 4 of transformers takes
/// the settings, and version 5 `tokenizer.json`.
fn ends_agree(head: &Head, settings: &Settings, source: &SettingsFile<'_>) -> Result<(), CardError> {
    let (first, last) = head.post_processor.as_ref().map(around).unwrap_or_default();
    for (setting, wanted, in_file) in
        [("add_bos_token", settings.add_bos_token, first), ("add_eos_token", settings.add_eos_token, last)]
    {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != in_file.is_some()) {
            let supported = "the value that the post_processor of tokenizer.json has, with this tokenizer_class";
            return Err(source.unsupported(setting, wanted.to_string(), supported));
        }
    }
    Ok(())
}

/// Finds the tokens before and after a text.
fn around(post_processor: &Value) -> (Option<String>, Option<String>) {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    if kind(post_processor) == "TemplateProcessing" {
        let single = post_processor.get("single").and_then(Value::as_array);
        let special = |part: Option<&Value>| text(part.and_then(|part| part.pointer("/SpecialToken/id")));
        return (special(single.and_then(|parts| parts.first())), special(single.and_then(|parts| parts.last())));
    }
    (text(post_processor.pointer("/cls/0")), text(post_processor.pointer("/sep/0")))
}

/// Lists a step, or the steps within it.
fn parts(step: &Value) -> Vec<&Value> {
    let within = ["normalizers", "pretokenizers"].iter().find_map(|list| step.get(list).and_then(Value::as_array));
    match within {
        Some(steps) => steps.iter().flat_map(parts).collect(),
        None => vec![step],
    }
}

/// Returns the type of a step.
fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}
