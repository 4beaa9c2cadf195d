//! Measures the start of a server that reads all documents: the seconds until the collections answer, with 100,000 and
//! with 1,000,000 documents. Each document has a text and three metadata fields. Its bytes on disk are printed too.
//!
//! Run `cargo bench --bench start`. It needs 2 GB of disk and 6 GB of memory. The time does not include the model,
//! which is loaded afterwards in about a second.

#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::sync::Arc;
use std::time::Instant;

use cognate::collection::{Content, DocId, Document, Model, Options, Origin, Settings, Store};
use cognate::index;
use cognate::kernel::embedding::Embedding;
use serde_json::json;
use workload::Random;

const MODEL: Model<'_> = Model { name: "m", fingerprint: "bench", dimensions: 384 };
const BATCH: usize = 1_000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    // Without `--bench`, `cargo test` is the caller: a few documents show that the bench runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let sizes: &[usize] = if measuring { &[100_000, 1_000_000] } else { &[2_000] };
    println!("{:>10} {:>12} {:>10} {:>12} {:>12}", "documents", "stored/s", "open, s", "opened/s", "bytes each");
    for &n in sizes {
        let directory = tempfile::tempdir()?;
        let options = Options {
            directory: Some(directory.path().to_owned()),
            // No graph is built: a server builds it after the start, and here it would slow down the measurement.
            index: index::Options { exact_below: usize::MAX, ..index::Options::default() },
            ..Options::default()
        };
        let store = Store::open(options.clone())?;
        let collection = store.create("c", MODEL, Settings::default())?;
        let begun = Instant::now();
        for first in (0..n).step_by(BATCH) {
            collection.commit((first..n.min(first + BATCH)).map(document).collect::<Result<_>>()?)?;
        }
        let stored = n as f64 / begun.elapsed().as_secs_f64();
        let bytes = store.disk_stats().and_then(|stats| stats.file_bytes).unwrap_or(0) / n as u64;
        drop((collection, store));
        let best = (0..3)
            .map(|_| {
                let begun = Instant::now();
                let store = Store::open(options.clone())?;
                let seconds = begun.elapsed().as_secs_f64();
                assert_eq!(store.get("c")?.len(), n);
                Ok(seconds)
            })
            .collect::<Result<Vec<f64>>>()?
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        println!("{n:>10} {stored:>12.0} {best:>10.2} {:>12.0} {bytes:>12}", n as f64 / best);
    }
    Ok(())
}

fn document(n: usize) -> Result<Document> {
    let mut random = Random::new(n as u64);
    let values = (0..MODEL.dimensions).map(|_| random.noise()).collect();
    let metadata = json!({"lang": if n.is_multiple_of(3) { "en" } else { "de" }, "year": 1990 + n % 35, "serial": n});
    let text = format!("What document {n} says is as long as the short texts that people search for.");
    Ok(Document {
        id: DocId::new(&format!("document-{n:07}")).ok_or("an id must not be empty")?,
        content: Arc::new(Content::new(text, metadata.as_object())),
        vectors: Embedding::normalized(values)?.into(),
        origin: Origin::Client,
    })
}
