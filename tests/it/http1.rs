//! Connections of HTTP/1.1: requests one after the other, and clients that are slow, leave, or send too much.

use cognate::wire::EmbedRequest;
use tokio::io::AsyncWriteExt;
use tonic::Code;

use crate::certificates::{Authority, serve};
use crate::harness::{Server, new_texts};
use crate::http::{Http, post};
use crate::keys::Keys;
use crate::raw;
use crate::tls_change::speaking;

const JSON: (&str, &str) = ("content-type", "application/json");
const EMBED: &str = "/cognate.v1.Cognate/Embed";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_one_request_after_the_other_in_any_form() {
    let server = Server::start(&[]).await;
    let mut http = Http::connect(&server).await;
    // Two at once, which are answered in order.
    http.send([post(EMBED, &[JSON], r#"{"texts":["a"]}"#), post(EMBED, &[JSON], r#"{"texts":["a","b"]}"#)].concat())
        .await;
    for n in [1, 2] {
        assert_eq!(http.answer().await.json()["results"].as_array().map(Vec::len), Some(n));
    }
    // In chunks, behind a question if it may come, and in small pieces.
    http.send(format!(
        "POST {EMBED} HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
         transfer-encoding: chunked\r\n\r\n"
    ))
    .await;
    assert_eq!(http.head().await.map(|(status, _)| status), Some(100));
    for byte in "a\r\n{\"texts\":[\r\n5\r\n\"a\"]}\r\n0\r\n\r\n".bytes() {
        http.send([byte]).await;
    }
    assert_eq!(http.answer().await.status, 200);
    let last = http.post(EMBED, &[JSON, ("connection", "close")], r#"{"texts":["a"]}"#).await;
    assert_eq!((last.status, http.is_closed().await), (200, true));
    // An older client.
    let mut old = Http::connect(&server).await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((old.answer().await.status, old.is_closed().await), (200, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_long_slow_or_no_http_end_their_connection() {
    let server = Server::spawn(&["--handshake-timeout", "2s"]);
    let long = format!("GET / HTTP/1.1\r\nhost: s\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: s\r\n{}\r\n", "x-many: 1\r\n".repeat(200));
    for (head, status) in [(long, 431), (many, 431), ("what is this\r\n\r\n".to_owned(), 400)] {
        let mut http = Http::connect(&server).await;
        http.send(&head).await;
        assert_eq!(http.answer().await.status, status, "{}", &head[..20]);
        assert!(http.is_closed().await);
    }
    // A head that does not end: the first of a connection, and a later one.
    let mut first = Http::connect(&server).await;
    first.send("GET / HTTP/1.1\r\nhost:").await;
    let mut later = Http::connect(&server).await;
    later.send("GET / HTTP/1.1\r\nhost: s\r\n\r\n").await;
    assert_eq!(later.answer().await.status, 200);
    later.send("GET / HTTP/1.1\r\nhost:").await;
    assert!(first.is_closed().await && later.is_closed().await);
    // Two lengths that disagree.
    let mut smuggled = Http::connect(&server).await;
    smuggled
        .send(format!("POST {EMBED} HTTP/1.1\r\nhost: s\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{{}}"))
        .await;
    assert_eq!(smuggled.answer().await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_and_a_connection_without_calls_are_ended() {
    let server = Server::start(&["--stall-timeout", "500ms", "--connection-idle-timeout", "1s"]).await;
    let mut http = Http::connect(&server).await;
    let request = post(EMBED, &[JSON], r#"{"texts":["a text"]}"#);
    http.send(&request[..request.len() - 5]).await;
    let stalled = http.answer().await;
    assert_eq!((stalled.status, stalled.json()["code"].as_str()), (504, Some("deadline_exceeded")), "{stalled:?}");
    let mut idle = Http::connect(&server).await;
    assert_eq!(idle.json("Embed", r#"{"texts":["a"]}"#).await.status, 200);
    assert!(idle.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let server = Server::start(&["--stall-timeout", "1s", "--access-log", "all"]).await;
    let texts = new_texts(1000, 1);
    // Twelve megabytes of JSON, of which the client's system keeps little.
    let mut http = Http::connect_narrow(&server).await;
    http.send(post("/cognate.v1.Cognate/Similarity", &[JSON], serde_json::json!({ "a": texts }).to_string())).await;
    server.has_logged("method=\"Similarity\" code=DeadlineExceeded").await;
    assert!(http.try_answer().await.is_none(), "the answer is broken off");

    let mut http = Http::connect_narrow(&server).await;
    let requests = raw::message(0, serde_json::json!({ "texts": texts }).to_string().as_bytes()).repeat(3);
    let head = [("content-type", "application/connect+json")];
    http.send(post("/cognate.v1.Cognate/EmbedStream", &head, requests)).await;
    server.has_logged("method=\"EmbedStream\" code=DeadlineExceeded").await;
    assert!(http.try_answer().await.is_none(), "no end comes in the middle of a message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_call() {
    let server = Server::start(&["--access-log", "all"]).await;
    let texts = serde_json::json!({ "texts": new_texts(1024, 200) }).to_string();
    let mut http = Http::connect(&server).await;
    http.send(post(EMBED, &[JSON], texts)).await;
    drop(http);
    server.has_logged("code=Cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_protocols_share_the_limits_and_the_keys() {
    let keys = Keys::new();
    let key = keys.create("reader", "read", &[]);
    let server =
        Server::start(&["--max-calls", "1", "--keys", keys.path.to_str().unwrap(), "--access-log", "all"]).await;
    let authorization = ("authorization", &*format!("Bearer {key}"));
    let mut http = Http::connect(&server).await;
    let body = r#"{"texts":["a"]}"#;
    let nobody = http.post(EMBED, &[JSON], body).await;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, "Bearer"), "{nobody:?}");
    let denied = http.post("/cognate.v1.Cognate/CreateCollection", &[JSON, authorization], r#"{"name":"c"}"#).await;
    assert_eq!((denied.status, denied.json()["code"].as_str()), (403, Some("permission_denied")));
    assert_eq!(http.post(EMBED, &[JSON, authorization], body).await.status, 200);
    // A stream over HTTP/1.1 has the one permit.
    let mut stream = Http::connect(&server).await;
    let head = [("content-type", "application/connect+json"), authorization];
    let request = post("/cognate.v1.Cognate/EmbedStream", &head, [0; 1000]);
    let open = request.len() - 1000;
    stream.send([&request[..open], &raw::message(0, body.as_bytes())].concat()).await;
    assert_eq!(stream.head().await.map(|(status, _)| status), Some(200));
    let full = http.post(EMBED, &[JSON, authorization], body).await;
    assert_eq!((full.status, full.json()["code"].as_str()), (429, Some("resource_exhausted")), "{full:?}");
    assert_eq!(full.header("retry-after"), "1");
    let mut grpc = tonic::Request::new(EmbedRequest { texts: vec!["a".into()], ..Default::default() });
    grpc.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    assert_eq!(server.client().await.embed(grpc).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(stream);
    server.has_logged("method=\"EmbedStream\" code=Cancelled principal=\"reader\"").await;
    assert!(!server.log().contains(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_finishes_the_call_of_a_connection_and_closes_it() {
    let mut server = Server::start(&[]).await;
    let (mut busy, mut idle) = (Http::connect(&server).await, Http::connect(&server).await);
    assert_eq!(idle.json("Embed", r#"{"texts":["a"]}"#).await.status, 200);
    busy.send(
        "POST /cognate.v1.Cognate/EmbedStream HTTP/1.1\r\nhost: s\r\ncontent-type: application/connect+json\r\n\
         transfer-encoding: chunked\r\n\r\n",
    )
    .await;
    let head = busy.head().await.expect("the call has begun");
    server.terminate();
    assert!(idle.is_closed().await);
    let message = raw::message(0, br#"{"texts":["a"]}"#);
    let chunk = [format!("{:x}\r\n", message.len()).as_bytes(), &message, b"\r\n0\r\n\r\n"].concat();
    busy.send(chunk).await;
    let answer = busy.rest(head).await.expect("the call is finished");
    assert_eq!((answer.status, answer.framed().len()), (200, 2));
    assert!(busy.is_closed().await);
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_is_spoken_over_tls_and_tls_where_there_is_none_gets_a_sentence() {
    let authority = Authority::new();
    let server = serve(&authority.valid(), &[]);
    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let socket = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = speaking(&authority, None, protocols).connect(name, socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), protocols.first().copied());
        let answer = Http::over(stream).json("Nothing", "{}").await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    let without = Server::spawn(&[]);
    let mut plain = Http::connect(&without).await;
    plain.send([0x16, 3, 1, 2, 0, 1]).await;
    assert!(plain.answer().await.text().contains("no TLS"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_speaks_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--in-memory", "--addr", &format!("unix:{}", socket.display())]);
    let _server = Server::of(command);
    let mut http = Http::over(tokio::net::UnixStream::connect(&socket).await.unwrap());
    assert_eq!(http.json("Nothing", "{}").await.status, 404);
    let mut http2 = tokio::net::UnixStream::connect(&socket).await.unwrap();
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut http2, &mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS");
}
