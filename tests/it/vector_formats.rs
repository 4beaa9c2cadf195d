//! Vectors in answers: each call returns them in the format that its request asks for.

use std::collections::BTreeMap;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::vector::write;
use cognate::wire::{
    ClassifyRequest, Document, ExportRequest, GetDocumentsRequest, ListDocumentsRequest, ListDocumentsResponse,
    Passage, Query, TopKRequest, UploadRequest, Vector, VectorFormat, query,
};
use futures::StreamExt;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Server, document, dot, upload, upload_all, wrong_fields};

const FORMATS: [VectorFormat; 5] =
    [VectorFormat::F32, VectorFormat::F32Bytes, VectorFormat::F16Bytes, VectorFormat::Int8, VectorFormat::Binary];

fn vector(n: usize) -> Option<Vector> {
    let values = (0..384).map(|d| ((n * 31 + d * 7) % 101) as f32 - 50.0).collect();
    Some(Vector { values, ..Vector::default() })
}

/// Creates a document with a vector of its own, so that nothing is embedded.
fn with_vector(n: usize) -> Document {
    Document { vector: vector(n), ..document(&format!("d{n:04}"), &format!("text {n}")) }
}

fn of_two_passages() -> Document {
    let passage = |start, end, n| Passage { start, end, vector: vector(n), ..Passage::default() };
    Document { passages: vec![passage(0, 5, 501), passage(6, 12, 502)], ..document("long", "first second") }
}

fn top_k(format: VectorFormat) -> TopKRequest {
    let query = Query { query: Some(query::Query::Vector(vector(0).unwrap())), ..Query::default() };
    let (collection, queries) = ("c".to_owned(), vec![query]);
    TopKRequest { collection, queries, k: 10, with_vector: true, vector_format: format.into(), ..Default::default() }
}

fn get(format: VectorFormat) -> GetDocumentsRequest {
    let ids = ["long", "d0001"].map(str::to_owned).to_vec();
    GetDocumentsRequest { collection: "c".to_owned(), ids, with_vector: true, vector_format: format.into() }
}

fn list(format: VectorFormat) -> ListDocumentsRequest {
    let (collection, vector_format) = ("c".to_owned(), format.into());
    ListDocumentsRequest { collection, page_size: 1_000, with_vector: true, vector_format, ..Default::default() }
}

fn export(collection: &str, format: VectorFormat) -> ExportRequest {
    let (collection, vector_format) = (collection.to_owned(), format.into());
    ExportRequest { collection, with_vector: true, vector_format, filter: None }
}

async fn exported(client: &mut CognateClient<Channel>, request: ExportRequest) -> Vec<Document> {
    let parts: Vec<_> = client.export(request).await.unwrap().into_inner().collect().await;
    parts.into_iter().flat_map(|part| part.unwrap().documents).collect()
}

/// Vectors by id and number of the passage.
type Vectors = BTreeMap<(String, usize), Vector>;

fn vectors(documents: Vec<Document>) -> Vectors {
    let of = |Document { id, vector, passages, .. }: Document| {
        let all = vector.into_iter().chain(passages.into_iter().filter_map(|passage| passage.vector));
        all.enumerate().map(|(n, vector)| ((id.clone(), n), vector)).collect::<Vec<_>>()
    };
    documents.into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_returns_its_vectors_in_the_format_that_is_asked_for() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    upload(&mut client, "c", (0..4).map(with_vector).chain([of_two_passages()]).collect()).await;
    let mut answers = async |format| {
        let hits = client.top_k(top_k(format)).await.unwrap().into_inner().results.remove(0).hits;
        let hits = hits.into_iter().map(|hit| ((hit.id, 0), hit.vector.expect("it was asked for"))).collect();
        let candidates = ["a boat", "a train"].map(str::to_owned).to_vec();
        let ranked = TopKRequest { collection: String::new(), candidates, ..top_k(format) };
        let ranked = client.top_k(ranked).await.unwrap().into_inner().results.remove(0).hits;
        let position = |candidate: Option<u32>| candidate.expect("a candidate") as usize;
        let ranked = ranked.into_iter().map(|hit| ((String::new(), position(hit.candidate)), hit.vector.unwrap()));
        let found = client.get_documents(get(format)).await.unwrap().into_inner().documents;
        let listed = client.list_documents(list(format)).await.unwrap().into_inner().documents;
        let exported = exported(&mut client, export("c", format)).await;
        [hits, ranked.collect(), vectors(found), vectors(listed), vectors(exported)]
    };
    let floats = answers(VectorFormat::Unspecified).await;
    assert_eq!(floats.each_ref().map(BTreeMap::len), [5, 2, 3, 6, 6]);
    assert!(floats.iter().flat_map(BTreeMap::values).all(|vector| vector.values.len() == 384));
    for format in FORMATS {
        // `embed.rs` decodes each format by hand.
        let written = |vectors: &Vectors| -> Vectors {
            vectors.iter().map(|(key, vector)| (key.clone(), write(&*vector.values, format))).collect()
        };
        assert_eq!(answers(format).await, floats.each_ref().map(written), "{format:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_without_vectors_and_one_that_does_not_exist_are_refused_by_name() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    upload(&mut client, "c", (0..4).map(with_vector).collect()).await;
    let format = VectorFormat::Int8;
    for (with_vector, vector_format, reason) in [
        (false, 4, "vector_format: is VECTOR_FORMAT_INT8 without with_vector: set with_vector too, or leave it out"),
        (false, 99, "vector_format: 99 is not a value of VectorFormat"),
        (true, 99, "vector_format: 99 is not a value of VectorFormat"),
    ] {
        let mut refusals: Vec<Status> = Vec::new();
        let request = TopKRequest { with_vector, vector_format, ..top_k(format) };
        refusals.push(client.top_k(request).await.unwrap_err());
        let request = GetDocumentsRequest { with_vector, vector_format, ..get(format) };
        refusals.push(client.get_documents(request).await.unwrap_err());
        let request = ListDocumentsRequest { with_vector, vector_format, ..list(format) };
        refusals.push(client.list_documents(request).await.unwrap_err());
        let request = ExportRequest { with_vector, vector_format, ..export("c", format) };
        refusals.push(client.export(request).await.unwrap_err());
        // The server's classifier has no vectors, so only the format can be wrong.
        if !with_vector {
            let request = ClassifyRequest { texts: vec!["a".to_owned()], vector_format, ..Default::default() };
            refusals.push(client.classify(request).await.unwrap_err());
        }
        for status in refusals {
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, reason));
            assert_eq!(wrong_fields(&status), ["vector_format"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_vectors_are_read_back_the_exact_ones_to_the_bit() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let mut documents: Vec<Document> = (0..300).map(with_vector).chain([of_two_passages()]).collect();
    documents.extend((0..50).map(|n| document(&format!("e{n}"), &format!("a text that is embedded, {n}"))));
    upload(&mut client, "c", documents).await;
    let original = vectors(exported(&mut client, export("c", VectorFormat::F32)).await);
    for (format, least_cosine) in [
        (VectorFormat::F32, None),
        (VectorFormat::F32Bytes, None),
        (VectorFormat::F16Bytes, Some(0.999_999)),
        (VectorFormat::Int8, Some(0.999)),
    ] {
        let copy = format!("copy-{}", format.as_str_name());
        let documents = exported(&mut client, export("c", format)).await;
        upload(&mut client, &copy, documents).await;
        let read = vectors(exported(&mut client, export(&copy, VectorFormat::F32)).await);
        match least_cosine {
            None => assert!(read == original, "{format:?} loses bits"),
            Some(least) => {
                assert!(read.keys().eq(original.keys()));
                let cosines = read.values().zip(original.values()).map(|(a, b)| dot(&a.values, &b.values));
                let worst = cosines.fold(1.0, f32::min);
                assert!(worst > least, "{format:?}: {worst}");
            }
        }
    }
    let documents = exported(&mut client, export("c", VectorFormat::Binary)).await;
    let request = UploadRequest { collection: "bits".to_owned(), documents };
    let responses = upload_all(&mut client, vec![request]).await.unwrap();
    let refused: Vec<_> = responses.iter().flat_map(|response| &response.errors).collect();
    assert_eq!(refused.len(), 351);
    let first = refused[0].status.as_ref().expect("a reason");
    assert!(first.message.contains("VECTOR_FORMAT_BINARY has too little information"), "{}", first.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_pages_and_parts_are_bounded_by_their_size_in_each_format() {
    const LIMIT: usize = 32 << 10;
    let server = Server::start(&["--max-message-bytes", "64KiB"]).await;
    let mut client = server.client().await;
    for n in (0..1_000).step_by(30) {
        upload(&mut client, "c", (n..1_000.min(n + 30)).map(with_vector).collect()).await;
    }
    let ids: Vec<String> = (0..1_000).map(|n| format!("d{n:04}")).collect();
    for (format, code) in [
        (VectorFormat::F32, Code::ResourceExhausted),
        (VectorFormat::F32Bytes, Code::ResourceExhausted),
        (VectorFormat::F16Bytes, Code::ResourceExhausted),
        (VectorFormat::Int8, Code::Ok),
        (VectorFormat::Binary, Code::Ok),
    ] {
        let of = |status: Status| status.code();
        let hits = client.top_k(TopKRequest { k: 100, ..top_k(format) }).await;
        assert_eq!(hits.map_or_else(of, |_| Code::Ok), code, "{format:?}");
        let found = client.get_documents(GetDocumentsRequest { ids: ids[..100].to_vec(), ..get(format) }).await;
        assert_eq!(found.map_or_else(of, |_| Code::Ok), code, "{format:?}");
    }
    let mut sizes = Vec::new();
    for format in FORMATS {
        let (mut pages, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = client.list_documents(ListDocumentsRequest { page_token, ..list(format) }).await.unwrap();
            let page = page.into_inner();
            page_token = page.next_page_token;
            pages.push(page.documents);
            if page_token.is_empty() {
                break;
            }
        }
        let parts: Vec<_> = client.export(export("c", format)).await.unwrap().into_inner().collect().await;
        let parts: Vec<Vec<Document>> = parts.into_iter().map(|part| part.unwrap().documents).collect();
        for some in [&pages, &parts] {
            assert_eq!(some.iter().flatten().map(|document| document.id.clone()).collect::<Vec<_>>(), ids);
            let bytes = |documents: &Vec<Document>| {
                ListDocumentsResponse { documents: documents.clone(), ..Default::default() }.encoded_len()
            };
            let (last, full) = some.split_last().unwrap();
            assert!(bytes(last) <= LIMIT);
            // The next document would not have fitted, with the margin that a part has for each.
            let fills = |&bytes: &usize| (LIMIT - LIMIT / 8..=LIMIT).contains(&bytes);
            assert!(full.iter().map(bytes).all(|bytes| fills(&bytes)), "{format:?}");
        }
        sizes.push(pages.len());
    }
    assert!(sizes[0] == sizes[1] && sizes[1..].is_sorted_by(|a, b| a > b), "{sizes:?}: smaller formats, fewer pages");
}
