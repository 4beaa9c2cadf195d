//! `UpdateDocuments`: changes metadata, commit by commit.
//!
//! Invariant: each commit is one piece of work in the pool for storage, so a long update leaves turns to others. When
//! the caller leaves, the commit that has begun is the last one.

use std::collections::HashSet;
use std::sync::Arc;

use super::answer::Answer;
use super::limits::Limits;
use super::request::Received;
use super::status::Failure;
use super::{Engine, audit, documents, filter, parse};
use crate::backend::{Chosen, Collection, Update};
use crate::collection::{DocId, NotPatched, Patch};
use crate::compute::WhenFull;
use crate::wire;
use crate::wire::metadata;

/// Errors in an answer: with their ids, they stay below the 4 MiB that clients read.
const MAX_ERRORS: usize = 1_000;

pub async fn update(engine: &Arc<Engine>, request: Received<wire::UpdateDocumentsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, held, deadline, access, .. } = request;
    let (name, limits) = (request.collection.clone(), engine.limits.clone());
    let collection = documents::collection(engine, &access, &name).await?;
    let parse = move || parse_update(request, &limits);
    let update = collection.choose(&engine.pools.search, WhenFull::Refuse(deadline), parse).await?;
    let by_filter = update.only.is_some();
    let answer = commit(engine, &collection, &update).await;
    if by_filter {
        audit::act(access.caller(), "update by filter", &name, answer.as_ref().map(|answer| answer.documents as usize));
    }
    drop(held);
    Answer::of(&answer?, &engine.limits)
}

/// Commits the changes of a call, one commit after the other.
async fn commit(
    engine: &Engine,
    collection: &Collection,
    update: &Update,
) -> Result<wire::UpdateDocumentsResponse, Failure> {
    let mut answer = wire::UpdateDocumentsResponse::default();
    let mut taken = 0;
    while taken < update.ids.len() {
        let (collection, _entered) = documents::writable(engine, collection.clone()).await?;
        let some = collection.update(&engine.pools.storage, update, taken).await?;
        taken += some.taken;
        answer.documents += some.documents as u64;
        answer.refused += some.refused.len() as u64;
        let room = MAX_ERRORS - answer.errors.len();
        answer.errors.extend(some.refused.into_iter().take(room).map(error));
        if update.only.is_none() {
            answer.missing.extend(some.missing.iter().map(|id| id.as_str().to_owned()));
        }
    }
    Ok(answer)
}

/// Checks a request. Returns the documents that it is for, and the change.
pub(super) fn parse_update(request: wire::UpdateDocumentsRequest, limits: &Limits) -> Result<(Chosen, Patch), Failure> {
    let given = request.patch.ok_or_else(|| Failure::invalid("patch", "is missing: the changes are required"))?;
    let fields = metadata::to_json(&given).map_err(|error| Failure::invalid("patch", error.to_string()))?;
    if fields.is_empty() {
        return Err(Failure::invalid("patch", "has no fields: set those to change, and those to remove to null"));
    }
    let patch = Patch { fields, max_bytes: limits.max_metadata_bytes };
    let (bytes, limit) = (patch.json_bytes(), limits.max_metadata_bytes);
    if bytes > limit {
        return Err(Failure::invalid("patch", format!("{bytes} bytes as JSON exceed the limit of {limit}")));
    }
    let chosen = match request.filter {
        Some(_) if !request.ids.is_empty() => {
            return Err(Failure::invalid("filter", "is set together with ids: set only one of them"));
        }
        Some(given) => Chosen::Matching(filter::parse("filter", given, limits)?),
        None => {
            let (mut ids, mut seen) = (parse::ids(&request.ids, limits)?, HashSet::new());
            ids.retain(|id| seen.insert(id.clone()));
            Chosen::Ids(ids)
        }
    };
    Ok((chosen, patch))
}

fn error((id, reason): (DocId, NotPatched)) -> wire::UpdateError {
    let failure = match reason {
        NotPatched::TooLarge { .. } => Failure::invalid("patch", reason.to_string()),
        NotPatched::TooManyFields(error) => Failure::TooManyFields(error),
    };
    wire::UpdateError { id: id.as_str().to_owned(), status: Some(failure.to_item()) }
}
