//! What a segment holds for each document: its terms, and the columns that the next start reads.

use std::str::Split;

use tantivy::IndexSettings;
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer, TokenizerManager};

/// The terms of a document, one behind the other with [`BETWEEN`] between them.
pub(super) const TERMS: &str = "terms";
/// The key of a document.
pub(super) const KEY: &str = "key";
/// The digest of a document's text.
pub(super) const DIGEST: &str = "digest";
/// The number of terms of a document.
pub(super) const LENGTH: &str = "length";

/// Stands between two terms, and in none: no word contains it.
pub(super) const BETWEEN: char = '\n';

const TOKENIZER: &str = "terms";

/// The fields of a segment.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    pub(super) terms: Field,
    pub(super) key: Field,
    pub(super) digest: Field,
    pub(super) length: Field,
}

/// The schema of every segment, and its fields. The frequencies of terms are stored, their places are not.
pub(super) fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(true);
    let fields = Fields {
        terms: builder.add_text_field(TERMS, TextOptions::default().set_indexing_options(indexing)),
        key: builder.add_u64_field(KEY, FAST),
        digest: builder.add_u64_field(DIGEST, FAST),
        length: builder.add_u64_field(LENGTH, FAST),
    };
    (builder.build(), fields)
}

/// The settings of every segment: no thread of its own.
pub(super) fn settings() -> IndexSettings {
    IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() }
}

pub(super) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(TOKENIZER, TextAnalyzer::from(Joined::default()));
    tokenizers
}

/// Splits terms that were joined.
#[derive(Clone, Default)]
struct Joined {
    token: Token,
}

struct Terms<'a> {
    terms: Split<'a, char>,
    token: &'a mut Token,
}

impl Tokenizer for Joined {
    type TokenStream<'a> = Terms<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Terms<'a> {
        self.token.reset();
        Terms { terms: text.split(BETWEEN), token: &mut self.token }
    }
}

impl TokenStream for Terms<'_> {
    fn advance(&mut self) -> bool {
        let Some(term) = self.terms.next() else { return false };
        self.token.text.clear();
        self.token.text.push_str(term);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
