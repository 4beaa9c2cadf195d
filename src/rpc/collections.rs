//! `CreateCollection`, `ListCollections` and `DeleteCollection`.

use std::sync::Arc;

use prost::Message;

use super::access::Access;
use super::status::{Failure, shown};
use super::{Engine, audit, lexical, passages, progress};
use crate::collection::{Description, Settings};
use crate::embedder::InputType;
use crate::wire;

/// Bytes of a page: the default message limit of clients.
const PAGE_BYTES: usize = 4 << 20;

/// Bytes of a page that its token may take: a name with a prefix and a length.
const TOKEN_BYTES: usize = 1 << 10;

/// Bytes around a message that is an item of another one: a tag and a length.
const FIELD_BYTES: usize = 8;

/// The prefix of a page token, by which other strings are recognised as wrong.
const TOKEN_PREFIX: &str = "after:";

pub async fn create(
    engine: &Arc<Engine>,
    access: &Access,
    request: wire::CreateCollectionRequest,
) -> Result<wire::CreateCollectionResponse, Failure> {
    let name = access.name("name", &request.name, &engine.limits)?;
    let model = engine.models.get(&request.model)?;
    let passages = passages::parse(&request.passages.unwrap_or_default(), &model.embedder, InputType::Document)?;
    let lexical = lexical::parse(&request.lexical.unwrap_or_default())?;
    // The collection is on disk before the call is answered.
    let settings = Settings { passages, lexical };
    let made = engine.store.create(&engine.pools.storage, &name, model.of_new(), settings).await;
    audit::act(access.caller(), "create collection", &request.name, made.as_ref().map(|_| 0));
    let described = made?.describe().await?;
    Ok(wire::CreateCollectionResponse { collection: Some(written(described, engine)) })
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
    let of_call = Arc::clone(engine);
    let page = move |collections: &mut dyn Iterator<Item = Description>| {
        page(&mut collections.map(|collection| written(collection, &of_call)), Room { size, bytes })
    };
    engine.store.list(&engine.pools.search, access, after, page).await
}

/// The room of a page.
struct Room {
    /// Collections.
    size: usize,
    bytes: usize,
}

/// The first collections: as many as there is room for, but at least one.
fn page(collections: &mut dyn Iterator<Item = wire::Collection>, room: Room) -> wire::ListCollectionsResponse {
    let Room { size, bytes } = room;
    let mut page = wire::ListCollectionsResponse::default();
    // The token of the page repeats a name.
    let mut used = TOKEN_BYTES;
    for described in collections {
        used += described.encoded_len() + FIELD_BYTES;
        let is_full = page.collections.len() == size || used > bytes;
        if let (true, Some(last)) = (is_full, page.collections.last()) {
            page.next_page_token = format!("{TOKEN_PREFIX}{}", last.name);
            return page;
        }
        page.collections.push(described);
    }
    page
}

pub async fn delete(
    engine: &Engine,
    access: &Access,
    request: wire::DeleteCollectionRequest,
) -> Result<wire::DeleteCollectionResponse, Failure> {
    let name = access.name("name", &request.name, &engine.limits)?;
    let documents = engine.store.delete(&engine.pools.storage, &name).await;
    if let (Ok(_), Some(task)) = (&documents, engine.migrations.find(name.as_str())) {
        engine.migrations.forget(&task);
    }
    audit::act(access.caller(), "delete collection", &request.name, documents.as_ref().copied());
    Ok(wire::DeleteCollectionResponse { documents: documents? as u64 })
}

fn written(of: Description, engine: &Engine) -> wire::Collection {
    let migration = engine.migrations.find(&of.name).map(|task| progress::written(&engine.models, &task));
    wire::Collection { model: engine.models.name_of(&of.fingerprint, of.model.clone()), migration, ..figures(of) }
}

/// A collection without the name of its model.
fn figures(of: Description) -> wire::Collection {
    wire::Collection {
        name: of.name,
        documents: of.documents as u64,
        dimensions: of.dimensions as u32,
        model_fingerprint: of.fingerprint,
        bytes: of.bytes as u64,
        unindexed: of.unindexed as u64,
        index_file_bytes: of.index_file_bytes as u64,
        ef_search: of.ef_search as u32,
        recall: of.recall,
        recall_queries: of.recall_queries as u32,
        passages: Some(passages::write(of.passages)),
        passage_count: of.n_passages as u64,
        lexical: Some(lexical::write(of.lexical)),
        lexical_file_bytes: of.lexical_file_bytes as u64,
        owner: of.owner.unwrap_or_default(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Guarded;
    use super::*;
    use crate::collection::{Model, Options, Store};
    use crate::compute::Pools;
    use crate::identity::{Patterns, Principal, Role};

    fn store(collections: usize) -> Guarded {
        let store = Store::open(Options::default()).unwrap();
        let model = Model { name: "m", fingerprint: "f", dimensions: 2 };
        for n in 0..collections {
            store.create(&*format!("c{n:05}"), model, Settings::default()).unwrap();
        }
        Arc::new(store).into()
    }

    /// The names on each page, reached through the tokens.
    async fn pages(store: &Guarded, access: &Access, size: usize, bytes: usize) -> Vec<Vec<String>> {
        let (pools, mut pages, mut after) = (Pools::new(1), Vec::new(), None);
        loop {
            let page = move |collections: &mut dyn Iterator<Item = Description>| {
                page(&mut collections.map(figures), Room { size, bytes })
            };
            let page = store.list(&pools.search, access.clone(), after, page).await.unwrap();
            assert!(page.encoded_len() <= bytes.max(TOKEN_BYTES + 200), "{} bytes", page.encoded_len());
            pages.push(page.collections.into_iter().map(|collection| collection.name).collect());
            match page.next_page_token.strip_prefix(TOKEN_PREFIX) {
                Some(name) => after = Some(name.to_owned()),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn pages_hold_every_collection_once_in_order_and_keep_to_their_size() {
        let store = store(2_500);
        let all: Vec<String> = (0..2_500).map(|n| format!("c{n:05}")).collect();
        let access = Access::to(Principal::anyone());
        for (size, bytes, least) in
            [(usize::MAX, usize::MAX, 1), (usize::MAX, 8_000, 5), (999, usize::MAX, 3), (1_024, 1 << 20, 3)]
        {
            let pages = pages(&store, &access, size, bytes).await;
            assert!(pages.len() >= least && pages.iter().all(|page| page.len() <= size), "{} pages", pages.len());
            assert_eq!(pages.concat(), all);
        }
    }

    #[tokio::test]
    async fn a_page_is_empty_only_if_there_are_no_collections() {
        let access = Access::to(Principal::anyone());
        assert_eq!(pages(&store(3), &access, 1, 0).await.len(), 3);
        assert_eq!(pages(&store(0), &access, usize::MAX, 1).await, [Vec::<String>::new()]);
    }

    #[tokio::test]
    async fn pages_show_what_the_caller_may_use_and_are_full_of_it() {
        let store = store(2_500);
        let principal = Principal::new("a".to_owned(), Role::Read, Patterns::parse(["c0000*", "c02499"]).unwrap());
        let mut expected: Vec<String> = (0..10).map(|n| format!("c{n:05}")).collect();
        expected.push("c02499".to_owned());
        for size in [1, 4, usize::MAX] {
            let pages = pages(&store, &Access::to(Arc::new(principal.clone())), size, usize::MAX).await;
            assert_eq!(pages.concat(), expected);
            assert!(pages[..pages.len() - 1].iter().all(|page| page.len() == size), "{pages:?}");
        }
        assert_eq!(pages(&store, &Access::to(Principal::nobody()), 4, usize::MAX).await, [Vec::<String>::new()]);
    }
}
