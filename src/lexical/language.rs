//! The languages whose words can be reduced to their stems.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tantivy::tokenizer::Language as Stemmed;

/// A language of texts: its words are stemmed, and its stop words are left out where a list of them is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language {
    code: &'static str,
    pub(super) stemmed: Stemmed,
}

/// All languages by their ISO 639-1 codes, in order.
const LANGUAGES: [Language; 18] = [
    language("ar", Stemmed::Arabic),
    language("da", Stemmed::Danish),
    language("de", Stemmed::German),
    language("el", Stemmed::Greek),
    language("en", Stemmed::English),
    language("es", Stemmed::Spanish),
    language("fi", Stemmed::Finnish),
    language("fr", Stemmed::French),
    language("hu", Stemmed::Hungarian),
    language("it", Stemmed::Italian),
    language("nl", Stemmed::Dutch),
    language("no", Stemmed::Norwegian),
    language("pt", Stemmed::Portuguese),
    language("ro", Stemmed::Romanian),
    language("ru", Stemmed::Russian),
    language("sv", Stemmed::Swedish),
    language("ta", Stemmed::Tamil),
    language("tr", Stemmed::Turkish),
];

const fn language(code: &'static str, stemmed: Stemmed) -> Language {
    Language { code, stemmed }
}

impl Language {
    /// The language with this ISO 639-1 code; `None` if it is not supported.
    pub fn of_code(code: &str) -> Option<Self> {
        LANGUAGES.into_iter().find(|language| language.code == code)
    }

    /// The ISO 639-1 code.
    pub fn code(self) -> &'static str {
        self.code
    }

    /// The codes of all languages, in order.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        LANGUAGES.iter().map(|language| language.code)
    }
}

impl Serialize for Language {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::of_code(&code).ok_or_else(|| D::Error::custom(format!("{code:?} is not the code of a known language")))
    }
}
