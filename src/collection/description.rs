//! The description of a collection: its settings and its figures, as listings show them.

use super::passages::PassageSizes;
use super::single::Collection;
use crate::lexical;

/// The description of a collection at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The name.
    pub name: String,
    /// The caller who created it; `None`: nobody's limits count its documents.
    pub owner: Option<String>,
    /// The name of its model when it was created; empty: not known.
    pub model: String,
    /// Fingerprint of the model that its vectors come from.
    pub fingerprint: String,
    /// Length of its vectors.
    pub dimensions: usize,
    /// The sizes of its passages; `None`: a text is one passage.
    pub passages: Option<PassageSizes>,
    /// The settings of its lexical index; `None`: it has none.
    pub lexical: Option<lexical::Options>,
    /// Number of documents.
    pub documents: usize,
    /// Number of passages.
    pub n_passages: usize,
    /// Bytes of documents, vectors, graph and words.
    pub bytes: usize,
    /// Number of passages that the graph lacks yet.
    pub unindexed: usize,
    /// Bytes of the index files, which are mapped into memory.
    pub index_file_bytes: usize,
    /// Bytes of the files of the lexical index, which are mapped into memory.
    pub lexical_file_bytes: usize,
    /// The `ef` of searches that set none.
    pub ef_search: usize,
    /// Recall of the searches, as measured.
    pub recall: Option<f32>,
    /// Number of queries whose recall was measured.
    pub recall_queries: usize,
}

impl Collection {
    /// Describes the collection. Waits for no lock that a search or a commit holds for long.
    pub fn describe(&self) -> Description {
        let quality = self.quality();
        Description {
            name: self.name().to_owned(),
            owner: self.owner().map(str::to_owned),
            model: self.model().to_owned(),
            fingerprint: self.fingerprint().to_owned(),
            dimensions: self.dimensions(),
            passages: self.passages(),
            lexical: self.lexical(),
            documents: self.len(),
            n_passages: self.n_passages(),
            bytes: self.bytes(),
            unindexed: self.unindexed(),
            index_file_bytes: self.index_file_bytes(),
            lexical_file_bytes: self.lexical_file_bytes(),
            ef_search: quality.ef_search,
            recall: quality.recall,
            recall_queries: quality.checked,
        }
    }
}
