//! Limits of a key: a tenant's calls and tokens are bounded, and the others notice nothing of it.

use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{EmbedRequest, InfoRequest};
use futures::future::join_all;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::new_texts;
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
