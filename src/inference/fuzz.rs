//! Fuzz target: tokenizer files and texts of arbitrary bytes.

use super::tokenizer::{Kept, Reading, Tokenizer};

/// A WordPiece tokenizer of a few words.
const WORDPIECE: &str = r###"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": true
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
    "model": {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "##c": 3, "the": 4, "ab": 5}
    }
}"###;

/// The length of the model.
const MAX_TOKENS: usize = 16;

/// Reads a tokenizer file, if the first byte is a brace, or tokenises a text.
pub(crate) fn tokenizer(bytes: &[u8]) {
    let reading = Reading { max_tokens: MAX_TOKENS, lowercase: true, kept: Kept::Beginning };
    if bytes.starts_with(b"{") {
        if let Ok(tokenizer) = Tokenizer::new(bytes, reading) {
            let _ = tokenizer.tokens("The cat, ab abc \u{301}");
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for kept in [Kept::Beginning, Kept::End] {
        let tokenizer = Tokenizer::new(WORDPIECE.as_bytes(), Reading { kept, ..reading }).expect("it is a tokenizer");
        let tokens = tokenizer.tokens(text).expect("every text has tokens");
        assert!(tokens.ids.len() <= MAX_TOKENS && tokens.ids.len() <= tokens.total);
    }
}

pub(crate) fn tokenizers() -> Vec<Vec<u8>> {
    // A former finding: the library panics on it.
    let decoder = WORDPIECE.replace(r#""decoder": null"#, r#""decoder": {"type": "no such"}"#);
    [WORDPIECE, &*decoder, "The abc, a\u{301}b \u{4e2d}\u{6587} \u{0} abcabc", ""]
        .map(|seed| seed.as_bytes().to_vec())
        .into()
}
