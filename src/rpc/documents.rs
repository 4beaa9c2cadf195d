//! `GetDocuments`, `DeleteDocuments` and `ListDocuments`.

use std::collections::HashSet;
use std::sync::Arc;

use super::size::{self, Page};
use super::status::{Failure, shown};
use super::{Engine, bounded, commit, compute, filter, metadata, parse, vector};
use crate::collection::{Collection, Content, DocId};
use crate::compute::stop::Stop;
use crate::compute::{Deadline, WhenFull};
use crate::proto::{self, VectorFormat};

/// Documents on a page where the client does not say.
const DEFAULT_PAGE_SIZE: usize = 100;

/// What a page token starts with, so that anything else is recognised as not one of ours.
const TOKEN_PREFIX: &str = "after:";

pub async fn get(
    engine: &Arc<Engine>,
    request: proto::GetDocumentsRequest,
) -> Result<proto::GetDocumentsResponse, Failure> {
    let collection = collection(engine, &request.collection)?;
    let limits = engine.limits.clone();
    compute(&engine.pools.search, WhenFull::Refuse(Deadline::NONE), move |_| {
        let ids = parse::ids(&request.ids, &limits)?;
        let found: Vec<_> = ids.iter().map(|id| collection.get(id)).collect();
        let bytes = ids.iter().zip(&found).map(|(id, found)| match found {
            Some((content, row)) => size::document(id.as_str(), content, request.with_vector.then_some(row.len())),
            None => id.as_str().len(),
        });
        if bytes.map(size::field).sum::<usize>() > limits.max_message_bytes {
            return Err(Failure::AnswerTooLarge { limit: limits.max_message_bytes });
        }
        let mut response = proto::GetDocumentsResponse::default();
        for (id, found) in ids.iter().zip(found) {
            match found {
                Some((content, row)) => response.documents.push(document(id, &content, &row, request.with_vector)),
                None => response.missing.push(id.as_str().to_owned()),
            }
        }
        Ok(response)
    })
    .await?
}

pub async fn delete(
    engine: &Arc<Engine>,
    request: proto::DeleteDocumentsRequest,
) -> Result<proto::DeleteDocumentsResponse, Failure> {
    let name = request.collection;
    let collection = collection(engine, &name)?;
    if let Some(given) = request.filter {
        if !request.ids.is_empty() {
            return Err(Failure::invalid("filter", "is given together with ids: one of them is required"));
        }
        let filter = filter::parse("filter", given, &engine.limits)?;
        let removed = commit(engine, move |stop| collection.remove_matching(filter, stop)).await?;
        let removed = removed.map_err(|error| Failure::commit(&name, error))?;
        return Ok(proto::DeleteDocumentsResponse { documents: removed.len() as u64, ..Default::default() });
    }
    let ids = parse::ids(&request.ids, &engine.limits)?;
    commit(engine, move |_| {
        let deleted = collection.remove(&ids).map_err(|error| Failure::commit(&name, error))?;
        let gone: HashSet<&DocId> = deleted.iter().collect();
        let mut seen = HashSet::new();
        let missing = ids.iter().filter(|id| !gone.contains(id) && seen.insert(*id));
        let name = |id: &DocId| id.as_str().to_owned();
        Ok(proto::DeleteDocumentsResponse {
            documents: deleted.len() as u64,
            missing: missing.map(name).collect(),
            deleted: deleted.iter().map(name).collect(),
        })
    })
    .await?
}

pub async fn list(
    engine: &Arc<Engine>,
    request: proto::ListDocumentsRequest,
    deadline: Deadline,
) -> Result<proto::ListDocumentsResponse, Failure> {
    let limits = &engine.limits;
    let collection = collection(engine, &request.collection)?;
    let size = match request.page_size as usize {
        0 => DEFAULT_PAGE_SIZE.min(limits.max_page_size),
        n if n > limits.max_page_size => {
            let most = limits.max_page_size;
            return Err(Failure::invalid("page_size", format!("{n} exceeds the limit of {most}")));
        }
        n => n,
    };
    let after = page_token(&request.page_token)?;
    let filter = request.filter.map(|given| filter::parse("filter", given, limits)).transpose()?;
    let limits = limits.clone();
    let list = move |stop: &Stop| {
        // One more than wanted tells whether there is a next page.
        let listed = collection.list(filter.as_ref(), after.as_ref(), size + 1, stop)?;
        let mut page = Page::new(&limits);
        let on_page = listed.iter().take(size).take_while(|(id, content, row)| {
            page.takes(size::document(id.as_str(), content, request.with_vector.then_some(row.len())))
        });
        let n = on_page.count();
        let documents: Vec<_> =
            listed[..n].iter().map(|(id, content, row)| document(id, content, row, request.with_vector)).collect();
        let next_page_token = match documents.last() {
            Some(last) if n < listed.len() => format!("{TOKEN_PREFIX}{}", last.id),
            _ => String::new(),
        };
        bounded(proto::ListDocumentsResponse { documents, next_page_token }, &limits)
    };
    compute(&engine.pools.search, WhenFull::Refuse(deadline), list).await?
}

pub(super) fn collection(engine: &Engine, name: &str) -> Result<Arc<Collection>, Failure> {
    parse::collection_name("collection", name, &engine.limits)?;
    engine.store.get(name, engine.model()).map_err(|error| Failure::collection(name, error))
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

pub(super) fn document(id: &DocId, content: &Content, row: &[f32], with_vector: bool) -> proto::Document {
    proto::Document {
        id: id.as_str().to_owned(),
        text: content.text.to_string(),
        metadata: content.fields().as_ref().map(metadata::from_json),
        vector: with_vector.then(|| vector::write(row.to_vec(), VectorFormat::F32)),
    }
}
