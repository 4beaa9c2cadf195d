//! `Info`: the description of this server.

use super::Engine;
use crate::{classifier, reranker, wire};

pub fn info(engine: &Engine) -> wire::InfoResponse {
    let about = &engine.about;
    wire::InfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: Some(wire::Model {
            id: about.id.clone(),
            revision: about.revision.clone(),
            fingerprint: about.fingerprint.clone(),
            dimensions: engine.embedder.dimensions() as u32,
            max_tokens: about.max_tokens as u32,
            pooling: about.pooling.clone(),
            device: engine.embedder.device().to_string(),
            precision: about.precision.clone(),
        }),
        limits: Some(engine.limits.to_proto()),
        storage: Some(storage(engine)),
        classifiers: engine.classifiers.iter().map(|classifier| self::classifier(classifier.about())).collect(),
        rerankers: engine.rerankers.iter().map(|reranker| self::reranker(reranker.about())).collect(),
    }
}

fn reranker(about: &reranker::About) -> wire::Reranker {
    wire::Reranker {
        name: about.name.clone(),
        id: about.id.clone(),
        revision: about.revision.clone(),
        activation: about.function.to_string(),
        max_tokens: about.max_tokens as u32,
        runtime: about.runtime.clone(),
        precision: about.precision.clone(),
    }
}

fn classifier(about: &classifier::About) -> wire::Classifier {
    wire::Classifier {
        name: about.name.clone(),
        id: about.id.clone(),
        revision: about.revision.clone(),
        labels: about.labels.clone(),
        problem_type: about.problem.to_string(),
        max_tokens: about.max_tokens as u32,
        runtime: about.runtime.clone(),
        inputs: about.inputs.clone(),
        outputs: about.outputs.clone(),
    }
}

fn storage(engine: &Engine) -> wire::Storage {
    let store = &engine.store;
    let (collections, used) = (store.list(), store.used());
    let disk = store.disk_stats();
    let directory = store.directory().map(|directory| directory.display().to_string());
    wire::Storage {
        directory: directory.unwrap_or_default(),
        stopped: store.stopped().map(|error| error.to_string()).unwrap_or_default(),
        collections: collections.len() as u64,
        documents: used.documents as u64,
        memory_bytes: used.bytes as u64,
        file_bytes: disk.as_ref().and_then(|disk| disk.file_bytes).unwrap_or(0),
        free_bytes: disk.as_ref().and_then(|disk| disk.free_bytes).unwrap_or(0),
        index_file_bytes: collections.iter().map(|collection| collection.index_file_bytes() as u64).sum(),
        recall: collections.iter().filter_map(|collection| collection.quality().recall).min_by(f32::total_cmp),
    }
}
