//! Traces: the spans that a collector gets of a call, and what happens without one. The collector is a server of OTLP
//! in this process.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cognate::wire::{EmbedRequest, InfoRequest, Query, TopKRequest, query};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::harness::{Server, document, new_texts, upload};
use crate::keys::Keys;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a collector got: spans, and the attributes of their resource.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collected {
    /// Starts a collector on a free port.
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (collected, addr) = (Self::default(), listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collected.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        (collected, addr)
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|of| &of.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until all of these spans are here, in the trace of the call that has this name.
    async fn trace_of(&self, call: &str, names: &[&str]) -> Trace {
        for _ in 0..1500 {
            let spans = self.spans();
            if let Some(call) = spans.iter().find(|span| span.name == call) {
                let trace = Trace { call: call.clone(), spans: spans.clone() };
                if names.iter().all(|name| trace.inside(name).is_some()) {
                    return trace;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{call} with {names:?} is not in {:?}", self.spans().iter().map(|span| &span.name).collect::<Vec<_>>());
    }
}

/// A call, and all spans that have arrived.
struct Trace {
    call: Span,
    spans: Vec<Span>,
}

impl Trace {
    /// The span of this name in the trace of the call.
    fn inside(&self, name: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.name == name && span.trace_id == self.call.trace_id)
    }

    fn parent_of(&self, name: &str) -> &str {
        let parent = &self.inside(name).unwrap_or_else(|| panic!("no {name}")).parent_span_id;
        let parent = self.spans.iter().find(|span| span.span_id == *parent);
        parent.map_or("none", |parent| &parent.name)
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

/// Starts a server that sends its traces to `collector`.
async fn traced(collector: SocketAddr, variables: &[(&str, &str)], flags: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--addr", "127.0.0.1:0"]).args(flags);
    if !flags.contains(&"--data-dir") {
        command.arg("--in-memory");
    }
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    command.envs(variables.iter().copied());
    let mut server = Server::of(command);
    server.wait_until_serving().await;
    server
}

fn embed(texts: Vec<String>) -> EmbedRequest {
    EmbedRequest { texts, ..EmbedRequest::default() }
}

/// The request of a caller that has a trace.
fn continuing<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    request
}

#[tokio::test]
async fn an_embed_continues_its_callers_trace_and_shows_its_batch() {
    let (collected, addr) = Collected::start().await;
    let server = traced(addr, &[("OTEL_SERVICE_NAME", "search")], &[]).await;
    server.client().await.embed(continuing(embed(new_texts(3, 5)))).await.unwrap();
    let trace = collected.trace_of("cognate.v1.Cognate/Embed", &["tokenise", "queue", "model"]).await;

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let call = &trace.call;
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (PARENT[3..35].to_owned(), PARENT[36..52].to_owned()));
    assert_eq!(call.trace_state, "vendor=1");
    let expected = [
        ("rpc.system", "grpc"),
        ("rpc.service", "cognate.v1.Cognate"),
        ("rpc.method", "Embed"),
        ("rpc.grpc.status_code", "0"),
        ("network.peer.address", "127.0.0.1"),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(call, key), value, "{key}");
    }
    for name in ["tokenise", "queue", "model"] {
        assert_eq!(trace.parent_of(name), "cognate.v1.Cognate/Embed", "{name}");
    }
    assert_eq!(attribute(trace.inside("queue").unwrap(), "texts"), "3");
    let links = |span: &Span| span.links.iter().map(|link| link.span_id.clone()).collect::<Vec<_>>();
    let is_of_call = |span: &&Span| span.name == "model batch" && links(span) == [call.span_id.clone()];
    let batch = trace.spans.iter().find(is_of_call).expect("a batch that links to the call");
    assert_eq!(links(trace.inside("model").unwrap()), std::slice::from_ref(&batch.span_id));
    assert_ne!(batch.trace_id, call.trace_id, "a batch may serve several calls");

    let requests = collected.0.lock().unwrap();
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    let has = |key: &str, value: &str| {
        let value = Some(Value::StringValue(value.to_owned()));
        resource.attributes.iter().any(|one| one.key == key && one.value.as_ref().is_some_and(|of| of.value == value))
    };
    assert!(has("service.name", "search") && has("service.version", env!("CARGO_PKG_VERSION")), "{resource:?}");
}

#[tokio::test]
async fn an_upload_shows_its_commits_and_a_search_its_comparison_of_rows() {
    let (directory, (collected, addr)) = (tempfile::tempdir().unwrap(), Collected::start().await);
    let server = traced(addr, &[], &["--data-dir", directory.path().to_str().unwrap()]).await;
    let mut client = server.client().await;
    upload(&mut client, "notes", (0..5).map(|n| document(&n.to_string(), &format!("note {n}"))).collect()).await;
    let trace =
        collected.trace_of("cognate.v1.Cognate/Upload", &["tokenise", "queue", "model", "commit", "fsync"]).await;
    assert_eq!(trace.parent_of("commit"), "cognate.v1.Cognate/Upload");
    let commit = &trace.inside("commit").unwrap().span_id;
    // The first sync is that of the new collection.
    assert!(trace.spans.iter().any(|span| span.name == "fsync" && span.parent_span_id == *commit));

    let queries = vec![Query { query: Some(query::Query::Text("a note".to_owned())), ..Query::default() }];
    let request = TopKRequest { queries, k: 2, collection: "notes".to_owned(), ..TopKRequest::default() };
    client.top_k(request).await.unwrap();
    let trace = collected.trace_of("cognate.v1.Cognate/TopK", &["tokenise", "model", "search", "rescore"]).await;
    assert_eq!((trace.parent_of("search"), trace.parent_of("rescore")), ("cognate.v1.Cognate/TopK", "search"));
    assert!(trace.call.parent_span_id.is_empty(), "no caller named a trace");
}

#[tokio::test]
async fn a_stop_sends_the_spans_that_wait_and_a_failed_call_is_among_them() {
    let (collected, addr) = Collected::start().await;
    let mut server = traced(addr, &[("OTEL_BSP_SCHEDULE_DELAY", "3600000")], &[]).await;
    server.client().await.embed(embed(Vec::new())).await.unwrap_err();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let spans = collected.spans();
    let call = spans.iter().find(|span| span.name == "cognate.v1.Cognate/Embed").expect("the call");
    assert_eq!(attribute(call, "rpc.grpc.status_code"), "3");
    assert_eq!(call.status.clone().unwrap_or_default().code, 0, "the caller made the mistake, not the server");
}

#[tokio::test]
async fn calls_that_are_not_sampled_are_not_exported_whatever_an_unknown_caller_says() {
    let (collected, addr) = Collected::start().await;
    let mut server = traced(addr, &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")], &[]).await;
    server.client().await.embed(continuing(embed(new_texts(1, 3)))).await.unwrap();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    assert!(collected.spans().is_empty());
}

#[tokio::test]
async fn the_sampled_flag_of_a_caller_with_a_key_decides_and_that_of_others_does_not() {
    let (collected, addr) = Collected::start().await;
    let keys = Keys::new();
    let key = keys.create("a", "read", &[]);
    // By itself the server traces nothing.
    let variables = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    let flags = ["--keys", keys.path.to_str().unwrap(), "--public-info", "true"];
    let mut server = traced(addr, &variables, &flags).await;
    let mut client = server.client().await;
    let request = |traceparent: &str, key: Option<&str>| {
        let mut request = Request::new(InfoRequest {});
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        request
    };
    let of_trace = |digit: &str, flag: &str| format!("00-{}-00f067aa0ba902b7-{flag}", digit.repeat(32));
    client.info(request(&of_trace("1", "01"), Some(&key))).await.unwrap();
    client.info(request(&of_trace("2", "00"), Some(&key))).await.unwrap();
    client.info(request(&of_trace("3", "01"), None)).await.unwrap();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let traces: Vec<_> = collected.spans().into_iter().map(|span| (span.name, span.trace_id)).collect();
    assert_eq!(traces, [("cognate.v1.Cognate/Info".to_owned(), vec![0x11; 16])]);
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_no_call_and_takes_no_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Connections are accepted and stay silent.
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    // The first spans are never given up, so the queue, of 2,048 spans, fills and stays full however slow the calls
    // are.
    let mut server = traced(addr, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")], &[]).await;
    let mut client = server.client().await;
    let mut call = async |n| {
        for _ in 0..n {
            client.info(InfoRequest {}).await.expect("the call is answered");
        }
    };
    call(4000).await;
    let before = server.resident_bytes();
    call(12_000).await;
    if let (Some(before), Some(after)) = (before, server.resident_bytes()) {
        // 12,000 spans that wait would take about 12 MiB.
        assert!(after < before + (6 << 20), "{before} bytes have become {after}");
    }
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0), "the stop does not wait for ever");

    let server = traced(addr, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "100")], &[]).await;
    server.client().await.info(InfoRequest {}).await.unwrap();
    server.has_logged("the collector does not take spans").await;
    silent.abort();
}

#[tokio::test]
async fn a_variable_that_has_no_effect_ends_the_start_and_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--addr", "127.0.0.1:0", "--in-memory"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").env("OTEL_TRACES_SAMPLER", "xray");
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in
        ["OTEL_TRACES_SAMPLER is \"xray\": expected always_on", "OTEL_EXPORTER_OTLP_PROTOCOL is", "expected grpc"]
    {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}
