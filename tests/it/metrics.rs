//! Metrics and probes, over HTTP, of a real server. The dashboard, the alerts and the documents name what is there.

mod exposition;
mod promql;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use cognate::wire::{CountDocumentsRequest, EmbedRequest, Query, TopKRequest, query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::certificates::{Authority, serve};
use crate::harness::{Server, document, new_texts, upload};
use crate::key_limits;
use crate::keys::{Keys, with};
use exposition::Scrape;

/// The flags of a server with metrics.
pub const FLAGS: [&str; 2] = ["--metrics-addr", "127.0.0.1:0"];

/// Waits until the log names the address of metrics.
pub async fn address(server: &Server) -> SocketAddr {
    server.has_logged("metrics are served").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("metrics are served")).unwrap();
    let addr = line.split("addr=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    addr.parse().unwrap_or_else(|_| panic!("no address in {line}"))
}

/// The status and the body of an answer over HTTP.
async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub async fn scrape(addr: SocketAddr) -> Scrape {
    let (status, text) = get(addr, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    Scrape::parse(&text)
}

/// Scrapes until `is_there` finds what it looks for: a call is counted a moment after its client has the answer.
async fn scrape_until(addr: SocketAddr, is_there: impl Fn(&Scrape) -> bool) -> Scrape {
    for _ in 0..600 {
        let scrape = scrape(addr).await;
        if is_there(&scrape) {
            return scrape;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is in no scrape; the last one:\n{}", get(addr, "/metrics").await.1);
}

fn embed(texts: &[String]) -> EmbedRequest {
    EmbedRequest { texts: texts.to_vec(), ..EmbedRequest::default() }
}

fn by_text(collection: &str, text: &str) -> TopKRequest {
    let query = Query { query: Some(query::Query::Text(text.to_owned())), ..Query::default() };
    TopKRequest { collection: collection.to_owned(), queries: vec![query], k: 3, ..TopKRequest::default() }
}

/// A server on disk that has done a little of everything, and the address of its metrics.
async fn used_server() -> (Server, SocketAddr, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let server = Server::start(&[&FLAGS[..], &["--data-dir", data]].concat()).await;
    let addr = address(&server).await;
    let mut client = server.client().await;
    let documents = (0..4).map(|n| document(&format!("zanzibar{n}"), "a quokka naps beside the quay")).collect();
    upload(&mut client, "animals", documents).await;
    client.embed(embed(&new_texts(3, 5))).await.unwrap();
    client.top_k(by_text("animals", "where is the quokka")).await.unwrap();
    assert_eq!(client.top_k(by_text("plants", "moss")).await.unwrap_err().code(), Code::NotFound);
    // The recall of the search is measured in the background.
    let recall = |scrape: &Scrape| scrape.value("cognate_search_recall", &[("collection", "animals")]).is_some();
    scrape_until(addr, recall).await;
    (server, addr, directory)
}

/// A server whose caller `a` has stored all that it may, and was refused, and whose caller `b` has used the model. The
/// address of its metrics, and the keys.
async fn used_server_with_keys() -> (Server, SocketAddr, [String; 2]) {
    let keys = Keys::new();
    let a = keys.create("a", "write", &["--max-documents", "2", "--max-stored-bytes", "1MiB"]);
    let b = keys.create("b", "read", &[]);
    let server = keys.server(&FLAGS).await;
    let (addr, mut client) = (address(&server).await, server.client().await);
    let (committed, ended) = key_limits::upload(&client, &a, ("animals", &[&["1", "2"], &["3"]])).await;
    assert_eq!((committed, ended.unwrap_err().code()), (2, Code::ResourceExhausted));
    client.embed(with(&b, embed(&new_texts(3, 5)))).await.unwrap();
    (server, addr, [a, b])
}

#[tokio::test]
async fn a_scrape_counts_what_each_caller_with_a_key_does_and_stores_beside_its_limits() {
    let (_server, addr, keys) = used_server_with_keys().await;
    let calls = |scrape: &Scrape, caller: &'static str, code: &'static str| {
        scrape.value("cognate_principal_calls_total", &[("principal", caller), ("grpc_code", code)])
    };
    let both = |scrape: &Scrape| (calls(scrape, "a", "ResourceExhausted"), calls(scrape, "b", "OK"));
    let scrape = scrape_until(addr, |scrape| both(scrape) == (Some(1.0), Some(1.0))).await;
    let of = |metric, caller| scrape.value(&format!("cognate_principal_{metric}"), &[("principal", caller)]);
    assert!(of("tokens_total", "a") > Some(2.0) && of("tokens_total", "b") > Some(15.0));
    assert_eq!((of("documents", "a"), of("documents", "b")), (Some(2.0), Some(0.0)));
    assert_eq!((of("documents_limit", "a"), of("documents_limit", "b")), (Some(2.0), None));
    let bytes = scrape.value("cognate_stored_bytes", &[]);
    assert_eq!((of("stored_bytes", "a"), of("stored_limit_bytes", "a")), (bytes, Some(f64::from(1 << 20))));
    let (_, text) = get(addr, "/metrics").await;
    assert!(keys.iter().all(|key| !text.contains(key)), "{text}");
}

#[tokio::test]
async fn a_scrape_counts_calls_by_method_and_code_with_their_messages_and_bytes() {
    let (_server, addr, _directory) = used_server().await;
    let of = |method: &'static str, code: &'static str| [("grpc_method", method), ("grpc_code", code)];
    let top_k = |scrape: &Scrape, code| scrape.value("grpc_server_handled_total", &of("TopK", code));
    let scrape = scrape_until(addr, |scrape| top_k(scrape, "NotFound") == Some(1.0)).await;
    assert_eq!(top_k(&scrape, "OK"), Some(1.0));
    assert_eq!(scrape.value("grpc_server_handled_total", &of("Embed", "OK")), Some(1.0));
    assert_eq!(scrape.value("grpc_server_started_total", &[("grpc_method", "TopK")]), Some(2.0));
    assert_eq!(scrape.value("grpc_server_started_total", &[("grpc_method", "Backup")]), Some(0.0));
    assert_eq!(scrape.value("grpc_server_handling_seconds_count", &[("grpc_method", "TopK")]), Some(2.0));
    assert_eq!(scrape.value("grpc_server_in_flight", &[("grpc_method", "TopK")]), Some(0.0));
    assert_eq!(scrape.value("grpc_server_msg_received_total", &[("grpc_method", "TopK")]), Some(2.0));
    assert_eq!(scrape.value("grpc_server_msg_sent_total", &[("grpc_method", "TopK")]), Some(1.0), "one failed");
    let embed = [("grpc_method", "Embed")];
    // Three vectors of 384 f32.
    assert!(scrape.value("grpc_server_sent_bytes_total", &embed).unwrap() > 3.0 * 384.0 * 4.0);
    assert!(scrape.value("grpc_server_received_bytes_total", &embed).unwrap() > 5.0);
}

#[tokio::test]
async fn a_scrape_counts_what_models_searches_and_the_disk_did() {
    let (_server, addr, _directory) = used_server().await;
    let scrape = scrape(addr).await;
    let embedder = [("kind", "embedder"), ("model", "default")];
    // Three texts, a query, and the one text of four documents.
    assert_eq!(scrape.value("cognate_computed_texts_total", &embedder), Some(5.0));
    assert!(scrape.value("cognate_requested_texts_total", &embedder).unwrap() >= 5.0);
    assert!(scrape.value("cognate_computed_tokens_total", &embedder).unwrap() > 15.0);
    for phase in ["tokenise", "model"] {
        assert!(scrape.value("cognate_phase_seconds_total", &[embedder[0], ("phase", phase)]).unwrap() > 0.0);
    }
    assert_eq!(scrape.value("cognate_documents", &[("collection", "animals")]), Some(4.0));
    assert_eq!(scrape.value("cognate_search_recall", &[("collection", "animals")]), Some(1.0));
    assert_eq!(scrape.value("cognate_queries_total", &[("mode", "vector")]), Some(1.0));
    let searches = |way| scrape.value("cognate_index_searches_total", &[("way", way)]).unwrap();
    assert_eq!(searches("exact") + searches("scan") + searches("walk"), 1.0, "checks of recall do not count");
    assert!(scrape.value("cognate_commits_total", &[]).unwrap() >= 1.0);
    assert!(scrape.value("cognate_disk_sync_seconds_count", &[]).unwrap() >= 1.0);
    assert_eq!(scrape.value("cognate_writes_stopped", &[]), Some(0.0));
}

#[tokio::test]
async fn small_collections_are_counted_together_when_there_are_more_than_the_settings_allow() {
    let server = Server::start(&[&FLAGS[..], &["--metrics-collections", "1"]].concat()).await;
    let (addr, mut client) = (address(&server).await, server.client().await);
    for (collection, n) in [("large", 3), ("small", 2), ("smaller", 1)] {
        upload(&mut client, collection, (0..n).map(|n| document(&n.to_string(), "moss")).collect()).await;
    }
    let scrape = scrape(addr).await;
    let documents = |collection| scrape.value("cognate_documents", &[("collection", collection)]);
    assert_eq!((documents("large"), documents("(others)")), (Some(3.0), Some(3.0)));
    assert_eq!((documents("small"), documents("smaller")), (None, None));
}

#[tokio::test]
async fn readiness_turns_with_health_and_liveness_does_not() {
    let mut server = Server::spawn(&FLAGS);
    let addr = address(&server).await;
    loop {
        let (status, text) = get(addr, "/readyz").await;
        if status == 200 {
            assert_eq!(text, "ready\n");
            break;
        }
        assert_eq!((status, &*text), (503, "not ready: models and collections are being loaded\n"));
        assert_eq!(get(addr, "/livez").await, (200, "alive\n".to_owned()));
        assert_eq!(scrape(addr).await.value("cognate_build_info", &[]), Some(1.0));
    }
    server.wait_until_serving().await;
    assert_eq!(scrape(addr).await.value("cognate_ready", &[]), Some(1.0));
    // A stream in progress holds the server open.
    let (messages, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    messages.send(embed(&["moss".to_owned()])).await.unwrap();
    let mut answers = server.client().await.embed_stream(stream).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    server.terminate();
    while get(addr, "/readyz").await.0 == 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(addr, "/readyz").await, (503, "not ready: the server is stopping\n".to_owned()));
    assert_eq!(get(addr, "/livez").await.0, 200);
    drop(messages);
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn scrapes_are_answered_while_calls_run_and_see_them() {
    let server = Server::start(&FLAGS).await;
    let addr = address(&server).await;
    let mut calls = Vec::new();
    for _ in 0..32 {
        let mut client = server.client().await;
        calls.push(tokio::spawn(async move { client.embed(embed(&new_texts(16, 60))).await.map(|_| ()) }));
    }
    let in_flight = |scrape: &Scrape| scrape.value("grpc_server_in_flight", &[("grpc_method", "Embed")]);
    scrape_until(addr, |scrape| in_flight(scrape) > Some(1.0)).await;
    scrape_until(addr, |scrape| scrape.sum("cognate_queue_tokens", &[("kind", "embedder")]) > 0.0).await;
    futures::future::join_all((0..20).map(|_| scrape(addr))).await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    scrape_until(addr, |scrape| in_flight(scrape) == Some(0.0)).await;
}

#[tokio::test]
async fn connections_that_send_nothing_do_not_keep_scrapes_out_for_ever() {
    let server = Server::start(&FLAGS).await;
    let addr = address(&server).await;
    let silent = futures::future::join_all((0..8).map(|_| TcpStream::connect(addr))).await;
    assert_eq!(get(addr, "/livez").await.0, 200);
    drop(silent);
}

#[tokio::test]
async fn nothing_of_a_message_is_in_a_scrape() {
    let (server, addr, _directory) = used_server().await;
    let mut client = server.client().await;
    let request = CountDocumentsRequest { collection: "xylophones".to_owned(), ..CountDocumentsRequest::default() };
    client.count_documents(request).await.unwrap_err();
    let mut grpc = tonic::client::Grpc::new(server.channel().await.unwrap());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/cognate.v1.Cognate/Secretive");
    let codec = tonic_prost::ProstCodec::<EmbedRequest, EmbedRequest>::default();
    grpc.unary(tonic::Request::new(embed(&[])), path, codec).await.unwrap_err();
    let is_counted =
        |scrape: &Scrape| scrape.value("grpc_server_started_total", &[("grpc_method", "other")]) > Some(0.0);
    scrape_until(addr, is_counted).await;
    let (_, text) = get(addr, "/metrics").await;
    assert!(text.contains("animals"), "the name of a collection is a label");
    for planted in ["quokka", "zanzibar", "xylophones", "plants", "moss", "Secretive"] {
        assert!(!text.contains(planted), "{planted} is in the scrape:\n{text}");
    }
}

#[tokio::test]
async fn the_end_of_the_certificate_is_in_a_scrape_and_follows_the_file() {
    const EXPIRY: &str = "cognate_certificate_expiry_seconds";
    let authority = Authority::new();
    let pair = authority.sign("127.0.0.1", 2998);
    let (server, plain) = (serve(&pair, &FLAGS), Server::spawn(&FLAGS));
    let addr = address(&server).await;
    let end_of = |year| rcgen::date_time_ymd(year, 12, 31).unix_timestamp() as f64;
    assert_eq!(scrape(addr).await.value(EXPIRY, &[]), Some(end_of(2998)));
    pair.become_(&authority.sign("127.0.0.1", 2999));
    scrape_until(addr, |scrape| scrape.value(EXPIRY, &[]) == Some(end_of(2999))).await;
    assert_eq!(scrape(address(&plain).await).await.value(EXPIRY, &[]), None);
}

/// A document of the repository.
fn read(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_metrics_and_labels_that_a_scrape_has() {
    let (_server, addr, _directory) = used_server().await;
    let (_with_keys, with_keys, _) = used_server_with_keys().await;
    let is_counted = |scrape: &Scrape| scrape.sum("cognate_principal_calls_total", &[]) > 1.0;
    let scrape = scrape(addr).await.and(scrape_until(with_keys, is_counted).await);
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/cognate.json")).unwrap();
    let mut queries = promql::of_dashboard(&dashboard);
    let n_panels = queries.len();
    queries.extend(promql::of_rules(&read("deploy/prometheus/alerts.yml")));
    assert!(n_panels > 50 && queries.len() > n_panels + 10, "{n_panels} and {} queries", queries.len());
    let faults: Vec<String> = queries.iter().flat_map(|query| promql::faults(query, &scrape)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn the_table_of_metrics_in_docs_has_each_family_with_its_type() {
    let (_server, addr, _directory) = used_server().await;
    let families: BTreeSet<String> =
        scrape(addr).await.families().map(|(name, kind)| format!("`{name}` | {kind}")).collect();
    let operations = read("docs/operations.md");
    let described: BTreeSet<String> = operations
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (name, kind) = (cells.next()?, cells.next()?);
            ["counter", "gauge", "histogram", "info"].contains(&kind).then(|| format!("{name} | {kind}"))
        })
        .collect();
    assert_eq!(families, described);
}

#[test]
fn each_alert_has_an_entry_in_the_runbook() {
    let (alerts, operations) = (read("deploy/prometheus/alerts.yml"), read("docs/operations.md"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(operations.contains(&format!("\n### {name}\n")), "docs/operations.md lacks ### {name}");
        let runbook = format!("runbook: docs/operations.md#{}\n", name.to_lowercase());
        assert!(alerts.contains(&runbook), "{name} does not name its entry");
    }
    let entries = operations.lines().filter_map(|line| line.strip_prefix("### Cognate"));
    for entry in entries {
        assert!(alerts.contains(&format!("- alert: Cognate{entry}\n")), "there is no alert Cognate{entry}");
    }
}
