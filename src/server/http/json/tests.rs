//! The translation beside prost-reflect's own, which builds messages in memory, and JSON that is refused.

use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, SerializeOptions, Value as Reflected,
};
use serde_json::Value;

use super::super::translation::Output;
use super::descriptors::METHODS;
use super::{read, write};
use crate::budget::ByteBudget;
use crate::rpc::status::Failure;
use crate::wire;

const LIMIT: usize = 1 << 20;

fn written(descriptor: &MessageDescriptor, message: &[u8]) -> Value {
    let mut out = Output::new(ByteBudget::new(LIMIT), LIMIT);
    write::message(descriptor, message, &mut out).expect("it is a message");
    serde_json::from_slice(&out.finish()).expect("it is JSON")
}

/// Random messages.
struct Random(fastrand::Rng);

impl Random {
    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let one_kind = descriptor.full_name() == "google.protobuf.Value";
        let fields: Vec<FieldDescriptor> = match one_kind {
            true => vec![descriptor.get_field(self.0.u32(1..=if depth > 4 { 4 } else { 6 })).unwrap()],
            false => descriptor.fields().collect(),
        };
        for field in fields {
            let taken =
                field.containing_oneof().is_some_and(|oneof| oneof.fields().any(|other| message.has_field(&other)));
            let nested = matches!(field.kind(), Kind::Message(_)) && depth > 4 && !one_kind;
            let unknown = matches!(field.kind(), Kind::Message(inner) if inner.name() == "Any");
            if taken || nested || unknown || self.0.u8(..) < 90 && !one_kind {
                continue;
            }
            let value = self.field(&field, depth);
            message.set_field(&field, value);
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Reflected {
        let n = self.0.usize(1..4);
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { unreachable!("a map has entries") };
            let value = entry.map_entry_value_field();
            let entries = (0..n).map(|n| (MapKey::String(format!("k\"{n}é")), self.value(&value, depth)));
            return Reflected::Map(entries.collect());
        }
        match field.is_list() {
            true => Reflected::List((0..n).map(|_| self.value(field, depth)).collect()),
            false => self.value(field, depth),
        }
    }

    fn value(&mut self, field: &FieldDescriptor, depth: usize) -> Reflected {
        let rng = &mut self.0;
        match field.kind() {
            Kind::Double => Reflected::F64((rng.f64() - 0.5) * 10f64.powi(rng.i32(-20..20))),
            Kind::Float => Reflected::F32((rng.f32() - 0.5) * 10f32.powi(rng.i32(-20..20))),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Reflected::I32(rng.i32(..)),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Reflected::I64(rng.i64(..)),
            Kind::Uint32 | Kind::Fixed32 => Reflected::U32(rng.u32(..)),
            Kind::Uint64 | Kind::Fixed64 => Reflected::U64(rng.u64(..)),
            Kind::Bool => Reflected::Bool(rng.bool()),
            Kind::String => Reflected::String(format!("a \"text\" {}\n\u{1}é日", rng.u8(..))),
            Kind::Bytes => Reflected::Bytes((0..rng.usize(0..9)).map(|_| rng.u8(..)).collect::<Vec<u8>>().into()),
            Kind::Enum(descriptor) => {
                let values: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
                Reflected::EnumNumber(values[rng.usize(..values.len())])
            }
            Kind::Message(descriptor) => Reflected::Message(self.message(&descriptor, depth + 1)),
        }
    }
}

#[test]
fn both_directions_agree_with_messages_that_are_built_in_memory() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Random(fastrand::Rng::with_seed(seed));
    for method in METHODS.values() {
        for descriptor in [&method.request, &method.answer] {
            for _ in 0..20 {
                let message = random.message(descriptor, 0);
                let json = serde_json::to_string(&message).unwrap();
                let expected: Value = serde_json::from_str(&json).unwrap();
                let encoded = message.encode_to_vec();
                let decoded = |bytes: &[u8]| DynamicMessage::decode(descriptor.clone(), bytes).unwrap();
                assert_eq!(written(descriptor, &encoded), expected, "{}", descriptor.full_name());
                let read =
                    read::message(descriptor, json.as_bytes(), LIMIT).unwrap_or_else(|e| panic!("{e:?}: {json}"));
                assert!(decoded(&read) == decoded(&encoded), "{json}");
                // The names of the proto are understood too, and numbers of 64 bits as numbers.
                let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
                let mut other = Vec::new();
                message.serialize_with_options(&mut serde_json::Serializer::new(&mut other), &options).unwrap();
                let read = read::message(descriptor, &other, LIMIT).unwrap();
                assert!(decoded(&read) == decoded(&encoded), "{json}");
            }
        }
    }
}

fn top_k(json: &str) -> Result<wire::TopKRequest, Failure> {
    let descriptor = &METHODS["/cognate.v1.Cognate/TopK"].request;
    read::message(descriptor, json.as_bytes(), LIMIT).map(|bytes| wire::TopKRequest::decode(&*bytes).unwrap())
}

/// The fields and reasons of a refusal.
#[track_caller]
fn refused(json: &str) -> String {
    match top_k(json).unwrap_err() {
        Failure::Invalid(violations) => format!("{}: {}", violations[0].field, violations[0].reason),
        Failure::Malformed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_message_cannot_hold_is_refused_by_name() {
    for (json, reason) in [
        (r#"{"kk":3}"#, "kk: TopKRequest has no such field; it has collection, queries"),
        (r#"{"queries":[{"text":"a"},{"tex":"b"}]}"#, "queries[1].tex: Query has no such field"),
        (r#"{"k":1,"k":2}"#, "k: it is there twice"),
        (r#"{"minScore":1,"min_score":2}"#, "min_score: it is there twice"),
        (r#"{"queries":[{"text":"a","id":"b"}]}"#, "queries[0].id: only one of text and id may be there"),
        (r#"{"k":-1}"#, "k: -1 is out of range: expected 0 to 4294967295"),
        (r#"{"k":4294967296}"#, "k: 4294967296 is out of range"),
        (r#"{"k":1e300}"#, "k: expected a whole number, found the number 1"),
        (r#"{"k":1.5}"#, "k: expected a whole number, found the number 1.5"),
        (r#"{"k":"three"}"#, "k: expected a whole number, found a text"),
        (r#"{"k":true}"#, "k: expected a whole number, found true"),
        (r#"{"k":[1]}"#, "k: expected a whole number, found an array"),
        (r#"{"collection":7}"#, "collection: expected a text, found the number 7"),
        (r#"{"queries":{"text":"a"}}"#, "queries: invalid type: map, expected an array"),
        (r#"{"queries":[null]}"#, "queries[0]: invalid type: null, expected an object (Query)"),
        (
            r#"{"filter":{"equals":{"path":"p","value":{"a":1,"b":{"c":1,"c":2}}}}}"#,
            "filter.equals.value.b.c: it is there twice",
        ),
        (r#"{"mode":"SEARCH_MODE_GUESS"}"#, "mode: \"SEARCH_MODE_GUESS\" is not one of SEARCH_MODE_UNSPECIFIED"),
        (r#"{"k":1"#, "the JSON cannot be read: EOF while parsing"),
        (r#"{"k":1} x"#, "the JSON cannot be read: trailing characters"),
        (r#"[1]"#, "the JSON cannot be read: invalid type: sequence, expected an object (TopKRequest)"),
        ("", "the body is empty: expected JSON"),
    ] {
        let refused = refused(json);
        assert!(refused.starts_with(reason), "{json}: {refused}");
    }
}

#[test]
fn nesting_without_end_and_invalid_text_are_refused() {
    let deep = format!("{{\"filter\":{}", r#"{"not":"#.repeat(100_000));
    assert!(refused(&deep).contains("recursion limit exceeded"), "{}", refused(&deep));
    let lists = format!(r#"{{"filter":{{"equals":{{"path":"p","value":{}"#, "[".repeat(100_000));
    assert!(refused(&lists).contains("recursion limit exceeded"));
    let descriptor = &METHODS["/cognate.v1.Cognate/TopK"].request;
    let invalid = read::message(descriptor, b"{\"collection\":\"\xff\"}", LIMIT).unwrap_err();
    assert!(matches!(&invalid, Failure::Invalid(_) | Failure::Malformed(_)), "{invalid:?}");
}

#[test]
fn a_message_above_the_limit_is_not_written() {
    // Two bytes of JSON become fifteen of a message.
    let json = format!(r#"{{"filter":{{"in":{{"path":"p","values":[{}1]}}}}}}"#, "1,".repeat(100_000));
    let descriptor = &METHODS["/cognate.v1.Cognate/TopK"].request;
    assert!(read::message(descriptor, json.as_bytes(), 2 << 20).is_ok());
    assert!(matches!(read::message(descriptor, json.as_bytes(), 1 << 20), Err(Failure::Transport(_))));
}

#[test]
fn null_is_an_absent_field_and_both_spellings_of_a_name_are_one() {
    let plain = top_k(r#"{"k":3,"minScore":0.5}"#).unwrap();
    for same in [r#"{"k":3,"min_score":0.5}"#, r#"{"k":"3","minScore":"0.5","filter":null,"queries":null}"#] {
        assert_eq!(top_k(same).unwrap(), plain, "{same}");
    }
    let filter = |json: &str| top_k(&format!(r#"{{"filter":{json}}}"#)).unwrap();
    let and = filter(r#"{"and":{"filters":[{"not":{"equals":{"path":"p","value":null}}}]}}"#);
    assert_eq!(filter(r#"{"all_of":{"filters":[{"negated":{"equals":{"path":"p","value":null}}}]}}"#), and);
    assert_eq!(filter(r#"{"in":{"path":"p","values":[1]}}"#), filter(r#"{"one_of":{"path":"p","values":[1.0]}}"#));
}

#[test]
fn bytes_are_base64_of_either_alphabet_with_or_without_padding() {
    let of = |data: &str| top_k(&format!(r#"{{"queries":[{{"vector":{{"data":"{data}"}}}}]}}"#));
    let expected = of("+/8=").unwrap();
    for same in ["+/8", "-_8=", "-_8"] {
        assert_eq!(of(same).unwrap(), expected, "{same}");
    }
    assert!(of("+/8*").is_err());
}

#[test]
fn every_field_of_a_request_has_a_type_that_is_understood() {
    let known = ["google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"];
    let mut open: Vec<MessageDescriptor> = METHODS.values().map(|method| method.request.clone()).collect();
    let mut seen = std::collections::HashSet::new();
    while let Some(message) = open.pop() {
        if known.contains(&message.full_name()) || !seen.insert(message.full_name().to_owned()) {
            continue;
        }
        assert!(!message.full_name().starts_with("google.protobuf."), "{} has no arm in `read`", message.full_name());
        for field in message.fields() {
            assert!(!field.is_map() && !field.is_group(), "{} has no arm in `read`", field.full_name());
            if let Kind::Message(inner) = field.kind() {
                open.push(inner);
            }
        }
    }
}
