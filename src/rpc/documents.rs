//! `GetDocuments`, `DeleteDocuments` and `ListDocuments`.

use std::collections::HashSet;
use std::sync::Arc;

use super::access::Access;
use super::answer::Answer;
use super::migrations::Entered;
use super::request::Received;
use super::size::{self, Page};
use super::status::{Failure, shown};
use super::{Engine, audit, compute_if_large, filter, parse, place, vector};
use crate::backend::{self, Collection};
use crate::collection::{DocId, Listed, Span, StoredVectors};
use crate::compute::{Place, WhenFull};
use crate::index::Vector;
use crate::wire::metadata;
use crate::wire::{self, VectorFormat};

/// Documents on a page if the request does not say.
const DEFAULT_PAGE_SIZE: usize = 100;

/// The prefix of a page token, by which other strings are recognised as wrong.
const TOKEN_PREFIX: &str = "after:";

pub async fn get(engine: &Engine, request: Received<wire::GetDocumentsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, deadline, bytes, access, .. } = request;
    let collection = collection(engine, &access, &request.collection).await?;
    let (limits, when_full) = (engine.limits.clone(), WhenFull::Refuse(deadline));
    let vectors_as = vector::answered(request.with_vector, request.vector_format)?;
    let parse = move || parse::ids(&request.ids, &limits);
    let measure = move |ids: Vec<DocId>, found: Vec<Option<Listed>>| {
        let bytes = ids.iter().zip(&found).map(|(id, found)| match found {
            Some(listed) => size::document(listed, vectors_as),
            None => id.as_str().len(),
        });
        let bytes: usize = bytes.map(size::field).sum();
        (ids, found, bytes)
    };
    let place = match collection.reads_texts() {
        true => Place::In(&engine.pools.search, when_full),
        false => place(engine, bytes, when_full),
    };
    let (ids, found, bytes) = collection.get((place, engine.limits.max_message_bytes), parse, measure).await?;
    Answer::build(engine, bytes, when_full, move || {
        let mut response = wire::GetDocumentsResponse::default();
        for (id, found) in ids.iter().zip(found) {
            match found {
                Some(listed) => response.documents.push(document(&listed, vectors_as)),
                None => response.missing.push(id.as_str().to_owned()),
            }
        }
        Ok(response)
    })
    .await
}

pub async fn delete(engine: &Arc<Engine>, request: Received<wire::DeleteDocumentsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, held, deadline, bytes, access, .. } = request;
    let (name, limits) = (request.collection, engine.limits.clone());
    let collection = collection(engine, &access, &name).await?;
    let answer = if let Some(given) = request.filter {
        if !request.ids.is_empty() {
            return Err(Failure::invalid("filter", "is set together with ids: set only one of them"));
        }
        let parse = move || filter::parse("filter", given, &limits);
        let filter = compute_if_large(engine, bytes, WhenFull::Refuse(deadline), parse).await??;
        let (collection, _entered) = writable(engine, collection).await?;
        let removed = collection.remove_matching(&engine.pools.storage, filter).await.map_err(Failure::from);
        audit::act(access.caller(), "delete by filter", &name, removed.as_ref().copied());
        wire::DeleteDocumentsResponse { documents: removed? as u64, ..Default::default() }
    } else {
        let ids = parse::ids(&request.ids, &limits)?;
        let written = |ids: Vec<DocId>, deleted: Vec<DocId>| {
            let gone: HashSet<&DocId> = deleted.iter().collect();
            let mut seen = HashSet::new();
            let missing = ids.iter().filter(|id| !gone.contains(id) && seen.insert(*id));
            let name = |id: &DocId| id.as_str().to_owned();
            wire::DeleteDocumentsResponse {
                documents: deleted.len() as u64,
                missing: missing.map(name).collect(),
                deleted: deleted.iter().map(name).collect(),
            }
        };
        let (collection, _entered) = writable(engine, collection).await?;
        collection.remove(&engine.pools.storage, ids, written).await?
    };
    drop(held);
    Answer::of(&answer, &engine.limits)
}

pub async fn list(engine: &Engine, request: Received<wire::ListDocumentsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, held, deadline, bytes, access, .. } = request;
    let limits = &engine.limits;
    let collection = collection(engine, &access, &request.collection).await?;
    let size = match request.page_size as usize {
        0 => DEFAULT_PAGE_SIZE.min(limits.max_page_size),
        n if n > limits.max_page_size => {
            let limit = limits.max_page_size;
            return Err(Failure::invalid("page_size", format!("{n} exceeds the limit of {limit}")));
        }
        n => n,
    };
    let (after, when_full) = (page_token(&request.page_token)?, WhenFull::Refuse(deadline));
    let filter = match request.filter {
        None => None,
        Some(given) => {
            let limits = limits.clone();
            let parse = move || filter::parse("filter", given, &limits);
            Some(compute_if_large(engine, bytes, when_full, parse).await??)
        }
    };
    let (mut page, vectors_as) = (Page::new(limits), vector::answered(request.with_vector, request.vector_format)?);
    let measure = move |mut listed: Vec<Listed>| {
        let on_page = listed.iter().take(size).take_while(|listed| page.takes(size::document(listed, vectors_as)));
        let n = on_page.count();
        let has_more = n < listed.len();
        listed.truncate(n);
        (listed, has_more, page.bytes())
    };
    // One more than wanted, to see whether there is a next page.
    let wanted = backend::Page { filter, after, limit: size + 1, most_bytes: limits.max_message_bytes };
    let listed = collection.list::<_, Failure>(&engine.pools.search, when_full, wanted, measure).await?;
    let (listed, has_more, bytes) = listed;
    drop(held);
    let next_page_token = match listed.last() {
        Some(last) if has_more => format!("{TOKEN_PREFIX}{}", last.id.as_str()),
        _ => String::new(),
    };
    let bytes = bytes + size::field(next_page_token.len());
    Answer::build(engine, bytes, when_full, move || {
        let documents = listed.iter().map(|listed| document(listed, vectors_as)).collect();
        Ok(wire::ListDocumentsResponse { documents, next_page_token })
    })
    .await
}

/// Finds the collection that a request names.
pub(super) async fn collection(engine: &Engine, access: &Access, name: &str) -> Result<Collection, Failure> {
    engine.store.get(&access.name("collection", name, &engine.limits)?).await
}

/// Enters a collection that is to be changed. It is the one that has the name now, and stays that until the second
/// value is dropped: a migration may have exchanged it.
pub(super) async fn writable(engine: &Engine, collection: Collection) -> Result<(Collection, Entered), Failure> {
    let entered = engine.migrations.enter(collection.name()).await;
    let collection = if collection.has_moved() { engine.store.renewed(&collection).await? } else { collection };
    Ok((collection, entered))
}

pub(super) fn page_token(token: &str) -> Result<Option<DocId>, Failure> {
    if token.is_empty() {
        return Ok(None);
    }
    match token.strip_prefix(TOKEN_PREFIX).and_then(DocId::new) {
        None => Err(Failure::invalid("page_token", format!("{} is not a next_page_token", shown(token)))),
        after => Ok(after),
    }
}

/// Writes a document, with its vectors in a format or without.
pub(super) fn document(listed: &Listed, vectors_as: Option<VectorFormat>) -> wire::Document {
    let (vector, passages) = match (vectors_as, &listed.vectors) {
        (None, _) => (None, Vec::new()),
        (Some(format), StoredVectors::Whole(row)) => (Some(wire::vector::write(&**row, format)), Vec::new()),
        (Some(format), StoredVectors::Passages(passages)) => {
            let passage = |(Span { start, end }, row): &(Span, Vector)| wire::Passage {
                start: *start,
                end: *end,
                vector: Some(wire::vector::write(&**row, format)),
                ..Default::default()
            };
            (None, passages.iter().map(passage).collect())
        }
    };
    wire::Document {
        id: listed.id.as_str().to_owned(),
        text: listed.text.to_string(),
        metadata: listed.kept.fields().as_ref().map(metadata::from_json),
        vector,
        passages,
    }
}
