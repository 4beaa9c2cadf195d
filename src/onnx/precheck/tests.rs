//! The precheck on graphs of a few fields, written as bytes.

use std::io::Cursor;

use super::walk::DEPTH;
use super::*;

fn precheck(bytes: &[u8]) -> Result<Precheck, String> {
    read(Cursor::new(bytes), bytes.len() as u64)
}

fn checked(bytes: &[u8]) -> Result<(), String> {
    precheck(bytes).map(drop)
}

/// A field of bytes, fewer than 2^14.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = [content.len() as u8 | 0x80, (content.len() >> 7) as u8];
    [&[number << 3 | 2], &length[..], content].concat()
}

#[test]
fn a_whole_graph_passes_and_its_beginnings_do_not() {
    let whole = [&[0x08, 0x08], field(7, &field(1, &field(4, b"Add"))).as_slice()].concat();
    assert_eq!(checked(&whole), Ok(()));
    for end in 0..whole.len() {
        let reason = checked(&whole[..end]).unwrap_err();
        let expected = if matches!(end, 0 | 2) { "not an ONNX graph" } else { "cut short" };
        assert!(reason.contains(expected), "{end}: {reason}");
    }
}

#[test]
fn a_length_beyond_the_message_is_refused_at_every_level() {
    let endless = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let levels = [7, 1, 5, 5, 13];
    for depth in 0..levels.len() {
        let bytes = levels[..depth].iter().rev().fold(endless.to_vec(), |inner, level| field(*level, &inner));
        assert!(checked(&bytes).unwrap_err().contains("cut short or damaged"), "{depth}");
    }
}

#[test]
fn numbers_end_with_their_list() {
    let tensor = |dims: &[u8]| field(7, &field(5, &[field(1, dims), field(8, b"name")].concat()));
    assert_eq!(checked(&tensor(&[2, 0x80, 1])), Ok(()));
    assert!(checked(&tensor(&[2, 0x80])).is_err());
}

#[test]
fn graphs_without_end_are_refused() {
    let nested = |count| {
        let within = |inner: Vec<u8>, _| field(1, &field(5, &field(6, &inner)));
        field(7, &(0..count).fold(Vec::new(), within))
    };
    assert_eq!(checked(&nested(DEPTH / 3 - 1)), Ok(()));
    assert!(checked(&nested(DEPTH / 3 + 1)).unwrap_err().contains("graphs within graphs"));
}

#[test]
fn other_files_are_no_graphs() {
    for other in [&b"this is a text"[..], b"PK\x03\x04 an archive", b"%PDF-1.7", b"<html></html>", b"\x00\x00", b""] {
        assert!(checked(other).is_err());
    }
    assert_eq!(checked(&[0xff; 20]).unwrap_err(), "the file is not an ONNX graph");
}

#[test]
fn files_that_tensors_name_are_found_in_initializers_and_within_nodes_and_only_if_they_count() {
    let entry = |key: &[u8], value: &[u8]| {
        field(13, &[&[0x0a, key.len() as u8], key, &[0x12, value.len() as u8], value].concat())
    };
    let tensor = |location: &[u8], external: u8| {
        [entry(b"location", location), entry(b"offset", b"0"), vec![14 << 3, external]].concat()
    };
    let constant = field(1, &field(5, &field(5, &tensor(b"within.data", 1))));
    let initializers = [tensor(b"model.onnx_data", 1), tensor(b"unused.data", 0)].map(|tensor| field(5, &tensor));
    let graph = field(7, &[constant, initializers.concat()].concat());
    let found = precheck(&graph).unwrap().external;
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["model.onnx_data", "within.data"]);
}

#[test]
fn the_step_that_makes_an_output_says_what_its_numbers_are() {
    let node = |operator: &[u8], inputs: &[&[u8]], output: &[u8]| {
        let inputs = inputs.iter().flat_map(|input| field(1, input)).collect();
        field(1, &[inputs, field(2, output), field(4, operator)].concat())
    };
    let nodes = [
        node(b"Gemm", &[b"x"], b"z"),
        node(b"Softmax", &[b"z"], b"s"),
        node(b"Cast", &[b"s"], b"narrow"),
        node(b"Sigmoid", &[b"z"], b"g"),
        node(b"LogSoftmax", &[b"z"], b"l"),
        node(b"Exp", &[b"z"], b"e"),
        node(b"ReduceSum", &[b"e"], b"sum"),
        node(b"Div", &[b"e", b"sum"], b"by hand"),
        node(b"Div", &[b"z", b"sum"], b"another"),
    ];
    let precheck = precheck(&field(7, &nodes.concat())).unwrap();
    for (output, scale) in [
        ("z", Scale::Scores),
        ("s", Scale::Softmax),
        ("narrow", Scale::Softmax),
        ("g", Scale::Sigmoid),
        ("l", Scale::LogSoftmax),
        ("by hand", Scale::Softmax),
        ("another", Scale::Scores),
        ("nothing makes it", Scale::Scores),
    ] {
        assert_eq!(precheck.scale(output), scale, "{output}");
    }
}
