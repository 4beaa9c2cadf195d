//! Limits of a key: a tenant's calls, tokens and documents are bounded, and the others notice nothing of it.

use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{
    CreateCollectionRequest, DeleteCollectionRequest, EmbedRequest, InfoRequest, ListCollectionsRequest, UploadRequest,
};
use futures::future::join_all;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{document, new_texts};
use crate::keys::{Keys, stream, with};

async fn embed(client: &CognateClient<Channel>, key: &str, texts: Vec<String>) -> Result<(), Status> {
    let request = EmbedRequest { texts, ..Default::default() };
    client.clone().embed(with(key, request)).await.map(drop)
}

/// Checks that a caller was refused for its own limit, and told when to try again.
fn assert_refused(result: Result<(), Status>, limit: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains(&format!("has the limit {limit}")), "{}", status.message());
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_as_many_calls_in_progress_as_its_limit_over_all_its_keys_and_connections() {
    let keys = Keys::new();
    let limited = keys.create("a", "read", &["--max-calls", "1"]);
    let (second, other) = (keys.create("a", "read", &[]), keys.create("b", "read", &[]));
    let server = keys.server(&[]).await;
    let (sender, answers) = stream(&server, &limited).await;
    let mut client = server.client().await;
    for key in [&limited, &second] {
        assert_refused(client.info(with(key, InfoRequest {})).await.map(drop), "calls = 1");
    }
    client.info(with(&other, InfoRequest {})).await.unwrap();
    drop((sender, answers));
    let answered = async {
        while client.info(with(&second, InfoRequest {})).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered).await.expect("the stream has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_a_second_are_limited_and_known_texts_cost_none() {
    let keys = Keys::new();
    let (limited, other) = (keys.create("a", "read", &["--max-tokens-per-second", "1"]), keys.create("b", "read", &[]));
    let server = keys.server(&[]).await;
    let (client, known) = (server.client().await, new_texts(1, 100));
    embed(&client, &limited, known.clone()).await.unwrap();
    // More than a hundred seconds are used up.
    assert_refused(embed(&client, &limited, new_texts(1, 10)).await, "tokens_per_second = 1");
    embed(&client, &limited, known).await.unwrap();
    embed(&client, &other, new_texts(1, 10)).await.unwrap();

    // The limit goes when the file says so, without a restart.
    let text = std::fs::read_to_string(&keys.path).unwrap();
    std::fs::write(&keys.path, text.replace("limits = { tokens_per_second = 1 }\n", "")).unwrap();
    server.has_logged("reloaded").await;
    embed(&client, &limited, new_texts(1, 10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_caller_takes_its_part_of_the_queue_and_another_one_is_always_answered() {
    let keys = Keys::new();
    let (flood, quiet) = (keys.create("a", "read", &["--max-queue-tokens", "300"]), keys.create("b", "read", &[]));
    let server = keys.server(&[]).await;
    let client = server.client().await;
    let calls = join_all((0..100).map(|_| embed(&client, &flood, new_texts(4, 20))));
    let others = async {
        for _ in 0..10 {
            embed(&client, &quiet, new_texts(1, 10)).await.unwrap();
        }
    };
    let (answers, ()) = tokio::join!(calls, others);
    let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(!answered.is_empty() && !refused.is_empty(), "{} answered", answered.len());
    refused.into_iter().for_each(|refused| assert_refused(refused, "queue_tokens = 300"));
    // A call that is larger than the limit is admitted alone.
    embed(&client, &flood, new_texts(50, 20)).await.unwrap();
}

#[test]
fn further_keys_of_a_name_have_its_limits_and_the_list_shows_them() {
    let keys = Keys::new();
    keys.create("a", "read", &["--max-calls", "4", "--max-tokens-per-second", "1000"]);
    keys.create("a", "read", &[]);
    let limits = serde_json::json!({ "calls": 4, "tokens_per_second": 1000 });
    assert!(keys.list().iter().all(|key| key["limits"] == limits), "{:?}", keys.list());
    let text = std::fs::read_to_string(&keys.path).unwrap();
    assert_eq!(text.matches("limits = { calls = 4, tokens_per_second = 1000 }").count(), 2, "{text}");
}

/// The ids of the documents of each message.
type Groups<'a> = &'a [&'a [&'a str]];

/// An upload: its key, its collection with groups of documents, and the documents that are committed or counted.
type Step<'a> = (&'a String, (&'a str, Groups<'a>), Result<u64, u64>);

/// Uploads documents with a key, one message for each group, and returns the number of those that were committed with
/// the status at the end.
pub async fn upload(
    client: &CognateClient<Channel>,
    key: &str,
    (collection, groups): (&str, Groups<'_>),
) -> (u64, Result<(), Status>) {
    let message = |ids: &&[&str]| UploadRequest {
        collection: collection.to_owned(),
        documents: ids.iter().map(|id| document(id, "a short text")).collect(),
    };
    let messages: Vec<_> = groups.iter().map(message).collect();
    let mut answers = match client.clone().upload(with(key, tokio_stream::iter(messages))).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (0, Err(status)),
    };
    let mut committed = 0;
    loop {
        match answers.message().await {
            Ok(Some(answer)) => committed = answer.committed,
            Ok(None) => return (committed, Ok(())),
            Err(status) => return (committed, Err(status)),
        }
    }
}

/// Checks that a commit was refused for a limit of `owner`, by what the status says and by its details.
fn assert_full(result: Result<(), Status>, owner: &str, (limit, most, used): (&str, i64, u64)) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let text = status.message();
    assert!(
        text.starts_with(&format!("{limit} of {owner}: ")) && text.contains(&format!(" {used} are in use")),
        "{text}"
    );
    let violations = status.get_details_quota_failure().unwrap().violations;
    let [violation] = &*violations else { panic!("{violations:?}") };
    assert_eq!(violation.subject, format!("principal:{owner}"));
    assert_eq!((&*violation.quota_metric, violation.quota_value), (limit, most));
    assert_eq!(violation.description, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_count_for_the_caller_who_created_their_collection_also_after_a_restart() {
    let keys = Keys::new();
    let a = keys.create("a", "write", &["--max-documents", "3"]);
    let (second, other) = (keys.create("a", "write", &[]), keys.create("b", "write", &[]));
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap(), "--min-free-bytes", "1MiB"];
    let mut server = keys.server(&flags).await;
    let client = server.client().await;
    // The batches before the one that is refused stay.
    let (committed, refused) = upload(&client, &a, ("c", &[&["1", "2"], &["3", "4"]])).await;
    assert_eq!(committed, 2);
    assert_full(refused, "a", ("documents", 3, 2));
    let steps: [Step<'_>; 6] = [
        (&second, ("d", &[&["1"]]), Ok(1)),
        (&a, ("d", &[&["2"]]), Err(3)),
        // The collection belongs to a, also if another one writes to it.
        (&other, ("c", &[&["5"]]), Err(3)),
        (&a, ("c", &[&["1"]]), Ok(1)),
        (&other, ("e", &[&["1", "2", "3", "4"]]), Ok(4)),
        (&a, ("e", &[&["5"]]), Ok(1)),
    ];
    for (key, groups, expected) in steps {
        let (committed, ended) = upload(&client, key, groups).await;
        match expected {
            Ok(n) => assert_eq!((committed, ended.map_err(|status| status.to_string())), (n, Ok(())), "{groups:?}"),
            Err(used) => assert_full(ended, "a", ("documents", 3, used)),
        }
    }
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));

    let server = keys.server(&flags).await;
    let mut client = server.client().await;
    assert_full(upload(&client, &a, ("d", &[&["2"]])).await.1, "a", ("documents", 3, 3));
    let list = client.list_collections(with(&a, ListCollectionsRequest::default())).await.unwrap().into_inner();
    let owners: Vec<_> = list.collections.iter().map(|one| (&*one.name, &*one.owner)).collect();
    assert_eq!(owners, [("c", "a"), ("d", "a"), ("e", "b")]);
    // A document that leaves makes room, also if another caller removes it.
    let gone = DeleteCollectionRequest { name: "c".to_owned() };
    client.delete_collection(with(&other, gone)).await.unwrap();
    assert_eq!(upload(&client, &a, ("d", &[&["2"], &["3"]])).await.0, 2);

    // The limit goes when the file says so, without a restart.
    let text = std::fs::read_to_string(&keys.path).unwrap();
    std::fs::write(&keys.path, text.replace("limits = { documents = 3 }\n", "")).unwrap();
    server.has_logged("reloaded").await;
    assert_eq!(upload(&client, &a, ("d", &[&["4"]])).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_caller_is_limited_and_a_collection_counts_too() {
    let keys = Keys::new();
    let a = keys.create("a", "write", &["--max-stored-bytes", "64KiB"]);
    let server = keys.server(&[]).await;
    let mut client = server.client().await;
    let create = |name: &str| with(&a, CreateCollectionRequest { name: name.to_owned(), ..Default::default() });
    for name in ["c", "d", "e", "f"] {
        client.create_collection(create(name)).await.unwrap();
    }
    let refused = client.create_collection(create("g")).await.map(drop);
    assert_full(refused, "a", ("stored_bytes", 64 << 10, 64 << 10));
    client.delete_collection(with(&a, DeleteCollectionRequest { name: "f".to_owned() })).await.unwrap();
    let ids: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let each: Vec<[&str; 1]> = ids.iter().map(|id| [&**id]).collect();
    let groups: Vec<&[&str]> = each.iter().map(|id| &id[..]).collect();
    let (committed, ended) = upload(&client, &a, ("c", &groups)).await;
    assert!((1..10).contains(&committed), "{committed}");
    let status = ended.unwrap_err();
    assert!(status.message().starts_with("stored_bytes of a: "), "{status:?}");
    for name in ["d", "e"] {
        client.delete_collection(with(&a, DeleteCollectionRequest { name: name.to_owned() })).await.unwrap();
    }
    assert_eq!(upload(&client, &a, ("c", &groups)).await.0, 10);
}
