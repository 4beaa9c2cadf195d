//! The settings of the runtimes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The settings with which graphs are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The runtime.
    pub runtime: Choice,
    /// ONNX Runtime's shared library, or its directory. If it is given, no other location is tried, and a library that
    /// cannot be used ends the start. Not used with [`Choice::Rten`].
    pub library: Option<PathBuf>,
    /// A higher level gives faster runs and a slower load.
    pub optimization: Optimization,
    /// Threads for one batch. More threads than the container has cores slow everything down. 0 counts as 1.
    pub threads: usize,
}

/// A runtime, or the rule that picks one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// ONNX Runtime if its library is found and works, otherwise rten.
    #[default]
    Auto,
    /// ONNX Runtime only.
    OnnxRuntime,
    /// rten, the built-in runtime.
    Rten,
}

/// The extent to which a graph is rewritten before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Optimization {
    /// Nothing is rewritten.
    None,
    /// Constants are folded and redundant nodes removed. rten treats it as `all`.
    Basic,
    /// Nodes are fused as well. rten treats it as `all`.
    Extended,
    /// All rewrites that the runtime has.
    #[default]
    All,
}

/// The settings with which a runtime loads and runs a graph.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub optimization: Optimization,
    pub threads: usize,
}

impl Choice {
    const NAMES: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("onnxruntime", Self::OnnxRuntime), ("rten", Self::Rten)];
}

impl Optimization {
    const NAMES: [(&'static str, Self); 4] =
        [("none", Self::None), ("basic", Self::Basic), ("extended", Self::Extended), ("all", Self::All)];
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        named(s, &Self::NAMES)
    }
}

impl FromStr for Optimization {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        named(s, &Self::NAMES)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

impl fmt::Display for Optimization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

/// Finds a value by its name.
fn named<T: Copy>(s: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == s);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Returns the name of a value.
fn name_of<T: Copy + PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    names.iter().find(|(_, named)| *named == value).map(|(name, _)| *name).expect("every value has a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, choice) in Choice::NAMES {
            assert_eq!(name.parse(), Ok(choice));
            assert_eq!(choice.to_string(), name);
        }
        for (name, optimization) in Optimization::NAMES {
            assert_eq!(name.parse(), Ok(optimization));
            assert_eq!(optimization.to_string(), name);
        }
        assert_eq!("ort".parse::<Choice>(), Err("expected one of auto, onnxruntime, rten".to_owned()));
    }
}
