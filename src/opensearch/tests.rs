//! The same operations on a local store and on an engine have the same answers.
//!
//! `COGNATE_OPENSEARCH=http://localhost:9200 cargo test --lib opensearch -- --ignored` with a node that has the plugin
//! for vectors. A failure prints its seed, and `COGNATE_SEED` repeats it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{Error, Options, Store};
use crate::collection::filter::Path;
use crate::collection::{
    self, Asked, Chosen, CollectionError, Content, Diversity, DocId, Document, FacetField, FacetQuery, Filter, Fusion,
    Groups, Hit, Kept, Listed, Mode, Model, PageSize, PassageSizes, Patch, Search, Settings, Span, StoredVectors,
    Vectors, any_filter, any_metadata,
};
use crate::compute::Pools;
use crate::compute::stop::Stop;
use crate::index::Effort;
use crate::kernel::embedding::Embedding;
use crate::lexical;

const DIMENSIONS: usize = 4;
const MODEL: Model<'static> = Model { name: "m", fingerprint: "f", dimensions: DIMENSIONS };

/// Both stores, and where random values come from.
struct Both {
    local: Arc<collection::Collection>,
    remote: Arc<super::Collection>,
    random: fastrand::Rng,
    runner: TestRunner,
}

fn options(prefix: &str) -> Options {
    let host = std::env::var("COGNATE_OPENSEARCH").expect("COGNATE_OPENSEARCH is the address of a node");
    Options {
        hosts: vec![host],
        replicas: 0,
        shards: 2,
        refresh_interval: Duration::from_millis(20),
        prefix: prefix.to_owned(),
        ..Options::default()
    }
}

async fn connect(prefix: &str) -> Store {
    Store::connect(options(prefix), Pools::new(2)).await.unwrap()
}

fn seed() -> u64 {
    let given = std::env::var("COGNATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("COGNATE_SEED={seed}");
    seed
}

impl Both {
    fn of<T: std::fmt::Debug>(&mut self, strategy: impl Strategy<Value = T>) -> T {
        strategy.new_tree(&mut self.runner).unwrap().current()
    }

    fn id(&mut self) -> DocId {
        DocId::new(&format!("d{}", self.random.u8(0..40))).unwrap()
    }

    fn filter(&mut self) -> Option<Filter> {
        self.random.bool().then(|| self.of(any_filter()))
    }

    fn vector(&mut self) -> Embedding {
        // A few directions are there more than once, so that scores tie.
        let whole = self.random.u8(0..4) == 0;
        let values = (0..DIMENSIONS).map(|_| match whole {
            true => f32::from(self.random.i8(-1..=1)),
            false => self.random.f32() * 2.0 - 1.0,
        });
        let values: Vec<f32> = values.collect();
        Embedding::normalized(values).unwrap_or_else(|_| self.vector())
    }

    fn text(&mut self) -> String {
        let words = ["red", "green", "blue", "C91.A2", "running", "runners", "the", "x-7", "Größe", "deep"];
        let n = self.random.usize(1..30);
        (0..n).map(|_| *self.random.choice(&words).unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn document(&mut self) -> Document {
        let (id, text) = (self.id(), self.text());
        let metadata = self.of(any_metadata());
        let content = Arc::new(Content::new(text.as_str(), metadata.as_ref()));
        let half = text.len() / 2;
        let cut = (1..text.len()).find(|&at| at >= half && text.is_char_boundary(at)).filter(|_| self.random.bool());
        let vectors = match cut {
            None => Vectors::from(self.vector()),
            Some(cut) => {
                let span = |start: usize, end: usize| Span { start: start as u32, end: end as u32 };
                let spans = [span(0, cut), span(cut, text.len())];
                Vectors::of_passages(&text, spans.map(|span| (span, self.vector())).to_vec()).unwrap()
            }
        };
        Document { id, content, vectors, origin: Default::default() }
    }

    async fn change(&mut self) {
        match self.random.u8(0..8) {
            0..=3 => {
                let n = self.random.usize(1..12);
                let documents: Vec<Document> = (0..n).map(|_| self.document()).collect();
                assert_eq!(self.local.commit(documents.clone()), Ok(vec![]));
                assert_eq!(self.remote.commit(documents).await, Ok(vec![]));
            }
            4 => {
                let ids: Vec<DocId> = (0..4).map(|_| self.id()).collect();
                assert_eq!(self.remote.remove(ids.clone()).await.unwrap(), self.local.remove(&ids).unwrap());
            }
            5 => {
                let filter = self.of(any_filter());
                if self.local.count(Some(&filter), &Stop::never()).unwrap() < 9 {
                    let removed = self.local.remove_matching(filter.clone(), &Stop::never()).unwrap();
                    assert_eq!(self.remote.remove_matching(filter).await.unwrap(), removed.len());
                }
            }
            _ => {
                let fields = self.of(any_metadata()).unwrap_or_default();
                let patch = Arc::new(Patch { fields, max_bytes: 120 });
                let (ids, only) = match self.filter().map(Arc::new) {
                    Some(only) => {
                        let ids = self.local.matching_ids(&only, &Stop::never()).unwrap();
                        let mut sorted = ids.clone();
                        sorted.sort();
                        assert_eq!(self.remote.matching_ids(&only).await.unwrap(), sorted);
                        (ids, Some(only))
                    }
                    None => (BTreeSet::from([self.id(), self.id(), self.id()]).into_iter().collect(), None),
                };
                let mut left = &ids[..];
                while !left.is_empty() {
                    let local = self.local.update(left, &patch, only.as_ref()).unwrap();
                    let remote = self.remote.update(&left[..local.taken], &patch, only.as_ref()).await.unwrap();
                    assert_eq!(remote, local);
                    left = &left[local.taken..];
                }
            }
        }
    }

    fn search(&mut self) -> Search {
        let mode = match self.random.u8(0..4) {
            0 => Mode::Lexical,
            1 => Mode::Hybrid(Fusion::WeightedScores { weight: 0.5 }),
            2 => Mode::Hybrid(Fusion::ReciprocalRanks { weight: 0.7 }),
            _ => Mode::Vector,
        };
        let groups = self.random.u8(0..3) == 0;
        let name = *self.random.choice(&["a", "b", "a.b", "c d"]).unwrap();
        Search {
            k: self.random.usize(1..12),
            effort: Effort::Exact,
            filter: self.filter(),
            mode,
            min_score: self.random.bool().then(|| self.random.f32() - 0.5),
            groups: groups.then(|| Groups {
                by: Path::readings(name).unwrap(),
                size: NonZeroUsize::new(self.random.usize(1..3)).unwrap(),
            }),
            diversity: (self.random.u8(0..4) == 0).then(|| Diversity::new(0.4).unwrap()),
            passages: NonZeroUsize::new(self.random.usize(1..3)).unwrap(),
            text_bytes: Some(usize::MAX),
        }
    }

    async fn compare(&mut self) {
        let filter = self.filter();
        let (only, stop) = (filter.as_ref(), Stop::never());
        let after = self.random.bool().then(|| self.id());
        let limit = self.random.usize(1..20);
        assert_eq!(self.remote.count(only).await.unwrap(), self.local.count(only, &stop).unwrap(), "{filter:?}");
        let expected = self.local.list(only, after.as_ref(), PageSize::of(limit), &stop).unwrap();
        let found = self.remote.list(only, after.as_ref(), limit, usize::MAX).await.unwrap();
        assert_eq!(shown(&found), shown(&expected), "{filter:?}");

        let ids: Vec<DocId> = (0..5).map(|_| self.id()).collect();
        let found = self.remote.get(&ids).await.unwrap();
        for (id, found) in ids.iter().zip(found) {
            let expected = self.local.get(id).unwrap();
            assert_eq!(found.map(|one| shown(&[one])), expected.map(|one| shown(&[one])));
        }

        let fields = ["a", "b", "a.b", "e.f"].map(|name| FacetField { by: Path::readings(name).unwrap(), limit: 3 });
        let query = FacetQuery { filter: filter.clone(), fields: fields.to_vec(), max_bytes: 10_000 };
        assert_eq!(self.remote.facets(&query).await.unwrap(), self.local.facets(&query, &stop).unwrap(), "{filter:?}");

        let expected: Vec<Listed> = self.local.export(only, &stop).unwrap().map(Result::unwrap).collect();
        let mut export = self.remote.export(only).await.unwrap();
        assert_eq!(export.total(), expected.len() as u64);
        let mut exported = Vec::new();
        loop {
            let page = export.page().await.unwrap();
            if page.is_empty() {
                break;
            }
            exported.extend(page);
        }
        assert_eq!(shown(&exported), shown(&expected));
    }

    async fn compare_searches(&mut self) {
        let search = self.search();
        let n_vectors = if search.mode == Mode::Lexical { 0 } else { self.random.usize(1..3) };
        let vectors: Vec<Embedding> = (0..n_vectors).map(|_| self.vector()).collect();
        let words = self.text();
        let asked = Asked { vectors: &vectors, words: &words };
        let expected = self.local.search_in_call(asked, &search, &Chosen::default(), &Stop::never()).unwrap();
        let found = self.remote.search(&[asked], &search).await.unwrap().remove(0);
        let (found, expected) = (of_hits(&found), of_hits(&expected));
        let by_words = search.mode != Mode::Vector;
        if by_words && self.words_tie(&words, &vectors) {
            // Of equal scores by words, the local store takes those that came first.
            assert_eq!(found.len(), expected.len(), "{search:?}");
            if search.diversity.is_none() && search.mode == Mode::Lexical && search.groups.is_none() {
                let scores = |hits: &[ShownHit]| hits.iter().map(|hit| hit.1).collect::<Vec<_>>();
                assert_eq!(scores(&found), scores(&expected), "{search:?}");
            }
            return;
        }
        assert_eq!(found, expected, "{search:?} {asked:?}");
    }

    /// True if two documents have the same score by the words or by one of the vectors.
    fn words_tie(&self, words: &str, vectors: &[Embedding]) -> bool {
        let ties = |search: &Search, vectors: &[Embedding]| {
            let asked = Asked { vectors, words };
            let all = self.local.search_in_call(asked, search, &Chosen::default(), &Stop::never()).unwrap();
            all.windows(2).any(|two| two[0].score == two[1].score)
        };
        let all = Search::nearest(1_000, Effort::Exact);
        let lexical = Search { mode: Mode::Lexical, ..all.clone() };
        ties(&lexical, &[]) || vectors.iter().any(|vector| ties(&all, std::slice::from_ref(vector)))
    }
}

fn content(text: &Arc<str>, kept: &Kept) -> Content {
    Content { text: Arc::clone(text), metadata: kept.metadata.clone() }
}

type ShownHit = (String, u32, [Option<u32>; 2], Option<Span>, Vec<(Span, f32)>, Vec<u32>, Content);

fn of_hits(hits: &[Hit]) -> Vec<ShownHit> {
    let one = |hit: &Hit| {
        let scores = [hit.scores.vector, hit.scores.lexical].map(|score| score.map(f32::to_bits));
        let vector = hit.vector.iter().map(|x| x.to_bits()).collect();
        let id = hit.id.as_str().to_owned();
        (id, hit.score.to_bits(), scores, hit.passage, hit.others.clone(), vector, content(&hit.text, &hit.kept))
    };
    hits.iter().map(one).collect()
}

/// A document with the bits of its vectors.
type ShownDocument = (DocId, Content, Vec<(Option<Span>, Vec<u32>)>);

fn shown(documents: &[Listed]) -> Vec<ShownDocument> {
    let rows = |vectors: &StoredVectors| {
        vectors.rows().map(|(span, row)| (span, row.iter().map(|x| x.to_bits()).collect())).collect()
    };
    documents.iter().map(|one| (one.id.clone(), content(&one.text, &one.kept), rows(&one.vectors))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a node: COGNATE_OPENSEARCH=http://localhost:9200"]
async fn random_operations_have_the_same_answers_as_in_the_local_store() {
    let seed = seed();
    let store = connect(&format!("test-{seed:x}-")).await;
    let language = lexical::Language::of_code("en");
    let settings = Settings {
        passages: Some(PassageSizes { max_tokens: 64, overlap_tokens: 0 }),
        lexical: Some(lexical::Options { language }),
    };
    let local = collection::Store::open(collection::Options::default()).unwrap();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut both = Both {
        local: local.create("c", MODEL, settings).unwrap(),
        remote: store.create("c".into(), MODEL, settings).await.unwrap(),
        random: fastrand::Rng::with_seed(seed),
        runner: TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)),
    };
    for _ in 0..60 {
        both.change().await;
        both.compare().await;
        for _ in 0..4 {
            both.compare_searches().await;
        }
    }
    assert_eq!(store.delete("c").await.unwrap(), both.local.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a node: COGNATE_OPENSEARCH=http://localhost:9200"]
async fn a_graph_finds_ties_by_their_ids_and_what_is_near() {
    let seed = seed();
    let store = connect(&format!("test-{seed:x}-")).await;
    let unit = |values: [f32; 4]| Embedding::normalized(values.to_vec()).unwrap();
    let odd = |n: usize| unit([(n as f32).sin(), (n as f32).cos(), (n as f32 / 50.0).sin(), 0.1]);
    let document = |n: usize, vector: Embedding| Document {
        id: DocId::new(&format!("{n:03}")).unwrap(),
        content: Arc::new(Content::new("", None)),
        vectors: vector.into(),
        origin: Default::default(),
    };
    let copied = unit([1.0, 0.0, 0.0, 0.0]);
    let odds = (0..200).map(|n| document(2 * n + 1, odd(2 * n + 1)));
    let copies = (0..200).map(|n| document(2 * n, copied.clone()));

    let collection = store.create("c".into(), MODEL, Settings::default()).await.unwrap();
    // In the order that makes it hard: the last ids first.
    let mut all: Vec<Document> = odds.clone().chain(copies).collect();
    all.sort_by(|one, other| other.id.cmp(&one.id));
    assert_eq!(collection.commit(all).await, Ok(vec![]));
    let query = [copied];
    let asked = Asked { vectors: &query, words: "" };
    for effort in [Effort::Exact, Effort::Graph { ef: None }, Effort::Graph { ef: Some(1) }] {
        let hits = collection.search(&[asked, asked], &Search::nearest(3, effort)).await.unwrap();
        for hits in hits {
            let found: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
            assert_eq!(found, ["000", "002", "004"], "{effort:?}");
        }
    }
    store.delete("c").await.unwrap();

    // Without copies, which searches of the engine may not get past (docs/scale-out.md), each is nearest to itself.
    let collection = store.create("c".into(), MODEL, Settings::default()).await.unwrap();
    assert_eq!(collection.commit(odds.collect()).await, Ok(vec![]));
    let queries: Vec<[Embedding; 1]> = (0..200).map(|n| [odd(2 * n + 1)]).collect();
    let asked: Vec<Asked> = queries.iter().map(|vectors| Asked { vectors, words: "" }).collect();
    let hits = collection.search(&asked, &Search::nearest(1, Effort::Graph { ef: None })).await.unwrap();
    let found = (0..200).filter(|&n| hits[n][0].id.as_str() == format!("{:03}", 2 * n + 1)).count();
    assert!(found >= 190, "{found} of 200");
    store.delete("c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a node: COGNATE_OPENSEARCH=http://localhost:9200"]
async fn a_collection_that_was_deleted_and_created_again_gets_no_documents_of_an_earlier_holder() {
    let seed = seed();
    let prefix = format!("test-{seed:x}-");
    let (one, other) = (connect(&prefix).await, connect(&prefix).await);
    let unknown = Err(Error::Collection(CollectionError::Unknown));
    assert_eq!(one.get("c").await.map(|_| ()), unknown);
    let held = one.create("c".into(), MODEL, Settings::default()).await.unwrap();
    let exists = Err(Error::Collection(CollectionError::Exists));
    assert_eq!(other.create("c".into(), MODEL, Settings::default()).await.map(|_| ()), exists);
    other.get("c").await.unwrap();
    assert_eq!(other.delete("c").await, Ok(0));
    let model = Model { fingerprint: "another", ..MODEL };
    let again = other.create("c".into(), model, Settings::default()).await.unwrap();
    let vectors = Embedding::normalized(vec![1.0; DIMENSIONS]).unwrap().into();
    let document =
        Document { id: DocId::new("a").unwrap(), content: Arc::default(), vectors, origin: Default::default() };
    assert_eq!(held.commit(vec![document.clone()]).await.map(|_| ()), unknown);
    assert_eq!(held.count(None).await.map(|_| ()), unknown);
    assert_eq!(again.commit(vec![document]).await, Ok(vec![]));
    let described = one.describe(&|name| name == "c").await.unwrap();
    assert_eq!((described.len(), described[0].documents, described[0].n_passages), (1, 1, 1));
    assert_eq!(described[0].fingerprint, "another");
    assert_eq!(other.delete("c").await, Ok(1));
}
