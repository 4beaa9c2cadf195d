//! The access log: which calls get a line, what it has, and what it never has.

use cognate::wire::filter::Condition;
use cognate::wire::{
    DeleteCollectionRequest, DeleteDocumentsRequest, Document, EmbedRequest, Filter, GetDocumentsRequest, InfoRequest,
};
use tonic::Request;

use crate::harness::{Server, document, upload};
use crate::keys::{Keys, with};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The lines about calls of `method`.
fn lines(server: &Server, method: &str) -> Vec<String> {
    let method = [format!("method=\"{method}\""), format!("\"method\":\"{method}\"")];
    let log = server.log();
    log.lines().filter(|line| method.iter().any(|method| line.contains(method))).map(str::to_owned).collect()
}

fn embed(texts: &[&str]) -> Request<EmbedRequest> {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    let mut request = Request::new(EmbedRequest { texts, ..EmbedRequest::default() });
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap());
    request
}

#[tokio::test]
async fn each_call_gets_a_line_of_text_even_if_the_log_is_otherwise_quiet() {
    let server = Server::start(&["--access-log", "all", "--log", "error"]).await;
    let mut client = server.client().await;
    client.embed(embed(&["one text", "another"])).await.unwrap();
    client.embed(embed(&[])).await.unwrap_err();
    server.has_logged("code=InvalidArgument").await;
    let lines = lines(&server, "Embed");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for part in ["code=Ok", "peer=127.0.0.1:", "messages_in=1", "messages_out=1", "milliseconds=", TRACE] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(lines[1].contains("messages_out=0"), "{}", lines[1]);
}

#[tokio::test]
async fn a_line_is_an_object_where_the_log_is_json() {
    let server = Server::start(&["--access-log", "all", "--log-format", "json"]).await;
    server.client().await.embed(embed(&["one text"])).await.unwrap();
    server.has_logged("\"method\":\"Embed\"").await;
    let line: serde_json::Value = serde_json::from_str(&lines(&server, "Embed")[0]).unwrap();
    let fields = &line["fields"];
    assert_eq!((&line["target"], &fields["code"]), (&"cognate::access".into(), &"Ok".into()));
    assert_eq!((&fields["messages_in"], &fields["trace_id"]), (&1.into(), &TRACE.into()));
    assert!(fields["milliseconds"].as_f64().unwrap() > 0.0 && fields["bytes_in"].as_u64().unwrap() > 10, "{line}");
}

#[tokio::test]
async fn without_the_setting_there_are_no_lines_and_with_errors_only_failed_calls() {
    for (flags, expected) in [(&[][..], 0), (&["--access-log", "errors"][..], 1)] {
        let mut server = Server::start(flags).await;
        let mut client = server.client().await;
        client.info(InfoRequest {}).await.unwrap();
        client.embed(embed(&[])).await.unwrap_err();
        server.terminate();
        server.exit_code().await;
        server.has_logged("stopped").await;
        assert_eq!((lines(&server, "Info").len(), lines(&server, "Embed").len()), (0, expected), "{}", server.log());
    }
}

#[tokio::test]
async fn a_line_names_the_caller_of_a_key_and_not_the_key() {
    let keys = Keys::new();
    let (key, unknown) = (keys.create("search-team", "read", &[]), Keys::new().create("search-team", "read", &[]));
    let server = keys.server(&["--access-log", "all"]).await;
    let mut client = server.client().await;
    client.info(with(&key, InfoRequest {})).await.unwrap();
    client.embed(with(&unknown, EmbedRequest::default())).await.unwrap_err();
    server.has_logged("method=\"Info\"").await;
    server.has_logged("code=Unauthenticated").await;
    let (known, refused) = (lines(&server, "Info"), lines(&server, "Embed"));
    assert!(known.len() == 1 && known[0].contains("principal=\"search-team\""), "{known:?}");
    assert!(refused.len() == 1 && !refused[0].contains("principal"), "{refused:?}");
    assert!([key, unknown].iter().all(|key| !server.log().contains(key.as_str())), "{}", server.log());
}

#[tokio::test]
async fn no_text_id_metadata_or_credential_of_a_call_is_in_the_log() {
    let planted = ["xylophone-text", "xylophone-id", "xylophone-value", "xylophone-key", "xylophone-unknown"];
    let server = Server::start(&["--access-log", "all"]).await;
    let mut client = server.client().await;
    let metadata =
        cognate::wire::metadata::from_json(serde_json::json!({ "field": planted[2] }).as_object().expect("an object"));
    let stored = Document { metadata: Some(metadata), ..document(planted[1], planted[0]) };
    upload(&mut client, "notes", vec![stored]).await;
    let mut request = embed(&[planted[0]]);
    request.metadata_mut().insert("authorization", format!("Bearer {}", planted[3]).parse().unwrap());
    client.embed(request).await.unwrap();
    let (collection, ids) = ("notes".to_owned(), vec![planted[4].to_owned()]);
    client.get_documents(GetDocumentsRequest { collection, ids, ..Default::default() }).await.ok();
    server.has_logged("method=\"GetDocuments\"").await;
    for planted in planted {
        assert!(!server.log().contains(planted), "{planted} is in:\n{}", server.log());
    }
}

#[tokio::test]
async fn acts_that_reach_whole_collections_have_a_line_in_the_audit_log_at_every_level() {
    let server = Server::start(&["--log", "error"]).await;
    let mut client = server.client().await;
    upload(&mut client, "notes", vec![document("a", "one"), document("b", "two")]).await;
    let name = || "notes".to_owned();
    let filter = Some(Filter { condition: Some(Condition::Text("absent = 1 or not absent = 1".to_owned())) });
    let by_id = DeleteDocumentsRequest { collection: name(), ids: vec!["a".to_owned()], ..Default::default() };
    let by_filter = DeleteDocumentsRequest { collection: name(), filter, ..Default::default() };
    client.delete_documents(by_id).await.unwrap();
    client.delete_documents(by_filter).await.unwrap();
    client.delete_collection(DeleteCollectionRequest { name: name() }).await.unwrap();
    client.delete_collection(DeleteCollectionRequest { name: name() }).await.unwrap_err();
    server.has_logged("outcome=NotFound").await;
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("audit ")).collect();
    let expected = [
        ("delete by filter", "documents=1 outcome=\"done\""),
        ("delete collection", "documents=0 outcome=\"done\""),
        ("delete collection", "outcome=NotFound"),
    ];
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, (act, outcome)) in lines.iter().zip(expected) {
        assert!(line.contains(&format!("act=\"{act}\"")) && line.contains(outcome), "{line}");
        assert!(line.contains("notes"), "{line}");
    }
}
