//! Requests against nodes that this file plays: each answers in its own way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A node that gives these answers, one to a connection, the last one again and again. Without any it closes each
/// connection. Returns its address.
async fn node(answers: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    tokio::spawn(async move {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(answer) = answers.get(n).or(answers.last()) else { continue };
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn http(hosts: &[String]) -> Http {
    Http::new(&Options { hosts: hosts.to_vec(), timeout: Duration::from_secs(5), ..Options::default() }).unwrap()
}

async fn sent(http: &Http) -> Result<Option<Bytes>, Error> {
    match http.send(&Request::bare(Method::Get, "/x".to_owned())).await? {
        Sent::Answer(answer) => Ok(Some(answer.body)),
        Sent::TooLarge => Ok(None),
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_passed_over() {
    let hosts = [node(&[]).await, node(&[&answer("200 OK", "{}")]).await];
    let http = http(&hosts);
    for _ in 0..4 {
        assert_eq!(sent(&http).await, Ok(Some(Bytes::from("{}"))));
    }
    assert!(lock(&http.hosts[0].down_until).is_some());
}

#[tokio::test]
async fn a_request_is_sent_again_while_the_engine_is_busy_and_not_when_it_is_wrong() {
    let busy = answer("503 Service Unavailable", "{}");
    let then = answer("200 OK", "1");
    assert_eq!(sent(&http(&[node(&[&busy, &then]).await])).await, Ok(Some(Bytes::from("1"))));
    let wrong = answer("400 Bad Request", r#"{"error":{"type":"parse_exception","reason":"what?"}}"#);
    let error = sent(&http(&[node(&[&wrong, &then]).await])).await.unwrap_err().to_string();
    assert!(error.ends_with("400 Bad Request to /x: parse_exception: what?"), "{error}");
    let gone = answer("404 Not Found", r#"{"error":{"type":"index_not_found_exception"}}"#);
    assert_eq!(sent(&http(&[node(&[&gone, &then]).await])).await, Err(Error::unknown()));
}

#[tokio::test]
async fn an_engine_that_stays_busy_is_not_available_until_it_answers() {
    let busy = answer("503 Service Unavailable", "{}");
    let http = http(&[node(&[&busy, &busy, &busy, &answer("200 OK", "1")]).await]);
    let Err(Error::Unavailable(unavailable)) = sent(&http).await else { panic!("it is busy") };
    assert!(unavailable.reason.contains("503") && !unavailable.retry_after.is_zero(), "{unavailable:?}");
    assert_eq!(sent(&http).await, Ok(Some(Bytes::from("1"))));
}

#[tokio::test]
async fn a_client_is_told_of_no_address_and_no_index_and_the_log_is_told_of_both() {
    let said = r#"{"error":{"type":"node_closed_exception","reason":"node closed {node1}{127.0.0.1:9300}"}}"#;
    let closing = node(&[&answer("500 Internal Server Error", said)]).await;
    let busy = node(&[&answer("503 Service Unavailable", "10.0.0.1 is busy")]).await;
    for address in [closing, busy, node(&[]).await, "http://127.0.0.1:1".to_owned()] {
        let Err(Error::Unavailable(Unavailable { reason, details, .. })) =
            sent(&http(std::slice::from_ref(&address))).await
        else {
            panic!("{address} gives no answer")
        };
        assert!(details.contains(&address), "{details}");
        assert!(!["127.0", "10.0", "node1", "/x"].iter().any(|secret| reason.contains(secret)), "{reason}");
    }
}

#[tokio::test]
async fn each_attempt_asks_another_node() {
    let busy = answer("503 Service Unavailable", "{}");
    let hosts = [node(&[&busy]).await, node(&[&busy]).await, node(&[&answer("200 OK", "1")]).await];
    let http = http(&hosts);
    // However many requests others send meanwhile, the third attempt reaches the third node, before any pause.
    let sent = || async { tokio::time::timeout(Duration::from_secs(60), sent(&http)).await.unwrap() };
    for _ in 0..10 {
        let (one, other) = tokio::join!(sent(), sent());
        assert!(one.is_ok() && other.is_ok());
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let large = answer("200 OK", &"x".repeat(MOST_ANSWER_BYTES + 1));
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(MOST_ANSWER_BYTES + 1));
    let fits = answer("200 OK", &"x".repeat(MOST_ANSWER_BYTES));
    for (answer, expected) in [(large, None), (endless, None), (fits, Some(MOST_ANSWER_BYTES))] {
        let http = http(&[node(&[&answer]).await]);
        assert_eq!(sent(&http).await.map(|body| body.map(|body| body.len())), Ok(expected));
        assert_eq!(http.answers.in_use(), 0);
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let wrong = |options: Options| Http::new(&options).err().unwrap().to_string();
    let hosts = vec!["node:x".to_owned()];
    assert!(wrong(Options { hosts: vec![], ..Options::default() }).starts_with("store has no address"));
    assert!(wrong(Options { hosts, ..Options::default() }).starts_with("store: node:x is no address"));
    let none = std::path::PathBuf::from("/nowhere.pem");
    assert!(wrong(Options { ca: Some(none.clone()), ..Options::default() }).starts_with("store_ca /nowhere.pem: "));
    let identity = Some((none.clone(), none));
    assert!(wrong(Options { identity, ..Options::default() }).starts_with("store_cert and store_key: "));
}
