//! The inputs and outputs of a graph, as the runtime describes them.

use std::fmt;

/// An input or an output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port's name in the graph.
    pub name: String,
    /// The type of its numbers. rten reports 64-bit integers as `int32`, and floats of 16 and 64 bits as `float32`.
    pub element: Element,
    /// The dimensions; `None` if the graph does not state them.
    pub shape: Option<Vec<Dim>>,
}

/// The type of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// 64-bit integers.
    Int64,
    /// 32-bit integers.
    Int32,
    /// 32-bit floats.
    Float32,
    /// 16-bit floats.
    Float16,
    /// 64-bit floats.
    Float64,
    /// Another type, by its name. This program neither feeds nor reads it.
    Other(String),
}

/// A dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Fixed(usize),
    /// Any size, the same for all dimensions of this name.
    Named(String),
    /// Any size.
    Any,
}

impl Port {
    /// Returns the number of dimensions, if the graph states it.
    pub(super) fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// Returns the size of a dimension, if the graph fixes it.
    pub(super) fn size(&self, dimension: usize) -> Option<usize> {
        match self.shape.as_ref()?.get(dimension)? {
            Dim::Fixed(size) => Some(*size),
            Dim::Named(_) | Dim::Any => None,
        }
    }
}

/// Writes ports as one line for an error message.
pub(super) fn list(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "none".to_owned();
    }
    ports.iter().map(Port::to_string).collect::<Vec<String>>().join(", ")
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.element)?;
        let Some(shape) = &self.shape else {
            return f.write_str(" of unstated shape");
        };
        let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
        write!(f, " [{}]", dims.join(", "))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int64 => "int64",
            Self::Int32 => "int32",
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::Float64 => "float64",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Named(name) => f.write_str(name),
            Self::Any => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_shown_with_its_type_and_shape() {
        let shape = vec![Dim::Named("batch".to_owned()), Dim::Fixed(128), Dim::Any];
        let port = Port { name: "input_ids".to_owned(), element: Element::Int64, shape: Some(shape) };
        assert_eq!(port.to_string(), "input_ids int64 [batch, 128, ?]");
        let bare = Port { name: "x".to_owned(), element: Element::Other("bool".to_owned()), shape: None };
        assert_eq!(bare.to_string(), "x bool of unstated shape");
        assert_eq!(list(&[]), "none");
    }
}
