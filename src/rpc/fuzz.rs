//! Fuzz targets for requests: any bytes are decoded, and checked as far as possible without a server.

use prost::Message;
use tonic::Status;

use super::limits::Limits;
use super::measure::{MeasureError, measure};
use super::schema::SCHEMA;
use super::status::Failure;
use super::{documents, facets, filter, migrate, parse, reranked, top_k, update, upload, vector};
use crate::wire::metadata;
use crate::wire::{self, filter::Condition, query};

/// Dimensions of the vectors.
const DIMENSIONS: usize = 4;

/// Bytes that an error may take in the headers of an answer.
const MAX_ERROR_BYTES: usize = 4_096;

/// The methods whose requests are decoded here, by the number of their kind.
const KINDS: [&str; 12] = [
    "Embed",
    "Classify",
    "Similarity",
    "TopK",
    "Upload",
    "DeleteDocuments",
    "ListDocuments",
    "UpdateDocuments",
    "Facets",
    "Rerank",
    "CreateCollection",
    "MigrateCollection",
];

/// Decodes and checks a request; the first byte selects the method.
pub(crate) fn request(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else { return };
    let limits = Limits { max_texts: 32, max_text_bytes: 1_000, ..Limits::default() };
    let kind = usize::from(*kind) % KINDS.len();
    let method = KINDS[kind];
    let failures = match kind {
        0 => decoded(method, message, |request| embed(&request, &limits)),
        1 => decoded(method, message, |request| classify(&request, &limits)),
        2 => decoded(method, message, |request| similarity(&request, &limits)),
        3 => decoded(method, message, |request| top_k(request, &limits)),
        4 => decoded(method, message, |request| upload(request, &limits)),
        5 => decoded(method, message, |request| delete(request, &limits)),
        6 => decoded(method, message, |request| list(request, &limits)),
        7 => decoded(method, message, |request| vec![update::parse_update(request, &limits).map(drop)]),
        8 => decoded(method, message, |request| vec![facets::parse_query(request, &limits).map(drop)]),
        9 => decoded(method, message, |request| rerank(&request, &limits)),
        10 => decoded(method, message, |request| collection(&request, &limits)),
        _ => decoded(method, message, |request| vec![migrate::parse(request).map(drop)]),
    };
    for failure in failures {
        let item = failure.to_item();
        assert!(item.encoded_len() <= MAX_ERROR_BYTES, "{} bytes of error", item.encoded_len());
        let status = Status::from(failure);
        let bytes = status.message().len() + status.details().len();
        assert!(bytes <= MAX_ERROR_BYTES, "{bytes} bytes of error");
    }
}

/// Returns the failures of a request of `method`; none if the bytes are not one. A message that can be decoded must
/// also be measurable.
fn decoded<M: Message + Default>(
    method: &str,
    bytes: &[u8],
    check: impl FnOnce(M) -> Vec<Result<(), Failure>>,
) -> Vec<Failure> {
    let request = SCHEMA.request(&format!("/cognate.v1.Cognate/{method}")).expect("a method of the service");
    let measured = measure(request, bytes, &Limits::default());
    let Ok(message) = M::decode(bytes) else { return Vec::new() };
    assert!(!matches!(measured, Err(MeasureError::Malformed(_))), "{measured:?}");
    check(message).into_iter().filter_map(Result::err).collect()
}

fn embed(request: &wire::EmbedRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    vec![
        parse::texts("texts", &request.texts, limits),
        parse::input_type(request.input_type).map(drop),
        parse::truncation(request.truncation).map(drop),
    ]
}

fn rerank(request: &wire::RerankRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    vec![
        parse::text("query", &request.query, limits),
        parse::texts("texts", &request.texts, limits),
        parse::truncation(request.truncation).map(drop),
    ]
}

fn classify(request: &wire::ClassifyRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    vec![
        parse::texts("texts", &request.texts, limits),
        parse::truncation(request.truncation).map(drop),
        vector::answered(request.with_vector, request.vector_format).map(drop),
    ]
}

fn similarity(request: &wire::SimilarityRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    vec![parse::texts("a", &request.a, limits), parse::texts("b", &request.b, limits)]
}

fn top_k(mut request: wire::TopKRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    let step = request.rerank.take().map(|given| reranked::parse_step(&given, &mut request, 1, limits));
    let k = if let Some(Ok((candidates, _))) = step { candidates } else { 1 };
    let mut found = vec![
        parse::count("queries", request.queries.len(), 1, limits.max_texts),
        parse::collection_name("collection", &request.collection, limits),
        top_k::parse_search(&mut request, k, limits).map(drop),
        vector::answered(request.with_vector, request.vector_format).map(drop),
    ];
    found.extend(step.map(|step| step.map(drop)));
    found.extend(request.queries.iter().map(|query| match &query.query {
        Some(query::Query::Vector(given)) => vector::read("queries[0].vector", given, DIMENSIONS).map(drop),
        Some(query::Query::Id(id)) => parse::id("queries[0].id", id, limits).map(drop),
        Some(query::Query::Text(text)) => parse::text("queries[0].text", text, limits),
        None => Ok(()),
    }));
    found
}

fn upload(request: wire::UploadRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    let documents = request.documents.into_iter().enumerate();
    documents.map(|(n, document)| upload::document::check(limits, DIMENSIONS, n, document).map(drop)).collect()
}

fn delete(request: wire::DeleteDocumentsRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    let filter = request.filter.map(|given| filter::parse("filter", given, limits).map(drop));
    [parse::ids(&request.ids, limits).map(drop)].into_iter().chain(filter).collect()
}

fn list(request: wire::ListDocumentsRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    let filter = request.filter.map(|given| filter::parse("filter", given, limits));
    if let Some(Ok(filter)) = &filter {
        let written = filter.to_string();
        // A name with dots has two readings, so the text may be nested one level deeper than allowed.
        if let Ok(read) = crate::collection::filter::text::parse(&written) {
            assert_eq!(&read, filter, "{written}");
        }
    }
    let vectors = vector::answered(request.with_vector, request.vector_format).map(drop);
    let token = documents::page_token(&request.page_token).map(drop);
    [token, vectors].into_iter().chain(filter.map(|f| f.map(drop))).collect()
}

fn collection(request: &wire::CreateCollectionRequest, limits: &Limits) -> Vec<Result<(), Failure>> {
    vec![parse::collection_name("collection", &request.name, limits)]
}

/// One request of each kind.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let text = |written: &str| wire::Filter { condition: Some(Condition::Text(written.to_owned())) };
    let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(3.0)) };
    let equals = wire::EqualsCondition { path: Some("\"a.b\".c".to_owned()), value: Some(number.clone()) };
    let range =
        wire::RangeCondition { path: Some("a.b".to_owned()), gte: Some(1.0), lt: Some(2.0), ..Default::default() };
    let filters = vec![
        wire::Filter { condition: Some(Condition::Equals(equals)) },
        wire::Filter { condition: Some(Condition::Range(range)) },
        text("a in (1, 'x') and not b exists"),
    ];
    let any = wire::Filter { condition: Some(Condition::AnyOf(wire::FilterList { filters })) };
    let not = wire::Filter { condition: Some(Condition::Negated(Box::new(any))) };
    let vector = wire::Vector { values: vec![1.0, 0.5, 0.0, -1.0], ..Default::default() };
    let metadata = prost_types::Struct { fields: [("n".to_owned(), number)].into() };
    let (texts, name) = (vec!["a text".to_owned(), String::new()], "words".to_owned());
    let document = wire::Document {
        id: "d".to_owned(),
        text: "a text".to_owned(),
        metadata: Some(metadata.clone()),
        vector: Some(vector.clone()),
        passages: Vec::new(),
    };
    let update = wire::UpdateDocumentsRequest {
        collection: name.clone(),
        ids: texts[..1].to_vec(),
        filter: None,
        patch: Some(metadata),
    };
    let field = wire::FacetField { path: Some("a.b".to_owned()), limit: Some(3) };
    let facets = wire::FacetsRequest { collection: name.clone(), filter: Some(not.clone()), fields: vec![field] };
    let passage = |start, end| wire::Passage { start, end, vector: Some(vector.clone()), ..Default::default() };
    let passages = vec![passage(0, 4), passage(2, 6)];
    let long = wire::Document { id: "e".to_owned(), vector: None, passages, ..document.clone() };
    let query = wire::Query { query: Some(query::Query::Vector(vector.clone())), ..Default::default() };
    let reranked = wire::TopKRequest {
        queries: vec![wire::Query { query: Some(query::Query::Text(name.clone())), ..Default::default() }],
        mode: wire::SearchMode::Hybrid.into(),
        lexical_weight: Some(0.5),
        min_score: Some(0.1),
        rerank: Some(wire::Rerank { model: "mini".to_owned(), candidates: 20 }),
        ..Default::default()
    };
    let rerank = wire::RerankRequest { query: name.clone(), texts: texts.clone(), ..Default::default() };
    let migration = wire::MigrateCollectionRequest {
        collection: name.clone(),
        model: "m".to_owned(),
        switch_when_ready: true,
        ..Default::default()
    };
    let of = |kind: u8, message: Vec<u8>| [vec![kind], message].concat();
    vec![
        of(0, wire::EmbedRequest { texts: texts.clone(), input_type: 1, ..Default::default() }.encode_to_vec()),
        of(
            1,
            wire::ClassifyRequest { texts: texts.clone(), with_vector: true, vector_format: 5, ..Default::default() }
                .encode_to_vec(),
        ),
        of(2, wire::SimilarityRequest { a: texts.clone(), b: texts.clone(), ..Default::default() }.encode_to_vec()),
        of(
            3,
            wire::TopKRequest {
                collection: name.clone(),
                queries: vec![query],
                k: 3,
                filter: Some(not.clone()),
                group_by: "a.b".to_owned(),
                group_size: 2,
                diversity: 0.5,
                with_vector: true,
                vector_format: 2,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        of(3, reranked.encode_to_vec()),
        of(4, wire::UploadRequest { collection: name.clone(), documents: vec![document, long] }.encode_to_vec()),
        of(5, wire::DeleteDocumentsRequest { collection: name.clone(), ids: texts, filter: None }.encode_to_vec()),
        of(
            6,
            wire::ListDocumentsRequest {
                collection: name.clone(),
                page_token: "after:x".to_owned(),
                filter: Some(not),
                vector_format: 4,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        of(7, update.encode_to_vec()),
        of(8, facets.encode_to_vec()),
        of(9, rerank.encode_to_vec()),
        of(10, wire::CreateCollectionRequest { name: name.clone(), ..Default::default() }.encode_to_vec()),
        of(11, migration.encode_to_vec()),
    ]
}

/// A page token.
pub(crate) fn page_token(bytes: &[u8]) {
    if let Ok(token) = std::str::from_utf8(bytes) {
        let _ = documents::page_token(token);
    }
}

pub(crate) fn page_tokens() -> Vec<Vec<u8>> {
    ["", "after:id", "after:", "id"].map(|token| token.as_bytes().to_vec()).into()
}

/// Decodes metadata and checks that accepted metadata survives a round trip.
pub(crate) fn metadata(bytes: &[u8]) {
    let Ok(given) = prost_types::Struct::decode(bytes) else { return };
    let Ok(taken) = metadata::to_json(&given) else { return };
    let answered = metadata::from_json(&taken);
    assert_eq!(metadata::to_json(&answered), Ok(taken), "an answer is accepted as a request");
    let bytes = answered.encode_to_vec();
    assert_eq!(prost_types::Struct::decode(&*bytes), Ok(answered), "clients can decode it");
}

pub(crate) fn metadata_seeds() -> Vec<Vec<u8>> {
    let metadata = serde_json::json!({"s": "x", "n": [1, -0.5, 1e300, null, true], "o": {"": {"a.b": []}}});
    metadata.as_object().iter().map(|fields| metadata::from_json(fields).encode_to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::access::NEEDS;

    /// Methods with the requests of a kind, and those whose fields a kind checks in the same way.
    const OTHERS: [&str; 11] = [
        "Info",
        "EmbedStream",
        "ClassifyStream",
        "Tokenize",
        "TokenizeStream",
        "GetDocuments",
        "CountDocuments",
        "Export",
        "ListCollections",
        "DeleteCollection",
        "Backup",
    ];

    #[test]
    fn each_method_is_a_kind_or_has_a_request_like_a_kind() {
        let missing: Vec<&str> =
            NEEDS.iter().map(|(method, _)| *method).filter(|m| !KINDS.contains(m) && !OTHERS.contains(m)).collect();
        assert!(missing.is_empty(), "{missing:?} are neither in KINDS nor in OTHERS");
        let seeded: Vec<usize> = requests().iter().map(|seed| usize::from(seed[0])).collect();
        assert!((0..KINDS.len()).all(|kind| seeded.contains(&kind)), "a kind has no seed");
    }
}
