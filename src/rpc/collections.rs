//! `CreateCollection`, `ListCollections` and `DeleteCollection`.

use std::sync::Arc;

use prost::Message;

use super::access::Access;
use super::guarded::Guarded;
use super::status::{Failure, shown};
use super::{Engine, audit, commit, compute, lexical, passages};
use crate::collection::{Collection, Settings};
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
    access: &Access,
    request: wire::CreateCollectionRequest,
) -> Result<wire::CreateCollectionResponse, Failure> {
    let name = access.name("name", &request.name, &engine.limits)?;
    let passages = passages::parse(&request.passages.unwrap_or_default(), &engine.embedder, InputType::Document)?;
    let lexical = lexical::parse(&request.lexical.unwrap_or_default())?;
    let (of_call, settings) = (Arc::clone(engine), Settings { passages, lexical });
    // The collection is on disk before the call is answered.
    let create = move |_: &Stop| of_call.store.create(&name, of_call.model(), settings);
    let made = commit(engine, create).await.flatten();
    audit::act(access.caller(), "create collection", &request.name, made.as_ref().map(|_| 0));
    let made = made?;
    Ok(wire::CreateCollectionResponse { collection: Some(describe(&made)) })
}

pub async fn list(
    engine: &Arc<Engine>,
    access: Access,
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
    let store = engine.store.clone();
    // Thousands of collections take milliseconds to describe.
    compute(&engine.pools.search, WhenFull::Wait, move |_| page(&store, &access, after, Room { size, bytes })).await
}

/// The room of a page.
struct Room {
    /// Collections.
    size: usize,
    bytes: usize,
}

/// The first collections after a name that the caller may use: as many as there is room for, but at least one.
fn page(store: &Guarded, access: &Access, mut after: Option<String>, room: Room) -> wire::ListCollectionsResponse {
    let Room { size, bytes } = room;
    let mut page = wire::ListCollectionsResponse::default();
    // The token of the page repeats a name.
    let mut used = TOKEN_BYTES;
    loop {
        let (some, next) = store.list_after(access, after.as_deref(), BATCH);
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
        match next {
            Some(name) => after = Some(name),
            None => return page,
        }
    }
}

pub async fn delete(
    engine: &Engine,
    access: &Access,
    request: wire::DeleteCollectionRequest,
) -> Result<wire::DeleteCollectionResponse, Failure> {
    let name = access.name("name", &request.name, &engine.limits)?;
    let store = engine.store.clone();
    // Freeing a large collection takes a while.
    let delete = move |_: &Stop| store.delete(&name);
    let documents = commit(engine, delete).await.flatten();
    audit::act(access.caller(), "delete collection", &request.name, documents.as_ref().copied());
    Ok(wire::DeleteCollectionResponse { documents: documents? as u64 })
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
        owner: collection.owner().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Model, Options, Store};
    use crate::identity::{Patterns, Principal, Role};

    fn store(collections: usize) -> Guarded {
        let store = Store::open(Options::default()).unwrap();
        let model = Model { fingerprint: "f", also_compatible: &[], dimensions: 2 };
        for n in 0..collections {
            store.create(&*format!("c{n:05}"), model, Settings::default()).unwrap();
        }
        Arc::new(store).into()
    }

    /// The names on each page, reached through the tokens.
    fn pages(store: &Guarded, access: &Access, size: usize, bytes: usize) -> Vec<Vec<String>> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = page(store, access, after, Room { size, bytes });
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
        let all: Vec<String> = (0..2_500).map(|n| format!("c{n:05}")).collect();
        let access = Access::to(Principal::anyone());
        for (size, bytes, least) in
            [(usize::MAX, usize::MAX, 1), (usize::MAX, 8_000, 5), (999, usize::MAX, 3), (1_024, 1 << 20, 3)]
        {
            let pages = pages(&store, &access, size, bytes);
            assert!(pages.len() >= least && pages.iter().all(|page| page.len() <= size), "{} pages", pages.len());
            assert_eq!(pages.concat(), all);
        }
    }

    #[test]
    fn a_page_is_empty_only_if_there_are_no_collections() {
        let access = Access::to(Principal::anyone());
        assert_eq!(pages(&store(3), &access, 1, 0).len(), 3);
        assert_eq!(pages(&store(0), &access, usize::MAX, 1), [Vec::<String>::new()]);
    }

    #[test]
    fn pages_show_what_the_caller_may_use_and_are_full_of_it() {
        let store = store(2_500);
        let principal = Principal::new("a".to_owned(), Role::Read, Patterns::parse(["c0000*", "c02499"]).unwrap());
        let mut expected: Vec<String> = (0..10).map(|n| format!("c{n:05}")).collect();
        expected.push("c02499".to_owned());
        for size in [1, 4, usize::MAX] {
            let pages = pages(&store, &Access::to(Arc::new(principal.clone())), size, usize::MAX);
            assert_eq!(pages.concat(), expected);
            assert!(pages[..pages.len() - 1].iter().all(|page| page.len() == size), "{pages:?}");
        }
        assert_eq!(pages(&store, &Access::to(Principal::nobody()), 4, usize::MAX), [Vec::<String>::new()]);
    }
}
