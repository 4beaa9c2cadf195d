//! Random steps of a stored collection against a plain one: uploads, replacements, removals, restarts, and searches by
//! vectors, by words and by both.
//!
//! The collections are small enough that every document is a candidate, so the plain ranking of all documents is what a
//! search must find.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::Path as Directory;

use proptest::prelude::*;
use serde_json::json;

use super::super::fusion::Fusion;
use super::super::*;
use crate::collection::filter::{Path, text};
use crate::collection::groups::Groups;
use crate::collection::{Content, Document, Model, Options, Settings, Store, disk};
use crate::lexical;

const MODEL: Model<'_> = Model { name: "m", fingerprint: "f", dimensions: 2 };

/// A document of the plain collection.
#[derive(Debug, Clone)]
struct Plain {
    text: String,
    angle: f32,
    group: u8,
    /// The order in which versions were stored.
    version: usize,
}

type Documents = BTreeMap<DocId, Plain>;

#[derive(Debug, Clone)]
enum Step {
    /// Stores documents, which may exist: number, text, angle, group.
    Put(Vec<(u8, String, f32, u8)>),
    Remove(Vec<u8>),
    Restart,
    Search(Wanted),
}

/// A search.
#[derive(Debug, Clone)]
struct Wanted {
    words: String,
    angle: f32,
    search: Search,
}

fn embedding(angle: f32) -> Embedding {
    Embedding::normalized(vec![angle.cos(), angle.sin()]).unwrap()
}

fn id(n: u8) -> DocId {
    DocId::new(&format!("{n:03}")).unwrap()
}

fn words_of(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// BM25 of each document, as its definition says. Texts are short, so that no length is rounded.
fn bm25(documents: &Documents, query: &str) -> HashMap<DocId, f64> {
    let with_words: Vec<(&DocId, Vec<&str>)> = documents
        .iter()
        .map(|(id, plain)| (id, words_of(&plain.text)))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    let average = with_words.iter().map(|(_, words)| words.len()).sum::<usize>() as f64 / with_words.len() as f64;
    let mut scores = HashMap::new();
    for word in words_of(query) {
        for (id, words) in &with_words {
            let frequency = words.iter().filter(|other| **other == word).count() as f64;
            if frequency > 0.0 {
                let length = 0.25 + 0.75 * words.len() as f64 / average;
                *scores.entry((*id).clone()).or_default() +=
                    idf(documents, word) * frequency * 2.2 / (frequency + 1.2 * length);
            }
        }
    }
    scores
}

fn idf(documents: &Documents, word: &str) -> f64 {
    let n = documents.values().filter(|plain| !plain.text.trim().is_empty()).count() as f64;
    let with_word = documents.values().filter(|plain| words_of(&plain.text).contains(&word)).count() as f64;
    (1.0 + (n - with_word + 0.5) / (with_word + 0.5)).ln()
}

/// Ranks all documents, and takes the first that are allowed.
fn ranked(documents: &Documents, wanted: &Wanted) -> Vec<(DocId, f64)> {
    let Wanted { words, angle, search } = wanted;
    let is_code = |word: &str| word.len() >= 3 && word.contains(char::is_numeric);
    let by_words = bm25(documents, words);
    let codes = |plain: &Plain| {
        let has = |word: &&str| is_code(word) && words_of(&plain.text).contains(word);
        words_of(words).into_iter().filter(has).map(|word| idf(documents, word)).sum::<f64>()
    };
    let fields = |plain: &Plain| json!({ "g": plain.group }).as_object().unwrap().clone();
    let allowed = |plain: &Plain| search.filter.as_ref().is_none_or(|filter| filter.matches(&fields(plain)));
    let allowed: Vec<(&DocId, &Plain)> = documents.iter().filter(|(_, plain)| allowed(plain)).collect();
    let cosine = |plain: &Plain| f64::from(embedding(*angle).cosine(&embedding(plain.angle)).clamp(-1.0, 1.0));
    let floor = allowed.iter().map(|(_, plain)| cosine(plain)).fold(f64::INFINITY, f64::min);
    let is_known = |word: &str| documents.values().any(|plain| words_of(&plain.text).contains(&word));
    let times = |word: &str| if is_code(word) && is_known(word) { 2.0 } else { 1.0 };
    let total_idf: f64 = words_of(words).into_iter().map(|word| times(word) * idf(documents, word)).sum();
    let rank = |score: &dyn Fn(&DocId, &Plain) -> f64, of: (&DocId, &Plain)| {
        let before = |other: &&(&DocId, &Plain)| {
            let (a, b) = (score(other.0, other.1), score(of.0, of.1));
            a > b + 1e-9 || ((a - b).abs() <= 1e-9 && other.1.version < of.1.version)
        };
        1 + allowed.iter().filter(before).count()
    };
    let lexical = |id: &DocId| by_words.get(id).copied().unwrap_or_default();
    let score = |id: &DocId, plain: &Plain| match search.mode {
        Mode::Vector => Some(cosine(plain)),
        Mode::Lexical => by_words.get(id).copied(),
        Mode::Hybrid(Fusion::WeightedScores { weight }) => {
            let share = if total_idf > 0.0 { lexical(id) / total_idf } else { 0.0 };
            let of_words = 0.8 * (share - 0.6).max(0.0) + 0.1 * codes(plain);
            Some(cosine(plain) + f64::from(weight) * (1.0 - floor).max(0.05) * of_words)
        }
        Mode::Hybrid(Fusion::ReciprocalRanks { weight }) => {
            let by_vectors = 1.0 / (5.0 + rank(&|_, plain| cosine(plain), (id, plain)) as f64);
            let of_words = 1.0 / (5.0 + rank(&|id, _| lexical(id), (id, plain)) as f64);
            Some(by_vectors + if by_words.contains_key(id) { f64::from(weight) * of_words } else { 0.0 })
        }
    };
    let scored = allowed.iter().filter_map(|(id, plain)| Some(((*id).clone(), score(id, plain)?)));
    let mut all: Vec<(DocId, f64)> =
        scored.filter(|(_, score)| search.min_score.is_none_or(|least| *score >= f64::from(least))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut members: HashMap<u8, usize> = HashMap::new();
    all.retain(|(id, _)| {
        let members = members.entry(documents[id].group).or_default();
        *members += 1;
        search.groups.as_ref().is_none_or(|groups| *members <= groups.size.get())
    });
    all.truncate(search.k);
    all
}

fn open(directory: &Directory) -> Store {
    let disk = disk::Options { min_free_bytes: 1 << 20, ..disk::Options::default() };
    Store::open(Options { directory: Some(directory.to_owned()), disk, ..Options::default() }).unwrap()
}

fn text_of_words() -> impl Strategy<Value = String> {
    "((a|b|c|dd|x12|y34) ){0,9}"
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let mode = prop_oneof![
        Just(Mode::Vector),
        Just(Mode::Lexical),
        (0.0f32..2.0).prop_map(|weight| Mode::Hybrid(Fusion::WeightedScores { weight })),
        (0.0f32..2.0).prop_map(|weight| Mode::Hybrid(Fusion::ReciprocalRanks { weight })),
    ];
    let filter = prop_oneof![3 => Just(None), 1 => Just(Some("g = 1")), 1 => Just(Some("not g = 1"))];
    let size = prop_oneof![2 => Just(None), 1 => (1usize..3).prop_map(NonZeroUsize::new)];
    let min_score = prop_oneof![3 => Just(None), 1 => (-0.5f32..1.5).prop_map(Some)];
    (text_of_words(), prop_oneof![Just(0.0f32), Just(3.1)], mode, 1usize..12, filter, size, min_score).prop_map(
        |(words, angle, mode, k, filter, size, min_score)| {
            let groups = size.map(|size| Groups { by: Path::readings("g").unwrap(), size });
            let filter = filter.map(|filter| text::parse(filter).unwrap());
            let search = Search { mode, filter, groups, min_score, ..Search::nearest(k, Effort::Exact) };
            Wanted { words, angle, search }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    // From either end of the angles no two documents are equally near.
    let put = prop::collection::vec((0u8..40, text_of_words(), 0.1f32..3.0, 0u8..4), 1..6);
    prop_oneof![
        4 => put.prop_map(Step::Put),
        1 => prop::collection::vec(0u8..40, 1..5).prop_map(Step::Remove),
        1 => Just(Step::Restart),
        6 => wanted().prop_map(Step::Search),
    ]
}

#[track_caller]
fn assert_found(collection: &Collection, documents: &Documents, wanted: &Wanted) {
    let vectors = [embedding(wanted.angle)];
    let asked =
        Asked { vectors: if wanted.search.mode == Mode::Lexical { &[] } else { &vectors }, words: &wanted.words };
    let found = collection.search_in_call(asked, &wanted.search, &Chosen::default(), &Stop::never()).unwrap();
    let expected = ranked(documents, wanted);
    assert_eq!(found.len(), expected.len(), "{wanted:?}\n{found:?}\n{expected:?}");
    for (hit, (_, score)) in found.iter().zip(&expected) {
        assert!((f64::from(hit.score) - score).abs() < 2e-4, "{wanted:?}\n{found:?}\n{expected:?}");
        assert_eq!(hit.scores.lexical.is_some(), wanted.search.mode != Mode::Vector);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn searches_in_every_mode_find_what_a_plain_ranking_does(steps in prop::collection::vec(step(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { lexical: Some(lexical::Options::default()), ..Settings::default() };
        let mut store = open(directory.path());
        store.create("c", MODEL, settings).unwrap();
        let (mut documents, mut version) = (Documents::new(), 0);
        for step in steps {
            let collection = store.get("c").unwrap();
            match step {
                Step::Put(put) => {
                    let put: BTreeMap<DocId, (String, f32, u8)> =
                        put.into_iter().map(|(n, text, angle, group)| (id(n), (text, angle, group))).collect();
                    let mut new = Vec::new();
                    for (id, (text, angle, group)) in put {
                        version += 1;
                        let plain = Plain { text, angle, group, version };
                        let metadata = json!({ "g": group });
                        let content = Arc::new(Content::new(plain.text.clone(), metadata.as_object()));
                        new.push(Document { id: id.clone(), content, vectors: embedding(plain.angle).into(), origin: Default::default() });
                        documents.insert(id, plain);
                    }
                    collection.commit(new).unwrap();
                }
                Step::Remove(gone) => {
                    collection.remove(&gone.iter().map(|n| id(*n)).collect::<Vec<_>>()).unwrap();
                    gone.iter().for_each(|n| drop(documents.remove(&id(*n))));
                }
                Step::Restart => {
                    drop((collection, store));
                    store = open(directory.path());
                }
                Step::Search(wanted) => assert_found(&collection, &documents, &wanted),
            }
        }
    }
}

#[test]
fn there_are_k_hits_by_words_and_vectors_whatever_groups_and_words_leave_out() {
    let store = Store::open(Options::default()).unwrap();
    let settings = Settings { lexical: Some(lexical::Options::default()), ..Settings::default() };
    let collection = store.create("c", MODEL, settings).unwrap();
    let document = |n: u16| {
        let metadata = json!({ "g": if n < 2_900 { json!("big") } else { json!(n) } });
        let content = Arc::new(Content::new(format!("common word{n}"), metadata.as_object()));
        let id = DocId::new(&format!("{n:04}")).unwrap();
        Document { id, content, vectors: embedding(f32::from(n) / 1_000.0).into(), origin: Default::default() }
    };
    collection.commit((0..3_000).map(document).collect()).unwrap();
    let groups = Some(Groups { by: Path::readings("g").unwrap(), size: NonZeroUsize::MIN });
    for fusion in [Fusion::WeightedScores { weight: 1.0 }, Fusion::ReciprocalRanks { weight: 0.5 }] {
        for words in ["common", "word7", "absent", ""] {
            let search = Search { mode: Mode::Hybrid(fusion), ..Search::nearest(60, Effort::Exact) };
            let vectors = [embedding(0.0)];
            let count = |search: &Search| {
                let asked = Asked { vectors: &vectors, words };
                collection.search_in_call(asked, search, &Chosen::default(), &Stop::never()).unwrap().len()
            };
            assert_eq!(
                (count(&search), count(&Search { groups: groups.clone(), ..search.clone() })),
                (60, 60),
                "{words}"
            );
        }
    }
}

#[test]
fn the_memory_of_words_is_counted_and_given_back() {
    let store = Store::open(Options::default()).unwrap();
    let settings = Settings { lexical: Some(lexical::Options::default()), ..Settings::default() };
    let (with, without) =
        (store.create("with", MODEL, settings).unwrap(), store.create("no", MODEL, Settings::default()));
    let document = |n: u16| {
        let content = Arc::new(Content::new(format!("some words of document {n}"), None));
        Document {
            id: DocId::new(&n.to_string()).unwrap(),
            content,
            vectors: embedding(f32::from(n)).into(),
            origin: Default::default(),
        }
    };
    let empty = store.used();
    for collection in [&with, &without.unwrap()] {
        collection.commit((0..6_000).map(document).collect()).unwrap();
    }
    with.lexical.as_ref().unwrap().maintain();
    with.recount_varying();
    let (words, plain) = (with.bytes(), store.used().bytes - with.bytes());
    let of_words = with.lexical.as_ref().unwrap().bytes();
    assert!(of_words > 6_000 * 20 && words == plain - empty.bytes + of_words, "{words} {plain} {of_words}");
    with.remove(&(0..6_000).map(|n: u16| DocId::new(&n.to_string()).unwrap()).collect::<Vec<_>>()).unwrap();
    with.lexical.as_ref().unwrap().maintain();
    with.recount_varying();
    assert_eq!(with.bytes(), 0);
    store.delete("with").unwrap();
    store.delete("no").unwrap();
    assert_eq!(store.used().bytes, empty.bytes - 2 * 16 * 1024);
}
