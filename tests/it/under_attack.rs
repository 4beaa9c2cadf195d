//! Clients with bad intent: each is bounded, and the others are answered meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{EmbedRequest, InfoRequest};
use futures::FutureExt;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{NO_PROC, Server, new_texts};
use crate::raw::{Outcome, Raw, frame, goaways_after, message, outcome, promise};
use crate::skipped::skipped;

const EMBED: &str = "/cognate.v1.Cognate/Embed";
const EMBED_STREAM: &str = "/cognate.v1.Cognate/EmbedStream";
const UPLOAD: &str = "/cognate.v1.Cognate/Upload";
const INFO: &str = "/cognate.v1.Cognate/Info";

const INVALID_ARGUMENT: Option<i32> = Some(3);
const DEADLINE_EXCEEDED: Option<i32> = Some(4);
const RESOURCE_EXHAUSTED: Option<i32> = Some(8);
const OUT_OF_RANGE: Option<i32> = Some(11);
const UNIMPLEMENTED: Option<i32> = Some(12);

/// The window of clients that read their answers.
const WINDOW: u32 = 1 << 20;

fn embed(texts: usize) -> Vec<u8> {
    EmbedRequest { texts: new_texts(texts, 1), ..Default::default() }.encode_to_vec()
}

async fn is_answered(client: &mut CognateClient<Channel>) {
    let request = EmbedRequest { texts: new_texts(1, 1), ..Default::default() };
    let answer = tokio::time::timeout(Duration::from_secs(30), client.embed(request)).await;
    assert_eq!(answer.expect("an answer comes").unwrap().into_inner().results.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_holds_until_the_last_byte_of_the_answer() {
    let server = Server::start(&["--max-calls", "1"]).await;
    let mut takes_nothing = Raw::connect(&server, 0).await;
    let ended = takes_nothing.call(EMBED, &[("grpc-timeout", "700m")], message(0, &embed(1))).await;
    assert_eq!((ended.http, ended.grpc, ended.bytes), (200, DEADLINE_EXCEEDED, 0), "{ended:?}");
    is_answered(&mut server.client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_and_a_request_that_does_not_come_end() {
    let server = Server::start(&["--stall-timeout", "400ms", "--max-calls", "4"]).await;
    let mut takes_nothing = Raw::connect(&server, 0).await;
    let ended = takes_nothing.call(EMBED, &[], message(0, &embed(1))).await;
    assert_eq!((ended.grpc, ended.bytes), (DEADLINE_EXCEEDED, 0), "{ended:?}");
    assert!(ended.message.contains("not taken"), "{ended:?}");

    let mut sends_little = Raw::connect(&server, WINDOW).await;
    let half = |length: usize| [promise(0, length), vec![0; length / 2]].concat();
    let mut calls = Vec::new();
    for (path, begin) in [(EMBED, vec![]), (EMBED, half(100)), (UPLOAD, half(100_000)), (INFO, vec![0, 0])] {
        let (response, mut stream) = sends_little.begin(path, &[]).await;
        stream.send_data(Bytes::from(begin), false).unwrap();
        calls.push((outcome(response), stream));
    }
    for (call, _stream) in calls {
        let ended = call.await;
        assert_eq!(ended.grpc, DEADLINE_EXCEEDED, "{ended:?}");
        assert!(ended.message.contains("did not arrive"), "{ended:?}");
    }
    is_answered(&mut server.client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_on_which_nothing_is_sent_ends_and_one_in_use_does_not() {
    let server = Server::start(&["--stream-idle-timeout", "3s"]).await;
    let mut raw = Raw::connect(&server, WINDOW).await;
    // It begins first, so the other one is in use for longer than it may be idle.
    let (used, mut used_stream) = raw.begin(EMBED_STREAM, &[]).await;
    let (idle, _idle_stream) = raw.begin(UPLOAD, &[]).await;
    let mut idle = std::pin::pin!(outcome(idle));
    let idle = loop {
        used_stream.send_data(message(0, &embed(1)).into(), false).unwrap();
        if let Ok(idle) = tokio::time::timeout(Duration::from_millis(100), &mut idle).await {
            break idle;
        }
    };
    assert_eq!(idle.grpc, DEADLINE_EXCEEDED, "{idle:?}");
    assert!(idle.message.contains("stream_idle_timeout"), "{idle:?}");
    used_stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(outcome(used).await.grpc, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hold_all_they_can_leave_places_health_and_info_to_others() {
    let server = Server::start(&["--max-calls", "16"]).await;
    let mut held = Vec::new();
    let mut attackers = [Raw::connect(&server, 0).await, Raw::connect(&server, 0).await];
    for attacker in &mut attackers {
        for _ in 0..8 {
            let (response, stream) = attacker.begin(EMBED_STREAM, &[]).await;
            held.push((response, stream));
        }
    }
    // It is answered when the server knows of all before it.
    for attacker in &mut attackers {
        let refused = attacker.call("/cognate.v1.Cognate/Nothing", &[], vec![]).await;
        assert!(matches!(refused.grpc, RESOURCE_EXHAUSTED | UNIMPLEMENTED), "{refused:?}");
    }
    let mut bystander = server.client().await;
    for _ in 0..5 {
        is_answered(&mut bystander).await;
    }
    assert_eq!(server.health("").await, Ok(ServingStatus::Serving));
    assert!(bystander.info(InfoRequest {}).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn info_health_and_watches_have_bounds_of_their_own() {
    let server = Server::start(&[]).await;
    let mut takes_nothing = Raw::connect(&server, 0).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let (response, mut stream) = takes_nothing.begin(INFO, &[]).await;
        stream.send_data(message(0, &[]).into(), true).unwrap();
        held.push(response);
    }
    let outcomes = held.into_iter().map(|response| Box::pin(outcome(response)));
    let (refused, _, _held) = futures::future::select_all(outcomes).await;
    assert_eq!(refused.grpc, RESOURCE_EXHAUSTED, "{refused:?}");

    let mut watcher = HealthClient::new(server.channel().await.unwrap());
    let mut watches = Vec::new();
    let refused = loop {
        match watcher.watch(HealthCheckRequest::default()).await {
            Ok(watch) => watches.push(watch.into_inner()),
            Err(status) => break status,
        }
        assert!(watches.len() < 100, "a connection may have any number of watches");
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(watches[0].next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(server.health("").await, Ok(ServingStatus::Serving));
    assert!(server.client().await.info(InfoRequest {}).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_messages_and_promises_take_no_more_memory_than_the_budget() {
    let server = Server::start(&["--message-budget", "64MiB", "--max-calls", "1024"]).await;
    is_answered(&mut server.client().await).await;
    let Some(before) = server.resident_bytes() else { return skipped(NO_PROC) };
    let (mut attackers, mut held) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let mut attacker = Raw::connect(&server, WINDOW).await;
        for _ in 0..60 {
            let (response, mut stream) = attacker.begin(UPLOAD, &[]).await;
            stream.send_data(promise(0, 16 << 20).into(), false).unwrap();
            held.push((response, stream));
        }
        // Half of two messages each, as far as the server takes them.
        for _ in 0..2 {
            let (response, mut stream) = attacker.begin(UPLOAD, &[]).await;
            let half = [promise(0, 16 << 20), vec![0; 8 << 20]].concat();
            stream.send_data(half.into(), false).unwrap();
            held.push((response, stream));
        }
        attackers.push(attacker);
    }
    // Long enough for all bytes to arrive, and for calls without memory to be refused.
    let mut refused = 0;
    while refused == 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let grown = server.resident_bytes().unwrap().saturating_sub(before);
        assert!(grown < 128 << 20, "the server's memory grew by {} MiB", grown >> 20);
        for (response, _) in &mut held {
            refused += usize::from(response.now_or_never().is_some());
        }
    }
    is_answered(&mut server.client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_idle_connections_are_closed() {
    let server = Server::start(&["--handshake-timeout", "2s", "--connection-idle-timeout", "1s"]).await;
    let silent = [&b""[..], b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].map(|beginning| {
        let mut silent = TcpStream::connect(server.addr).unwrap();
        silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        silent.write_all(beginning).unwrap();
        (beginning, silent)
    });
    for (beginning, mut silent) in silent {
        let mut got = Vec::new();
        // It may end with a reset, but not with a time-out.
        if let Err(error) = silent.read_to_end(&mut got) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open after {beginning:?}");
        }
    }
    let idle = Raw::connect(&server, WINDOW).await;
    let closed = tokio::time::timeout(Duration::from_secs(30), idle.closed).await;
    assert!(closed.expect("an idle connection is closed").unwrap().is_ok(), "and in order");

    // A connection that has a call stays.
    let mut busy = Raw::connect(&server, WINDOW).await;
    let (response, mut stream) = busy.begin(EMBED_STREAM, &[]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stream.send_data(message(0, &embed(1)).into(), true).unwrap();
    assert_eq!(outcome(response).await.grpc, Some(0));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_that_no_connection_is_left_and_open_ones_are_answered() {
    let of_limit = |files: u32, flags: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_cognate")]);
        command.args(["serve", "--addr", "127.0.0.1:0", "--in-memory"]).args(flags);
        Server::of(command)
    };
    let of_one_address = ["--max-connections-per-address", "1000"];
    let of_all = ["--max-connections", "1000", "--max-connections-per-address", "1000"];
    for (flags, word) in [(&[][..], "of one address"), (&of_one_address, "are refused"), (&of_all, "Too many open")] {
        let mut server = of_limit(100, flags);
        server.wait_until_serving().await;
        let mut client = server.client().await;
        is_answered(&mut client).await;
        let many: Vec<_> = (0..150).filter_map(|_| TcpStream::connect(server.addr).ok()).collect();
        server.has_logged(word).await;
        is_answered(&mut client).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(server.log().lines().count() < 30, "{}", server.log());
        drop(many);
        // Their places are free when the server sees that they are gone.
        let again = async {
            while server.health("").await != Ok(ServingStatus::Serving) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), again).await.expect("new connections are answered again");
        is_answered(&mut client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_in_a_goaway_and_not_in_the_log() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let server = Server::start(&[]).await;
    // `:method POST, :scheme http, :path /`, and the end of the request.
    let headers = |n: u32| frame(1, 5, 2 * n + 1, &[0x83, 0x86, 0x84]);
    let reset = |n: u32| frame(3, 0, 2 * n + 1, &[0, 0, 0, 8]);
    // The path is missing: a mistake, for which the server resets the stream.
    let malformed = |n: u32| frame(1, 5, 2 * n + 1, &[0x83, 0x86]);
    let many = |each: &dyn Fn(u32) -> Vec<u8>| (0..30_000).flat_map(each).collect::<Vec<u8>>();
    let floods: [(&str, Vec<u8>); 6] = [
        ("answers to pings that were never sent", frame(6, 1, 0, &[7; 8]).repeat(30_000)),
        ("pings", frame(6, 0, 0, &[7; 8]).repeat(30_000)),
        ("settings", frame(4, 0, 0, &[]).repeat(30_000)),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(30_000)),
        ("streams that are opened and reset", many(&|n| [headers(n), reset(n)].concat())),
        ("malformed requests", many(&malformed)),
    ];
    for (name, flood) in floods {
        let codes = goaways_after(&server, &flood);
        assert!(codes.contains(&ENHANCE_YOUR_CALM), "{name}: {codes:?}");
    }
    is_answered(&mut server.client().await).await;
    let log = server.log();
    assert!(log.len() < 100_000, "{} bytes of log, which begins {}", log.len(), &log[..2000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_grpc_or_a_valid_message_are_the_callers_fault() {
    let server = Server::start(&[]).await;
    let mut raw = Raw::connect(&server, WINDOW).await;
    let ok = embed(1);
    for content_type in ["text/plain", "application/grpc+json", "application/octet-stream"] {
        let ended = raw.call(EMBED, &[("content-type", content_type)], message(0, &ok)).await;
        assert_eq!((ended.http, ended.grpc), (415, None), "{content_type}");
    }
    assert_eq!(raw.call("/nowhere", &[], message(0, &ok)).await.grpc, UNIMPLEMENTED);
    assert_eq!(raw.call("/cognate.v1.Cognate/Nothing", &[], message(0, &ok)).await.grpc, UNIMPLEMENTED);
    let negative = raw.call(EMBED, &[("grpc-timeout", "-1S")], message(0, &ok)).await;
    assert_eq!(negative.grpc, INVALID_ARGUMENT, "{negative:?}");

    // The text is the same: its vector is cached by now.
    let too_late = raw.call(EMBED, &[("grpc-timeout", "0n")], message(0, &ok)).await;
    assert_eq!(too_late.grpc, DEADLINE_EXCEEDED, "{too_late:?}");

    let gzip = [("grpc-encoding", "gzip")];
    let zstd = [("grpc-encoding", "zstd")];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>);
    let cases: [Case; 8] = [
        ("a message cut off", &[], [promise(0, 10), vec![0; 9]].concat()),
        ("a head cut off", &[], vec![0, 0]),
        ("no message", &[], vec![]),
        ("two messages", &[], [message(0, &ok), message(0, &ok)].concat()),
        ("a second head begun", &[], [message(0, &ok), vec![0]].concat()),
        ("a flag that is none", &[], message(7, &ok)),
        ("gzip that is none", &gzip, message(1, b"xxxx")),
        ("zstd that is none", &zstd, message(1, b"xxxx")),
    ];
    for (name, headers, body) in cases {
        let ended = raw.call(EMBED, headers, body).await;
        assert_eq!((ended.http, ended.grpc), (200, INVALID_ARGUMENT), "{name}: {ended:?}");
    }
    for length in [(16 << 20) + 1, u32::MAX as usize] {
        let ended: Outcome = raw.call(EMBED, &[], [promise(0, length), vec![0]].concat()).await;
        assert_eq!(ended.grpc, OUT_OF_RANGE, "{length}: {ended:?}");
    }
    let large = zstd::encode_all(&vec![0; (16 << 20) + 1][..], 3).unwrap();
    assert_eq!(raw.call(EMBED, &zstd, message(1, &large)).await.grpc, OUT_OF_RANGE);
    // Several messages of a stream, in any pieces, compressed or not.
    let text = EmbedRequest { texts: vec!["word ".repeat(40_000)], ..Default::default() }.encode_to_vec();
    let packed = zstd::encode_all(&text[..], 3).unwrap();
    let (response, mut stream) = raw.begin(EMBED_STREAM, &zstd).await;
    for piece in [message(0, &ok), message(1, &packed), message(0, &text), message(0, &ok)].concat().chunks(3001) {
        stream.send_data(Bytes::copy_from_slice(piece), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let ended = outcome(response).await;
    assert_eq!(ended.grpc, Some(0), "{ended:?}");
    assert!(ended.bytes > 4 * 1536, "{ended:?}");
}
