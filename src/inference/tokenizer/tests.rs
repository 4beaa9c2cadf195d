//! Tests of the truncation of texts, with each kind of tokenizer that the models have, on a vocabulary of a few words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn reading(max_tokens: usize) -> Reading {
    Reading { max_tokens, lowercase: false, kept: Kept::Beginning }
}

/// A WordPiece tokenizer of six tokens. Its file has truncation and padding, which must be ignored.
pub fn tokenizer(max_tokens: usize) -> Tokenizer {
    let json = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "cat": 4, "##s": 5}}
    });
    Tokenizer::new(json.to_string().as_bytes(), reading(max_tokens)).expect("a valid tokenizer")
}

impl Tokenizer {
    /// The same tokenizer for a model that reads lower case.
    pub fn with_lowercase(mut self) -> Self {
        self.reading.lowercase = true;
        self
    }
}

/// The tokens `<s>`, `<pad>`, `</s>` and `<unk>`, with the ids of RoBERTa's family.
fn special_tokens() -> Value {
    let token = |(id, content): (usize, &&str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    ["<s>", "<pad>", "</s>", "<unk>"].iter().enumerate().map(token).collect()
}

/// A tokenizer of XLM-RoBERTa's kind: the most likely division of a word into pieces.
pub fn unigram(max_tokens: usize) -> Tokenizer {
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let named = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    let sequence = json!({"Sequence": {"id": "A", "type_id": 0}});
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": special_tokens(),
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("<s>"), sequence, special("</s>")],
            "pair": [special("<s>"), sequence, special("</s>")],
            "special_tokens": {"<s>": named("<s>", 0), "</s>": named("</s>", 2)},
        },
        "decoder": null,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [
            ["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["a", -2.5], ["b", -2.6],
            ["c", -2.7], ["ab", -3.0], ["bc", -3.1], ["abc", -4.5], ["▁a", -3.0], ["▁cab", -4.0], ["ca", -3.3],
            ["aa", -3.4],
        ]},
    });
    Tokenizer::new(json.to_string().as_bytes(), reading(max_tokens)).expect("a valid tokenizer")
}

/// A tokenizer of RoBERTa's kind: bytes, merged pair by pair.
pub fn byte_pairs(max_tokens: usize) -> Tokenizer {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": special_tokens(),
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                           "trim_offsets": true, "add_prefix_space": false},
        "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false,
            "vocab": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "c": 6, "Ġ": 7, "ab": 8, "Ġab": 9,
                      "ca": 10, "bc": 11, "abc": 12, "aa": 13},
            "merges": ["a b", "Ġ ab", "c a", "b c", "ab c", "a a"],
        },
    });
    Tokenizer::new(json.to_string().as_bytes(), reading(max_tokens)).expect("a valid tokenizer")
}

#[test]
fn all_tokens_of_a_text_have_their_places_in_it() {
    // The lower case of the first letter has one byte more.
    let text = "İ CATS dog";
    for tokenizer in [tokenizer(4), tokenizer(4).with_lowercase()] {
        let tokens = tokenizer.all(text, true).unwrap();
        let own: Vec<_> = tokens.iter().map(|token| (token.text.as_str(), token.special)).collect();
        let expected = ["İ", "CAT", "S", "dog"].map(|token| (token, false));
        assert_eq!(own, [&[("[CLS]", true)], &expected[..], &[("[SEP]", true)]].concat());
        assert!(tokens[1..5].iter().all(|token| text[token.bytes.clone()] == token.text), "{tokens:?}");
        assert_eq!(tokenizer.all(text, false).unwrap(), tokens[1..5]);
    }
    for (tokenizer, expected) in
        [(unigram(4), ["cab", "a", "bc", "a"].as_slice()), (byte_pairs(4), &["c", "ab", "ab", "c", "", "", "a"])]
    {
        let own = tokenizer.all("cab abc  a", false).unwrap().into_iter().map(|token| token.text);
        assert_eq!(own.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn unigram_and_byte_pair_tokenizers_are_read_with_their_special_tokens() {
    let tokens = unigram(16).tokens("cab abc").unwrap();
    assert_eq!((tokens.ids, tokens.total), (vec![0, 12, 11, 9, 2], 5));
    let tokens = byte_pairs(16).tokens("cab abc").unwrap();
    assert_eq!((tokens.ids, tokens.total), (vec![0, 6, 8, 9, 6, 2], 6));
    for tokenizer in [unigram(4), byte_pairs(4)] {
        let tokens = tokenizer.tokens("abc abc abc").unwrap();
        assert_eq!((tokens.ids[0], tokens.ids[3], tokens.ids.len()), (0, 2, 4));
        assert!(tokens.lengths().0 < tokens.total);
        assert!(matches!(
            Tokenizer::new(&serde_json::to_vec(&tokenizer.inner).unwrap(), reading(2)),
            Err(TokenizerError::NoRoom { max_tokens: 2, added: 2 })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_end_of_a_long_text_of_words_has_the_last_tokens_of_the_whole_text(
        spaced in "([abc]{1,30} ){300,400}[abc]", max_tokens in 3usize..100,
    ) {
        for tokenizer in [unigram(max_tokens), byte_pairs(max_tokens)] {
            let json = serde_json::to_vec(&tokenizer.inner).unwrap();
            let reading = Reading { max_tokens, lowercase: false, kept: Kept::End };
            let tokens = Tokenizer::new(&json, reading).unwrap().tokens(&spaced).unwrap();
            let whole = tokenizer.inner.encode_fast(spaced.as_str(), true).unwrap();
            let kept = max_tokens - 1;
            prop_assert_eq!(&tokens.ids[1..], &whole.get_ids()[whole.len() - kept..]);
            prop_assert_eq!(tokens.ids.len(), max_tokens);
        }
    }

    #[test]
    fn the_beginning_of_a_long_text_has_the_first_tokens_of_the_whole_text_even_without_spaces(
        text in "[abc]{2500,6000}", spaced in "([abc]{1,30} ){300,400}", max_tokens in 3usize..100,
    ) {
        for tokenizer in [unigram(max_tokens), byte_pairs(max_tokens)] {
            for text in [&text, &spaced] {
                let tokens = tokenizer.tokens(text).unwrap();
                let whole = tokenizer.inner.encode_fast(text.as_str(), true).unwrap();
                let kept = max_tokens - 1;
                prop_assert_eq!(&tokens.ids[..kept], &whole.get_ids()[..kept]);
                prop_assert_eq!(tokens.ids.len(), max_tokens);
            }
        }
    }
}

#[test]
fn padding_and_truncation_of_the_file_are_ignored() {
    let tokens = tokenizer(64).tokens("Cats cat cats").unwrap();
    assert_eq!(tokens.ids, [1, 4, 5, 4, 4, 5, 2]);
    assert_eq!(tokens.total, 7);
    assert_eq!(tokens.lengths().0, tokens.total);
}

#[test]
fn a_long_text_keeps_its_beginning_and_both_special_tokens() {
    let tokens = tokenizer(5).tokens("cat cats cat cat").unwrap();
    assert_eq!(tokens.ids, [1, 4, 4, 5, 2]);
    assert_eq!(tokens.total, 7);
    assert!(tokens.lengths().0 < tokens.total);
}

#[test]
fn a_model_that_reads_the_end_of_a_long_text_gets_the_end_and_both_special_tokens() {
    let json = serde_json::to_vec(&tokenizer(8).inner).unwrap();
    let from_end = |max_tokens| Reading { max_tokens, lowercase: false, kept: Kept::End };
    let short = Tokenizer::new(&json, from_end(5)).unwrap();
    assert_eq!(short.tokens("cat cats cat").unwrap().ids, [1, 4, 5, 4, 2]);
    let tokens = short.tokens("cats cats cats cat").unwrap();
    assert_eq!((tokens.ids, tokens.total), (vec![1, 4, 5, 4, 2], 9));
    let huge = format!("{}cats", "cat ".repeat(1_000_000));
    let tokens = Tokenizer::new(&json, from_end(6)).unwrap().tokens(&huge).unwrap();
    assert_eq!(tokens.ids, [1, 4, 4, 4, 5, 2]);
    assert!(tokens.total < 10_000, "{} tokens were read", tokens.total);
    // A cut inside a character is moved to its end.
    let tokens = Tokenizer::new(&json, from_end(8)).unwrap().tokens(&"é".repeat(100_001)).unwrap();
    assert_eq!(tokens.ids, [1, 3, 2]);
}

#[test]
fn the_end_of_a_huge_text_is_not_read() {
    let tokens = tokenizer(8).tokens(&"cat ".repeat(1_000_000)).unwrap();
    assert_eq!(tokens.ids.len(), 8);
    assert!(tokens.lengths().0 < tokens.total);
    assert!(tokens.total < 10_000, "{} tokens were read", tokens.total);
}

#[test]
fn a_word_behind_a_megabyte_of_spaces_is_found() {
    let tokens = tokenizer(8).tokens(&format!("{}cats", " ".repeat(1 << 20))).unwrap();
    assert_eq!(tokens.ids, [1, 4, 5, 2]);
    assert_eq!(tokens.lengths().0, tokens.total);
}

#[test]
fn a_cut_inside_a_character_is_moved_to_its_start() {
    let tokens = tokenizer(8).tokens(&"é".repeat(100_000)).unwrap();
    assert_eq!(tokens.ids, [1, 3, 2]);
}

#[test]
fn a_length_that_only_special_tokens_fill_is_refused() {
    let json = serde_json::to_vec(&tokenizer(8).inner).unwrap();
    assert!(matches!(Tokenizer::new(&json, reading(2)), Err(TokenizerError::NoRoom { max_tokens: 2, added: 2 })));
}

/// A tokenizer of pairs with the vocabulary and the post-processor of another one.
fn of_pairs(tokenizer: &Tokenizer, max_tokens: usize, typed: bool) -> Tokenizer {
    let json = serde_json::to_vec(&tokenizer.inner).unwrap();
    Tokenizer::of_pairs(&json, reading(max_tokens), typed).expect("a valid tokenizer")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_pair_is_that_of_the_library_with_the_second_text_cut(
        first in "(cat |cats |dog ){0,9}", second in "(cat |cats |dog ){0,40}", max_tokens in 5usize..40,
    ) {
        for plain in [tokenizer(64), byte_pairs(64)] {
            let pairs = of_pairs(&plain, max_tokens, true);
            let strategy = tokenizers::TruncationStrategy::OnlySecond;
            let mut library = plain.inner.clone();
            let whole = library.encode((first.as_str(), second.as_str()), true).unwrap();
            let cut = tokenizers::TruncationParams { max_length: max_tokens, strategy, ..Default::default() };
            library.with_truncation(Some(cut)).unwrap();
            let Ok(encoded) = pairs.first(&first) else {
                // The library cuts the second text to nothing, or fails.
                let around = library.encode((first.as_str(), ""), true).map_or(usize::MAX, |pair| pair.len());
                prop_assert!(around >= max_tokens);
                continue;
            };
            let tokens = pairs.pair(&encoded, &second).unwrap();
            let expected = library.encode((first.as_str(), second.as_str()), true).unwrap();
            prop_assert_eq!(&tokens.ids, expected.get_ids());
            prop_assert_eq!(tokens.total, whole.len());
            let types: Vec<u32> = (0..tokens.ids.len()).map(|n| u32::from(n >= tokens.first)).collect();
            prop_assert_eq!(&types, expected.get_type_ids());
            let untyped = of_pairs(&plain, max_tokens, false).pair(&encoded, &second).unwrap();
            prop_assert_eq!((untyped.first, untyped.ids), (tokens.ids.len(), tokens.ids));
        }
    }
}

#[test]
fn a_first_text_that_leaves_no_token_is_an_error_and_a_long_second_text_is_not_read_to_its_end() {
    let pairs = of_pairs(&tokenizer(64), 8, true);
    let first = pairs.first("cat cats").unwrap();
    let tokens = pairs.pair(&first, &"cat ".repeat(1_000_000)).unwrap();
    assert_eq!((tokens.ids.as_slice(), tokens.first), ([1, 4, 4, 5, 2, 4, 4, 2].as_slice(), 5));
    assert!(tokens.total > 8 && tokens.total < 10_000, "{}", tokens.total);
    assert!(pairs.first("cat cat cat cat").is_ok());
    let error = pairs.first("cat cat cat cat cat").err();
    assert_eq!(error, Some(TokenizerError::FirstTooLong { tokens: 8, max_tokens: 8 }));
}
