//! Batches made from a seed and their number, and the state after each. So the number of stored batches determines
//! the whole expected state.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{Change, Contents, Put, Record, plain};
use crate::collection::passages::Span;

/// State of a disk after `batches` batches.
#[derive(Clone, Default)]
pub struct Model {
    seed: u64,
    pub batches: u64,
    collections: BTreeMap<String, Collection>,
    next_number: u32,
    pub contents: Contents,
}

#[derive(Clone)]
struct Collection {
    number: u32,
    next_row: u64,
    rows: BTreeMap<String, u64>,
}

/// Name of a collection with one document, whose text is the number of batches.
pub const COUNTER: &str = "counter";

impl Model {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The state after this number of batches.
    pub fn after(seed: u64, batches: u64) -> Self {
        let mut model = Self::new(seed);
        while model.batches < batches {
            model.step();
        }
        model
    }

    /// The next batch: puts, new versions, records with other metadata and removals, sometimes a created or deleted
    /// collection, and the counter.
    pub fn step(&mut self) -> Vec<Change> {
        let mut random = Rng::with_seed(self.seed ^ (self.batches << 20));
        self.batches += 1;
        let mut batch = Vec::new();
        self.replace(COUNTER, "count", &self.batches.to_string(), &mut random, &mut batch);
        let name = format!("collection {}", random.u64(..3));
        match random.u64(..20) {
            0 => self.delete(&name, &mut batch),
            _ => {
                for _ in 0..=random.u64(..8) {
                    let id = format!("id {}", random.u64(..60));
                    match random.u64(..5) {
                        0 => self.remove(&name, &id, &mut batch),
                        1 => self.update(&name, &id, random.usize(..900), &mut batch),
                        _ => {
                            let text = "lorem ipsum ".repeat(random.usize(..120));
                            self.replace(&name, &id, &text, &mut random, &mut batch);
                        }
                    }
                }
            }
        }
        batch
    }

    fn replace(&mut self, name: &str, id: &str, text: &str, random: &mut Rng, batch: &mut Vec<Change>) {
        self.remove(name, id, batch);
        let next_number = &mut self.next_number;
        let collection = self.collections.entry(name.to_owned()).or_insert_with(|| {
            let number = *next_number;
            *next_number += 1;
            batch.push(Change::CreateCollection(plain(number, name, 16)));
            Collection { number, next_row: 0, rows: BTreeMap::new() }
        });
        // A long text has a passage for each twenty words.
        let passages = (text.len() as u32 / 240).max(1);
        let vectors: Vec<f32> = (0..16 * passages).map(|_| f32::from_bits(random.u32(..))).collect();
        let span = |n: u32| Span { start: 240 * n, end: 240 * (n + 1) };
        let spans: Vec<Span> = if passages > 1 { (0..passages).map(span).collect() } else { Vec::new() };
        let metadata = (random.bool()).then_some(r#"{"lang":"en"}"#);
        let row = collection.next_row;
        let record = Record { id, text, metadata, vectors: &vectors, spans: &spans, origin: Default::default() };
        batch.push(Change::Put(Put::new(collection.number, row, &record)));
        collection.next_row += u64::from(passages);
        collection.rows.insert(id.to_owned(), row);
        let bits = spans.iter().flat_map(|span| [span.start, span.end]);
        let bits = bits.chain(vectors.iter().map(|x| x.to_bits())).collect();
        let read = (id.to_owned(), text.to_owned(), metadata.map(str::to_owned), bits);
        self.contents.entry(name.to_owned()).or_default().insert(row, read);
    }

    /// Gives a document other metadata, of some size, in the same row.
    fn update(&mut self, name: &str, id: &str, bytes: usize, batch: &mut Vec<Change>) {
        let Some(collection) = self.collections.get(name) else { return };
        let Some(&row) = collection.rows.get(id) else { return };
        let rows = self.contents.get_mut(name).unwrap();
        let (_, text, metadata, bits) = rows.get_mut(&row).unwrap();
        *metadata = Some(format!(r#"{{"note":"{}"}}"#, "x".repeat(bytes)));
        // Two numbers of each of several passages, and then all vectors.
        let (spans, vectors) = bits.split_at(bits.len() % 16);
        let spans: Vec<Span> = spans.chunks_exact(2).map(|two| Span { start: two[0], end: two[1] }).collect();
        let vectors: Vec<f32> = vectors.iter().map(|&bits| f32::from_bits(bits)).collect();
        let record = Record {
            id,
            text,
            metadata: metadata.as_deref(),
            vectors: &vectors,
            spans: &spans,
            origin: Default::default(),
        };
        batch.push(Change::Replace(Put::new(collection.number, row, &record)));
    }

    fn remove(&mut self, name: &str, id: &str, batch: &mut Vec<Change>) {
        let Some(collection) = self.collections.get_mut(name) else { return };
        let Some(row) = collection.rows.remove(id) else { return };
        batch.push(Change::Remove { collection: collection.number, row });
        self.contents.entry(name.to_owned()).or_default().remove(&row);
    }

    fn delete(&mut self, name: &str, batch: &mut Vec<Change>) {
        let Some(collection) = self.collections.remove(name) else { return };
        batch.push(Change::DeleteCollection { collection: collection.number });
        self.contents.remove(name);
    }
}

/// The number of batches in the contents.
pub fn counted(contents: &Contents) -> u64 {
    contents.get(COUNTER).map_or(0, |rows| {
        assert_eq!(rows.len(), 1, "one counter");
        rows.values().next().unwrap().1.parse().unwrap()
    })
}

/// Asserts that the contents are the state after some number of batches, and returns that number.
pub fn assert_whole_batches(seed: u64, contents: &Contents) -> u64 {
    let batches = counted(contents);
    let model = Model::after(seed, batches);
    assert!(*contents == model.contents, "not what batch {batches} of seed {seed} left");
    batches
}
