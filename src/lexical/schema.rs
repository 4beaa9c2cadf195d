//! The content of a segment for each document: its terms, and the columns that the next start reads.

use std::sync::LazyLock;

use tantivy::IndexSettings;
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TokenizerManager, WhitespaceTokenizer};

/// The terms of a document, one behind the other with [`BETWEEN`] between them.
pub(super) const TERMS: &str = "terms";
/// The key of a document.
pub(super) const KEY: &str = "key";
/// The digest of a document's text.
pub(super) const DIGEST: &str = "digest";
/// The number of terms of a document.
pub(super) const LENGTH: &str = "length";

/// Stands between two terms, and in none: no word has a blank.
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
    static SCHEMA: LazyLock<(Schema, Fields)> = LazyLock::new(build);
    SCHEMA.clone()
}

fn build() -> (Schema, Fields) {
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
    tokenizers.register(TOKENIZER, WhitespaceTokenizer::default());
    tokenizers
}
