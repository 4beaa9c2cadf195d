//! Overload: the server refuses calls with a time to come back, or lets them wait, and never fails.

use std::time::Duration;

use cognate::client::{Error, Options, connect};
use cognate::wire::{EmbedRequest, InfoRequest};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::harness::{NO_PROC, Server, new_texts};
use crate::skipped::skipped;

fn texts(n: usize, words: usize) -> EmbedRequest {
    EmbedRequest { texts: new_texts(n, words), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_unary_calls_with_a_time_and_lets_streams_wait() {
    let server = Server::start(&["--queue-tokens", "2000"]).await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let client = server.client();
            async move { client.await.embed(texts(40, 40)).await }
        })
        .collect();
    let stream = async {
        let requests = tokio_stream::iter(std::iter::repeat_with(|| texts(40, 40)).take(4));
        let responses = server.client().await.embed_stream(requests).await.unwrap().into_inner();
        responses.collect::<Result<Vec<_>, _>>().await.unwrap()
    };
    let (calls, streamed) = tokio::join!(futures::future::join_all(calls), stream);
    assert_eq!(streamed.iter().map(|response| response.results.len()).sum::<usize>(), 160);
    let refused: Vec<_> = calls.iter().filter_map(|call| call.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < 8, "{} of 8 calls were refused", refused.len());
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(delay > Duration::ZERO && delay <= Duration::from_secs(60), "{delay:?}");
    }
    assert!(server.client().await.embed(texts(40, 40)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_too_many_is_refused_while_info_still_answers() {
    let server = Server::start(&["--max-calls", "1"]).await;
    let mut client = server.client().await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut responses = client.embed_stream(ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(texts(1, 1)).await.unwrap();
    assert!(responses.next().await.unwrap().is_ok());
    let status = client.embed(texts(1, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("max_calls: 1"), "{status:?}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    let info = client.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.limits.unwrap().max_calls, 1);
    drop(send);
    while responses.next().await.is_some() {}
    assert!(client.embed(texts(1, 1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_repeats_a_refused_call_when_the_server_says_so_and_not_beyond_its_timeout() {
    let server = Server::start(&["--max-calls", "1"]).await;
    let address = server.addr.to_string();
    let patient = connect(&address, &Options { retries: 1000, ..Options::default() }).await.unwrap();
    let timeout = Some(Duration::from_secs(1));
    let hasty = connect(&address, &Options { retries: 1000, timeout, ..Options::default() }).await.unwrap();
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut answers = patient.embed_stream(ReceiverStream::new(receive)).await.unwrap();
    send.send(texts(1, 1)).await.unwrap();
    assert!(answers.next().await.unwrap().is_ok());

    let mut waiting = std::pin::pin!(patient.embed(texts(1, 1)));
    let refused = tokio::select! {
        answer = &mut waiting => panic!("{answer:?}"),
        refused = hasty.embed(texts(1, 1)) => refused.unwrap_err(),
    };
    // Its last attempt was refused, or had no time left, as the client or the server found first.
    let late = refused.refusal().is_some_and(|refusal| refusal.code == Code::DeadlineExceeded);
    assert!(late || refused.retry_after().is_some() || matches!(refused, Error::TimedOut { .. }), "{refused}");
    drop(send);
    while answers.next().await.is_some() {}
    assert_eq!(waiting.await.unwrap().results.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_one_short_call_is_answered_before_most_calls_of_a_flood_that_came_earlier() {
    let server = Server::start(&["--threads", "1"]).await;
    let mut quiet = server.client().await;
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..8 {
        let client = server.client().await;
        for _ in 0..16 {
            let (mut client, answered) = (client.clone(), answered.clone());
            tokio::spawn(async move {
                let answer = client.embed(texts(1, 60)).await;
                answered.send(answer.is_ok())
            });
        }
    }
    assert_eq!(answers.recv().await, Some(true), "the flood has begun");
    quiet.embed(texts(1, 3)).await.unwrap();
    let mut earlier = 1;
    while answers.try_recv().is_ok() {
        earlier += 1;
    }
    assert!(earlier <= 64, "{earlier} of 128 calls were answered first");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_past_its_deadline_is_dropped_with_the_call() {
    let server = Server::start(&["--queue-tokens", "1000000"]).await;
    let mut client = server.client().await;
    // Minutes of work, if all of it were done.
    let calls = (0..3).map(|_| {
        let mut client = client.clone();
        async move {
            let mut request = Request::new(texts(1000, 250));
            request.set_timeout(Duration::from_millis(300));
            client.embed(request).await
        }
    });
    for answer in futures::future::join_all(calls).await {
        // tonic's client has a timer of its own, which reports the same end as CANCELLED. A call that comes after
        // others may be refused at once, because it could not be done in time.
        let code = answer.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted), "{code:?}");
    }
    let after = tokio::time::timeout(Duration::from_secs(60), client.embed(texts(1, 1))).await;
    assert!(after.expect("the dropped work does not stand before it").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_while_a_client_sends_all_it_can() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    client.embed(texts(8, 250)).await.unwrap();
    let Some(before) = server.peak_bytes() else { return skipped(NO_PROC) };
    // A gigabyte is offered. The server takes what it can process.
    let requests = tokio_stream::iter(std::iter::repeat_with(|| texts(16, 40_000)).take(300));
    let mut responses = client.embed_stream(requests).await.unwrap().into_inner();
    let first = tokio::time::timeout(Duration::from_secs(120), responses.next()).await;
    assert!(first.expect("an answer comes").unwrap().is_ok());
    // Linux counts resident pages per CPU and sums them up loosely: a later peak may read a little lower.
    let grown = server.peak_bytes().unwrap().saturating_sub(before);
    assert!(grown < 256 << 20, "the server's memory grew by {} MiB", grown >> 20);
}
