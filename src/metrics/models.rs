//! The models: texts, tokens, batches, what waits in their queues, and their caches.
//!
//! A model is labelled by its kind and by its name in the settings; an embedding model without a name there has the
//! name `default`. A head has no series: it uses an embedding model.

use std::borrow::Cow;
use std::fmt;

use super::families::{Families, Family, Labels};
use crate::compute::Distribution;
use crate::inference::Stats;
use crate::rpc::Engine;

/// Reads one of the counts of a model.
type ReadCount = fn(&Stats) -> u64;
/// Reads one of its distributions.
type ReadDistribution = fn(&Stats) -> &Distribution;

/// A model's labels, and its work.
struct OfModel {
    labels: Labels,
    stats: Stats,
}

impl OfModel {
    fn with(&self, label: &'static str, value: &'static str) -> Labels {
        let mut labels = self.labels.clone();
        labels.push((label, value.into()));
        labels
    }
}

fn labels(kind: &'static str, name: impl Into<Cow<'static, str>>) -> Labels {
    vec![("kind", kind.into()), ("model", name.into())]
}

/// The models with a queue of their own.
fn models(engine: &Engine) -> Vec<OfModel> {
    let embedders = engine.models.iter().map(|served| {
        let labels = labels("embedder", served.about.name.clone());
        OfModel { labels, stats: served.embedder.stats() }
    });
    let classifiers = engine.classifiers.iter().filter_map(|classifier| {
        let labels = labels("classifier", classifier.about().name.clone());
        Some(OfModel { labels, stats: classifier.stats()? })
    });
    let rerankers = engine.rerankers.iter().map(|reranker| {
        let labels = labels("reranker", reranker.about().name.clone());
        OfModel { labels, stats: reranker.stats() }
    });
    embedders.chain(classifiers).chain(rerankers).collect()
}

fn infos(engine: &Engine) -> Vec<Labels> {
    let info = |mut labels: Labels, id: &str, revision: &str, precision: &str| {
        for (label, value) in [("id", id), ("revision", revision), ("precision", precision)] {
            labels.push((label, value.to_owned().into()));
        }
        labels
    };
    let embedders = engine.models.iter().map(|served| {
        let about = &served.about;
        info(labels("embedder", about.name.clone()), &about.id, &about.revision, &about.precision)
    });
    let classifiers = engine.classifiers.iter().map(|classifier| {
        let about = classifier.about();
        info(labels("classifier", about.name.clone()), &about.id, &about.revision, "")
    });
    let rerankers = engine.rerankers.iter().map(|reranker| {
        let about = reranker.about();
        info(labels("reranker", about.name.clone()), &about.id, &about.revision, &about.precision)
    });
    embedders.chain(classifiers).chain(rerankers).collect()
}

/// Writes the families of models.
pub fn write(families: &mut Families<'_>, engine: &Engine) -> fmt::Result {
    let models = &models(engine);
    families.infos(Family::of("cognate_model", "The models that are served."), infos(engine))?;
    let counters: [(&'static str, &'static str, ReadCount); 8] = [
        ("cognate_requested_texts", "Texts, or pairs, that calls asked for.", |stats| stats.requested_texts),
        ("cognate_computed_texts", "Texts, or pairs, that the model computed.", |stats| stats.computed_texts),
        ("cognate_computed_tokens", "Tokens that the model computed.", |stats| stats.computed_tokens),
        ("cognate_failed_texts", "Texts that the model failed on; the log has the cause.", |stats| stats.failed_texts),
        (
            "cognate_truncated_texts",
            "Texts of answers of which the model read only the beginning or the end.",
            |stats| stats.truncated_texts,
        ),
        ("cognate_queue_refused", "Requests refused because too many tokens wait.", |stats| stats.refused_requests),
        ("cognate_cache_hits", "Look-ups of texts that the cache had.", |stats| stats.cache.hits),
        ("cognate_cache_misses", "Look-ups of texts that the cache did not have.", |stats| stats.cache.misses),
    ];
    for (name, help, count) in counters {
        let series = models.iter().map(|model| (model.labels.clone(), count(&model.stats)));
        families.counters(Family::of(name, help), series)?;
    }
    let phases = models.iter().flat_map(|model| {
        let Stats { tokenising, computing, .. } = model.stats;
        let phases = [("tokenise", tokenising), ("model", computing)];
        phases.map(|(phase, time)| (model.with("phase", phase), time.as_secs_f64()))
    });
    families
        .counters(Family::seconds("cognate_phase", "Time of all threads in a phase of the model's work."), phases)?;
    let histograms: [(&'static str, &'static str, ReadDistribution); 2] = [
        ("cognate_batch_texts", "Texts in a batch.", |stats| &stats.batch_texts),
        ("cognate_batch_tokens", "Tokens in a batch.", |stats| &stats.batch_tokens),
    ];
    for (name, help, distribution) in histograms {
        let series = models.iter().map(|model| (model.labels.clone(), distribution(&model.stats).clone()));
        families.histograms(Family::of(name, help), series)?;
    }
    let lanes = || models.iter().flat_map(|model| model.stats.lanes.iter().map(move |lane| (model, lane)));
    families.gauges(
        Family::of("cognate_queue_tokens", "Tokens that wait for the model or are computed, by lane."),
        lanes().map(|(model, lane)| (model.with("lane", lane.name), lane.tokens as u64)),
    )?;
    families.histograms(
        Family::seconds("cognate_queue_wait", "Time from when a text enters the queue until its batch begins."),
        lanes().map(|(model, lane)| (model.with("lane", lane.name), lane.waited.clone())),
    )?;
    families.gauge(
        Family::of("cognate_queue_tokens_limit", "Tokens of unary calls that may wait for each model (queue_tokens)."),
        engine.limits.max_queued_tokens as u64,
    )?;
    families.gauges(
        Family::of("cognate_cache_entries", "Texts in the cache."),
        models.iter().map(|model| (model.labels.clone(), model.stats.cache.entries as u64)),
    )?;
    families.gauges(
        Family::bytes("cognate_cache", "Memory of the cache."),
        models.iter().map(|model| (model.labels.clone(), model.stats.cache.bytes as u64)),
    )
}
