//! The chat template of a reranker that reads a pair as a chat, as Qwen3-Reranker does.
//!
//! The template is a program in Jinja, from the model's own files. It runs only at the start, on texts of our own. A
//! template that puts both texts, unchanged and once each, between fixed texts is these three texts; every other
//! template is refused. So nothing is left of it when pairs come.
//!
//! Invariant: for each pair the parts give what the template gives. Pairs that a template might treat in another way
//! (empty, with spaces around, with its own signs) are tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value as Jinja, context};
use serde_json::{Map, Value};

use super::digest;
use super::error::CardError;
use super::file::read_text_if_present;

/// The file of a template. It comes before the field of `tokenizer_config.json`, as in transformers.
pub(super) const FILE: &str = "chat_template.jinja";

/// The field of `tokenizer_config.json`.
const FIELD: &str = "chat_template";

/// Steps that a template may take. Those of published rerankers take some hundreds.
const FUEL: u64 = 100_000;

/// The supported templates, for error messages.
const SUPPORTED: &str = "one template that puts the content of the messages query and document, unchanged and once \
                         each in this order, between fixed texts";

/// Texts that find the parts of a template, and that no template has.
const MARKS: [&str; 2] = ["[\u{1}1\u{1}]", "[\u{1}2\u{1}]"];

/// Pairs that a template might treat in another way.
const PAIRS: [[&str; 2]; 6] = [
    ["", ""],
    ["a", "b"],
    [" \n a\t", "\r\n b \n"],
    ["<|im_end|>", "<b>&amp;\"'</b>"],
    ["{{ messages }}", "{% if true %}yes{% endif %}"],
    ["No", "0"],
];

/// The texts around a query and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairTemplate {
    /// Before the query.
    pub before: String,
    /// Between the query and the text.
    pub between: String,
    /// After the text.
    pub after: String,
}

/// The form in which a template gets its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Messages {
    /// The content of a message is a list of parts with a type, instead of a text.
    pub structured: bool,
    /// The template is asked for the beginning of an answer.
    pub add_generation_prompt: bool,
}

impl PairTemplate {
    /// Reads the template of the model in `directory`. `tokens` are the fields of `tokenizer_config.json`; `prompt`
    /// becomes the message of the system.
    pub(super) fn read(
        directory: &Path,
        tokens: &Map<String, Value>,
        messages: Messages,
        prompt: Option<&str>,
    ) -> Result<Self, CardError> {
        let (path, source) = source(directory, tokens)?.ok_or_else(|| CardError::Missing {
            path: directory.join(FILE),
            hint: ", and so is chat_template in tokenizer_config.json; pairs of this model are chats",
        })?;
        let render = |query: &str, text: &str| {
            render(&source, tokens, messages, [("system", prompt), ("query", Some(query)), ("document", Some(text))])
        };
        Self::of(render).map_err(|problem| CardError::unsupported(&path, FIELD, problem, SUPPORTED))
    }

    /// Returns whether the model in `directory` has a template that could be meant for pairs.
    pub(super) fn is_there(directory: &Path, tokens: &Map<String, Value>) -> bool {
        let form = |structured| Messages { structured, add_generation_prompt: false };
        [false, true].into_iter().any(|structured| Self::read(directory, tokens, form(structured), None).is_ok())
    }

    /// Finds the parts by calls of a template.
    fn of(render: impl Fn(&str, &str) -> Result<String, String>) -> Result<Self, String> {
        let marked = render(MARKS[0], MARKS[1])?;
        let parts = marked.split_once(MARKS[0]).and_then(|(before, rest)| {
            let (between, after) = rest.split_once(MARKS[1])?;
            Some([before, between, after].map(str::to_owned))
        });
        let [before, between, after] = parts.ok_or("a template without query and document")?;
        let found = Self { before, between, after };
        for [query, text] in PAIRS {
            if render(query, text)? != found.around(query, text) {
                return Err(format!("a template that changes the pair {query:?} and {text:?}"));
            }
        }
        Ok(found)
    }

    /// Returns the text of a pair.
    fn around(&self, query: &str, text: &str) -> String {
        [&self.before, query, &self.between, text, &self.after].concat()
    }

    /// Returns a digest of the parts in hex.
    pub(super) fn digest(&self) -> String {
        digest::of_bytes(self.around("\0", "\0").as_bytes())
    }
}

/// Finds the template, with the file that has it.
fn source(directory: &Path, tokens: &Map<String, Value>) -> Result<Option<(PathBuf, String)>, CardError> {
    let path = directory.join(FILE);
    if let Some(source) = read_text_if_present(&path)? {
        return Ok(Some((path, source)));
    }
    let path = directory.join("tokenizer_config.json");
    match tokens.get(FIELD) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some((path, source.clone()))),
        Some(_) => Err(CardError::unsupported(&path, FIELD, "a list of templates", SUPPORTED)),
    }
}

/// Calls a template as transformers does. Messages without a text are left out.
fn render(
    source: &str,
    tokens: &Map<String, Value>,
    Messages { structured, add_generation_prompt }: Messages,
    texts: [(&str, Option<&str>); 3],
) -> Result<String, String> {
    let message = |(role, text): (&str, Option<&str>)| {
        let text = text?;
        let content = match structured {
            true => Jinja::from(vec![context! { type => "text", text => text }]),
            false => Jinja::from(text),
        };
        Some(context! { role => role, content => content })
    };
    let messages: Vec<Jinja> = texts.into_iter().filter_map(message).collect();
    // A named token is a text, or an object with one.
    let named = tokens.iter().filter(|(name, _)| name.ends_with("_token"));
    let named = named.filter_map(|(name, token)| {
        let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
        Some((name.clone(), Jinja::from(text)))
    });
    let mut environment = Environment::new();
    let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(blocks.map_err(|error| error.to_string())?);
    // A name that we do not know may be in a condition, and has no text.
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    let named = Jinja::from(named.collect::<BTreeMap<_, _>>());
    environment
        .render_str(source, context! { messages, add_generation_prompt, ..named })
        .map_err(|error| format!("a template that fails here ({error})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The form of Qwen3-Reranker's template.
    const QWEN: &str = concat!(
        r#"{%- set instruction = messages | selectattr("role", "eq", "system") | map(attribute="content") | first "#,
        r#"| default("Find it") -%}"#,
        "\n",
        r#"{%- set query_text = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}"#,
        "\n",
        r#"{%- set document_text = messages | selectattr("role", "eq", "document") | map(attribute="content") "#,
        "| first -%}\n<|im_start|>system\nJudge.<|im_end|>\n<Instruct>: {{ instruction }}\n<Query>: {{ query_text }}\n",
        "<Document>: {{ document_text }}<|im_end|>\n<think>\n\n</think>\n\n\n",
    );

    fn read(template: &str, messages: Messages, prompt: Option<&str>) -> Result<PairTemplate, String> {
        let directory = tempfile::tempdir().unwrap();
        let fields = json!({"chat_template": template, "eos_token": "</s>", "bos_token": {"content": "<s>"}});
        let fields = fields.as_object().unwrap().clone();
        PairTemplate::read(directory.path(), &fields, messages, prompt).map_err(|error| error.to_string())
    }

    fn parts(before: &str, between: &str, after: &str) -> Result<PairTemplate, String> {
        Ok(PairTemplate { before: before.to_owned(), between: between.to_owned(), after: after.to_owned() })
    }

    #[test]
    fn a_template_is_the_texts_around_query_and_document() {
        let of_system =
            |instruct: &str| format!("<|im_start|>system\nJudge.<|im_end|>\n<Instruct>: {instruct}\n<Query>: ");
        // Jinja takes one line break from the end of a template.
        let after = "<|im_end|>\n<think>\n\n</think>\n\n";
        let plain = Messages::default();
        assert_eq!(read(QWEN, plain, None), parts(&of_system("Find it"), "\n<Document>: ", after));
        assert_eq!(read(QWEN, plain, Some("A task")), parts(&of_system("A task"), "\n<Document>: ", after));
        let loops = concat!(
            "{% for message in messages %}\n<{{ message.role }}> {{ message['content'] }}{{ eos_token }}\n",
            "{% endfor %}\n{% if add_generation_prompt %}A{% endif %}",
        );
        assert_eq!(read(loops, plain, None), parts("<query> ", "</s>\n<document> ", "</s>\n"));
        let asked = Messages { add_generation_prompt: true, ..plain };
        assert_eq!(read(loops, asked, None), parts("<query> ", "</s>\n<document> ", "</s>\nA"));
        let parts_of_content = "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content[0].text }}{% endfor %}";
        let structured = Messages { structured: true, ..plain };
        assert_eq!(read(parts_of_content, structured, None), parts("<s>query:", "document:", ""));
    }

    #[test]
    fn a_template_that_does_more_with_a_pair_is_refused_with_its_reason() {
        let of_pair = |query: &str, text: &str| {
            format!("{{% set q, d = messages[0].content, messages[1].content %}}{query} {text}")
        };
        for (template, reason) in [
            (of_pair("{{ q }}", "."), "a template without query and document"),
            (of_pair("{{ d }}", "{{ q }}"), "a template without query and document"),
            (of_pair("{{ q }}", "{{ d | trim }}"), "a template that changes the pair"),
            (of_pair("{{ q | upper }}", "{{ d }}"), "a template that changes the pair \"a\" and \"b\""),
            (of_pair("{{ q }}", "{{ d }}{{ d }}"), "a template that changes the pair"),
            (of_pair("{{ q }}", "{% if d %}{{ d }}{% else %}none{% endif %}"), "changes the pair \"\" and \"\""),
            (of_pair("{{ q }}", "{{ d.strip() }}"), "a template that fails here ("),
            (of_pair("{{ q }}", "{{ d }}{{ mask_token }}"), "a template that fails here ("),
            ("{% for i in range(100000) %}{{ i }}{% endfor %}".to_owned(), "a template that fails here ("),
            ("{{ unclosed".to_owned(), "a template that fails here ("),
        ] {
            let error = read(&template, Messages::default(), None).unwrap_err();
            assert!(error.contains(reason) && error.contains("chat_template is"), "{template}: {error}");
        }
    }

    #[test]
    fn the_file_comes_before_the_field_and_one_of_them_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let fields = |template: Value| json!({"chat_template": template}).as_object().unwrap().clone();
        let read = |fields: &Map<String, Value>| {
            PairTemplate::read(directory.path(), fields, Messages::default(), None).map_err(|error| error.to_string())
        };
        assert!(read(&Map::new()).unwrap_err().contains("chat_template.jinja is missing"));
        assert!(read(&fields(json!([{"name": "a", "template": QWEN}]))).unwrap_err().contains("a list of templates"));
        assert!(!PairTemplate::is_there(directory.path(), &fields(json!("{{ messages[0].role }}"))));
        assert!(PairTemplate::is_there(directory.path(), &fields(json!(QWEN))));
        std::fs::write(directory.path().join(FILE), "{{ messages[0].content }}-{{ messages[1].content }}").unwrap();
        assert_eq!(read(&fields(json!(QWEN))), parts("", "-", ""));
    }
}
