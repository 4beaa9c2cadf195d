//! Vectors to search, and held-out vectors as queries. All have unit length.
//!
//! A vector in the index has links to its neighbours. A search for it would find them at once, even if the vector
//! itself did not count as a hit. So queries are not in the index: they are searched for like the vector of a new text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};

use super::workload::{self, Random};
use crate::cli::npy;
use crate::collection::{self, Collection, Store};
use crate::index::MAX_DIMENSIONS;
use crate::kernel::embedding::Embedding;

/// The default number of queries, unless a tenth of the vectors is less.
const QUERIES: usize = 1_000;
/// The number of documents that are read under one hold of a collection's lock.
const BATCH: usize = 1_024;

/// A vector of length 1.
pub type Vector = Arc<[f32]>;

/// Vectors to search, and queries. All have the same number of dimensions.
pub struct Vectors {
    pub stored: Vec<Vector>,
    pub queries: Vec<Vector>,
}

impl Vectors {
    /// Draws vectors. `queries` are drawn in addition to `documents`.
    pub fn drawn(documents: usize, dimensions: usize, queries: Option<usize>, seed: u64) -> Self {
        let queries = queries.unwrap_or(QUERIES.min(documents.div_ceil(10)));
        let mut stored = workload::vectors(documents + queries, dimensions, &mut Random::new(seed));
        let queries = stored.split_off(documents);
        Self { stored, queries }
    }

    /// Reads the vectors of a file. Its last rows are the queries.
    pub fn of_file(path: &Path, queries: Option<usize>) -> anyhow::Result<Self> {
        let unit = |(row, values)| {
            let embedding = Embedding::normalized(values).with_context(|| format!("row {row}, counted from 0"))?;
            Ok(Arc::from(embedding.into_values()))
        };
        let rows = npy::read(path)?.into_iter().enumerate().map(unit);
        let all: Vec<Vector> = rows.collect::<anyhow::Result<_>>().with_context(|| path.display().to_string())?;
        Self::hold_out(all, queries).with_context(|| path.display().to_string())
    }

    /// Reads the vectors of a collection in a data directory that no server uses. The queries are chosen at random.
    pub fn of_collection(directory: &Path, name: &str, queries: Option<usize>, seed: u64) -> anyhow::Result<Self> {
        // Opening the store would create the directory.
        ensure!(directory.is_dir(), "--data-dir: {} is not a directory", directory.display());
        let store = open(directory.to_owned())?;
        let collections = store.list();
        let collection = collections.iter().find(|collection| collection.name() == name).with_context(|| {
            let names: Vec<&str> = collections.iter().map(|collection| collection.name()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            format!("--collection: {} has no {name:?}; it has {names}", directory.display())
        })?;
        let mut all = read(collection);
        shuffle(&mut all, &mut Random::new(seed));
        Self::hold_out(all, queries).with_context(|| format!("collection {name:?}"))
    }

    /// The number of dimensions of each vector.
    pub fn dimensions(&self) -> usize {
        self.queries.first().map_or(0, |vector| vector.len())
    }

    /// Makes the last of `all` the queries.
    fn hold_out(mut all: Vec<Vector>, queries: Option<usize>) -> anyhow::Result<Self> {
        let queries = queries.unwrap_or(QUERIES.min(all.len() / 10).max(1));
        ensure!(
            queries < all.len(),
            "--queries is {queries}, and must be less than {}, the number of vectors",
            all.len()
        );
        let queries = all.split_off(all.len() - queries);
        let vectors = Self { stored: all, queries };
        let dimensions = vectors.dimensions();
        ensure!(
            (2..=MAX_DIMENSIONS).contains(&dimensions),
            "the vectors have {dimensions} dimensions, and an index needs 2 to {MAX_DIMENSIONS}"
        );
        Ok(vectors)
    }
}

/// Opens all collections of a directory. Stored indexes are kept for the next server.
fn open(directory: PathBuf) -> anyhow::Result<Store> {
    let options = collection::Options { directory: Some(directory), ..collection::Options::default() };
    Ok(Store::open(options)?)
}

fn read(collection: &Collection) -> Vec<Vector> {
    let mut all = Vec::with_capacity(collection.len());
    let mut after = None;
    loop {
        let some = collection.vectors_after(after.as_ref(), BATCH);
        let Some((last, _)) = some.last() else { return all };
        after = Some(last.clone());
        all.extend(some.iter().flat_map(|(_, vectors)| vectors.iter()).map(|vector| Vector::from(&vector[..])));
    }
}

/// Shuffles the vectors (Fisher and Yates), because documents with similar ids are often about similar things.
fn shuffle(all: &mut [Vector], random: &mut Random) {
    for last in (1..all.len()).rev() {
        all.swap(last, random.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::cli::npy::{Element, Npy};
    use crate::collection::{Content, DocId, Document, Model, Settings};
    use crate::wire::vector::Values;

    fn file(rows: &[Vec<f32>]) -> tempfile::NamedTempFile {
        let mut npy = Npy::new(Cursor::new(Vec::new()), Element::F32);
        rows.iter().for_each(|row| npy.push(&Values::F32(row.clone())).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), npy.finish().unwrap().into_inner()).unwrap();
        file
    }

    fn refusal(vectors: anyhow::Result<Vectors>) -> String {
        format!("{:#}", vectors.err().expect("the vectors are refused"))
    }

    #[test]
    fn the_last_rows_of_a_file_are_the_queries_and_all_are_scaled() {
        let file = file(&[vec![3.0, 4.0], vec![0.0, 2.0], vec![5.0, 0.0]]);
        let vectors = Vectors::of_file(file.path(), Some(1)).unwrap();
        assert_eq!(vectors.stored, [Vector::from([0.6, 0.8]), Vector::from([0.0, 1.0])]);
        assert_eq!((&vectors.queries[..], vectors.dimensions()), (&[Vector::from([1.0, 0.0])][..], 2));
        let text = refusal(Vectors::of_file(file.path(), Some(3)));
        assert!(text.contains("--queries is 3, and must be less than 3"), "{text}");
    }

    #[test]
    fn a_row_without_a_direction_is_named() {
        let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
        for (row, reason) in [(vec![1.0, f32::NAN], "value 1 is not finite"), (vec![0.0, 0.0], "all values are zero")] {
            let file = file(&[vec![1.0, 0.0], row, vec![1.0, 0.0]]);
            let text = refusal(Vectors::of_file(file.path(), None));
            assert!(text.contains(&format!("{}: row 1, counted from 0: {reason}", path(&file))), "{text}");
        }
        let text = refusal(Vectors::of_file(file(&[vec![1.0], vec![1.0]]).path(), None));
        assert!(text.contains("1 dimensions, and an index needs 2 to 4096"), "{text}");
    }

    #[test]
    fn queries_are_any_documents_of_a_collection_and_not_searched() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path().to_owned()).unwrap();
        let collection =
            store.create("c", Model { name: "m", fingerprint: "f", dimensions: 2 }, Settings::default()).unwrap();
        let documents = (0..100u8).map(|n| Document {
            id: DocId::new(&format!("{n:03}")).unwrap(),
            content: Arc::new(Content::default()),
            vectors: Embedding::normalized(vec![f32::from(n), 50.0]).unwrap().into(),
            origin: Default::default(),
        });
        collection.commit(documents.collect()).unwrap();
        let in_order = read(&collection);
        drop((collection, store));

        let of = |seed| Vectors::of_collection(directory.path(), "c", Some(7), seed).unwrap();
        let (one, again, other) = (of(1), of(1), of(2));
        assert_eq!(one.queries, again.queries);
        assert_ne!(one.queries, other.queries);
        assert!(one.queries.iter().all(|query| in_order.contains(query) && !one.stored.contains(query)));
        assert_eq!((in_order.len(), one.stored.len(), one.queries.len()), (100, 93, 7));

        let text = refusal(Vectors::of_collection(directory.path(), "d", None, 1));
        assert!(text.contains("--collection") && text.ends_with("has no \"d\"; it has c"), "{text}");
        let text = refusal(Vectors::of_collection(&directory.path().join("no"), "c", None, 1));
        assert!(text.contains("--data-dir") && text.contains("not a directory"), "{text}");
    }
}
