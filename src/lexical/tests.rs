//! The index against a plain BM25 that shares no code with it, in every state of its parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use roaring::RoaringBitmap;

use super::*;
use crate::compute::stop::Stop;
use crate::machine::raise_on_drop::RaiseOnDrop;

/// Documents by key, each with its position and its text.
type Documents = BTreeMap<u64, (u32, String)>;

/// The greatest number with 4 significant bits above 24 that is not above a length: the length that tantivy documents
/// to store for it (as Lucene does).
fn quantised(length: usize) -> f64 {
    let above = length.saturating_sub(24) as u32;
    let dropped = (u32::BITS - above.leading_zeros()).saturating_sub(4);
    if length < 24 { length as f64 } else { (24 + (above >> dropped << dropped)) as f64 }
}

/// The BM25 scores of the documents with a word of the query, by key.
fn plain(documents: &Documents, query: &str) -> BTreeMap<u64, f64> {
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    let texts: BTreeMap<u64, Vec<String>> =
        documents.iter().map(|(key, (_, text))| (*key, words(text))).filter(|(_, words)| !words.is_empty()).collect();
    let n = texts.len() as f64;
    let average = texts.values().map(Vec::len).sum::<usize>() as f64 / n;
    let mut scores = BTreeMap::new();
    for word in words(query) {
        let with_word = texts.values().filter(|text| text.contains(&word)).count() as f64;
        let idf = (1.0 + (n - with_word + 0.5) / (with_word + 0.5)).ln();
        for (key, text) in &texts {
            let frequency = text.iter().filter(|other| **other == word).count() as f64;
            if frequency > 0.0 {
                let length = 1.0 - 0.75 + 0.75 * quantised(text.len()) / average;
                *scores.entry(*key).or_default() += idf * frequency * 2.2 / (frequency + 1.2 * length);
            }
        }
    }
    scores
}

fn ask(index: &LexicalIndex, query: &str) -> Question {
    index.question(index.snapshot(), query)
}

fn insert(index: &LexicalIndex, documents: &Documents, removed: &[u64]) {
    let prepared = index.prepare(documents.iter().map(|(key, (_, text))| (*key, text.as_str())));
    index.apply(prepared, |key| documents[&key].0, removed);
    index.join_batches();
}

#[track_caller]
fn assert_equals_plain(
    index: &LexicalIndex,
    documents: &Documents,
    query: &str,
    n: usize,
    among: Option<&RoaringBitmap>,
) {
    let scores = plain(documents, query);
    let question = ask(index, query);
    let found = question.best(n, among, &Stop::never()).unwrap();
    let wanted = |key: &u64| among.is_none_or(|among| among.contains(documents[key].0));
    let mut expected: Vec<f64> = scores.iter().filter(|(key, _)| wanted(key)).map(|(_, score)| *score).collect();
    expected.sort_by(|a, b| b.total_cmp(a));
    expected.truncate(n);
    assert_eq!(found.len(), expected.len(), "{query:?}: {found:?}");
    let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-4 * b.max(1.0);
    for (found, expected) in found.iter().zip(expected) {
        let of_document = scores[&found.key];
        assert!(
            near(found.scores.bm25, expected) && near(found.scores.bm25, of_document),
            "{found:?} {expected} {of_document}"
        );
        assert!(wanted(&found.key) && found.position == documents[&found.key].0);
    }
    assert!(
        found.is_sorted_by(|a, b| a.scores.bm25 > b.scores.bm25 || (a.scores.bm25 == b.scores.bm25 && a.key < b.key))
    );
    let keys: Vec<u64> = documents.keys().copied().collect();
    for (key, of_key) in keys.iter().zip(question.scores(&keys)) {
        assert!(near(of_key.bm25, scores.get(key).copied().unwrap_or_default()), "{key}: {of_key:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(Vec<String>),
    Remove(Vec<Pick>),
    Replace(Vec<(Pick, String)>),
    Seal,
    Maintain,
    Restart,
    Search { query: String, n: usize, among: Option<BTreeSet<u32>> },
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "([a-h]{1,2} ){0,9}", 1 => "([a-d] ){30,150}"]
}

fn step() -> impl Strategy<Value = Step> {
    let search = (text(), 1usize..9, prop::option::of(prop::collection::btree_set(0u32..60, 0..40)));
    prop_oneof![
        3 => prop::collection::vec(text(), 1..9).prop_map(Step::Insert),
        1 => prop::collection::vec(any::<Pick>(), 1..5).prop_map(Step::Remove),
        2 => prop::collection::vec((any::<Pick>(), text()), 1..5).prop_map(Step::Replace),
        1 => Just(Step::Seal),
        1 => Just(Step::Maintain),
        1 => Just(Step::Restart),
        5 => search.prop_map(|(query, n, among)| Step::Search { query, n, among }),
    ]
}

fn storage(directory: &Path) -> Storage {
    Storage { directory: directory.to_owned(), has_room: Box::new(|_| true) }
}

fn reopened(directory: &Path, documents: &Documents) -> LexicalIndex {
    let index = LexicalIndex::stored(None, storage(directory));
    insert(&index, documents, &[]);
    index.restored();
    index
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_search_equals_a_plain_bm25_after_any_changes(steps in prop::collection::vec(step(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let mut index = LexicalIndex::stored(None, storage(directory.path()));
        index.restored();
        let mut documents = Documents::new();
        let mut next = 0;
        let mut new = |text: String| {
            next += 1;
            (next, (next as u32 * 7 % 61, text))
        };
        for step in steps {
            let pick = |pick: &Pick, documents: &Documents| *documents.keys().nth(pick.index(documents.len())).unwrap();
            match step {
                Step::Insert(texts) => {
                    let added: Documents = texts.into_iter().map(&mut new).collect();
                    insert(&index, &added, &[]);
                    documents.extend(added);
                }
                Step::Remove(picks) if !documents.is_empty() => {
                    let gone: BTreeSet<u64> = picks.iter().map(|one| pick(one, &documents)).collect();
                    insert(&index, &Documents::new(), &gone.iter().copied().collect::<Vec<_>>());
                    documents.retain(|key, _| !gone.contains(key));
                }
                Step::Replace(picks) if !documents.is_empty() => {
                    let gone: Vec<u64> = picks.iter().map(|(one, _)| pick(one, &documents)).collect();
                    let added: Documents = picks.into_iter().map(|(_, text)| new(text)).collect();
                    insert(&index, &added, &gone);
                    documents.retain(|key, _| !gone.contains(key));
                    documents.extend(added);
                }
                Step::Remove(_) | Step::Replace(_) => {}
                Step::Seal => index.seal_all(),
                Step::Maintain => index.maintain(),
                Step::Restart => index = reopened(directory.path(), &documents),
                Step::Search { query, n, among } => {
                    let among = among.map(|among| among.into_iter().collect::<RoaringBitmap>());
                    assert_equals_plain(&index, &documents, &query, n, among.as_ref());
                }
            }
        }
        for query in ["a", "b c", "a bb c dd e", "a a b"] {
            assert_equals_plain(&index, &documents, query, 7, None);
        }
    }

    #[test]
    fn scores_have_the_same_bits_whatever_the_division_into_parts(
        texts in prop::collection::vec(text(), 1..60),
        cuts in prop::collection::vec((0usize..60, any::<bool>()), 0..6),
        query in text(),
    ) {
        let documents: Documents = (0u64..).zip(texts).map(|(key, text)| (key, (key as u32, text))).collect();
        let (whole, divided) = (LexicalIndex::new(None), LexicalIndex::new(None));
        insert(&whole, &documents, &[]);
        let mut rest = documents.clone();
        for (cut, seals) in cuts {
            let after = rest.split_off(&rest.keys().nth(cut).copied().unwrap_or(u64::MAX));
            insert(&divided, &rest, &[]);
            rest = after;
            if seals {
                divided.seal_all();
            }
        }
        insert(&divided, &rest, &[]);
        let all = |index: &LexicalIndex| ask(index, &query).best(100, None, &Stop::never()).unwrap();
        prop_assert_eq!(all(&whole), all(&divided));
    }
}

fn numbered(keys: impl IntoIterator<Item = u64>) -> Documents {
    keys.into_iter().map(|key| (key, (key as u32, format!("common word{key}")))).collect()
}

fn count(index: &LexicalIndex, query: &str) -> usize {
    ask(index, query).best(usize::MAX, None, &Stop::never()).unwrap().len()
}

#[test]
fn a_start_reads_no_text_again_that_a_segment_has_and_repairs_what_differs() {
    let directory = tempfile::tempdir().unwrap();
    let index = reopened(directory.path(), &numbered(0..100));
    index.seal_all();
    assert!(index.mapped_bytes() > 0);
    drop(index);
    // Some documents have gone, some have come, and one has another text than this directory knows.
    let mut documents = numbered((0..90).chain(100..120));
    documents.get_mut(&5).unwrap().1 = "another".to_owned();
    let index = LexicalIndex::stored(None, storage(directory.path()));
    let prepared = index.prepare(documents.iter().map(|(key, (_, text))| (*key, text.as_str())));
    assert_eq!(prepared.read_anew(), 21);
    index.apply(prepared, |key| key as u32, &[]);
    index.restored();
    assert_eq!([count(&index, "common"), count(&index, "another"), count(&index, "word95 word5")], [109, 1, 0]);
    index.maintain();
    assert_equals_plain(&index, &documents, "common another word7", 10, None);
}

#[test]
fn damaged_unfinished_and_foreign_segments_are_built_again() {
    let directory = tempfile::tempdir().unwrap();
    let documents = numbered(0..50);
    let index = reopened(directory.path(), &documents);
    index.seal_all();
    drop(index);
    let words = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let segment = fs::read_dir(&words).unwrap().next().unwrap().unwrap().path();
    for file in fs::read_dir(&segment).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[10] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    fs::create_dir(words.join("0000000007.new")).unwrap();
    let index = LexicalIndex::stored(None, storage(directory.path()));
    let prepared = index.prepare(documents.iter().map(|(key, (_, text))| (*key, text.as_str())));
    assert_eq!((prepared.read_anew(), fs::read_dir(&words).unwrap().count()), (50, 0));
    drop(index);
    let english = LexicalIndex::stored(Language::of_code("en"), storage(directory.path()));
    assert!(!words.exists() && english.is_empty());
    english.discard();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_search_sees_one_state_while_documents_are_replaced() {
    let index = Arc::new(LexicalIndex::new(None));
    insert(&index, &numbered(0..200), &[]);
    index.seal_all();
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (index, done) = (Arc::clone(&index), Arc::clone(&done));
        std::thread::spawn(move || {
            let _ending = RaiseOnDrop(&done);
            for key in 200..600u64 {
                insert(&index, &numbered([key]), &[key - 200]);
                if key % 100 == 0 {
                    index.seal_all();
                    index.maintain();
                }
            }
        })
    };
    while !done.load(Ordering::Relaxed) {
        assert_eq!(count(&index, "common"), 200);
    }
    writer.join().unwrap();
    assert_eq!((count(&index, "word599"), count(&index, "word399"), index.len()), (1, 0, 200));
}

#[test]
fn a_raised_flag_ends_a_search_and_few_rare_terms_are_left_of_a_long_query() {
    let index = LexicalIndex::new(None);
    let all: String = (0..5_000).map(|n| format!("word{n} ")).collect();
    insert(&index, &BTreeMap::from([(0, (0, all.clone())), (1, (1, "word7 only".to_owned()))]), &[]);
    let stop = Stop::never();
    stop.raise();
    assert!(ask(&index, "word7").best(1, None, &stop).is_err());
    let found = ask(&index, &all).best(9, None, &Stop::never()).unwrap();
    assert_eq!(found.iter().map(|one| one.key).collect::<Vec<_>>(), [0]);
    assert!(ask(&index, "absent").finds_nothing() && !ask(&index, "Only").finds_nothing());
}

#[test]
fn a_large_batch_is_sealed_and_similar_segments_are_merged() {
    let index = LexicalIndex::new(None);
    for first in (0..40_000u64).step_by(1_000) {
        insert(&index, &numbered(first..first + 1_000), &[]);
        index.seal_if_large();
    }
    index.maintain();
    let state = index.state();
    assert!(state.parts.len() <= 6, "{} parts", state.parts.len());
    assert_eq!(count(&index, "common"), 40_000);
    let first = ask(&index, "common").best(3, None, &Stop::never()).unwrap();
    assert_eq!(first.iter().map(|one| one.key).collect::<Vec<_>>(), [0, 1, 2]);
}
