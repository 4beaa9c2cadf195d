//! All attacks at once against one server, for an hour or for `COGNATE_ATTACK_MINUTES`:
//! `cargo test --release --test it -- --ignored attacks --nocapture`. A minute of it is part of `.ci/run`.
//!
//! All the time the server must live, answer health checks and small calls, and keep its memory below the figure that
//! `Info` reports. It must be idle when the attackers have left.

use std::time::{Duration, Instant};

use cognate::wire::filter::Condition;
use cognate::wire::query::Query as By;
use cognate::wire::{
    ClassifyRequest, DeleteCollectionRequest, Document, EmbedRequest, ExportRequest, Filter, InfoRequest, Query,
    TopKRequest, UploadRequest, Vector,
};
use cognate::wire::{FilterList, RangeCondition};
use prost::Message;
use tokio::time::{sleep, timeout};

use crate::harness::{NO_PROC, Server, document, new_texts, upload_all};
use crate::raw::{Raw, frame, goaways_after, message, promise};
use crate::skipped::skipped;

const SERVICE: &str = "/cognate.v1.Cognate/";

/// Returns the duration of the attacks.
fn duration() -> Duration {
    let minutes = std::env::var("COGNATE_ATTACK_MINUTES").ok().map(|text| text.parse::<f64>().expect("a number"));
    Duration::from_secs_f64(minutes.unwrap_or(60.0) * 60.0)
}

fn vector(n: usize) -> Vector {
    Vector { values: (0..384).map(|d| ((n * 31 + d * 7) % 101) as f32 - 50.0).collect(), ..Default::default() }
}

fn search(queries: usize) -> TopKRequest {
    let query = |n| Query { query: Some(By::Vector(vector(n))), ..Default::default() };
    TopKRequest {
        collection: "many".into(),
        queries: (0..queries).map(query).collect(),
        k: 1_000,
        ..Default::default()
    }
}

/// Creates a filter of `n` ranges: as many as allowed, or far more.
fn ranges(n: usize) -> Filter {
    let range = |n: usize| Filter {
        condition: Some(Condition::Range(RangeCondition {
            path: Some("n".into()),
            gte: Some(n as f64),
            ..Default::default()
        })),
    };
    Filter { condition: Some(Condition::AnyOf(FilterList { filters: (0..n).map(range).collect() })) }
}

/// Returns one message of each kind that once cost gigabytes or minutes, by method.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let diverse = TopKRequest { diversity: 0.9, ..search(100) };
    let filtered = |n| TopKRequest { filter: Some(ranges(n)), k: 10, ..search(100) };
    let texts = TopKRequest { with_text: true, ..search(40) };
    let unknown = ClassifyRequest { texts: vec!["x".into(); 1_000], model: "m".repeat(1 << 20), ..Default::default() };
    let blank = EmbedRequest { texts: vec![" ".repeat(200_000); 16], ..Default::default() };
    let large = EmbedRequest { texts: new_texts(1_000, 100), ..Default::default() };
    vec![
        ("EmbedStream", [0x0a, 0].repeat(4 << 20)),
        ("Upload", [0x12, 0].repeat(4 << 20)),
        ("TopK", [0x12, 0].repeat(4 << 20)),
        ("ClassifyStream", unknown.encode_to_vec()),
        ("TopK", diverse.encode_to_vec()),
        ("TopK", filtered(1_000).encode_to_vec()),
        ("TopK", filtered(40_000).encode_to_vec()),
        ("TopK", texts.encode_to_vec()),
        ("Embed", blank.encode_to_vec()),
        ("Embed", large.encode_to_vec()),
    ]
}

/// Sends every message over a connection of its own, and leaves: sometimes at once, sometimes later.
async fn send_and_leave(server: &Server) {
    let sent = messages().into_iter().enumerate().map(async |(n, (method, bytes))| {
        let mut connection = Raw::connect(server, 1 << 20).await;
        let path = format!("{SERVICE}{method}");
        let call = connection.call(&path, &[("grpc-timeout", "5S")], message(0, &bytes));
        let _ = timeout(Duration::from_millis(400 * (n % 4) as u64 + 50), call).await;
    });
    futures::future::join_all(sent).await;
}

/// Announces messages, sends half of them, and opens streams that are never used. Leaves after two seconds.
async fn hold(server: &Server) {
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = Raw::connect(server, 0).await;
        for half in [0, 0, 8 << 20] {
            let (response, mut stream) = connection.begin(&format!("{SERVICE}Embed"), &[]).await;
            stream.send_data([promise(0, 16 << 20), vec![0; half]].concat().into(), false).unwrap();
            held.push((response, stream));
        }
        for _ in 0..60 {
            held.push(connection.begin(&format!("{SERVICE}EmbedStream"), &[]).await);
        }
    }
    sleep(Duration::from_secs(2)).await;
}

/// Floods a connection with frames that bring no work.
async fn flood(server: &Server) {
    for flood in [frame(6, 1, 0, &[7; 8]), frame(6, 0, 0, &[7; 8]), frame(4, 0, 0, &[])] {
        tokio::task::block_in_place(|| goaways_after(server, &flood.repeat(20_000)));
    }
}

/// Fills a collection, begins to export it, deletes it during the export, and reads nothing more.
async fn refill(server: &Server) {
    let mut client = server.client().await;
    let text = "x".repeat(100_000);
    let document = |n| Document { vector: Some(vector(n)), ..document(&n.to_string(), &text) };
    let part =
        |first| UploadRequest { collection: "held".into(), documents: (first..first + 50).map(document).collect() };
    // A full store refuses some of them: open exports keep the older ones.
    let _ = upload_all(&mut client, (0..200).step_by(50).map(part).collect()).await;
    let export = client.export(ExportRequest { collection: "held".into(), ..Default::default() }).await;
    let _ = client.delete_collection(DeleteCollectionRequest { name: "held".into() }).await;
    sleep(Duration::from_secs(1)).await;
    drop(export);
}

/// Observes the server as a well-behaved client until `end`. Returns the sorted milliseconds of health checks and of
/// small calls.
async fn bystander(server: &Server, end: Instant) -> [Vec<u128>; 2] {
    let (mut client, mut checks, mut calls) = (server.client().await, Vec::new(), Vec::new());
    while Instant::now() < end {
        let begun = Instant::now();
        server.health("").await.expect("health is answered");
        checks.push(begun.elapsed().as_millis());
        let begun = Instant::now();
        let request = EmbedRequest { texts: new_texts(1, 3), ..Default::default() };
        match timeout(Duration::from_secs(30), client.embed(request)).await.expect("an answer comes") {
            Ok(answer) => assert_eq!(answer.into_inner().results.len(), 1),
            // All calls may be taken for moments. The client is told when to come back.
            Err(status) => assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}"),
        }
        calls.push(begun.elapsed().as_millis());
        sleep(Duration::from_millis(100)).await;
    }
    [checks, calls].map(|mut times| {
        times.sort_unstable();
        times
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an hour, or COGNATE_ATTACK_MINUTES; .ci/run has a step for a minute of it"]
async fn attacks_of_all_kinds_for_long_take_no_more_than_the_settings_imply() {
    let server = Server::start(&["--max-stored-bytes", "256MiB"]).await;
    let mut client = server.client().await;
    let many = |first: usize| UploadRequest {
        collection: "many".into(),
        documents: (first..first + 500)
            .map(|n| Document { vector: Some(vector(n)), ..document(&n.to_string(), "t") })
            .collect(),
    };
    upload_all(&mut client, (0..6_000).step_by(500).map(many).collect()).await.unwrap();
    let limits = client.info(InfoRequest {}).await.unwrap().into_inner().limits.unwrap();
    let end = Instant::now() + duration();
    let attack = async {
        let mut rounds = 0;
        while Instant::now() < end {
            tokio::join!(send_and_leave(&server), hold(&server), flood(&server), refill(&server));
            rounds += 1;
        }
        rounds
    };
    let (rounds, [checks, calls]) = tokio::join!(attack, bystander(&server, end));
    let p99 = |times: &[u128]| times[times.len() * 99 / 100];
    println!("{rounds} rounds; health p99 {} ms, small calls p99 {} ms", p99(&checks), p99(&calls));
    match server.peak_bytes() {
        Some(peak) => {
            println!("peak {} MiB, of {} MiB that Info names", peak >> 20, limits.max_resident_bytes >> 20);
            assert!(peak as u64 <= limits.max_resident_bytes, "{peak} bytes, and Info names {limits:?}");
        }
        None => skipped(NO_PROC),
    }
    crate::leaving::until_idle(&server).await;
    let request = EmbedRequest { texts: new_texts(1, 3), ..Default::default() };
    client.embed(request).await.expect("the server answers when the attackers have left");
}
