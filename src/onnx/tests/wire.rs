//! Graphs of a few nodes, written as the bytes of `onnx.ModelProto` (field numbers from onnx.proto3).

/// A tensor's element type.
#[derive(Clone, Copy)]
pub enum Elem {
    Float = 1,
    Int64 = 7,
    Float16 = 10,
    Float64 = 11,
}

/// A node's setting.
pub struct Attribute(pub &'static str, pub Value);

pub enum Value {
    Int(u64),
    Ints(&'static [u64]),
}

use Value::{Int, Ints};

/// A graph under construction.
#[derive(Default)]
pub struct GraphBytes(Vec<u8>);

impl GraphBytes {
    pub fn node(mut self, op: &str, inputs: &[&str], output: &str, attributes: &[Attribute]) -> Self {
        let mut node = Vec::new();
        inputs.iter().for_each(|input| bytes(&mut node, 1, input.as_bytes()));
        bytes(&mut node, 2, output.as_bytes());
        bytes(&mut node, 4, op.as_bytes());
        for Attribute(name, value) in attributes {
            let mut attribute = Vec::new();
            bytes(&mut attribute, 1, name.as_bytes());
            match value {
                Int(value) => number(&mut attribute, 3, *value),
                Ints(values) => values.iter().for_each(|value| number(&mut attribute, 8, *value)),
            }
            // AttributeProto.type: INT or INTS
            number(&mut attribute, 20, if matches!(value, Int(_)) { 2 } else { 7 });
            bytes(&mut node, 5, &attribute);
        }
        bytes(&mut self.0, 1, &node);
        self
    }

    pub fn constant(mut self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        let mut tensor = Vec::new();
        shape.iter().for_each(|size| number(&mut tensor, 1, *size));
        number(&mut tensor, 2, Elem::Float as u64);
        bytes(&mut tensor, 8, name.as_bytes());
        bytes(&mut tensor, 9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        bytes(&mut self.0, 5, &tensor);
        self
    }

    /// Adds a constant whose values are in a file.
    pub fn external(mut self, name: &str, shape: &[u64], file: &str) -> Self {
        let mut tensor = Vec::new();
        shape.iter().for_each(|size| number(&mut tensor, 1, *size));
        number(&mut tensor, 2, Elem::Float as u64);
        bytes(&mut tensor, 8, name.as_bytes());
        let length = (shape.iter().product::<u64>() * 4).to_string();
        for (key, value) in [("location", file), ("offset", "0"), ("length", &length)] {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, key.as_bytes());
            bytes(&mut entry, 2, value.as_bytes());
            bytes(&mut tensor, 13, &entry);
        }
        number(&mut tensor, 14, 1);
        bytes(&mut self.0, 5, &tensor);
        self
    }

    /// Adds an input. A dimension is a number or a name.
    pub fn input(self, name: &str, elem: Elem, dims: &[&str]) -> Self {
        self.value(11, name, elem, dims)
    }

    pub fn output(self, name: &str, elem: Elem, dims: &[&str]) -> Self {
        self.value(12, name, elem, dims)
    }

    fn value(mut self, field: u64, name: &str, elem: Elem, dims: &[&str]) -> Self {
        let mut shape = Vec::new();
        for dim in dims {
            let mut dimension = Vec::new();
            match dim.parse() {
                Ok(size) => number(&mut dimension, 1, size),
                Err(_) => bytes(&mut dimension, 2, dim.as_bytes()),
            }
            bytes(&mut shape, 1, &dimension);
        }
        let (mut tensor, mut kind, mut value) = (Vec::new(), Vec::new(), Vec::new());
        number(&mut tensor, 1, elem as u64);
        bytes(&mut tensor, 2, &shape);
        bytes(&mut kind, 1, &tensor);
        bytes(&mut value, 1, name.as_bytes());
        bytes(&mut value, 2, &kind);
        bytes(&mut self.0, field, &value);
        self
    }

    pub fn model(mut self) -> Vec<u8> {
        bytes(&mut self.0, 2, b"graph");
        let (mut model, mut opset) = (Vec::new(), Vec::new());
        bytes(&mut opset, 1, b"");
        number(&mut opset, 2, 17);
        number(&mut model, 1, 8);
        bytes(&mut model, 7, &self.0);
        bytes(&mut model, 8, &opset);
        model
    }
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
