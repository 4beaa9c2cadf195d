//! Tokens of a text word by word, for tokenizers whose words do not depend on each other.
//!
//! The library tokenises a whole text in several passes, each of which keeps track of every character's place. That
//! takes most of the time of a model of static vectors, and nobody asks for the places. For two kinds of tokenizers the
//! tokens of a text are those of its words, one after another:
//!
//! - BERT's ([`WordPiece`]): words are divided at spaces and around punctuation, and each takes the longest tokens of
//!   the vocabulary from left to right. Here this is done for words in ASCII; the library does the others.
//! - Llama's: a space becomes `▁`, and no token has a `▁` behind another character. So no merge crosses the beginning
//!   of a word, and the library's merges are applied to a word at a time, unless the word is known to be one token.
//!
//! Invariant: the ids are those of the library, for every text. A tokenizer with any other part is left to the library,
//! and the tests compare both on random texts.

use std::collections::HashMap;

use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece as Library;
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

/// The character that stands for a space in a vocabulary of Llama's kind.
const SPACE: &str = "▁";

/// The most added tokens that a text is searched for.
const MOST_ADDED: usize = 64;

/// A tokenizer whose words do not depend on each other.
pub enum Words {
    /// BERT's kind.
    WordPiece(Box<WordPiece>),
    /// Llama's kind.
    Llama(Llama),
}

/// Llama's tokenizer.
pub struct Llama {
    /// The added tokens. A text that has one of them is left to the library.
    added: Vec<String>,
    /// The words that are one token. The library has the others.
    whole: HashMap<String, u32>,
}

impl Words {
    /// Recognises the kinds by their parts.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        match (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer(), tokenizer.get_model()) {
            (
                Some(NormalizerWrapper::BertNormalizer(normalizer)),
                Some(PreTokenizerWrapper::BertPreTokenizer(_)),
                ModelWrapper::WordPiece(model),
            ) => WordPiece::of(tokenizer, model, normalizer.lowercase).map(Box::new).map(Self::WordPiece),
            (Some(NormalizerWrapper::Sequence(normalizers)), None, ModelWrapper::BPE(model)) => {
                let [NormalizerWrapper::Prepend(first), NormalizerWrapper::Replace(second)] = normalizers.as_ref()
                else {
                    return None;
                };
                let of_spaces = {
                    let mut probe = NormalizedString::from(". .");
                    second.normalize(&mut probe).ok()?;
                    probe.get() == ".▁." && first.prepend == SPACE && second.content == SPACE
                };
                // Without these, a word has tokens of its own only.
                let by_words = model.dropout.is_none_or(|dropout| dropout == 0.0)
                    && model.continuing_subword_prefix.is_none()
                    && model.end_of_word_suffix.is_none()
                    && model.byte_fallback
                    && (0..=255u8).all(|byte| model.token_to_id(&format!("<0x{byte:02X}>")).is_some());
                let is_llama = of_spaces && by_words && model.get_vocab().keys().all(|token| begins_with_spaces(token));
                let added: Vec<String> =
                    tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
                (is_llama && added.len() <= MOST_ADDED).then(|| Self::Llama(Llama { added, whole: whole_words(model) }))
            }
            _ => None,
        }
    }

    /// Adds the ids of `text`, without special tokens. Returns `false`, and adds nothing, if the text is for the
    /// library.
    pub fn tokenise(&self, tokenizer: &Tokenizer, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<bool> {
        match self {
            Self::WordPiece(model) => model.tokenise(tokenizer, text, ids).map(|()| true),
            Self::Llama(model) => {
                let is_here = !text.contains(SPACE) && !model.added.iter().any(|token| text.contains(token));
                if is_here {
                    model.tokenise(tokenizer, text, ids)?;
                }
                Ok(is_here)
            }
        }
    }
}

/// Returns whether each `▁` of a token is at its beginning.
fn begins_with_spaces(token: &str) -> bool {
    !token.trim_start_matches(SPACE).contains(SPACE)
}

/// Finds the words that are one token. The merges may not lead to a token of the vocabulary, so each is tried.
fn whole_words(model: &BPE) -> HashMap<String, u32> {
    // A clone has a cache of its own: that of the model is for other words.
    let trial = model.clone();
    let words = model.get_vocab().into_iter().filter(|(token, _)| token.starts_with(SPACE));
    let is_whole = |(token, id): &(String, u32)| {
        trial.tokenize(token).is_ok_and(|tokens| matches!(&tokens[..], [token] if token.id == *id))
    };
    words.filter(is_whole).collect()
}

impl Llama {
    /// Adds the ids of a text. A word begins with the first space after another character.
    fn tokenise(&self, tokenizer: &Tokenizer, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut word = String::from(SPACE);
        let mut only_spaces = false;
        for (i, part) in text.split(' ').enumerate() {
            // A part between two spaces is empty, and the second space belongs to the word of the first.
            if i > 0 {
                if !only_spaces {
                    self.word(tokenizer, &word, ids)?;
                    word.clear();
                }
                word.push_str(SPACE);
            }
            word.push_str(part);
            only_spaces = part.is_empty();
        }
        self.word(tokenizer, &word, ids)
    }

    fn word(&self, tokenizer: &Tokenizer, word: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        match self.whole.get(word) {
            Some(id) => ids.push(*id),
            None => ids.extend(tokenizer.get_model().tokenize(word)?.iter().map(|token| token.id)),
        }
        Ok(())
    }
}

/// BERT's tokenizer for words in ASCII.
pub struct WordPiece {
    /// The ids of the tokens in ASCII that begin a word.
    beginnings: HashMap<Box<[u8]>, u32>,
    /// The ids of the tokens in ASCII that continue one, without their prefix.
    continuations: HashMap<Box<[u8]>, u32>,
    /// The longest of both, in bytes.
    longest: usize,
    unknown: u32,
    most_chars: usize,
    lowercase: bool,
    /// For each byte: an added token begins with it, before or after normalisation.
    begins_added: [bool; 256],
}

impl WordPiece {
    /// Returns `None` if an added token may reach beyond a word.
    fn of(tokenizer: &Tokenizer, model: &Library, lowercase: bool) -> Option<Self> {
        let mut begins_added = [false; 256];
        for token in tokenizer.get_added_tokens_decoder().into_values() {
            if token.single_word || token.content.contains(char::is_whitespace) {
                return None;
            }
            let mut normalized = NormalizedString::from(token.content.as_str());
            tokenizer.get_normalizer()?.normalize(&mut normalized).ok()?;
            if normalized.get().contains(char::is_whitespace) {
                return None;
            }
            let first = |text: &str| text.bytes().next();
            for byte in [first(&token.content), first(normalized.get())].into_iter().flatten() {
                begins_added[byte as usize] = true;
                // The letter of a normalised token may be a capital in the text.
                begins_added[byte.to_ascii_uppercase() as usize] = true;
            }
        }
        let (mut beginnings, mut continuations) = (HashMap::<Box<[u8]>, u32>::new(), HashMap::<Box<[u8]>, u32>::new());
        for (token, id) in model.get_vocab().into_iter().filter(|(token, _)| token.is_ascii()) {
            if let Some(rest) = token.strip_prefix(&*model.continuing_subword_prefix) {
                continuations.insert(rest.as_bytes().into(), id);
            }
            beginnings.insert(token.as_bytes().into(), id);
        }
        let longest = beginnings.keys().map(|token| token.len()).max().unwrap_or(0);
        let unknown = model.token_to_id(&model.unk_token)?;
        let most_chars = model.max_input_chars_per_word;
        Some(Self { beginnings, continuations, longest, unknown, most_chars, lowercase, begins_added })
    }

    fn tokenise(&self, tokenizer: &Tokenizer, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        let mut word = Vec::new();
        // The part that the library does: neighbouring words together.
        let mut left: Option<(usize, usize)> = None;
        let finish = |left: &mut Option<(usize, usize)>, ids: &mut Vec<u32>| -> tokenizers::Result<()> {
            if let Some((start, end)) = left.take() {
                ids.extend_from_slice(tokenizer.encode_fast(&text[start..end], false)?.get_ids());
            }
            Ok(())
        };
        let mut start = 0;
        // The other control characters vanish, and do not divide words.
        for part in text.as_bytes().split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            let end = start + part.len();
            let is_here = part.iter().all(|byte| byte.is_ascii_graphic() && !self.begins_added[*byte as usize]);
            if !is_here {
                left = Some((left.map_or(start, |(start, _)| start), end));
            } else if !part.is_empty() {
                finish(&mut left, ids)?;
                self.part(part, &mut word, ids);
            }
            start = end + 1;
        }
        finish(&mut left, ids)
    }

    /// Adds the ids of a part without spaces: words, and punctuation that stands alone.
    fn part(&self, part: &[u8], word: &mut Vec<u8>, ids: &mut Vec<u32>) {
        for run in part.chunk_by(|a, b| a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric()) {
            word.clear();
            word.extend_from_slice(run);
            if self.lowercase {
                word.make_ascii_lowercase();
            }
            self.word(word, ids);
        }
    }

    /// Adds the ids of a word: the longest token at each place, or the unknown token if a place has no token.
    fn word(&self, word: &[u8], ids: &mut Vec<u32>) {
        let before = ids.len();
        let (mut start, mut tokens) = (0, &self.beginnings);
        while start < word.len() {
            let longest = word.len().min(start + self.longest);
            let found = (start + 1..=longest).rev().find_map(|end| Some((end, *tokens.get(&word[start..end])?)));
            match found {
                Some((end, id)) if word.len() <= self.most_chars => {
                    ids.push(id);
                    (start, tokens) = (end, &self.continuations);
                }
                _ => {
                    ids.truncate(before);
                    ids.push(self.unknown);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Tokens of the test: letters, pieces, punctuation and one letter with an accent.
    const TOKENS: &str =
        "[UNK] [CLS] [SEP] a b c ab abc ##a ##b ##bc ca ##ca , . ! ## # [ ] é 中 ##é A B 1 ##1 e ##e ent";

    fn added(content: &str, id: usize, normalized: bool) -> Value {
        json!({"id": id, "content": content, "single_word": false, "lstrip": content == "[SEP]", "rstrip": false,
               "normalized": normalized, "special": !normalized})
    }

    fn wordpiece(lowercase: bool, accents: Value, clean: bool) -> Tokenizer {
        let tokens: Vec<&str> = TOKENS.split(' ').collect();
        let vocabulary: serde_json::Map<String, Value> =
            tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [added("[UNK]", 0, false), added("[CLS]", 1, false), added("[SEP]", 2, false),
                             added("Ent", tokens.len() - 1, true)],
            "normalizer": {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": true,
                           "strip_accents": accents, "lowercase": lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 6, "vocab": vocabulary},
        });
        json.to_string().parse().expect("a valid tokenizer")
    }

    fn llama() -> Tokenizer {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        let merges = ["▁ a", "▁ b", "a b", "▁a b", "b c", "▁ ▁", "▁▁ ▁▁", "▁▁ a", "ab c", "▁ ab", "▁▁ ▁", "c c", ", ,"];
        tokens.extend(["▁", "a", "b", "c", ","].map(str::to_owned));
        tokens.extend(merges.map(|merge| merge.replace(' ', "")));
        let mut vocabulary = serde_json::Map::new();
        for token in tokens {
            let id = vocabulary.len();
            vocabulary.entry(token).or_insert(json!(id));
        }
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [added("<unk>", 0, false), added("<s>", 1, false), added("</s>", 2, false)],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary,
                      "merges": merges},
        });
        json.to_string().parse().expect("a valid tokenizer")
    }

    /// Compares the ids with the library's. Returns whether they were computed here.
    fn agrees(tokenizer: &Tokenizer, text: &str) -> bool {
        let words = Words::of(tokenizer).expect("it is one of the kinds");
        let mut ids = Vec::new();
        let done = words.tokenise(tokenizer, text, &mut ids).expect("every text has tokens");
        let library = tokenizer.encode_fast(text, false).expect("every text has tokens");
        assert!(!done || ids == library.get_ids(), "{text:?}: {ids:?}, the library {:?}", library.get_ids());
        done
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn the_words_of_berts_kind_are_those_of_the_library(
            text in "([abceAB1, .!#\\[]|\\[CLS\\]|\\[SEP\\]|[Ee][Nn]t|\
                [\t\n\u{0b}\u{0c}\u{00}\u{a0}\u{200b}\u{301}éÉßİ中▁]| ){0,40}",
            (lowercase, strip, clean) in (any::<bool>(), any::<Option<bool>>(), any::<bool>()),
        ) {
            prop_assert!(agrees(&wordpiece(lowercase, json!(strip), clean), &text));
        }

        #[test]
        fn the_words_of_llamas_kind_are_those_of_the_library(text in "([abc,]| |  |é|中|\t|<s>|▁|[^ab]){0,40}") {
            let here = agrees(&llama(), &text);
            prop_assert_eq!(here, !text.contains(SPACE) && !text.contains("<s>"));
        }
    }

    #[test]
    fn a_tokenizer_whose_tokens_cross_words_is_left_to_the_library() {
        let mut tokenizer = wordpiece(true, json!(null), true);
        assert!(Words::of(&tokenizer).is_some());
        tokenizer.add_tokens([tokenizers::AddedToken::from("new york", false)]).expect("it is new");
        assert!(Words::of(&tokenizer).is_none());
        let crossing = serde_json::to_string(&llama()).expect("it is JSON").replace(r#""c","c""#, r#""c","▁""#);
        let crossing = crossing.replace(r#""cc":"#, r#""c▁":"#);
        assert!(Words::of(&llama()).is_some());
        assert!(Words::of(&crossing.parse().expect("a valid tokenizer")).is_none());
    }
}
