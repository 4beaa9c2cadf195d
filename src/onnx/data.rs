//! The files in which a graph keeps its weights, and the preparation of graphs for rten.
//!
//! A graph names such a file relative to itself. In a hub cache both are links into a folder of blobs, where the files
//! have other names. ONNX Runtime follows the link of the file. rten follows the link of the graph, looks for the name
//! among the blobs and does not find it. rten also has no 16-bit floats: it widens weights, and refuses a graph with a
//! cast to 16 bits. Such a cast changes only the rounding of numbers that have 32 bits everywhere else.
//!
//! So a graph with a link or with such a cast is read and corrected here. rten opens all others itself, which takes
//! less memory.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use super::precheck::{self, Precheck};
use super::source::GraphSource;

/// A graph in the form that rten loads.
#[derive(Debug)]
pub(super) enum RtenGraph<'a> {
    /// A file, with the weights in it or beside it.
    File(&'a Path),
    /// The bytes of a graph, and of each further file by the name that the graph uses.
    Memory {
        /// The graph.
        graph: Vec<u8>,
        /// The further files.
        data: Vec<(String, Vec<u8>)>,
    },
}

/// `TensorProto.DataType.FLOAT`
const FLOAT32: u8 = 1;

/// The weight files of a graph. All of them exist.
#[derive(Debug)]
pub(super) struct WeightFiles {
    files: Vec<(String, PathBuf)>,
    /// A runtime that follows only the graph's link finds all of them.
    are_beside: bool,
}

/// Lists the weight files of the graph in `path`, relative to its folder and sorted. The error says why the file is not
/// a graph.
pub fn external_data(path: &Path) -> Result<Vec<String>, String> {
    let names = run_precheck(GraphSource::File(path))?.external;
    Ok(names.iter().map(|name| name.trim_start_matches("./").to_owned()).collect())
}

/// Runs the precheck on a graph.
pub(super) fn run_precheck(source: GraphSource<'_>) -> Result<Precheck, String> {
    match source {
        GraphSource::File(path) => {
            let file = File::open(path).map_err(|error| error.to_string())?;
            let length = file.metadata().map_err(|error| error.to_string())?.len();
            precheck::read(file, length)
        }
        GraphSource::Memory(bytes) => precheck::read(Cursor::new(bytes), bytes.len() as u64),
    }
}

impl WeightFiles {
    /// Finds the files that a graph names. The error names the one that is missing.
    pub(super) fn find(source: GraphSource<'_>, precheck: &Precheck) -> Result<Self, String> {
        let GraphSource::File(graph) = source else { return Ok(Self { files: Vec::new(), are_beside: true }) };
        let files = precheck.external.iter().map(|name| Ok((name.clone(), locate(graph, name)?)));
        let files = files.collect::<Result<Vec<(String, PathBuf)>, String>>()?;
        let are_beside = files.iter().all(|(name, path)| is_beside(graph, name, path));
        Ok(Self { files, are_beside })
    }

    /// Prepares the graph for rten: as a path if rten can open it, otherwise as bytes.
    pub(super) fn for_rten<'a>(self, source: GraphSource<'a>, precheck: &Precheck) -> Result<RtenGraph<'a>, String> {
        let mut graph = match source {
            GraphSource::File(path) if self.are_beside && precheck.half_casts.is_empty() && is_named_onnx(path) => {
                return Ok(RtenGraph::File(path));
            }
            GraphSource::File(path) => fs::read(path).map_err(|error| error.to_string())?,
            GraphSource::Memory(bytes) => bytes.to_vec(),
        };
        for offset in &precheck.half_casts {
            if let Some(byte) = usize::try_from(*offset).ok().and_then(|offset| graph.get_mut(offset)) {
                *byte = FLOAT32;
            }
        }
        let read = |(name, path): (String, PathBuf)| match fs::read(&path) {
            Ok(bytes) => Ok((name, bytes)),
            Err(error) => Err(unreadable(&path, &error)),
        };
        Ok(RtenGraph::Memory { graph, data: self.files.into_iter().map(read).collect::<Result<_, String>>()? })
    }
}

/// Returns whether the file has the extension that rten requires.
fn is_named_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Finds a file that a graph names. It must exist in the graph's folder or below it.
fn locate(graph: &Path, name: &str) -> Result<PathBuf, String> {
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!(
            "it keeps weights in {name:?}, which is outside its folder; export it with its weights beside it"
        ));
    }
    let path = graph.parent().unwrap_or(Path::new("")).join(name);
    fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
    Ok(path)
}

/// Returns whether a runtime that follows only the graph's link finds the file.
fn is_beside(graph: &Path, name: &str, path: &Path) -> bool {
    let expected = graph.canonicalize().ok().and_then(|graph| Some(graph.parent()?.join(name)));
    let found = path.canonicalize().ok();
    found.is_some() && found == expected
}

/// Explains that a weight file cannot be read.
fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("it keeps weights in {}, which cannot be read: {error}; fetch or copy it too", path.display())
}
