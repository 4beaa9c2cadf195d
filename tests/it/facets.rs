//! `CountDocuments` and `Facets`, and the commands that call them.

use std::process::Command;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::filter::Condition;
use cognate::wire::metadata::{from_json, value_to_json};
use cognate::wire::{CountDocumentsRequest, Document, Facet, FacetField, FacetsRequest, Filter, Vector};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Server, document, upload, wrong_fields};

fn text(filter: &str) -> Option<Filter> {
    (!filter.is_empty()).then(|| Filter { condition: Some(Condition::Text(filter.to_owned())) })
}

/// Creates a server with 300 documents: every third in English, years 2000 to 2009, some with authors.
async fn library() -> (Server, CognateClient<Channel>) {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let documents = (0..300usize).map(|n| {
        let mut metadata = json!({"lang": if n % 3 == 0 { "en" } else { "de" }, "year": 2000 + n % 10, "a.b": n % 2});
        if n % 50 == 7 {
            metadata["authors"] = json!([{"name": "Ann"}, {"name": "Bob"}, {"name": "Ann"}]);
        }
        let mut values = vec![1.0; 384];
        values[n] = 5.0;
        let vector = Some(Vector { values, ..Default::default() });
        let metadata = metadata.as_object().map(from_json);
        Document { vector, metadata, ..document(&format!("d{n:03}"), "") }
    });
    assert_eq!(upload(&mut client, "library", documents.collect()).await.committed, 300);
    (server, client)
}

async fn count(client: &mut CognateClient<Channel>, filter: &str) -> u64 {
    let request = CountDocumentsRequest { collection: "library".to_owned(), filter: text(filter) };
    client.count_documents(request).await.unwrap().into_inner().documents
}

fn request(filter: &str, fields: &[(&str, Option<u32>)]) -> FacetsRequest {
    let fields = fields.iter().map(|&(path, limit)| FacetField { path: Some(path.to_owned()), limit });
    FacetsRequest { collection: "library".to_owned(), filter: text(filter), fields: fields.collect() }
}

fn values(facet: &Facet) -> Vec<(Value, u64)> {
    let value = |found: &cognate::wire::FacetValue| value_to_json(found.value.as_ref().unwrap()).unwrap();
    facet.values.iter().map(|found| (value(found), found.documents)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_facets_are_exact_under_a_filter() {
    let (_server, mut client) = library().await;
    assert_eq!(count(&mut client, "").await, 300);
    assert_eq!(count(&mut client, "lang = en and year < 2005").await, 50);
    assert_eq!(count(&mut client, "nothing exists").await, 0);

    let fields = [("lang", None), ("year", Some(2)), ("authors.name", Some(1)), ("a.b", None), ("nothing", None)];
    let answer = client.facets(request("lang = de", &fields)).await.unwrap().into_inner();
    let [lang, year, names, dotted, nothing] = answer.facets.try_into().unwrap();
    assert_eq!((answer.documents, values(&lang), lang.distinct), (200, vec![(json!("de"), 200)], 1));
    // Equally frequent: the lower years come first.
    assert_eq!(values(&year), [(json!(2000), 20), (json!(2001), 20)]);
    let numbers = year.numbers.unwrap();
    assert_eq!((year.distinct, numbers.count, numbers.min, numbers.max), (10, 200, 2000.0, 2009.0));
    assert_eq!(numbers.mean, 2004.5);
    // A list has one of the names twice.
    let with_authors = count(&mut client, "lang = de and authors exists").await;
    assert_eq!(
        (values(&names), names.documents, names.distinct),
        (vec![(json!("Ann"), with_authors)], with_authors, 2)
    );
    assert_eq!((dotted.path.as_str(), dotted.documents), ("a.b", 200));
    assert_eq!((nothing.documents, nothing.distinct, nothing.numbers), (0, 0, None));
    for (path, facet) in [("lang", &lang), ("year", &year), ("\"a.b\"", &dotted)] {
        for (value, documents) in values(facet) {
            assert_eq!(count(&mut client, &format!("lang = de and {path} = {value}")).await, documents, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_facets_name_their_field() {
    let (_server, mut client) = library().await;
    let long = ".".repeat(1_025);
    let mut wrong = vec![
        (request("", &[]), "fields"),
        (request("", &[("a", None); 33]), "fields"),
        (request("", &[("a", None), ("b", Some(1_001))]), "fields[1].limit"),
        (request("", &[(&long, None)]), "fields[0].path"),
        (request("a =", &[("a", None)]), "filter.text"),
    ];
    let mut without = request("", &[("a", None)]);
    without.fields[0].path = None;
    wrong.push((without, "fields[0].path"));
    for (request, field) in wrong {
        let status = client.facets(request).await.unwrap_err();
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status:?}"
        );
    }
    let nowhere = CountDocumentsRequest { collection: "nowhere".to_owned(), filter: None };
    assert_eq!(client.count_documents(nowhere).await.unwrap_err().code(), Code::NotFound);
}

/// Runs a client command. Returns its exit code and its standard output.
fn cognate(server: &Server, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    let output = command.args(args).args(["--addr", &server.addr.to_string()]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_count_and_update() {
    let (server, _client) = library().await;
    assert_eq!(cognate(&server, &["count", "library", "--where", "lang = en"]), (Some(0), "100\n".to_owned()));
    assert_eq!(cognate(&server, &["count", "library", "--json"]).1, "{\"documents\":300}\n");

    let patch = r#"{"lang": "fr", "year": null}"#;
    let updated = cognate(&server, &["update", "library", "--where", "year >= 2008", "--patch", patch]);
    assert_eq!(updated, (Some(0), "updated 60 documents\n".to_owned()));
    let (code, json) = cognate(&server, &["update", "library", "--id", "d000", "nobody", "--patch", patch, "--json"]);
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &answer["documents"], &answer["missing"]), (Some(1), &json!(1), &json!(["nobody"])));

    let (code, text) = cognate(&server, &["facets", "library", "lang", "year", "--limit", "1"]);
    assert_eq!(code, Some(0));
    for part in ["lang  300 of 300 documents, 3 different values", "239 of 300", "2000 to 2007", "de"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let (_, json) = cognate(&server, &["facets", "library", "lang", "--where", "year exists", "--json"]);
    let facet: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&facet["documents"], &facet["numbers"]), (&json!(239), &Value::Null));
    assert_eq!(facet["values"][0]["value"], "de");
}
