//! `Facets`: the most frequent values of metadata fields, and figures about their numbers.

use prost_types::value::Kind;

use super::answer::Answer;
use super::limits::Limits;
use super::request::Received;
use super::status::Failure;
use super::{Engine, documents, filter, parse, size};
use crate::collection::filter::Scalar;
use crate::collection::{Facet, FacetField, FacetQuery, Facets, Numbers};
use crate::compute::WhenFull;
use crate::wire;

/// Values of a field if the request does not say.
const DEFAULT_LIMIT: usize = 10;

pub async fn facets(engine: &Engine, request: Received<wire::FacetsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, held, deadline, access, .. } = request;
    let collection = documents::collection(engine, &access, &request.collection).await?;
    let (limits, when_full) = (engine.limits.clone(), WhenFull::Refuse(deadline));
    let parse = move || parse_query(request, &limits);
    let measure = |paths: Vec<String>, facets: Facets| {
        let of_fields = paths.iter().zip(&facets.fields).map(|(path, facet)| size::field(size::facet(path, facet)));
        let bytes = size::varint(facets.documents) + of_fields.sum::<usize>();
        (paths, facets, bytes)
    };
    let (paths, facets, bytes) = collection.facets(&engine.pools.search, when_full, parse, measure).await?;
    drop(held);
    Answer::build(engine, bytes, when_full, move || {
        let of_fields = paths.into_iter().zip(facets.fields);
        Ok(wire::FacetsResponse {
            documents: facets.documents,
            facets: of_fields.map(|(path, facet)| written(path, facet)).collect(),
        })
    })
    .await
}

/// Checks a request. Returns its paths as sent, and the query.
pub(super) fn parse_query(request: wire::FacetsRequest, limits: &Limits) -> Result<(Vec<String>, FacetQuery), Failure> {
    parse::count("fields", request.fields.len(), 1, limits.max_facet_fields)?;
    let filter = request.filter.map(|given| filter::parse("filter", given, limits)).transpose()?;
    let (mut paths, mut fields) = (Vec::new(), Vec::new());
    for (n, field) in request.fields.into_iter().enumerate() {
        let name = |name: &str| format!("fields[{n}].{name}");
        let missing = || Failure::invalid(name("path"), "is missing: the field's path is required");
        let path = field.path.ok_or_else(missing)?;
        let by = filter::names(&name("path"), &path)?;
        let (limit, most) = (field.limit.map_or(DEFAULT_LIMIT, |limit| limit as usize), limits.max_page_size);
        if limit > most && field.limit.is_some() {
            return Err(Failure::invalid(name("limit"), format!("{limit} exceeds the limit of {most}")));
        }
        paths.push(path);
        fields.push(FacetField { by, limit: limit.min(most) });
    }
    Ok((paths, FacetQuery { filter, fields, max_bytes: limits.max_message_bytes }))
}

fn written(path: String, facet: Facet) -> wire::Facet {
    let value = |(value, documents)| wire::FacetValue { value: Some(scalar(value)), documents };
    let numbers = |Numbers { count, min, max, mean }| wire::FacetNumbers { count, min, max, mean };
    wire::Facet {
        path,
        documents: facet.documents,
        values: facet.values.into_iter().map(value).collect(),
        distinct: facet.distinct,
        numbers: facet.numbers.map(numbers),
    }
}

fn scalar(value: Scalar) -> prost_types::Value {
    let kind = match value {
        Scalar::Null => Kind::NullValue(0),
        Scalar::Bool(value) => Kind::BoolValue(value),
        Scalar::Number(number) => Kind::NumberValue(number.get()),
        Scalar::Text(text) => Kind::StringValue(text.into()),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::collection::filter::Finite;

    #[test]
    fn the_size_of_a_facet_is_its_encoded_length_or_a_little_more() {
        let number = |x| Scalar::Number(Finite::new(x).unwrap());
        let values = vec![
            (Scalar::Null, 0),
            (Scalar::Bool(true), 1),
            (number(0.0), 200),
            (number(-1.5e300), u64::MAX),
            (Scalar::Text("".into()), 7),
            (Scalar::Text("é".repeat(200).into()), 70_000),
        ];
        let numbers = [None, Some(Numbers { count: 9, min: 0.0, max: 2.0, mean: 0.5 })];
        for (path, numbers) in ["", "a.b", &"k".repeat(300)].into_iter().zip(numbers.into_iter().cycle()) {
            let facet = Facet { documents: 300, distinct: 6, values: values.clone(), numbers };
            let measured = size::facet(path, &facet);
            let length = written(path.to_owned(), facet).encoded_len();
            assert!((length..=length + 40).contains(&measured), "{measured} of {length}");
        }
    }
}
