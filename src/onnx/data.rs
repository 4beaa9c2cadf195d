//! Files that a graph keeps weights in: where they are, and when a graph must be read for rten.
//!
//! A graph names such a file by a name beside itself. In a hub cache both are links into a folder of blobs, where they
//! have other names. ONNX Runtime follows the file's own link; rten follows the graph's, looks for the name among the
//! blobs and does not find it. And rten has no 16-bit floats but those of weights, which it makes wider: a cast to them
//! ends the load, though it would change nothing but the rounding of numbers that are 32 bits wide everywhere else.
//! So where a link is on the way, or a cast to 16 bits, the bytes are read and set right here; everywhere else rten
//! opens the files itself, which takes less memory.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use super::graph::Source;
use super::outline::{self, Outline};

/// A graph as rten gets it.
#[derive(Debug)]
pub(super) enum Whole<'a> {
    /// In a file, with its weights in it or beside it.
    File(&'a Path),
    /// In memory, with the content of each further file by the name that the graph gives it.
    Read {
        /// The graph.
        graph: Vec<u8>,
        /// The further files.
        data: Vec<(String, Vec<u8>)>,
    },
}

/// `TensorProto.DataType.FLOAT`
const FLOAT32: u8 = 1;

/// The files of a graph, all of them there.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<(String, PathBuf)>,
    /// A runtime that follows the graph's links finds them without following others.
    are_beside: bool,
}

/// The files that the graph in `path` keeps weights in, relative to its folder and sorted; or why it is no graph.
pub fn external_data(path: &Path) -> Result<Vec<String>, String> {
    let names = of(Source::File(path))?.external;
    Ok(names.iter().map(|name| name.trim_start_matches("./").to_owned()).collect())
}

/// What a graph says of itself.
pub(super) fn of(source: Source<'_>) -> Result<Outline, String> {
    match source {
        Source::File(path) => {
            let file = File::open(path).map_err(|error| error.to_string())?;
            let length = file.metadata().map_err(|error| error.to_string())?.len();
            outline::read(file, length)
        }
        Source::Memory(bytes) => outline::read(Cursor::new(bytes), bytes.len() as u64),
    }
}

impl Files {
    /// The files of this graph; or which one is missing.
    pub(super) fn of(source: Source<'_>, outline: &Outline) -> Result<Self, String> {
        let Source::File(graph) = source else { return Ok(Self { files: Vec::new(), are_beside: true }) };
        let files = outline.external.iter().map(|name| Ok((name.clone(), place(graph, name)?)));
        let files = files.collect::<Result<Vec<(String, PathBuf)>, String>>()?;
        let are_beside = files.iter().all(|(name, path)| is_beside(graph, name, path));
        Ok(Self { files, are_beside })
    }

    /// The graph for rten, by a path if that will do.
    pub(super) fn for_rten<'a>(self, source: Source<'a>, outline: &Outline) -> Result<Whole<'a>, String> {
        let mut graph = match source {
            Source::File(path) if self.are_beside && outline.half_casts.is_empty() && is_named_onnx(path) => {
                return Ok(Whole::File(path));
            }
            Source::File(path) => fs::read(path).map_err(|error| error.to_string())?,
            Source::Memory(bytes) => bytes.to_vec(),
        };
        for place in &outline.half_casts {
            if let Some(byte) = usize::try_from(*place).ok().and_then(|place| graph.get_mut(place)) {
                *byte = FLOAT32;
            }
        }
        let read = |(name, path): (String, PathBuf)| match fs::read(&path) {
            Ok(bytes) => Ok((name, bytes)),
            Err(error) => Err(unreadable(&path, &error)),
        };
        Ok(Whole::Read { graph, data: self.files.into_iter().map(read).collect::<Result<_, String>>()? })
    }
}

/// rten knows a file by its ending, and opens no others.
fn is_named_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// A file that a graph names, which must be there and in the graph's folder or below it.
fn place(graph: &Path, name: &str) -> Result<PathBuf, String> {
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("it keeps weights in {name:?}, which leads out of its folder"));
    }
    let path = graph.parent().unwrap_or(Path::new("")).join(name);
    fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
    Ok(path)
}

/// Whether a runtime that follows the graph's links finds the file without following one of its own.
fn is_beside(graph: &Path, name: &str, path: &Path) -> bool {
    let expected = graph.canonicalize().ok().and_then(|graph| Some(graph.parent()?.join(name)));
    let found = path.canonicalize().ok();
    found.is_some() && found == expected
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("it keeps weights in {}, which cannot be read: {error}; fetch or copy it too", path.display())
}
