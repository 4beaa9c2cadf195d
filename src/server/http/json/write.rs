//! Writes an encoded message as JSON.
//!
//! The message comes from this server's own encoder, so its fields are in order, and the elements of a repeated field
//! follow each other. Bytes that are no such message are a fault of the server. Invariant: fields that the message does
//! not hold are not written, as the canonical mapping has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::super::translation::Output;
use super::descriptors::DETAILS;
use crate::rpc::status::Failure;

type Written = Result<(), Failure>;

/// A field of an encoded message.
struct Encoded<'m> {
    number: u32,
    value: Scalar<'m>,
}

/// The value of a field, as its wire type tells it.
#[derive(Clone, Copy)]
enum Scalar<'m> {
    Varint(u64),
    Four([u8; 4]),
    Eight([u8; 8]),
    Bytes(&'m [u8]),
}

/// Takes the next field off an encoded message.
fn next<'m>(rest: &mut &'m [u8]) -> Result<Encoded<'m>, Failure> {
    let (number, wire) = decode_key(rest).map_err(|_| Failure::Internal)?;
    Ok(Encoded { number, value: scalar(wire, rest)? })
}

fn scalar<'m>(wire: WireType, rest: &mut &'m [u8]) -> Result<Scalar<'m>, Failure> {
    Ok(match wire {
        WireType::Varint => Scalar::Varint(decode_varint(rest).map_err(|_| Failure::Internal)?),
        WireType::ThirtyTwoBit => Scalar::Four(fixed(rest)?),
        WireType::SixtyFourBit => Scalar::Eight(fixed(rest)?),
        WireType::LengthDelimited => {
            let length = decode_varint(rest).ok().and_then(|length| usize::try_from(length).ok());
            let (bytes, after) = length.and_then(|length| rest.split_at_checked(length)).ok_or(Failure::Internal)?;
            *rest = after;
            Scalar::Bytes(bytes)
        }
        WireType::StartGroup | WireType::EndGroup => return Err(Failure::Internal),
    })
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Failure> {
    let (bytes, after) = rest.split_first_chunk().ok_or(Failure::Internal)?;
    *rest = after;
    Ok(*bytes)
}

/// Writes `message` as JSON.
pub fn message(descriptor: &MessageDescriptor, message: &[u8], out: &mut Output) -> Written {
    match descriptor.full_name() {
        "google.protobuf.Struct" => entries(message, out),
        "google.protobuf.Value" => value(message, out),
        "google.protobuf.ListValue" => values(message, out),
        "google.protobuf.Duration" => duration(message, out),
        "google.protobuf.Any" => any(message, out),
        _ => {
            out.put(b"{")?;
            fields(descriptor, message, true, out)?;
            out.put(b"}")
        }
    }
}

/// Writes the fields of a message, without the braces. `first` is false behind other fields.
fn fields(descriptor: &MessageDescriptor, mut rest: &[u8], mut first: bool, out: &mut Output) -> Written {
    while !rest.is_empty() {
        let encoded = next(&mut rest)?;
        let Some(field) = descriptor.get_field(encoded.number) else { return Err(Failure::Internal) };
        out.put(if first { b"" } else { b"," })?;
        first = false;
        out.put_json(field.json_name())?;
        out.put(b":")?;
        if field.is_list() {
            list(&field, encoded.value, &mut rest, out)?;
        } else {
            one(&field, encoded.value, out)?;
        }
    }
    Ok(())
}

/// Writes a repeated field, whose further elements are taken off `rest`.
fn list(field: &FieldDescriptor, first: Scalar<'_>, rest: &mut &[u8], out: &mut Output) -> Written {
    out.put(b"[")?;
    match first {
        Scalar::Bytes(mut packed) if field.is_packed() => {
            let (wire, mut behind) = (field.kind().wire_type(), false);
            while !packed.is_empty() {
                out.put(if behind { b"," } else { b"" })?;
                behind = true;
                one(field, scalar(wire, &mut packed)?, out)?;
            }
        }
        first => {
            one(field, first, out)?;
            loop {
                let mut after = *rest;
                match next(&mut after) {
                    Ok(encoded) if !rest.is_empty() && encoded.number == field.number() => {
                        *rest = after;
                        out.put(b",")?;
                        one(field, encoded.value, out)?;
                    }
                    _ => break,
                }
            }
        }
    }
    out.put(b"]")
}

/// Writes one value of a field.
fn one(field: &FieldDescriptor, value: Scalar<'_>, out: &mut Output) -> Written {
    let zigzag = |n: u64| (n >> 1) as i64 ^ -((n & 1) as i64);
    match (field.kind(), value) {
        (Kind::Double, Scalar::Eight(bytes)) => double(f64::from_le_bytes(bytes), out),
        (Kind::Float, Scalar::Four(bytes)) => match f32::from_le_bytes(bytes) {
            finite if finite.is_finite() => out.put_json(&finite),
            other => double(other.into(), out),
        },
        (Kind::Int32, Scalar::Varint(n)) => out.put_json(&(n as i32)),
        (Kind::Sint32, Scalar::Varint(n)) => out.put_json(&zigzag(n)),
        (Kind::Uint32, Scalar::Varint(n)) => out.put_json(&(n as u32)),
        (Kind::Fixed32, Scalar::Four(bytes)) => out.put_json(&u32::from_le_bytes(bytes)),
        (Kind::Sfixed32, Scalar::Four(bytes)) => out.put_json(&i32::from_le_bytes(bytes)),
        // Numbers of 64 bits are strings, because many readers of JSON know doubles alone.
        (Kind::Int64, Scalar::Varint(n)) => out.put_json(&(n as i64).to_string()),
        (Kind::Sint64, Scalar::Varint(n)) => out.put_json(&zigzag(n).to_string()),
        (Kind::Uint64, Scalar::Varint(n)) => out.put_json(&n.to_string()),
        (Kind::Fixed64, Scalar::Eight(bytes)) => out.put_json(&u64::from_le_bytes(bytes).to_string()),
        (Kind::Sfixed64, Scalar::Eight(bytes)) => out.put_json(&i64::from_le_bytes(bytes).to_string()),
        (Kind::Bool, Scalar::Varint(n)) => out.put_json(&(n != 0)),
        (Kind::Enum(descriptor), Scalar::Varint(n)) => named(&descriptor, n as i32, out),
        (Kind::String, Scalar::Bytes(bytes)) => text(bytes, out),
        (Kind::Bytes, Scalar::Bytes(bytes)) => out.put_json(&STANDARD.encode(bytes)),
        (Kind::Message(descriptor), Scalar::Bytes(bytes)) => message(&descriptor, bytes, out),
        _ => Err(Failure::Internal),
    }
}

fn named(descriptor: &EnumDescriptor, number: i32, out: &mut Output) -> Written {
    match descriptor.get_value(number) {
        Some(value) => out.put_json(value.name()),
        None => out.put_json(&number),
    }
}

fn text(bytes: &[u8], out: &mut Output) -> Written {
    out.put_json(std::str::from_utf8(bytes).map_err(|_| Failure::Internal)?)
}

fn double(value: f64, out: &mut Output) -> Written {
    match value {
        finite if finite.is_finite() => out.put_json(&finite),
        nan if nan.is_nan() => out.put(b"\"NaN\""),
        infinite if infinite > 0.0 => out.put(b"\"Infinity\""),
        _ => out.put(b"\"-Infinity\""),
    }
}

/// Writes a `google.protobuf.Value`.
fn value(mut rest: &[u8], out: &mut Output) -> Written {
    let mut last = None;
    while !rest.is_empty() {
        last = Some(next(&mut rest)?);
    }
    match last.map(|Encoded { number, value }| (number, value)) {
        None | Some((1, _)) => out.put(b"null"),
        Some((2, Scalar::Eight(bytes))) => double(f64::from_le_bytes(bytes), out),
        Some((3, Scalar::Bytes(bytes))) => text(bytes, out),
        Some((4, Scalar::Varint(n))) => out.put_json(&(n != 0)),
        Some((5, Scalar::Bytes(bytes))) => entries(bytes, out),
        Some((6, Scalar::Bytes(bytes))) => values(bytes, out),
        Some(_) => Err(Failure::Internal),
    }
}

/// Writes a `google.protobuf.ListValue`.
fn values(mut rest: &[u8], out: &mut Output) -> Written {
    out.put(b"[")?;
    let mut behind = false;
    while !rest.is_empty() {
        let Encoded { number: 1, value: Scalar::Bytes(bytes) } = next(&mut rest)? else {
            return Err(Failure::Internal);
        };
        out.put(if behind { b"," } else { b"" })?;
        behind = true;
        value(bytes, out)?;
    }
    out.put(b"]")
}

/// Writes a `google.protobuf.Struct`.
fn entries(mut rest: &[u8], out: &mut Output) -> Written {
    out.put(b"{")?;
    let mut behind = false;
    while !rest.is_empty() {
        let Encoded { number: 1, value: Scalar::Bytes(mut entry) } = next(&mut rest)? else {
            return Err(Failure::Internal);
        };
        let (mut key, mut held): (&[u8], &[u8]) = (b"", b"");
        while !entry.is_empty() {
            match next(&mut entry)? {
                Encoded { number: 1, value: Scalar::Bytes(bytes) } => key = bytes,
                Encoded { number: 2, value: Scalar::Bytes(bytes) } => held = bytes,
                _ => return Err(Failure::Internal),
            }
        }
        out.put(if behind { b"," } else { b"" })?;
        behind = true;
        text(key, out)?;
        out.put(b":")?;
        value(held, out)?;
    }
    out.put(b"}")
}

/// Writes a `google.protobuf.Duration`: seconds, with as many digits as are needed.
fn duration(mut rest: &[u8], out: &mut Output) -> Written {
    let (mut seconds, mut nanos) = (0, 0);
    while !rest.is_empty() {
        match next(&mut rest)? {
            Encoded { number: 1, value: Scalar::Varint(n) } => seconds = n as i64,
            Encoded { number: 2, value: Scalar::Varint(n) } => nanos = n as i32,
            _ => return Err(Failure::Internal),
        }
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    let fraction = match nanos {
        0 => String::new(),
        n if n.is_multiple_of(1_000_000) => format!(".{:03}", n / 1_000_000),
        n if n.is_multiple_of(1_000) => format!(".{:06}", n / 1_000),
        n => format!(".{n:09}"),
    };
    out.put_json(&format!("{sign}{seconds}{fraction}s"))
}

/// Writes a `google.protobuf.Any`: the fields of the message inside beside its type, if that is known.
fn any(mut rest: &[u8], out: &mut Output) -> Written {
    let (mut url, mut held): (&[u8], &[u8]) = (b"", b"");
    while !rest.is_empty() {
        match next(&mut rest)? {
            Encoded { number: 1, value: Scalar::Bytes(bytes) } => url = bytes,
            Encoded { number: 2, value: Scalar::Bytes(bytes) } => held = bytes,
            _ => return Err(Failure::Internal),
        }
    }
    let url = std::str::from_utf8(url).map_err(|_| Failure::Internal)?;
    out.put(b"{\"@type\":")?;
    out.put_json(url)?;
    match DETAILS.get_message_by_name(url.rsplit('/').next().unwrap_or_default()) {
        Some(descriptor) => fields(&descriptor, held, false, out)?,
        None => {
            out.put(b",\"value\":")?;
            out.put_json(&STANDARD.encode(held))?;
        }
    }
    out.put(b"}")
}
