//! Against a plain search that looks up the words of every candidate: the same hits, and scores with the same bits.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::collection::document::{Content, DocId};
use crate::collection::filter::text;
use crate::collection::passages::{Span, Vectors};
use crate::collection::search::{Asked, Chosen, Mode, Search};
use crate::collection::{Collection, Document, Model, Options, Settings, Store};
use crate::compute::stop::Stop;
use crate::kernel::embedding::Embedding;

fn embedding(angle: f32) -> Embedding {
    Embedding::normalized(vec![angle.cos(), angle.sin()]).unwrap()
}

/// Documents of frequent words and rare codes; those in the second collection have several passages now and then.
fn collections() -> &'static [Arc<Collection>; 2] {
    static COLLECTIONS: OnceLock<[Arc<Collection>; 2]> = OnceLock::new();
    COLLECTIONS.get_or_init(|| {
        let store = Store::open(Options::default()).unwrap();
        let model = Model { name: "m", fingerprint: "f", dimensions: 2 };
        ["whole", "passages"].map(|name| {
            let settings = Settings { lexical: Some(lexical::Options::default()), ..Settings::default() };
            let collection = store.create(name, model, settings).unwrap();
            let mut random = fastrand::Rng::with_seed(7);
            let mut document = |n: usize| {
                let words = (0..random.usize(1..9)).map(|_| match random.f32() {
                    common if common < 0.9 => ["a", "b", "c", "d"][(common * common * 4.9) as usize].to_owned(),
                    _ => format!("x{:02}", random.u8(..40)),
                });
                let text = words.collect::<Vec<_>>().join(" ");
                let mut angle = || embedding(random.f32() * 3.0);
                let vectors = if name == "passages" && n.is_multiple_of(3) && text.len() > 2 {
                    let spans = [(0, 1), (1, 2), (2, 3)].map(|(start, end)| (Span { start, end }, angle()));
                    Vectors::of_passages(&text, spans.into()).unwrap()
                } else {
                    angle().into()
                };
                let content = Arc::new(Content::new(text, json!({ "g": n % 2 }).as_object()));
                Document {
                    id: DocId::new(&format!("{:04}", n * 7 % 5_000)).unwrap(),
                    content,
                    vectors,
                    origin: Default::default(),
                }
            };
            let mut commit = |range: std::ops::Range<usize>| {
                collection.commit(range.map(&mut document).collect()).unwrap();
            };
            // A segment with removed documents, and batches.
            commit(0..4_500);
            collection.lexical.as_ref().unwrap().maintain();
            commit(4_400..4_600);
            commit(4_600..5_000);
            collection
        })
    })
}

/// The hits and the bits of their scores: fused, by vectors, by words.
type Found = Vec<(DocId, [u32; 3])>;

fn plain(collection: &Collection, query: &[f32], words: &str, fusion: Fusion, search: &Search) -> Found {
    let here = collection.read();
    let positions = search.filter.as_ref().map(|filter| here.positions(filter, &Stop::never()).unwrap());
    let (k, among) = (LEAST_CANDIDATES, positions.as_ref());
    let near = Query { vector: query, k, sure: k, effort: Effort::Exact, among };
    let near = collection.index.nearest(&near, &Stop::never()).unwrap().hits;
    let index = collection.lexical.as_ref().unwrap();
    let question = index.question(index.snapshot(), words);
    let by_words = question.best(k, among, &Stop::never()).unwrap();
    let mut parts: BTreeMap<&DocId, Parts> = BTreeMap::new();
    for neighbour in &near {
        let rank = parts.len() + 1;
        parts.entry(here.at(neighbour.slot).unwrap().0).or_default().vector_rank.get_or_insert(rank);
    }
    for (at, scored) in by_words.iter().enumerate() {
        parts.entry(here.at_position(scored.position).unwrap().0).or_default().lexical_rank = Some(at + 1);
    }
    let floor = near.get(99).or(near.last()).unwrap().score;
    let frame = Frame { total_idf: question.total_idf(), floor };
    let mut all: Vec<(&DocId, f32, Parts)> = Vec::new();
    for (id, mut parts) in parts {
        let entry = here.entry(id).unwrap();
        let slots = match here.passages(entry.slot) {
            Some(passages) => passages.iter().map(|passage| passage.slot).collect(),
            None => vec![entry.slot],
        };
        let cosine = |slot| dot(query, &collection.row(slot)).clamp(-1.0, 1.0);
        parts.vector = slots.into_iter().map(cosine).fold(-1.0, f32::max);
        parts = with_words(parts, question.scores(&[entry.row])[0]);
        all.push((id, fusion.score(&parts, frame), parts));
    }
    all.retain(|(_, score, _)| search.min_score.is_none_or(|least| *score >= least));
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    all.truncate(search.k);
    let bits =
        |(id, score, parts): (&DocId, f32, Parts)| (id.clone(), [score, parts.vector, parts.lexical].map(f32::to_bits));
    all.into_iter().map(bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn hits_and_scores_are_those_of_a_search_that_looks_up_the_words_of_all_candidates(
        angle in 0.0f32..3.0,
        words in "((a|b|c|d|x0[0-9]|x3|zz) ){0,4}",
        weight in 0.0f32..3.0,
        by_ranks: bool,
        k in 1usize..30,
        filter in prop::option::of(Just("g = 1")),
        min_score in prop::option::weighted(0.3, 0.0f32..1.5),
    ) {
        let fusion = if by_ranks { Fusion::ReciprocalRanks { weight } } else { Fusion::WeightedScores { weight } };
        let filter = filter.map(|filter| text::parse(filter).unwrap());
        let search = Search { mode: Mode::Hybrid(fusion), filter, min_score, ..Search::nearest(k, Effort::Exact) };
        let vectors = [embedding(angle)];
        let [whole, passages] = collections();
        // Documents of several passages are found in rounds: of few hits a later round may find more.
        let of_passages = Search { min_score: None, ..search.clone() };
        for (collection, search) in [(whole, search), (passages, of_passages)] {
            let asked = Asked { vectors: &vectors, words: &words };
            let found = collection.search_in_call(asked, &search, &Chosen::default(), &Stop::never()).unwrap();
            let bits = |score: Option<f32>| score.unwrap().to_bits();
            let found: Found = found
                .into_iter()
                .map(|hit| (hit.id, [hit.score.to_bits(), bits(hit.scores.vector), bits(hit.scores.lexical)]))
                .collect();
            prop_assert_eq!(found, plain(collection, vectors[0].values(), &words, fusion, &search));
        }
    }
}

#[test]
fn only_candidates_that_may_be_among_the_best_are_looked_up() {
    let collection = &collections()[0];
    let here = collection.read();
    let slot = here.first_slot(0).unwrap();
    let candidate = |vector| Candidate { slot, passages: None, parts: Parts { vector, ..Parts::default() } };
    let cosines = |candidates: Vec<Candidate>| candidates.iter().map(|one| one.parts.vector).collect::<Vec<f32>>();
    let divided = |n| {
        let all = [1.0, 5.0, 3.0, 4.0, 2.0].map(candidate).into();
        let (contenders, others) = divided(all, n, |parts| [parts.vector, parts.vector + 1.0]);
        (cosines(contenders), cosines(others))
    };
    assert_eq!(divided(1), (vec![5.0, 4.0], vec![1.0, 3.0, 2.0]));
    assert_eq!(divided(3), (vec![5.0, 3.0, 4.0, 2.0], vec![1.0]));
    assert_eq!(divided(5).1.len(), 0);
    assert_eq!(divided(9).0.len(), 5);
}
