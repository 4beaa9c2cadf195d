//! Starting and stopping, and the health meanwhile.

use std::process::Command;
use std::time::Duration;

use cognate::wire::{EmbedRequest, InfoRequest};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::{Server, document, new_texts, upload};
use crate::raw::goaways_after;

fn texts(n: usize, words: usize) -> EmbedRequest {
    EmbedRequest { texts: new_texts(n, words), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_model_is_ready_health_says_so_and_calls_are_unavailable() {
    // A hub that accepts the request and never answers. The search for the model ends when that is given up.
    let hub = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--in-memory", "--addr", "127.0.0.1:0", "--model", "nobody/has-this-model"]);
    command.env("HF_ENDPOINT", format!("http://{}", hub.local_addr().unwrap()));
    command.env("HF_HOME", cache.path()).env_remove("HF_HUB_CACHE").env_remove("HF_HUB_OFFLINE");
    let mut server = Server::of(command);

    let mut client = server.client().await;
    for service in ["", "cognate.v1.Cognate"] {
        assert_eq!(server.health(service).await, Ok(ServingStatus::NotServing));
    }
    assert_eq!(server.health("another.Service").await, Err(Code::NotFound));
    assert_eq!(client.info(InfoRequest {}).await.unwrap_err().code(), Code::Unavailable);
    let status = client.embed(texts(1, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());

    assert_eq!(server.exit_code().await, Some(2));
    let log = server.log();
    assert!(log.contains("nobody/has-this-model") && log.contains("--model"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_accepted_calls_and_takes_no_new_ones() {
    let mut server = Server::start(&["--drain-timeout", "10m"]).await;
    let mut client = server.client().await;
    let mut watcher = HealthClient::new(server.channel().await.unwrap());
    let mut health = watcher.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.next().await.unwrap().unwrap().status(), ServingStatus::Serving);

    // A call in progress, and a stream that its client keeps open.
    let mut caller = client.clone();
    let call = tokio::spawn(async move { caller.embed(texts(200, 60)).await });
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut responses = client.embed_stream(ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(texts(1, 1)).await.unwrap();
    assert!(responses.next().await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(50)).await; // the call is on its way to the server

    server.terminate();
    assert_eq!(health.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let refused = match server.channel().await {
        Err(_) => true,
        Ok(channel) => {
            let mut late = cognate::wire::cognate_client::CognateClient::new(channel);
            late.embed(texts(1, 1)).await.unwrap_err().code() == Code::Unavailable
        }
    };
    assert!(refused);
    // Accepted calls continue, and so does the stream, until its client ends it.
    send.send(texts(2, 2)).await.unwrap();
    assert_eq!(responses.next().await.unwrap().unwrap().results.len(), 2);
    assert_eq!(call.await.unwrap().unwrap().into_inner().results.len(), 200);
    drop(send);
    assert!(responses.next().await.is_none());
    assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_and_the_server_goes_on() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut responses = client.embed_stream(ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(texts(1, 1)).await.unwrap();
    assert!(responses.next().await.unwrap().is_ok());
    server.signal("-HUP");
    server.has_logged("no file that can be reloaded has changed").await;
    send.send(texts(2, 2)).await.unwrap();
    assert_eq!(responses.next().await.unwrap().unwrap().results.len(), 2);
    assert_eq!(server.health("").await, Ok(ServingStatus::Serving));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_asked_to_close_and_its_calls_go_on_until_the_grace_ends() {
    let patient = Server::start(&["--max-connection-age", "100ms"]).await;
    let strict = Server::start(&["--max-connection-age", "100ms", "--max-connection-age-grace", "100ms"]).await;
    assert_eq!(goaways_after(&strict, &[])[0], 0);
    let begin = async |server: &Server| {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        (send, server.client().await.embed_stream(ReceiverStream::new(receive)).await)
    };
    let ((send, goes_on), (_send, cut_off)) = tokio::join!(begin(&patient), begin(&strict));
    if let Ok(cut_off) = cut_off {
        assert!(cut_off.into_inner().next().await.is_none_or(|answer| answer.is_err()));
    }
    tokio::time::sleep(Duration::from_secs(1)).await; // many times the age
    send.send(texts(1, 1)).await.unwrap();
    assert!(goes_on.unwrap().into_inner().next().await.is_some_and(|answer| answer.is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_outlast_the_drain_timeout_are_cut_off() {
    let mut server = Server::start(&["--drain-timeout", "200ms"]).await;
    let mut client = server.client().await;
    let (_send, receive) = tokio::sync::mpsc::channel::<EmbedRequest>(1);
    let _responses = client.embed_stream(ReceiverStream::new(receive)).await.unwrap();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    server.has_logged("cut off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_where_the_console_is_if_it_is_on() {
    let on = Server::spawn(&["--console", "true"]);
    on.has_logged(&format!("the console is at http://{}/", on.addr)).await;
    let off = Server::start(&["--console", "false"]).await;
    off.has_logged("model ready").await;
    assert!(!off.log().contains("the console is at"), "{}", off.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn info_tells_the_model_and_the_limits_in_force() {
    let server = Server::start(&["--max-texts", "2000", "--threads", "1"]).await;
    let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    let model = info.model.unwrap();
    assert_eq!(model.id, "sentence-transformers/all-MiniLM-L6-v2");
    assert_eq!((model.dimensions, model.max_tokens, model.pooling.as_str()), (384, 256, "mean"));
    assert_eq!((model.device.as_str(), model.precision.as_str()), ("cpu", "f32"));
    assert!(!model.revision.is_empty() && model.fingerprint.len() >= 16);
    let limits = info.limits.unwrap();
    assert_eq!(limits.max_texts, 2000);
    assert!(limits.max_k >= 1000 && limits.max_message_bytes >= 1 << 20 && limits.max_text_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_hold_different_collections_of_one_model() {
    let (one, other) = (Server::start(&[]).await, Server::start(&[]).await);
    upload(&mut one.client().await, "c", vec![document("a", "text")]).await;
    let mut client = other.client().await;
    assert!(
        client
            .list_collections(cognate::wire::ListCollectionsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .collections
            .is_empty()
    );
    let fingerprint = async |server: &Server| {
        server.client().await.info(InfoRequest {}).await.unwrap().into_inner().model.unwrap().fingerprint
    };
    assert_eq!(fingerprint(&one).await, fingerprint(&other).await);
}
