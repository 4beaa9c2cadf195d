//! Files that a graph keeps weights in: where they are, and when they must be read for a runtime.
//!
//! A graph names such a file by a name beside itself. In a hub cache both are links into a folder of blobs, where they
//! have other names. ONNX Runtime follows the file's own link; rten follows the graph's, looks for the name among the
//! blobs and does not find it. So where a link is on the way, the bytes are read here for rten; everywhere else it
//! opens the files itself, which takes less memory.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use super::graph::Source;
use super::outline::{self, Outline};

/// The content of files, by the names that a graph gives them.
pub(super) type Read = Vec<(String, Vec<u8>)>;

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

    /// Their content, if a runtime that follows the graph's links would not find them; else nothing.
    pub(super) fn read(self) -> Result<Read, String> {
        if self.are_beside {
            return Ok(Vec::new());
        }
        let read = |(name, path): (String, PathBuf)| match fs::read(&path) {
            Ok(bytes) => Ok((name, bytes)),
            Err(error) => Err(unreadable(&path, &error)),
        };
        self.files.into_iter().map(read).collect()
    }
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
