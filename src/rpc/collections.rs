//! `CreateCollection`, `ListCollections` and `DeleteCollection`.

use std::sync::Arc;

use prost::Message;

use super::status::{Failure, shown};
use super::{Engine, commit, compute, lexical, parse, passages};
use crate::collection::{Collection, Settings, Store};
use crate::compute::WhenFull;
use crate::compute::stop::Stop;
use crate::embedder::InputType;
use crate::wire;

/// Bytes of a page: the default message limit of clients.
const PAGE_BYTES: usize = 4 << 20;

/// Bytes of a page that its token may take: a name with a prefix and a length.
const TOKEN_BYTES: usize = 1 << 10;

/// Bytes around a message that is an item of another one: a tag and a length.
const FIELD_BYTES: usize = 8;

/// Collections that are listed together. Creating and deleting wait meanwhile.
const BATCH: usize = 1_024;

/// The prefix of a page token, by which other strings are recognised as wrong.
const TOKEN_PREFIX: &str = "after:";

pub async fn create(
    engine: &Arc<Engine>,
    request: wire::CreateCollectionRequest,
) -> Result<wire::CreateCollectionResponse, Failure> {
    let name = request.name;
    parse::collection_name("name", &name, &engine.limits)?;
    let passages = passages::parse(&request.passages.unwrap_or_default(), &engine.embedder, InputType::Document)?;
    let lexical = lexical::parse(&request.lexical.unwrap_or_default())?;
    let (of_call, settings) = (Arc::clone(engine), Settings { passages, lexical });
    // The collection is on disk before the call is answered.
    let create = move |_: &Stop| {
        let made = of_call.store.create(&name, of_call.model(), settings);
        made.map_err(|error| Failure::collection(&name, error))
    };
    let made = commit(engine, create).await??;
    Ok(wire::CreateCollectionResponse { collection: Some(describe(&made)) })
}

pub async fn list(
    engine: &Arc<Engine>,
    request: wire::ListCollectionsRequest,
) -> Result<wire::ListCollectionsResponse, Failure> {
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(
            token
                .strip_prefix(TOKEN_PREFIX)
                .map(str::to_owned)
                .ok_or_else(|| Failure::invalid("page_token", format!("{} is not a next_page_token", shown(token))))?,
        ),
    };
    let size = match request.page_size {
        0 => usize::MAX,
        size => size as usize,
    };
    let bytes = PAGE_BYTES.min(engine.limits.max_message_bytes);
    let store = Arc::clone(&engine.store);
    // Thousands of collections take milliseconds to describe.
    compute(&engine.pools.search, WhenFull::Wait, move |_| page(&store, after, size, bytes)).await
}

/// The first collections after a name: at most `size`, in at most `bytes`, but at least one.
fn page(store: &Store, mut after: Option<String>, size: usize, bytes: usize) -> wire::ListCollectionsResponse {
    let mut page = wire::ListCollectionsResponse::default();
    // The token of the page repeats a name.
    let mut used = TOKEN_BYTES;
    loop {
        let some = store.list_after(after.as_deref(), BATCH);
        for collection in &some {
            let described = describe(collection);
            used += described.encoded_len() + FIELD_BYTES;
            let is_full = page.collections.len() == size || used > bytes;
            if let (true, Some(last)) = (is_full, page.collections.last()) {
                page.next_page_token = format!("{TOKEN_PREFIX}{}", last.name);
                return page;
            }
            page.collections.push(described);
        }
        if some.len() < BATCH {
            return page;
        }
        after = some.last().map(|collection| collection.name().to_owned());
    }
}

pub async fn delete(
    engine: &Engine,
    request: wire::DeleteCollectionRequest,
) -> Result<wire::DeleteCollectionResponse, Failure> {
    let name = request.name;
    parse::collection_name("name", &name, &engine.limits)?;
    let store = Arc::clone(&engine.store);
    // Freeing a large collection takes a while.
    let delete = move |_: &Stop| store.delete(&name).map_err(|error| Failure::collection(&name, error));
    let documents = commit(engine, delete).await??;
    Ok(wire::DeleteCollectionResponse { documents: documents as u64 })
}

fn describe(collection: &Collection) -> wire::Collection {
    let quality = collection.quality();
    wire::Collection {
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
        passages: Some(passages::write(collection.passages())),
        passage_count: collection.n_passages() as u64,
        lexical: Some(lexical::write(collection.lexical())),
        lexical_file_bytes: collection.lexical_file_bytes() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Model, Options};

    fn store(collections: usize) -> Store {
        let store = Store::open(Options::default()).unwrap();
        let model = Model { fingerprint: "f", also_compatible: &[], dimensions: 2 };
        for n in 0..collections {
            store.create(&format!("c{n:05}"), model, Settings::default()).unwrap();
        }
        store
    }

    /// The names on each page, reached through the tokens.
    fn pages(store: &Store, size: usize, bytes: usize) -> Vec<Vec<String>> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = page(store, after, size, bytes);
            assert!(page.encoded_len() <= bytes.max(TOKEN_BYTES + 200), "{} bytes", page.encoded_len());
            pages.push(page.collections.into_iter().map(|collection| collection.name).collect());
            match page.next_page_token.strip_prefix(TOKEN_PREFIX) {
                Some(name) => after = Some(name.to_owned()),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_hold_every_collection_once_in_order_and_keep_to_their_size() {
        let store = store(2_500);
        let all: Vec<String> = store.list().iter().map(|collection| collection.name().to_owned()).collect();
        for (size, bytes, least) in
            [(usize::MAX, usize::MAX, 1), (usize::MAX, 8_000, 5), (999, usize::MAX, 3), (1_024, 1 << 20, 3)]
        {
            let pages = pages(&store, size, bytes);
            assert!(pages.len() >= least && pages.iter().all(|page| page.len() <= size), "{} pages", pages.len());
            assert_eq!(pages.concat(), all);
        }
    }

    #[test]
    fn a_page_is_empty_only_if_there_are_no_collections() {
        assert_eq!(pages(&store(3), 1, 0).len(), 3);
        assert_eq!(pages(&store(0), usize::MAX, 1), [Vec::<String>::new()]);
    }
}
