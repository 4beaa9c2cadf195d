//! `Info`: the description of this server.
//!
//! Only an administrator of the server sees its paths and the sums of all collections. Others see the last name of a
//! path, and the sums of their own collections.

use std::path::Path;
use std::sync::Arc;

use super::Engine;
use super::access::Access;
use crate::collection::Collection;
use crate::{classifier, reranker, wire};

/// The revision of a model that is not from the hub: its id is a path.
const LOCAL: &str = "local";

/// The reason why nothing can be stored, without the path of the file.
const STOPPED: &str = "the disk failed, and accepts no writes until a restart";

pub fn info(engine: &Engine, access: &Access) -> wire::InfoResponse {
    let about = &engine.about;
    let mut info = wire::InfoResponse {
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
        storage: Some(if access.administers_server() { storage(engine) } else { storage_of(engine, access) }),
        classifiers: engine.classifiers.iter().map(|classifier| self::classifier(classifier.about())).collect(),
        rerankers: engine.rerankers.iter().map(|reranker| self::reranker(reranker.about())).collect(),
    };
    if !access.administers_server() {
        hide_paths(&mut info);
    }
    info
}

/// Leaves the last name of each path.
fn hide_paths(info: &mut wire::InfoResponse) {
    let model = info.model.iter_mut().map(|model| (&mut model.id, &model.revision));
    let classifiers = info.classifiers.iter_mut().map(|classifier| (&mut classifier.id, &classifier.revision));
    let rerankers = info.rerankers.iter_mut().map(|reranker| (&mut reranker.id, &reranker.revision));
    for (id, _) in model.chain(classifiers).chain(rerankers).filter(|(_, revision)| *revision == LOCAL) {
        *id = Path::new(id).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
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

/// The storage as far as it is the caller's.
fn storage_of(engine: &Engine, access: &Access) -> wire::Storage {
    let collections = engine.store.list(access);
    let sum = |of: fn(&Collection) -> usize| collections.iter().map(|collection| of(collection) as u64).sum();
    wire::Storage {
        stopped: engine.store.unguarded().stopped().map(|_| STOPPED.to_owned()).unwrap_or_default(),
        collections: collections.len() as u64,
        documents: sum(Collection::len),
        memory_bytes: sum(Collection::bytes),
        index_file_bytes: sum(Collection::index_file_bytes),
        recall: lowest_recall(&collections),
        ..wire::Storage::default()
    }
}

fn lowest_recall(collections: &[Arc<Collection>]) -> Option<f32> {
    collections.iter().filter_map(|collection| collection.quality().recall).min_by(f32::total_cmp)
}

fn storage(engine: &Engine) -> wire::Storage {
    let store = engine.store.unguarded();
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
        recall: lowest_recall(&collections),
    }
}
