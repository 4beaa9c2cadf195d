//! The comparison of both models of a migration: the nearest documents of the collection's own texts, by each.
//!
//! Texts are spread evenly over the documents, so the same documents in the same order give the same comparison. They
//! are compared exactly, not by graphs, because the models are compared and not the indexes.

use std::sync::Arc;

use super::Engine;
use super::migrations::Comparison;
use super::models::Served;
use super::status::Failure;
use crate::collection::{Collection, DocId, Migration, Search};
use crate::compute::stop::Stop;
use crate::compute::{SHORT, Terms, WhenFull};
use crate::embedder::InputType;
use crate::index::Effort;
use crate::inference::Truncation;
use crate::kernel::embedding::Embedding;

/// Texts that are searched.
const QUERIES: usize = 100;

/// Hits that are compared.
const HITS: usize = 10;

/// A document and its text.
type Sample = (DocId, Arc<str>);

/// Compares the models; `None`: one of them is not served, or there is nothing to compare.
pub async fn compare(engine: &Engine, migration: &Migration) -> Option<Comparison> {
    let (leader, follower) = (migration.leader(), migration.follower());
    let models = [engine.models.of(leader.fingerprint())?, engine.models.of(follower.fingerprint())?];
    let compared = compare_by(engine, [leader, follower], models).await;
    compared.unwrap_or_else(|failure| {
        tracing::warn!(?failure, "the models of a migration cannot be compared");
        None
    })
}

async fn compare_by(
    engine: &Engine,
    collections: [Arc<Collection>; 2],
    models: [&Served; 2],
) -> Result<Option<Comparison>, Failure> {
    let bulk = &engine.pools.bulk;
    let of_leader = Arc::clone(&collections[0]);
    let sample = move |_: &Stop| -> Vec<Sample> {
        // A document that is gone, or cannot be read, is no query.
        let documents = of_leader.spread(QUERIES).into_iter().filter_map(|id| of_leader.get(&id).ok().flatten());
        let texts = documents.map(|listed| (listed.id, listed.text));
        texts.filter(|(_, text): &Sample| !text.is_empty()).collect()
    };
    let samples = bulk.run(WhenFull::Wait, SHORT, sample).await?;
    let mut found: Vec<Vec<Option<Vec<DocId>>>> = Vec::new();
    for (collection, model) in collections.into_iter().zip(models) {
        let texts = samples.iter().map(|(_, text)| text.to_string()).collect();
        let terms = Terms::from(WhenFull::Wait);
        let outputs = model.embedder.embed(texts, InputType::Query, Truncation::End, terms).await?;
        let queries = outputs.into_iter().map(|output| Embedding::normalized(output.ok()?.values).ok());
        let queries = samples.iter().map(|(id, _)| id.clone()).zip(queries).collect();
        let search = Search::nearest(HITS + 1, Effort::Exact);
        let nearest = move |(own, query): (DocId, Option<Embedding>), _: &Stop| {
            let hits = collection.search(&query?, &search).into_iter().map(|hit| hit.id);
            Some(hits.filter(|id| *id != own).take(HITS).collect())
        };
        found.push(bulk.run_each(WhenFull::Wait, SHORT, queries, nearest).await?);
    }
    let [by_leader, by_follower] = &found[..] else { return Ok(None) };
    let shares = by_leader.iter().zip(by_follower).filter_map(|(a, b)| share(a.as_ref()?, b.as_ref()?));
    let shares: Vec<f32> = shares.collect();
    let queries = shares.len();
    let least = shares.iter().copied().min_by(f32::total_cmp);
    Ok(least.map(|least| Comparison { queries, mean: shares.iter().sum::<f32>() / queries as f32, least }))
}

/// The share of the hits that both have; `None`: there are no hits.
fn share(a: &[DocId], b: &[DocId]) -> Option<f32> {
    let most = a.len().min(b.len());
    let both = a.iter().filter(|id| b.contains(id)).count();
    (most > 0).then(|| both as f32 / most as f32)
}
