//! The bytes that the documents of a collection count for in the budgets.
//!
//! The cost of a document is known before it is stored: its entries, its vectors and graph, and an upper bound on its
//! words. What changes later without a commit is counted anew when it has changed: words and rows move into segments,
//! whose files are mapped and do not count.

use super::budget::Usage;
use super::commit_queue::Brief;
use super::document::{DocId, Document, Kept};
use super::documents::Documents;
use super::single::Collection;
use crate::lexical::LexicalIndex;
use crate::machine::allocator;

/// Bytes of a document's entries beside its id and content: the map by id, whose nodes are about two thirds full,
/// and the list by position, which grows by doubling.
const ENTRY_BYTES: usize = 112;

/// Bytes of a vector in the index and in a segment, beside its row and its codes (one byte per dimension): the sketch,
/// the list of positions, which grows by doubling, links, and tables.
const GRAPH_BYTES: usize = 288;

/// Bytes of a passage beside its vector, from the second on: its place in the lists of positions and of passages, which
/// grow by doubling, and in the bitmaps.
const PASSAGE_BYTES: usize = 128;

/// Most bytes that the words of a text take until a segment holds them: for each of its bytes, and for the document.
/// Words of two short parts take 9.5 times as much, each term with its place and its posting.
const WORDS_BYTES: (usize, usize) = (10, 64);

impl Collection {
    /// Counts words and rows anew, after they were moved into segments.
    pub(super) fn recount_varying(&self) {
        {
            let here = self.read();
            if here.varying_bytes == self.varying_bytes(&here) {
                return;
            }
        }
        let mut here = self.write();
        if !here.deleted {
            self.recount(&mut here, 0, 0);
            let used = here.used;
            self.note_used(&mut here, used);
        }
    }

    /// Counts words and rows, and `after` bytes instead of `before`, regardless of the limits.
    pub(super) fn recount(&self, here: &mut Documents, before: usize, after: usize) {
        let varying = self.varying_bytes(here);
        let (before, after) = (before + here.varying_bytes, after + varying);
        self.budgets.replace(before, after);
        here.used.bytes = here.used.bytes + after - before;
        here.varying_bytes = varying;
    }

    /// The bytes of words, and of the rows that files will hold and do not yet. While documents are loaded, the index
    /// may lack its files, and builds them afterwards.
    fn varying_bytes(&self, here: &Documents) -> usize {
        let counted = self.on_disk.is_some() && here.loaded;
        let rows = if counted { self.index.rows_in_memory() * self.row_bytes() } else { 0 };
        rows + self.lexical.as_ref().map_or(0, LexicalIndex::bytes)
    }

    /// The bytes among [`Collection::bytes`] that are in mapped index files, and not in memory of the process.
    pub fn bytes_in_files(&self) -> usize {
        let vectors = self.n_passages().saturating_sub(self.index.rows_in_memory());
        vectors * self.vector_bytes()
    }

    /// Bytes of a vector beside its row.
    fn vector_bytes(&self) -> usize {
        self.dimensions() + GRAPH_BYTES
    }

    /// Bytes of a vector's row in memory.
    fn row_bytes(&self) -> usize {
        allocator::shared(self.dimensions() * size_of::<f32>())
    }

    /// Notes the usage of the documents.
    pub(super) fn note_used(&self, here: &mut Documents, used: Usage) {
        here.used = used;
        self.counts.note(used, here.all_passages());
    }

    /// Bytes of the part of a content that stays in memory.
    pub(super) fn kept_bytes(&self, Brief { metadata, text_bytes }: Brief<'_>) -> usize {
        Kept::bytes_with(self.on_disk.is_none().then_some(text_bytes as usize), metadata)
    }

    /// Upper bound on the bytes of a text's words.
    pub(super) fn words_cost(&self, Brief { text_bytes, .. }: Brief<'_>) -> usize {
        let (for_each_byte, for_document) = WORDS_BYTES;
        if self.lexical.is_some() { for_each_byte * text_bytes as usize + for_document } else { 0 }
    }

    /// Usage of a document with all that belongs to it. Excludes what documents share, and rows that files hold.
    pub(super) fn cost(&self, id: &DocId, brief: Brief<'_>, n_passages: usize) -> Usage {
        let row = if self.on_disk.is_some() { 0 } else { self.row_bytes() };
        let vector = row + self.vector_bytes();
        let passages = vector * n_passages + PASSAGE_BYTES * (n_passages - 1);
        Usage { documents: 1, bytes: ENTRY_BYTES + id.bytes() + self.kept_bytes(brief) + passages }
    }

    /// Usage of a document that is to be stored.
    pub(super) fn cost_of(&self, document: &Document) -> Usage {
        self.cost(&document.id, (&*document.content).into(), document.vectors.count())
    }
}
