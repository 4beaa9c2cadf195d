//! The file `sentence_bert_config.json`: settings for the transformer of a sentence-transformers model.
//!
//! Older versions named the file after the model's family (`sentence_roberta_config.json`). Newer ones added fields
//! that decide a vector: arguments for the tokenizer, lengths for queries and documents, other outputs.
//!
//! Invariant: each field of the file is honoured, known to have no effect, or refused by name. Like the library, this
//! module refuses unknown fields.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::CardError;
use super::file::read_json_if_present;
use super::pair_template::Messages;
use super::switch;

/// The names that sentence-transformers tries, in its order. The first file that exists and is not empty counts.
const NAMES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Arguments of `from_pretrained` that affect only the loading of weights. The float type is among them: the server
/// computes in its own precision.
const LOADING: [&str; 12] = [
    "attn_implementation",
    "cache_dir",
    "device_map",
    "dtype",
    "local_files_only",
    "low_cpu_mem_usage",
    "token",
    "torch_dtype",
    "trust_remote_code",
    "use_auth_token",
    "use_cache",
    "use_safetensors",
];

/// Arguments for the tokenizer that are also settings of `tokenizer_config.json`.
const TOKENIZER: [&str; 7] = [
    "add_prefix_space",
    "do_lower_case",
    "model_max_length",
    "padding_side",
    "strip_accents",
    "tokenize_chinese_chars",
    "truncation_side",
];

/// The output of a transformer that its model uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// The vectors of tokens.
    Vectors,
    /// The scores of a head.
    Scores,
    /// The numbers of a language model for each token of its vocabulary.
    Words,
}

impl Task {
    /// Returns the names of the task, of its output, and of that output in the transformer.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Vectors => ["feature-extraction", "token_embeddings", "last_hidden_state"],
            Self::Scores => ["sequence-classification", "scores", "logits"],
            Self::Words => ["text-generation", "causal_logits", "logits"],
        }
    }
}

/// The settings that matter.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct TransformerSettings {
    /// The file that was read, or the usual path if no file was found.
    pub path: PathBuf,
    /// Maximum tokens of a text, from the first of `processing_kwargs`, `tokenizer_args` and `max_seq_length` that has
    /// it.
    pub max_tokens: Option<usize>,
    /// The text is lowercased before it is tokenised.
    pub lowercase: bool,
    /// Settings that replace those of `tokenizer_config.json`.
    pub tokenizer: Map<String, Value>,
    /// Pairs are chats, in this form.
    pub messages: Option<Messages>,
    /// The file says in which forms the model takes its inputs.
    pub has_forms: bool,
}

impl TransformerSettings {
    /// Reads the settings of the transformer in `directory`.
    pub(super) fn read(directory: &Path, task: Task) -> Result<Self, CardError> {
        for name in NAMES {
            let path = directory.join(name);
            match read_json_if_present::<Map<String, Value>>(&path)? {
                Some(fields) if !fields.is_empty() => return TransformerFile { path, fields, task }.settings(),
                _ => {}
            }
        }
        Ok(Self { path: directory.join(NAMES[0]), ..Self::default() })
    }
}

/// The content of the file, with its path for error messages.
struct TransformerFile {
    path: PathBuf,
    fields: Map<String, Value>,
    task: Task,
}

impl TransformerFile {
    /// Reads all fields.
    fn settings(self) -> Result<TransformerSettings, CardError> {
        let mut settings = TransformerSettings { path: self.path.clone(), ..Default::default() };
        let (mut of_processing, mut of_module) = (None, None);
        let mut of_template = None;
        let [task, output, _] = self.task.names();
        for (name, value) in self.fields.iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "max_seq_length" => of_module = Some(self.length(name, value)?),
                "do_lower_case" => settings.lowercase = self.switch(name, value)?,
                "tokenizer_args" | "processor_kwargs" => settings.tokenizer = self.tokenizer(name, value)?,
                "processing_kwargs" => {
                    of_processing = self.processing(value)?;
                    of_template = value.get("chat_template").filter(|arguments| !arguments.is_null());
                }
                "model_args" | "model_kwargs" | "config_args" | "config_kwargs" => {
                    self.only(name, value, &LOADING, "arguments that do not change the computation")?;
                }
                "transformer_task" => self.must_be(name, value, task)?,
                "module_output_name" => self.must_be(name, value, output)?,
                "modality_config" => {
                    settings.messages = self.modality(value)?;
                    settings.has_forms = true;
                }
                // Padding takes no part in our computation.
                "unpad_inputs" | "cache_dir" | "backend" => {}
                _ => {
                    let supported = "max_seq_length, do_lower_case, tokenizer_args and processing_kwargs";
                    return Err(self.unsupported(name, value, supported));
                }
            }
        }
        let of_tokenizer = match settings.tokenizer.get("model_max_length") {
            Some(value) => Some(self.length("tokenizer_args.model_max_length", value)?),
            None => None,
        };
        settings.max_tokens = of_processing.or(of_tokenizer).or(of_module);
        if let (Some(messages), Some(arguments)) = (&mut settings.messages, of_template) {
            messages.add_generation_prompt = self.template(arguments)?;
        }
        Ok(settings)
    }

    /// Reads the arguments with which the library makes the tokenizer.
    fn tokenizer(&self, name: &str, value: &Value) -> Result<Map<String, Value>, CardError> {
        let mut arguments = self.object(name, value)?.clone();
        arguments.retain(|key, value| !value.is_null() && !LOADING.contains(&key.as_str()) && key != "use_fast");
        match arguments.iter().find(|(key, _)| !TOKENIZER.contains(&key.as_str())) {
            Some((key, value)) => Err(self.unsupported(
                &format!("{name}.{key}"),
                value,
                "model_max_length, truncation_side, do_lower_case, strip_accents, tokenize_chinese_chars and \
                 add_prefix_space",
            )),
            None => Ok(arguments),
        }
    }

    /// Reads the arguments with which the library calls the tokenizer. Returns the length of a text, if they have it.
    fn processing(&self, value: &Value) -> Result<Option<usize>, CardError> {
        let supported = "max_length, truncation and padding of text";
        let mut length = None;
        for (kind, arguments) in self.object("processing_kwargs", value)? {
            // Arguments for other inputs have no effect on texts.
            if matches!(kind.as_str(), "audio" | "image" | "video" | "chat_template") {
                continue;
            }
            let kind = format!("processing_kwargs.{kind}");
            for (key, value) in self.object(&kind, arguments)?.iter().filter(|(_, value)| !value.is_null()) {
                let name = format!("{kind}.{key}");
                match (kind.as_str(), key.as_str()) {
                    ("processing_kwargs.text", "max_length") => length = Some(self.length(&name, value)?),
                    ("processing_kwargs.text" | "processing_kwargs.common", "truncation")
                        if *value == true || *value == "longest_first" => {}
                    // Padding takes no part in a vector.
                    ("processing_kwargs.text" | "processing_kwargs.common", "padding") => {}
                    (_, "return_tensors" | "return_attention_mask" | "pad_to_multiple_of") => {}
                    _ => return Err(self.unsupported(&name, value, supported)),
                }
            }
        }
        Ok(length)
    }

    /// Checks that texts, or chats, go through the model's usual call, which returns the wanted output. Returns the
    /// form of chats: a model that takes them gets every pair as a chat.
    fn modality(&self, value: &Value) -> Result<Option<Messages>, CardError> {
        let forms = self.object("modality_config", value)?;
        let [text, message] = ["text", "message"].map(|form| forms.get(form).filter(|value| !value.is_null()));
        if text.is_none() && message.is_none() {
            return Err(self.unsupported("modality_config", value, "a model that takes text"));
        }
        let [_, _, output] = self.task.names();
        for (form, value) in [("text", text), ("message", message)] {
            let Some(value) = value else { continue };
            let name = format!("modality_config.{form}");
            let fields = self.object(&name, value)?;
            for (key, expected) in [("method", "forward"), ("method_output_name", output)] {
                if let Some(value) = fields.get(key).filter(|value| !value.is_null()) {
                    self.must_be(&format!("{name}.{key}"), value, expected)?;
                }
            }
        }
        let Some(message) = message else { return Ok(None) };
        if self.task == Task::Vectors {
            return Err(self.unsupported("modality_config.message", message, "text alone: texts are not made chats"));
        }
        let structured = match message.get("format").and_then(Value::as_str) {
            Some("flat") => false,
            Some("structured") => true,
            _ => return Err(self.unsupported("modality_config.message", message, "the formats flat and structured")),
        };
        Ok(Some(Messages { structured, add_generation_prompt: false }))
    }

    /// Reads the arguments with which the library calls the template of chats.
    fn template(&self, value: &Value) -> Result<bool, CardError> {
        const NAME: &str = "processing_kwargs.chat_template";
        let arguments = self.object(NAME, value)?;
        let other = arguments.iter().find(|(key, value)| *key != "add_generation_prompt" && !value.is_null());
        if let Some((key, value)) = other {
            return Err(self.unsupported(&format!("{NAME}.{key}"), value, "add_generation_prompt"));
        }
        arguments.get("add_generation_prompt").map_or(Ok(false), |value| self.switch(NAME, value))
    }

    /// Refuses arguments that are not in `known`.
    fn only(&self, name: &str, value: &Value, known: &[&str], supported: &'static str) -> Result<(), CardError> {
        let unknown =
            self.object(name, value)?.iter().find(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
        unknown.map_or(Ok(()), |(key, value)| Err(self.unsupported(&format!("{name}.{key}"), value, supported)))
    }

    fn must_be(&self, name: &str, value: &Value, expected: &'static str) -> Result<(), CardError> {
        if value == expected { Ok(()) } else { Err(self.unsupported(name, value, expected)) }
    }

    fn object<'a>(&self, name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, CardError> {
        value.as_object().ok_or_else(|| self.malformed(format!("{name} must be an object, found {value}")))
    }

    /// Reads a length. It may be a float: some write 1e30 for "no limit".
    fn length(&self, name: &str, value: &Value) -> Result<usize, CardError> {
        let length = value.as_f64().ok_or_else(|| self.malformed(format!("{name} must be a number, found {value}")))?;
        // The cast of a float saturates.
        Ok(length as usize)
    }

    fn switch(&self, name: &str, value: &Value) -> Result<bool, CardError> {
        switch::of(value).ok_or_else(|| self.malformed(format!("{name} must be true or false, found {value}")))
    }

    fn malformed(&self, problem: String) -> CardError {
        CardError::malformed(&self.path, problem)
    }

    fn unsupported(&self, name: &str, value: &Value, supported: &'static str) -> CardError {
        CardError::unsupported(&self.path, name, value.to_string(), supported)
    }
}
