//! A large part: a tantivy index of one segment, in mapped files or in memory.
//!
//! tantivy's `IndexWriter` is not used. It would bring threads of its own for every collection, and commits and merges
//! at times of its own. A segment is written whole, by the thread that asks for it, and never changes.
//!
//! A stored segment is checked when it is opened: after that, reading it cannot fail.

use std::io;
use std::sync::Arc;

use roaring::RoaringBitmap;
use tantivy::directory::{Directory, OwnedBytes, RamDirectory};
use tantivy::fastfield::{AliveBitSet, write_alive_bitset};
use tantivy::fieldnorm::FieldNormReader;
use tantivy::indexer::{SingleSegmentIndexWriter, merge_filtered_segments};
use tantivy::postings::{Postings, SegmentPostings, TermInfo};
use tantivy::query::Weight;
use tantivy::schema::IndexRecordOption;
use tantivy::{
    BitSet, DocSet, Index, InvertedIndexReader, ReloadPolicy, Searcher, SegmentReader, TERMINATED, TantivyDocument,
    TantivyError, Term,
};

use super::batch::Batch;
use super::directory::SegmentDirectory;
use super::files::{NewFiles, StoredFiles};
use super::members::{Members, NOWHERE};
use super::schema::{self, BETWEEN, Fields};

/// Memory that a writer may plan for its table of terms. More would be taken if needed.
const WRITER_BYTES: usize = 3 << 20;

/// Bytes that tantivy takes for an open segment, beside the content of its files.
const OPEN_BYTES: usize = 16 << 10;

const CHECKED: &str = "a segment that was checked when it was opened is readable";

/// A finished segment.
pub(super) struct Segment {
    pub(super) members: Members,
    index: Index,
    searcher: Searcher,
    postings: Arc<InvertedIndexReader>,
    lengths: FieldNormReader,
    /// Bytes of its files, if they are in memory.
    bytes_in_memory: usize,
    files: Option<StoredFiles>,
}

/// The place for a new segment.
pub(super) enum Place {
    Memory(RamDirectory),
    Files(NewFiles),
}

/// A segment of an earlier process, whose documents have no positions yet.
pub(super) struct StoredSegment {
    pub(super) segment: Segment,
    /// The digest of each document's text.
    pub(super) digests: Vec<u32>,
}

impl Place {
    pub(super) fn in_memory() -> Self {
        Self::Memory(RamDirectory::create())
    }

    fn directory(&self) -> Box<dyn Directory> {
        match self {
            Self::Memory(directory) => Box::new(directory.clone()),
            Self::Files(files) => Box::new(SegmentDirectory::new(files.directory().to_owned())),
        }
    }
}

impl Segment {
    /// Writes a segment of the documents of batches that are not removed, in order.
    pub(super) fn of_batches(batches: &[(&Batch, &RoaringBitmap)], place: Place) -> tantivy::Result<Self> {
        let (schema, fields) = schema::schema();
        let builder = Index::builder().schema(schema).settings(schema::settings()).tokenizers(schema::tokenizers());
        let mut writer = builder.single_segment_index_writer(place.directory(), WRITER_BYTES)?;
        let mut members = Members::default();
        for (batch, removed) in batches {
            let mut written = Ok(());
            batch.each_document(|number, terms| {
                if written.is_ok() && !removed.contains(number) {
                    members.take(&batch.members, number);
                    written = add(&mut writer, fields, batch, number, terms);
                }
            });
            written?;
        }
        Self::complete(writer.finalize()?, members, place)
    }

    /// Writes one segment of the documents of several that are not removed, in order.
    pub(super) fn merged(segments: &[(&Segment, &RoaringBitmap)], place: Place) -> tantivy::Result<Self> {
        let mut members = Members::default();
        let (mut parts, mut alive) = (Vec::new(), Vec::new());
        for (segment, removed) in segments {
            parts.extend(segment.index.searchable_segments()?);
            alive.push(alive_documents(segment.members.len() as u32, removed)?);
            for number in (0..segment.members.len() as u32).filter(|number| !removed.contains(*number)) {
                members.take(&segment.members, number);
            }
        }
        let index = merge_filtered_segments(&parts, schema::settings(), alive, place.directory())?;
        Self::complete(index, members, place)
    }

    fn complete(index: Index, mut members: Members, place: Place) -> tantivy::Result<Self> {
        members.shrink();
        match place {
            Place::Memory(directory) => Self::open(index, members, directory.total_mem_usage(), None),
            Place::Files(files) => {
                drop(index);
                let files = files.complete()?;
                let index = Index::open(SegmentDirectory::new(files.path().to_owned()))?;
                Self::open(index, members, 0, Some(files))
            }
        }
    }

    /// Opens a segment of an earlier process and checks it.
    pub(super) fn stored(files: StoredFiles) -> tantivy::Result<StoredSegment> {
        let index = Index::open(SegmentDirectory::new(files.path().to_owned()))?;
        if let Some(damaged) = index.validate_checksum()?.into_iter().next() {
            return Err(corrupt(format!("the checksum of {} is wrong", damaged.display())));
        }
        let (mut members, mut digests) = (Members::default(), Vec::new());
        let searcher = searcher(&index)?;
        let columns = only_segment(&searcher)?.fast_fields();
        let (keys, lengths) = (columns.u64(schema::KEY)?, columns.u64(schema::LENGTH)?);
        let stored_digests = columns.u64(schema::DIGEST)?;
        for number in 0..only_segment(&searcher)?.max_doc() {
            let (key, length) = (keys.first(number), lengths.first(number));
            let (Some(key), Some(length), Some(digest)) = (key, length, stored_digests.first(number)) else {
                return Err(corrupt("a document without a key, a length or a digest".to_owned()));
            };
            if members.range().is_some_and(|(_, last)| key <= last) {
                return Err(corrupt("its keys do not ascend".to_owned()));
            }
            members.push(key, NOWHERE, length as u32);
            digests.push(digest as u32);
        }
        members.shrink();
        let segment = Self::open(index, members, 0, Some(files))?;
        Ok(StoredSegment { segment, digests })
    }

    fn open(
        index: Index,
        members: Members,
        bytes_in_memory: usize,
        files: Option<StoredFiles>,
    ) -> tantivy::Result<Self> {
        let searcher = searcher(&index)?;
        let reader = only_segment(&searcher)?;
        if reader.max_doc() as usize != members.len() {
            return Err(corrupt(format!("it has {} documents instead of {}", reader.max_doc(), members.len())));
        }
        let (_, fields) = schema::schema();
        let postings = reader.inverted_index(fields.terms)?;
        let lengths = reader.get_fieldnorms_reader(fields.terms)?;
        Ok(Self { members, index, searcher, postings, lengths, bytes_in_memory, files })
    }

    /// tantivy's searcher, which weights of queries are made with.
    pub(super) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// The average number of terms of its documents, as tantivy assumed it for the bounds of blocks of postings.
    pub(super) fn average_length(&self) -> f32 {
        self.postings.total_num_tokens() as f32 / self.members.len() as f32
    }

    /// The place of a term, if a document has it. Removed documents are not left out.
    pub(super) fn find(&self, term: &Term) -> Option<TermInfo> {
        self.postings.get_term_info(term).expect(CHECKED)
    }

    /// The number of documents that have a term, without the removed ones.
    pub(super) fn frequency(&self, term: &TermInfo, removed: &RoaringBitmap) -> u64 {
        let with_term = u64::from(term.doc_freq);
        if removed.is_empty() {
            return with_term;
        }
        let mut postings = self.postings(term, IndexRecordOption::Basic);
        let gone = if with_term < removed.len() {
            let with_term = std::iter::successors(Some(postings.doc()), |_| Some(postings.advance()));
            with_term.take_while(|&document| document != TERMINATED).filter(|&one| removed.contains(one)).count()
        } else {
            removed.iter().filter(|&document| seek(&mut postings, document)).count()
        };
        with_term - gone as u64
    }

    /// Calls `each` with the documents whose score is above a threshold, and their scores. `each` returns the threshold
    /// for those that follow. Removed documents are not left out.
    pub(super) fn above(&self, weight: &dyn Weight, threshold: f32, each: &mut dyn FnMut(u32, f32) -> f32) {
        let reader = only_segment(&self.searcher).expect(CHECKED);
        weight.for_each_pruning(threshold, reader, each).expect(CHECKED);
    }

    /// Calls `each` with those of some documents, in order, that have a term: their index in `documents`, and the
    /// number of times that they have it.
    pub(super) fn frequencies(&self, term: &TermInfo, documents: &[u32], mut each: impl FnMut(usize, u32)) {
        let mut postings = self.postings(term, IndexRecordOption::WithFreqs);
        for (at, &document) in documents.iter().enumerate() {
            if seek(&mut postings, document) {
                each(at, postings.term_freq());
            }
        }
    }

    /// The code of a document's length, by which it is scored.
    pub(super) fn length_code(&self, document: u32) -> u8 {
        self.lengths.fieldnorm_id(document)
    }

    fn postings(&self, term: &TermInfo, option: IndexRecordOption) -> SegmentPostings {
        self.postings.read_postings_from_terminfo(term, option).expect(CHECKED)
    }

    /// Bytes of memory, without mapped files.
    pub(super) fn bytes(&self) -> usize {
        OPEN_BYTES + self.members.bytes() + self.bytes_in_memory
    }

    /// Bytes of the files that are mapped.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.files.as_ref().map_or(0, StoredFiles::bytes)
    }

    /// Bytes of its files, in memory or mapped.
    pub(super) fn file_bytes(&self) -> usize {
        self.bytes_in_memory + self.mapped_bytes()
    }

    /// Lets the last reader delete the files.
    pub(super) fn make_obsolete(&self) {
        self.files.iter().for_each(StoredFiles::make_obsolete);
    }
}

fn add(
    writer: &mut SingleSegmentIndexWriter,
    fields: Fields,
    batch: &Batch,
    number: u32,
    terms: &mut dyn Iterator<Item = (&str, u32)>,
) -> tantivy::Result<()> {
    let mut joined = String::new();
    for (term, frequency) in terms {
        for _ in 0..frequency {
            if !joined.is_empty() {
                joined.push(BETWEEN);
            }
            joined.push_str(term);
        }
    }
    let mut document = TantivyDocument::default();
    document.add_text(fields.terms, joined);
    document.add_u64(fields.key, batch.members.key(number));
    document.add_u64(fields.digest, u64::from(batch.digest(number)));
    document.add_u64(fields.length, u64::from(batch.members.length(number)));
    writer.add_document(document)
}

/// Moves postings to a document; false if it is not among them. Documents must ascend from call to call.
fn seek(postings: &mut SegmentPostings, document: u32) -> bool {
    let at = postings.doc();
    at != TERMINATED && (at >= document || postings.seek(document) != TERMINATED) && postings.doc() == document
}

/// The documents that stay, in the form that a merge takes; `None`: all.
fn alive_documents(documents: u32, removed: &RoaringBitmap) -> io::Result<Option<AliveBitSet>> {
    if removed.is_empty() {
        return Ok(None);
    }
    let mut alive = BitSet::with_max_value_and_full(documents);
    removed.iter().for_each(|document| alive.remove(document));
    let mut bytes = Vec::new();
    write_alive_bitset(&alive, &mut bytes)?;
    Ok(Some(AliveBitSet::open(OwnedBytes::new(bytes))))
}

fn searcher(index: &Index) -> tantivy::Result<Searcher> {
    let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).doc_store_cache_num_blocks(0).try_into()?;
    Ok(reader.searcher())
}

fn only_segment(searcher: &Searcher) -> tantivy::Result<&SegmentReader> {
    match searcher.segment_readers() {
        [reader] => Ok(reader),
        others => Err(corrupt(format!("it has {} segments instead of one", others.len()))),
    }
}

fn corrupt(what: String) -> TantivyError {
    TantivyError::DataCorruption(tantivy::error::DataCorruption::comment_only(what))
}
