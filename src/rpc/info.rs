//! `Info`: the description of this server.
//!
//! Only an administrator of the server sees its paths and the sums of all collections. Others see the last name of a
//! path, and the sums of their own collections.

use std::path::Path;

use super::Engine;
use super::access::Access;
use super::models::Served;
use super::status::Failure;
use crate::backend::Storage;
use crate::{classifier, reranker, wire};

/// The revision of a model that is not from the hub: its id is a path.
const LOCAL: &str = "local";

/// The reason why nothing can be stored, without the path of the file.
const STOPPED: &str = "the disk failed, and accepts no writes until a restart";

/// The reason why an engine stores nothing, without its addresses.
const AWAY: &str = "the search engine does not answer, or lacks documents";

pub async fn info(engine: &Engine, access: &Access) -> Result<wire::InfoResponse, Failure> {
    let mut stored = engine.store.storage(access).await?;
    let is_local = engine.store.unguarded().local().is_some();
    if !access.administers_server() {
        stored.stopped = stored.stopped.map(|_| if is_local { STOPPED } else { AWAY }.to_owned());
    }
    let mut info = wire::InfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: Some(model(engine.models.first())),
        models: engine.models.iter().map(model).collect(),
        limits: Some(engine.limits.to_proto()),
        storage: Some(storage(stored)),
        classifiers: engine.classifiers.iter().map(|classifier| self::classifier(classifier.about())).collect(),
        rerankers: engine.rerankers.iter().map(|reranker| self::reranker(reranker.about())).collect(),
    };
    if !access.administers_server() {
        hide_paths(&mut info);
    }
    Ok(info)
}

/// Leaves the last name of each path.
fn hide_paths(info: &mut wire::InfoResponse) {
    let models = info.model.iter_mut().chain(&mut info.models).map(|model| (&mut model.id, &model.revision));
    let classifiers = info.classifiers.iter_mut().map(|classifier| (&mut classifier.id, &classifier.revision));
    let rerankers = info.rerankers.iter_mut().map(|reranker| (&mut reranker.id, &reranker.revision));
    for (id, _) in models.chain(classifiers).chain(rerankers).filter(|(_, revision)| *revision == LOCAL) {
        *id = Path::new(id).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    }
}

fn model(Served { about, embedder }: &Served) -> wire::Model {
    wire::Model {
        name: about.name.clone(),
        id: about.id.clone(),
        revision: about.revision.clone(),
        fingerprint: about.fingerprint.clone(),
        dimensions: embedder.dimensions() as u32,
        max_tokens: about.max_tokens as u32,
        pooling: about.pooling.clone(),
        device: embedder.device().to_string(),
        precision: about.precision.clone(),
        weight_bytes: embedder.weight_bytes(),
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

fn storage(of: Storage) -> wire::Storage {
    wire::Storage {
        directory: of.directory.map(|directory| directory.display().to_string()).unwrap_or_default(),
        stopped: of.stopped.unwrap_or_default(),
        collections: of.collections as u64,
        documents: of.documents as u64,
        memory_bytes: of.memory_bytes as u64,
        file_bytes: of.file_bytes,
        free_bytes: of.free_bytes,
        index_file_bytes: of.index_file_bytes as u64,
        recall: of.recall,
        engine: of.engine,
    }
}
