//! Kills of a server while a collection migrates: with writers, a reader, and switches in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cognate::wire::metadata::{from_json, to_json};
use cognate::wire::{
    DeleteDocumentsRequest, Document, EmbedRequest, InputType, ListCollectionsRequest, MigrationAction, MigrationPhase,
    Query, TopKRequest, UpdateDocumentsRequest, UploadRequest, query,
};
use serde_json::json;
use tonic::{Code, Status};

use crate::embed::values;
use crate::harness::{Server, document, dot, upload_all};
use crate::migrate::{Client, Models, export, is_as_loaded, migrate, request, text};

/// Kills if `COGNATE_MIGRATION_KILLS` does not say.
const KILLS: usize = 20;

/// The text and the mark of a document.
type Version = (String, Option<i64>);

/// The state of a migration: the model of the collection, and if there is a migration that was switched or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    model: &'static str,
    switched: Option<bool>,
}

/// The knowledge of the clients: what was acknowledged, and what one call in flight may have changed beside it.
struct Oracle {
    known: BTreeMap<String, Version>,
    perhaps: BTreeMap<String, Option<Version>>,
    stand: Stand,
    perhaps_stand: Option<Stand>,
    switches: usize,
}

fn other(model: &str) -> &'static str {
    if model == "mean" { "table" } else { "mean" }
}

impl Oracle {
    /// Compares with what is there after a kill, and takes that as known.
    async fn check(&mut self, client: &mut Client, at: &str) {
        let listed = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
        let Some(collection) = listed.collections.first() else {
            assert!(self.known.is_empty(), "{at}: the collection is gone");
            return;
        };
        let switched = collection.migration.as_ref().map(|state| state.phase() == MigrationPhase::Switched);
        let model = if collection.model == "mean" { "mean" } else { "table" };
        let stand = Stand { model, switched };
        let allowed = stand == self.stand || self.perhaps_stand == Some(stand);
        assert!(allowed, "{at}: {stand:?}, was {:?} or {:?}", self.stand, self.perhaps_stand);
        (self.stand, self.perhaps_stand) = (stand, None);

        let documents = export(client, "c").await;
        let found: BTreeMap<String, Version> = documents.iter().map(|d| (d.id.clone(), version(d))).collect();
        let ids: BTreeSet<&String> = self.known.keys().chain(found.keys()).collect();
        for id in ids {
            let (was, is) = (self.known.get(id), found.get(id));
            let allowed = was == is || self.perhaps.get(id).is_some_and(|perhaps| perhaps.as_ref() == is);
            assert!(allowed, "{at}: {id} was {was:?}, is {is:?}, perhaps {:?}", self.perhaps.get(id));
        }
        self.known = found;
        self.perhaps.clear();
        for documents in documents.chunks(200) {
            let texts = documents.iter().map(|document| document.text.clone()).collect();
            let (model, input_type) = (model.to_owned(), InputType::Document.into());
            let embed = EmbedRequest { texts, model, input_type, ..EmbedRequest::default() };
            let embedded = client.embed(embed).await.unwrap().into_inner().results;
            for (document, expected) in documents.iter().zip(&embedded) {
                let (is, expected) = (&document.vector.as_ref().unwrap().values, values(expected));
                assert!(dot(is, expected) > 0.9999, "{at}: {} is not of {:?}", document.id, self.stand);
            }
        }
    }
}

fn version(document: &Document) -> Version {
    let metadata = document.metadata.as_ref().map(|metadata| to_json(metadata).unwrap());
    (document.text.clone(), metadata.and_then(|fields| fields.get("mark")?.as_f64()).map(|mark| mark as i64))
}

/// A text of one passage.
fn short(random: &mut fastrand::Rng) -> String {
    text(8 * random.u64(..10_000) + 1)
}

/// Demands that a call fails only because the server was killed.
fn only_killed(killed: &AtomicBool, status: &Status) {
    assert!(killed.load(Ordering::SeqCst), "before the kill: {status:?}");
}

/// Changes documents until the server is gone. Notes each change before it is sent.
async fn disturb(
    client: &mut Client,
    oracle: (&mut BTreeMap<String, Version>, &mut BTreeMap<String, Option<Version>>),
    random: &mut fastrand::Rng,
    killed: &AtomicBool,
) {
    let (known, perhaps) = oracle;
    loop {
        perhaps.clear();
        let ids: BTreeSet<String> = (0..random.usize(1..20)).map(|_| format!("d{:03}", random.u32(..400))).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let collection = "c".to_owned();
        let failed = match random.u32(..8) {
            0 | 1 => {
                perhaps.extend(ids.iter().map(|id| (id.clone(), None)));
                client.delete_documents(DeleteDocumentsRequest { collection, ids, filter: None }).await.err()
            }
            2 | 3 => {
                let mark = random.i64(1..1_000_000);
                let patched = |id: &String| Some((id.clone(), Some((known.get(id)?.0.clone(), Some(mark)))));
                perhaps.extend(ids.iter().filter_map(patched));
                let patch = json!({ "mark": mark }).as_object().map(from_json);
                client.update_documents(UpdateDocumentsRequest { collection, ids, filter: None, patch }).await.err()
            }
            _ => {
                let documents: Vec<Document> = ids.iter().map(|id| document(id, &short(random))).collect();
                perhaps.extend(documents.iter().map(|d| (d.id.clone(), Some((d.text.clone(), None)))));
                upload_all(client, vec![UploadRequest { collection, documents }]).await.err()
            }
        };
        match failed {
            None => {}
            Some(status) if status.code() == Code::NotFound => perhaps.clear(), // no upload yet
            Some(status) => return only_killed(killed, &status),
        }
        for (id, after) in std::mem::take(perhaps) {
            match after {
                Some(version) => known.insert(id, version),
                None => known.remove(&id),
            };
        }
    }
}

/// Starts, switches and ends migrations until the server is gone.
async fn move_about(
    client: &mut Client,
    (stand, perhaps, switches): (&mut Stand, &mut Option<Stand>, &mut usize),
    random: &mut fastrand::Rng,
    killed: &AtomicBool,
) {
    loop {
        let Stand { model, switched } = *stand;
        let (action, then) = match switched {
            None => (MigrationAction::Unspecified, Stand { model, switched: Some(false) }),
            Some(false) if random.u32(..8) == 0 => (MigrationAction::Cancel, Stand { model, switched: None }),
            Some(false) => (MigrationAction::Switch, Stand { model: other(model), switched: Some(true) }),
            Some(true) if random.bool() => (MigrationAction::Finish, Stand { model, switched: None }),
            Some(true) => (MigrationAction::Rollback, Stand { model: other(model), switched: Some(false) }),
        };
        *perhaps = Some(then);
        let to = if action == MigrationAction::Unspecified { other(model) } else { "" };
        match migrate(client, request(to, action)).await {
            Ok(_) => {
                *switches += usize::from(action == MigrationAction::Switch);
                (*stand, *perhaps) = (then, None);
            }
            // Not ready, or no collection yet.
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => *perhaps = None,
            Err(status) => return only_killed(killed, &status),
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..30))).await;
    }
}

/// Searches until the server is gone.
async fn read(client: &mut Client, random: &mut fastrand::Rng, killed: &AtomicBool) {
    loop {
        let queries = vec![Query { query: Some(query::Query::Text(short(random))), ..Query::default() }];
        let request = TopKRequest { collection: "c".into(), queries, k: 3, ..TopKRequest::default() };
        match client.top_k(request).await {
            Ok(answer) => assert!(answer.into_inner().results[0].error.is_none()),
            Err(status) if status.code() == Code::NotFound => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(status) => return only_killed(killed, &status),
        }
    }
}

/// `COGNATE_MIGRATION_KILLS` sets the number of kills; a release takes 100.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a start of the server for each kill; .ci/run has a step for it"]
async fn crashes_during_migrations_lose_nothing_and_leave_each_collection_with_one_model() {
    let kills = std::env::var("COGNATE_MIGRATION_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let seed = std::env::var("COGNATE_SEED").map_or_else(|_| std::process::id(), |s| s.parse().expect("a number"));
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed.into());
    let (directory, models) = (tempfile::tempdir().unwrap(), Models::new());
    let data = directory.path().to_str().unwrap();
    let flags = models.flags(&["mean", "table"], &["--data-dir", data, "--min-free-bytes", "1MiB"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let stand = Stand { model: "mean", switched: None };
    let (known, perhaps) = (BTreeMap::new(), BTreeMap::new());
    let mut oracle = Oracle { known, perhaps, stand, perhaps_stand: None, switches: 0 };
    for round in 0..kills {
        let at = format!("kill {round}, seed {seed}");
        if random.u32(..5) == 0 {
            let server = Server::spawn(&flags);
            tokio::time::sleep(Duration::from_millis(random.u64(..300))).await;
            server.kill();
        }
        let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
        let output = verify.args(["verify", "--data-dir", data]).output().unwrap();
        assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
        let server = Server::start(&flags).await;
        let (mut writer, mut mover, mut reader) = (server.client().await, server.client().await, server.client().await);
        oracle.check(&mut writer, &at).await;
        let (killed, after) = (AtomicBool::new(false), Duration::from_millis(random.u64(..600)));
        let [mut a, mut b, mut c] = [random.fork(), random.fork(), random.fork()];
        let Oracle { known, perhaps, stand, perhaps_stand, switches } = &mut oracle;
        let killing = async {
            tokio::time::sleep(after).await;
            killed.store(true, Ordering::SeqCst);
            server.kill();
        };
        futures::join!(
            disturb(&mut writer, (known, perhaps), &mut a, &killed),
            move_about(&mut mover, (stand, perhaps_stand, switches), &mut b, &killed),
            read(&mut reader, &mut c, &killed),
            killing,
        );
    }
    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    oracle.check(&mut client, &format!("the last kill, seed {seed}")).await;
    assert!(!oracle.known.is_empty(), "nothing was ever stored");
    println!("{} switches, {} documents, {:?}", oracle.switches, oracle.known.len(), oracle.stand);
    assert!(oracle.switches > 0 || kills < KILLS, "nothing was ever switched");
    if oracle.stand.switched == Some(true) {
        migrate(&mut client, request("", MigrationAction::Finish)).await.unwrap();
    }
    let to = other(oracle.stand.model);
    let state = migrate(&mut client, request(to, MigrationAction::Unspecified)).await.unwrap();
    assert_eq!(state.phase(), MigrationPhase::Ready, "{state:?}");
    migrate(&mut client, request("", MigrationAction::Switch)).await.unwrap();
    is_as_loaded(&mut client, to).await;
}
