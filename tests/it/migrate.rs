//! Migrations: a collection moves to another model while it is searched and changed, and back. The models have random
//! weights (`tests/golden/families`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::metadata::from_json;
use cognate::wire::{
    ClientVectors, Collection, CreateCollectionRequest, DeleteCollectionRequest, DeleteDocumentsRequest, Document,
    ExportRequest, Filter, Hit, ListCollectionsRequest, MigrateCollectionRequest, Migration, MigrationAction,
    MigrationPhase, Passages, Query, SearchParams, TopKRequest, UpdateDocumentsRequest, UploadRequest, UploadResponse,
    Vector, filter, query,
};
use futures::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::harness::{Server, document, upload, wrong_fields};
use crate::several_models::copy;

pub type Client = CognateClient<Channel>;

/// Words that the models know.
const WORDS: [&str; 18] = [
    "hello", "world", "the", "fox", "foxes", "quick", "brown", "jump", "jumps", "over", "lazy", "dog", "cafe", "a",
    "b", "c", "d", "e",
];

/// Small models by their names: two of 16 dimensions, one of static vectors, and one of more dimensions.
pub struct Models([(&'static str, tempfile::TempDir); 4]);

impl Models {
    pub fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families");
        let of = |base: &str, model: &str| {
            let directory = tempfile::tempdir().unwrap();
            copy(&folder.join(base), directory.path());
            copy(&folder.join("models").join(model), directory.path());
            directory
        };
        Self([
            ("mean", of("bert", "mean")),
            ("cls", of("bert", "cls")),
            ("table", of("static", "model2vec-f32")),
            ("wide", of("bert", "several")),
        ])
    }

    /// The value of `--model` for one of the models.
    pub fn place(&self, name: &str) -> String {
        let (_, directory) = self.0.iter().find(|(known, _)| *known == name).unwrap();
        format!("{name}={}", directory.path().display())
    }

    /// Flags of some of the models, in this order.
    pub fn flags(&self, names: &[&str], more: &[&str]) -> Vec<String> {
        let mut flags = ["--classifier", "none"].map(str::to_owned).to_vec();
        flags.extend(names.iter().flat_map(|name| ["--model".to_owned(), self.place(name)]));
        flags.extend(more.iter().copied().map(str::to_owned));
        flags
    }

    pub async fn serve(&self, names: &[&str], more: &[&str]) -> Server {
        let flags = self.flags(names, more);
        Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
    }
}

/// A text of known words. One in eight has several passages.
pub fn text(seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let words = if seed.is_multiple_of(8) { 50 } else { random.usize(2..9) };
    (0..words).map(|_| WORDS[random.usize(..WORDS.len())]).collect::<Vec<_>>().join(" ")
}

fn documents(seeds: std::ops::Range<u64>) -> Vec<Document> {
    seeds.map(|seed| document(&format!("d{seed:04}"), &text(seed))).collect()
}

/// A collection with passages that all models can read.
async fn create(client: &mut Client, name: &str, model: &str) {
    let passages = Some(Passages { max_tokens: 32, overlap_tokens: Some(4), ..Passages::default() });
    let request = CreateCollectionRequest { name: name.into(), model: model.into(), passages, ..Default::default() };
    client.create_collection(request).await.unwrap();
}

pub fn request(model: &str, action: MigrationAction) -> MigrateCollectionRequest {
    MigrateCollectionRequest {
        collection: "c".into(),
        model: model.into(),
        action: action.into(),
        ..MigrateCollectionRequest::default()
    }
}

/// The start of a migration that treats vectors of clients like this.
fn treating(model: &str, client_vectors: ClientVectors) -> MigrateCollectionRequest {
    MigrateCollectionRequest { client_vectors: client_vectors.into(), ..request(model, MigrationAction::Unspecified) }
}

/// Calls, and returns the last state.
pub async fn migrate(client: &mut Client, request: MigrateCollectionRequest) -> Result<Migration, Status> {
    let mut states = client.migrate_collection(request).await?.into_inner();
    let mut last = None;
    while let Some(state) = states.message().await? {
        last = state.migration;
    }
    Ok(last.expect("there is a state"))
}

async fn act(client: &mut Client, action: MigrationAction) -> Migration {
    migrate(client, request("", action)).await.unwrap()
}

/// Starts a migration and waits until all is embedded.
async fn ready(client: &mut Client, model: &str) -> Migration {
    let state = migrate(client, request(model, MigrationAction::Unspecified)).await.unwrap();
    assert_eq!((state.phase(), state.failed, &*state.waiting_for), (MigrationPhase::Ready, 0, ""), "{state:?}");
    state
}

async fn listed(client: &mut Client) -> Collection {
    let all = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner().collections;
    all.into_iter().find(|collection| collection.name == "c").expect("the collection is there")
}

async fn hits(client: &mut Client, collection: &str, text: &str, k: u32) -> Vec<Hit> {
    let queries = vec![Query { query: Some(query::Query::Text(text.to_owned())), ..Query::default() }];
    let params = Some(SearchParams { exact: true, ..SearchParams::default() });
    let request = TopKRequest { collection: collection.into(), queries, k, params, ..TopKRequest::default() };
    let results = client.top_k(request).await.unwrap().into_inner().results;
    assert!(results[0].error.is_none(), "{:?}", results[0]);
    results[0].hits.clone()
}

/// All documents of a collection with their vectors.
pub async fn export(client: &mut Client, collection: &str) -> Vec<Document> {
    let request = ExportRequest { collection: collection.into(), with_vector: true, ..ExportRequest::default() };
    let parts: Vec<_> = client.export(request).await.unwrap().into_inner().collect().await;
    parts.into_iter().flat_map(|part| part.unwrap().documents).collect()
}

/// Demands that the collection is what a collection of this model is, that gets the same documents at once.
pub async fn is_as_loaded(client: &mut Client, model: &str) {
    let found = export(client, "c").await;
    create(client, "loaded", model).await;
    let without = |document: &Document| Document { vector: None, passages: Vec::new(), ..document.clone() };
    upload(client, "loaded", found.iter().map(without).collect()).await;
    let expected = export(client, "loaded").await;
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found == expected, "{model}: {found:?}\nis not\n{expected:?}");
    }
    for seed in 0..4 {
        let text = text(seed);
        assert_eq!(hits(client, "c", &text, 10).await, hits(client, "loaded", &text, 10).await, "{text}");
    }
    client.delete_collection(DeleteCollectionRequest { name: "loaded".into() }).await.unwrap();
}

/// The mean and the least overlap of the 10 nearest of all documents in two collections.
async fn overlap(client: &mut Client, [a, b]: [&str; 2], documents: &[Document]) -> (f32, f32) {
    let mut shares = Vec::new();
    for document in documents {
        let mut nearest = Vec::new();
        for collection in [a, b] {
            let found = hits(client, collection, &document.text, 11).await;
            let ids = found.into_iter().map(|hit| hit.id).filter(|id| *id != document.id);
            nearest.push(ids.take(10).collect::<Vec<_>>());
        }
        shares.push(nearest[0].iter().filter(|id| nearest[1].contains(id)).count() as f32 / 10.0);
    }
    let least = shares.iter().copied().fold(1.0, f32::min);
    (shares.iter().sum::<f32>() / shares.len() as f32, least)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_moves_to_another_model_and_back_and_the_report_is_that_of_two_collections() {
    let server = Models::new().serve(&["mean", "table"], &[]).await;
    let mut client = server.client().await;
    let documents = documents(0..80);
    for (name, model) in [("c", "mean"), ("other", "table")] {
        create(&mut client, name, model).await;
        upload(&mut client, name, documents.clone()).await;
    }
    let before = hits(&mut client, "c", "the quick dog", 10).await;
    let state = ready(&mut client, "table").await;
    assert_eq!((&*state.old_model, &*state.new_model, state.documents, state.copied), ("mean", "table", 80, 80));
    let (mean, least) = overlap(&mut client, ["c", "other"], &documents).await;
    let report = state.report.expect("both models are served");
    assert_eq!(report.queries, 80);
    assert!((report.mean_overlap - mean).abs() < 1e-5 && (report.least_overlap - least).abs() < 1e-5, "{report:?}");
    assert!(mean > 0.0 && mean < 1.0, "{mean} tells nothing");

    // Nothing has changed for others.
    assert_eq!(hits(&mut client, "c", "the quick dog", 10).await, before);
    let collection = listed(&mut client).await;
    assert_eq!((&*collection.model, collection.documents), ("mean", 80));
    assert_eq!(collection.migration.map(|state| state.phase), Some(MigrationPhase::Ready.into()));

    for _ in 0..2 {
        let state = act(&mut client, MigrationAction::Switch).await;
        assert_eq!((state.phase(), &*state.old_model, &*state.new_model), (MigrationPhase::Switched, "mean", "table"));
        assert_eq!(listed(&mut client).await.model, "table");
        let other = hits(&mut client, "other", "the quick dog", 10).await;
        assert_eq!(hits(&mut client, "c", "the quick dog", 10).await, other);
        assert_eq!(act(&mut client, MigrationAction::Rollback).await.phase(), MigrationPhase::Ready);
        assert_eq!(hits(&mut client, "c", "the quick dog", 10).await, before);
    }
    assert_eq!(act(&mut client, MigrationAction::Cancel).await.phase(), MigrationPhase::Cancelled);
    let collection = listed(&mut client).await;
    assert_eq!((&*collection.model, collection.migration), ("mean", None));

    let then_switches =
        MigrateCollectionRequest { switch_when_ready: true, ..request("table", MigrationAction::Unspecified) };
    let state = migrate(&mut client, then_switches).await.unwrap();
    assert_eq!(state.phase(), MigrationPhase::Switched);
    assert_eq!(act(&mut client, MigrationAction::Finish).await.phase(), MigrationPhase::Finished);
    let collection = listed(&mut client).await;
    assert_eq!((&*collection.model, collection.migration), ("table", None));
    is_as_loaded(&mut client, "table").await;
    // The collection is the same in all else, so it can move on.
    ready(&mut client, "mean").await;
}

/// Searches until it is told to stop; returns the number of searches. Each of them must find.
async fn search_until(server: &Server, ended: Arc<AtomicBool>, k: u32) -> usize {
    let mut client = server.client().await;
    let mut searches = 0;
    while !ended.load(Ordering::Relaxed) {
        let found = hits(&mut client, "c", &text(searches as u64 % 50), k).await;
        assert_eq!(found.len(), k as usize, "search {searches}");
        searches += 1;
    }
    searches
}

/// Replaces, adds, patches and deletes documents, by ids and by filters. `round` decides which.
async fn change(client: &mut Client, round: u64) {
    upload(client, "c", documents(round * 7..round * 7 + 20)).await;
    let replaced = (0..5).map(|n| document(&format!("d{:04}", round + n), &text(5_000 + round * 5 + n)));
    upload(client, "c", replaced.collect()).await;
    let patch = json!({ "round": round });
    let patched = UpdateDocumentsRequest {
        collection: "c".into(),
        ids: (0..30).map(|n| format!("d{:04}", (round * 11 + n * 3) % 1_500)).collect(),
        patch: patch.as_object().map(from_json),
        ..UpdateDocumentsRequest::default()
    };
    client.update_documents(patched).await.unwrap();
    let ids = (0..4).map(|n| format!("d{:04}", (round * 17 + n * 29) % 1_500)).collect();
    client.delete_documents(DeleteDocumentsRequest { collection: "c".into(), ids, filter: None }).await.unwrap();
    let condition = Some(filter::Condition::Text(format!("round = {}", round.saturating_sub(3))));
    let filter = Some(Filter { condition });
    client.delete_documents(DeleteDocumentsRequest { collection: "c".into(), ids: vec![], filter }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_before_during_and_after_a_migration_are_in_both_models_and_no_search_fails() {
    let (directory, models) = (tempfile::tempdir().unwrap(), Models::new());
    let data = ["--data-dir", directory.path().to_str().unwrap()];
    let server = models.serve(&["mean", "table"], &data).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    upload(&mut client, "c", documents(0..1_500)).await;
    let (ended, rounds) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let searching = search_until(&server, Arc::clone(&ended), 5);
    let changing = async {
        let mut client = server.client().await;
        while !ended.load(Ordering::Relaxed) {
            change(&mut client, rounds.fetch_add(1, Ordering::Relaxed) as u64).await;
        }
    };
    let moving = async {
        // Each phase sees some changes.
        let some_changes = async || {
            let before = rounds.load(Ordering::Relaxed);
            while rounds.load(Ordering::Relaxed) < before + 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        some_changes().await;
        ready(&mut client, "table").await;
        some_changes().await;
        for action in [MigrationAction::Switch, MigrationAction::Rollback, MigrationAction::Switch] {
            act(&mut client, action).await;
            some_changes().await;
        }
        ended.store(true, Ordering::Relaxed);
    };
    let (searches, (), ()) = futures::join!(searching, changing, moving);
    assert!(searches > 0);
    is_as_loaded(&mut client, "table").await;
    act(&mut client, MigrationAction::Rollback).await;
    is_as_loaded(&mut client, "mean").await;
    act(&mut client, MigrationAction::Switch).await;
    act(&mut client, MigrationAction::Finish).await;
    is_as_loaded(&mut client, "table").await;
    server.kill();
    let server = models.serve(&["mean", "table"], &data).await;
    is_as_loaded(&mut server.client().await, "table").await;
}

/// An upload that stays open.
struct OpenUpload {
    send: mpsc::Sender<UploadRequest>,
    answers: Streaming<UploadResponse>,
}

impl OpenUpload {
    async fn new(client: &mut Client) -> Self {
        let (send, messages) = mpsc::channel(1);
        let first = UploadRequest { collection: "c".into(), documents: documents(0..3) };
        send.send(first).await.unwrap();
        let answers = client.upload(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let mut upload = Self { send, answers };
        assert_eq!(upload.answer().await.committed, 3);
        upload
    }

    async fn answer(&mut self) -> UploadResponse {
        self.answers.message().await.unwrap().expect("the stream is open")
    }

    async fn send(&mut self, documents: Vec<Document>) -> UploadResponse {
        self.send.send(UploadRequest { documents, ..UploadRequest::default() }).await.unwrap();
        self.answer().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_open_over_a_switch_goes_on_by_the_model_of_now() {
    let server = Models::new().serve(&["mean", "wide"], &[]).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    let mut uploading = OpenUpload::new(&mut client).await;
    ready(&mut client, "wide").await;
    assert_eq!(uploading.send(documents(3..6)).await.committed, 6);
    act(&mut client, MigrationAction::Switch).await;
    let vector = Some(Vector { values: vec![1.0; 16], ..Vector::default() });
    let mut more = documents(6..9);
    more[1].vector = vector.clone();
    let answer = uploading.send(more).await;
    assert_eq!((answer.committed, answer.errors.len()), (8, 1), "{answer:?}");
    let message = &answer.errors[0].status.as_ref().unwrap().message;
    assert!(message.starts_with("documents[1].vector: 16 dimensions"), "{message}");
    // The former model is gone, and the upload goes on.
    act(&mut client, MigrationAction::Finish).await;
    assert_eq!(uploading.send(documents(9..12)).await.committed, 11);
    let OpenUpload { send, mut answers } = uploading;
    drop(send);
    assert!(answers.message().await.unwrap().unwrap().done);
    is_as_loaded(&mut client, "wide").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_without_a_text_are_refused_by_name_or_kept_where_their_vectors_fit() {
    let server = Models::new().serve(&["mean", "cls", "wide"], &[]).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    let alone = |id: &str, at: usize| {
        let mut values = vec![0.0; 16];
        values[at] = 1.0;
        Document { vector: Some(Vector { values, ..Vector::default() }), ..document(id, "") }
    };
    let mut all = documents(0..5);
    all.push(alone("bare", 0));
    upload(&mut client, "c", all).await;
    for (request, what, way_out) in [
        (treating("cls", ClientVectors::Unspecified), "1 documents that came with vectors", "KEEP"),
        (treating("cls", ClientVectors::Replace), "1 documents without a text", "upload them with a text"),
        (treating("wide", ClientVectors::Keep), "1 documents that came with vectors", "REPLACE"),
    ] {
        let refused = migrate(&mut client, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains(what), "{refused:?}");
        assert!(refused.message().contains("\"bare\"") && refused.message().contains(way_out), "{refused:?}");
        assert_eq!(listed(&mut client).await.migration, None);
    }
    let state = migrate(&mut client, treating("cls", ClientVectors::Keep)).await.unwrap();
    assert_eq!((state.phase(), state.copied, state.given), (MigrationPhase::Ready, 6, 1));
    assert_eq!(state.client_vectors(), ClientVectors::Keep);
    upload(&mut client, "c", vec![alone("later", 3)]).await;
    act(&mut client, MigrationAction::Switch).await;
    for (id, at) in [("bare", 0), ("later", 3)] {
        let vector = alone(id, at).vector;
        let queries = vec![Query { query: vector.map(query::Query::Vector), ..Query::default() }];
        let request = TopKRequest { collection: "c".into(), queries, k: 1, ..TopKRequest::default() };
        let found = client.top_k(request).await.unwrap().into_inner().results;
        assert_eq!(found[0].hits[0].id, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_came_with_a_text_and_a_vector_are_named_and_kept_or_embedded_as_asked() {
    let server = Models::new().serve(&["mean", "cls"], &[]).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    let mut values = vec![0.0; 16];
    values[0] = 1.0;
    let vector = Some(Vector { values: values.clone(), ..Vector::default() });
    let own = |id: &str| Document { vector: vector.clone(), ..document(id, "the quick fox") };
    let mut all = documents(0..5);
    all.push(own("own"));
    upload(&mut client, "c", all).await;
    let refused = migrate(&mut client, request("cls", MigrationAction::Unspecified)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("1 documents that came with vectors of a client's own: \"own\""), "{refused:?}");

    for (treatment, keeps) in [(ClientVectors::Keep, true), (ClientVectors::Replace, false)] {
        let state = migrate(&mut client, treating("cls", treatment)).await.unwrap();
        assert_eq!((state.phase(), state.given, state.client_vectors()), (MigrationPhase::Ready, 1, treatment));
        act(&mut client, MigrationAction::Switch).await;
        let exported = export(&mut client, "c").await;
        let now = exported.iter().find(|document| document.id == "own").unwrap();
        assert_eq!(now.vector.as_ref().unwrap().values == values, keeps, "{now:?}");
        act(&mut client, MigrationAction::Rollback).await;
        act(&mut client, MigrationAction::Cancel).await;
    }

    // Without a word, one that is uploaded later holds up the switch, and is named.
    let deleted = DeleteDocumentsRequest { collection: "c".into(), ids: vec!["own".into()], ..Default::default() };
    client.delete_documents(deleted).await.unwrap();
    ready(&mut client, "cls").await;
    upload(&mut client, "c", vec![own("later")]).await;
    let state = migrate(&mut client, request("", MigrationAction::Unspecified)).await.unwrap();
    assert_eq!((state.failed, &*state.errors[0].id), (1, "later"), "{state:?}");
    let reason = &state.errors[0].status.as_ref().unwrap().message;
    assert!(reason.starts_with("vector: came with the document"), "{reason}");
    upload(&mut client, "c", vec![document("later", "the quick fox")]).await;
    ready(&mut client, "cls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_cannot_be_embedded_are_named_and_hold_up_the_switch_until_they_change() {
    let server = Models::new().serve(&["mean", "table"], &[]).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    let mut all = documents(0..300);
    all.push(document("strange", "zzz"));
    upload(&mut client, "c", all).await;
    let state = migrate(&mut client, request("table", MigrationAction::Unspecified)).await.unwrap();
    assert_eq!((state.phase(), state.copied, state.failed), (MigrationPhase::Copying, 300, 1), "{state:?}");
    assert_eq!(state.errors[0].id, "strange");
    assert!(state.errors[0].status.as_ref().unwrap().message.starts_with("text: "), "{state:?}");
    // A document that comes now, with a vector alone, cannot be embedded either.
    let vector = Some(Vector { values: vec![1.0; 16], ..Vector::default() });
    upload(&mut client, "c", vec![Document { vector, ..document("bare", "") }]).await;
    let then_switches =
        MigrateCollectionRequest { switch_when_ready: true, ..request("table", MigrationAction::Unspecified) };
    for wanted in [request("", MigrationAction::Switch), then_switches] {
        let refused = migrate(&mut client, wanted).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("`errors` of its migration"), "{refused:?}");
    }
    let state = migrate(&mut client, request("", MigrationAction::Unspecified)).await.unwrap();
    let named: Vec<&str> = state.errors.iter().map(|error| &*error.id).collect();
    assert_eq!((named, state.failed), (vec!["bare", "strange"], 2));
    upload(&mut client, "c", vec![document("strange", "hello world")]).await;
    let gone = DeleteDocumentsRequest { collection: "c".into(), ids: vec!["bare".into()], filter: None };
    client.delete_documents(gone).await.unwrap();
    ready(&mut client, "table").await;
    act(&mut client, MigrationAction::Switch).await;
    is_as_loaded(&mut client, "table").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_the_field_and_acts_out_of_order_say_what_to_do() {
    let server = Models::new().serve(&["mean", "cls", "table"], &[]).await;
    let mut client = server.client().await;
    let unknown = migrate(&mut client, request("", MigrationAction::Switch)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
    create(&mut client, "c", "mean").await;
    upload(&mut client, "c", documents(0..10)).await;
    let plain = |action| request("", action);
    let start = request("cls", MigrationAction::Unspecified);
    for (wrong, field) in [
        (request("cls", MigrationAction::Switch), "model"),
        (MigrateCollectionRequest { switch_when_ready: true, ..plain(MigrationAction::Finish) }, "switch_when_ready"),
        (MigrateCollectionRequest { client_vectors: 1, ..plain(MigrationAction::Cancel) }, "client_vectors"),
        (MigrateCollectionRequest { client_vectors: 2, ..plain(MigrationAction::Unspecified) }, "client_vectors"),
        (MigrateCollectionRequest { client_vectors: 3, ..start.clone() }, "client_vectors"),
        (MigrateCollectionRequest { action: 9, ..start.clone() }, "action"),
        (MigrateCollectionRequest { collection: "a b".into(), ..start.clone() }, "collection"),
        (request("mean", MigrationAction::Unspecified), "model"),
    ] {
        let refused = migrate(&mut client, wrong).await.unwrap_err();
        assert_eq!((refused.code(), wrong_fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let unknown = migrate(&mut client, request("gpt", MigrationAction::Unspecified)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("this server has mean, cls, table"), "{unknown:?}");

    let refused = async |wanted: MigrateCollectionRequest, says: &str| {
        let refused = migrate(&mut server.client().await, wanted).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let resource = refused.get_details_resource_info().expect("it names the collection");
        assert_eq!((&*resource.resource_type, &*resource.resource_name), ("collection", "c"));
        assert!(refused.message().contains(says), "{refused:?} does not say {says:?}");
    };
    for action in [MigrationAction::Unspecified, MigrationAction::Switch, MigrationAction::Cancel] {
        refused(plain(action), "is not being migrated: start a migration").await;
    }
    ready(&mut client, "cls").await;
    refused(request("table", MigrationAction::Unspecified), "the other model is \"cls\"").await;
    refused(plain(MigrationAction::Rollback), "nothing to roll back").await;
    refused(plain(MigrationAction::Finish), "switch it first").await;
    let keeping = MigrateCollectionRequest { client_vectors: 1, ..start };
    let wrong = migrate(&mut client, keeping).await.unwrap_err();
    assert_eq!(wrong_fields(&wrong), ["client_vectors"]);
    act(&mut client, MigrationAction::Switch).await;
    refused(plain(MigrationAction::Switch), "was switched already").await;
    refused(plain(MigrationAction::Cancel), "roll it back first").await;
    client.delete_collection(DeleteCollectionRequest { name: "c".into() }).await.unwrap();
    let gone = migrate(&mut client, plain(MigrationAction::Rollback)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    // The name is free for a collection of its own.
    create(&mut client, "c", "table").await;
    assert_eq!(listed(&mut client).await.migration, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_goes_on_after_a_restart_and_waits_while_its_model_is_not_served() {
    let (directory, models) = (tempfile::tempdir().unwrap(), Models::new());
    let data = ["--data-dir", directory.path().to_str().unwrap()];
    let server = models.serve(&["mean", "table"], &data).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    upload(&mut client, "c", documents(0..1_000)).await;
    let mut states =
        client.migrate_collection(request("table", MigrationAction::Unspecified)).await.unwrap().into_inner();
    states.message().await.unwrap();
    server.kill();

    let server = models.serve(&["mean"], &data).await;
    let mut client = server.client().await;
    let refused = migrate(&mut client, request("", MigrationAction::Unspecified)).await;
    match refused {
        Err(refused) => {
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().contains("table") && refused.message().contains("--model"), "{refused:?}");
        }
        Ok(state) => assert_eq!(state.phase(), MigrationPhase::Ready, "it was done before the kill"),
    }
    upload(&mut client, "c", documents(1_000..1_010)).await;
    assert_eq!(hits(&mut client, "c", "hello", 5).await.len(), 5);
    let waiting = async {
        loop {
            let state = listed(&mut client).await.migration.expect("it is still there");
            if state.waiting_for.contains("table") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the listing names the model");
    server.kill();

    let server = models.serve(&["table", "mean"], &data).await;
    server.has_logged("the migration of a collection goes on").await;
    let mut client = server.client().await;
    let state = ready(&mut client, "table").await;
    assert_eq!((&*state.old_model, state.copied), ("mean", 1_010));
    act(&mut client, MigrationAction::Switch).await;
    is_as_loaded(&mut client, "table").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_passages_are_cut_for_a_model_that_reads_less() {
    let server = Models::new().serve(&["table", "mean"], &[]).await;
    let mut client = server.client().await;
    let long = (0..6).map(|n| document(&format!("l{n}"), &[text(8 * n), text(8 * n + 8)].join(" ")));
    upload(&mut client, "c", long.collect()).await;
    let before = listed(&mut client).await;
    assert!(before.passages.unwrap().max_tokens > 32 && before.passage_count == 6, "{before:?}");
    ready(&mut client, "mean").await;
    act(&mut client, MigrationAction::Switch).await;
    let after = listed(&mut client).await;
    assert_eq!(after.passages.unwrap().max_tokens, 32);
    assert!(after.passage_count >= 4 * 6, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_starts_switches_and_finishes_and_tells_in_its_status_what_is_left() {
    let server = Models::new().serve(&["mean", "table"], &[]).await;
    let mut client = server.client().await;
    create(&mut client, "c", "mean").await;
    upload(&mut client, "c", documents(0..50)).await;
    let addr = server.addr.to_string();
    let run = async |flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["migrate", "c", "--addr", &addr]).args(flags);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = run(&["--to", "table"]).await;
    assert!(code == Some(0) && said.contains("c: all 50 documents have vectors of table"), "{said}");
    assert!(said.contains("both models share") && said.contains("of 50 queries"), "{said}");
    let (code, said) = run(&["--switch"]).await;
    assert!(code == Some(0) && said.contains("is of table now"), "{said}");
    let (code, said) = run(&["--cancel"]).await;
    assert!(code == Some(2) && said.contains("roll it back first"), "{said}");
    let (code, said) = run(&["--rollback", "--json"]).await;
    let state: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &state["phase"], &state["copied"]), (Some(0), &json!("ready"), &json!(50)));
    upload(&mut client, "c", vec![document("strange", "zzz")]).await;
    let (code, said) = run(&["--to", "table"]).await;
    assert!(code == Some(1) && said.contains("\"strange\" cannot be embedded"), "{said}");
    let (code, said) = run(&["--cancel"]).await;
    assert!(code == Some(0) && said.contains("stays with mean"), "{said}");
}
