//! `CreateCollection`, `ListCollections` and `DeleteCollection`.

use std::sync::Arc;

use super::status::Failure;
use super::{Engine, commit, parse};
use crate::collection::Collection;
use crate::compute::stop::Stop;
use crate::proto;

pub async fn create(
    engine: &Arc<Engine>,
    request: proto::CreateCollectionRequest,
) -> Result<proto::CreateCollectionResponse, Failure> {
    let name = request.name;
    parse::collection_name("name", &name, &engine.limits)?;
    let of_call = Arc::clone(engine);
    // It is on disk before it is answered.
    let create = move |_: &Stop| {
        let made = of_call.store.create(&name, of_call.model());
        made.map_err(|error| Failure::collection(&name, error))
    };
    let made = commit(engine, create).await??;
    Ok(proto::CreateCollectionResponse { collection: Some(describe(&made)) })
}

pub fn list(engine: &Engine) -> proto::ListCollectionsResponse {
    let collections = engine.store.list().iter().map(|collection| describe(collection)).collect();
    proto::ListCollectionsResponse { collections }
}

pub async fn delete(
    engine: &Engine,
    request: proto::DeleteCollectionRequest,
) -> Result<proto::DeleteCollectionResponse, Failure> {
    let name = request.name;
    parse::collection_name("name", &name, &engine.limits)?;
    let store = Arc::clone(&engine.store);
    // Freeing a large collection takes a while.
    let delete = move |_: &Stop| store.delete(&name).map_err(|error| Failure::collection(&name, error));
    let documents = commit(engine, delete).await??;
    Ok(proto::DeleteCollectionResponse { documents: documents as u64 })
}

fn describe(collection: &Collection) -> proto::Collection {
    let quality = collection.quality();
    proto::Collection {
        name: collection.name().to_owned(),
        documents: collection.len() as u64,
        dimensions: collection.dimensions() as u32,
        model_fingerprint: collection.fingerprint().to_owned(),
        bytes: collection.bytes() as u64,
        unindexed: collection.unindexed() as u64,
        index_file_bytes: collection.index_file_bytes() as u64,
        ef_search: quality.ef_search as u32,
        recall: quality.recall,
        recall_queries: quality.checked as u32,
    }
}
