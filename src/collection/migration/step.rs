//! The work of a migration, step by step.
//!
//! A step has documents that the follower lacks, as the leader has them now. The caller embeds them, and the follower
//! gets all of the step in one commit, which settles the ids that it read.
//!
//! Invariant: only the latest step is applied, so a document never goes back to an earlier state. A step that is not
//! applied leaves nothing behind: the next one has the same documents.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::commit_queue::{Follow, Operation};
use super::super::disk::{Change, FirstPass, Reader};
use super::super::document::{Content, DocId, Document, Origin};
use super::super::listing::Located;
use super::super::metadata::Metadata;
use super::super::passages::{StoredVectors, Vectors};
use super::super::texts::{FetchError, text_of};
use super::error::MigrationError;
use super::lag::{Lag, Refused};
use super::pair::{ClientVectors, Migration, Pair};
use crate::index::Vector;
use crate::kernel::embedding::Embedding;

/// Work for the follower.
pub struct Step {
    number: u64,
    documents: Vec<ToEmbed>,
    /// Documents with vectors that came from a client and are kept.
    kept: Vec<Document>,
    /// Documents with vectors that came from a client and may not be kept.
    refused: Vec<(DocId, Option<u64>)>,
    removed: Vec<DocId>,
    /// Pending ids of removed and of kept documents.
    settled: Vec<(DocId, u64)>,
    /// The progress of the first pass after this step, if it has a part in it.
    copied: Option<FirstPass>,
}

/// A document of the leader that is to be embedded.
#[derive(Debug, Clone)]
pub struct ToEmbed {
    /// The id.
    pub id: DocId,
    /// The text; not empty.
    pub text: Arc<str>,
    metadata: Option<Metadata>,
    /// The number under which it is pending; `None`: the first pass reads it.
    number: Option<u64>,
}

impl Step {
    /// The documents to embed for the follower, by their text. The step itself sees to kept vectors and to removals.
    pub fn documents(&self) -> &[ToEmbed] {
        &self.documents
    }

    /// True if there is nothing to apply. A step without documents to embed may have something.
    pub fn is_empty(&self) -> bool {
        let Self { documents, kept, refused, removed, settled, copied, number: _ } = self;
        documents.is_empty()
            && kept.is_empty()
            && refused.is_empty()
            && removed.is_empty()
            && settled.is_empty()
            && copied.is_none()
    }
}

impl Migration {
    /// The next documents that the follower lacks: up to this many, and up to the one that brings their texts to this
    /// many bytes. An empty step: the follower lacks nothing now, or refused documents alone. Waits for the commit in
    /// progress. Earlier steps can no longer be applied.
    pub fn next(&self, most_documents: usize, most_bytes: usize) -> Result<Step, MigrationError> {
        let mut steps = self.steps();
        let pair = self.running()?;
        *steps += 1;
        let lacking = Lacking::find(&pair, most_documents.max(1))?;
        let mut step = Gathered::new(&pair, self.client_vectors, *steps, lacking.texts.as_ref());
        let mut is_full = false;
        for ((id, number), located) in lacking.ids.iter().zip(lacking.located) {
            if is_full {
                return Ok(step.step);
            }
            match number {
                Some(_) => pair.lag.took(id),
                None => step.step.copied = Some(up_to(Some(id))),
            }
            step.add(id.clone(), *number, located)?;
            is_full = step.bytes >= most_bytes;
        }
        if !is_full {
            step.step.copied = lacking.passes;
        }
        Ok(step.step)
    }

    /// Stores a step in the follower, and what it settles, in one commit. `vectors`: those of each document of the
    /// step, in order; `None`: it cannot be embedded. Then it stays pending and is refused: it is in no step until it
    /// changes, or until [`Migration::retry`]. After an error nothing is settled.
    pub fn apply(&self, step: Step, vectors: Vec<Option<Vectors>>) -> Result<(), MigrationError> {
        let steps = self.steps();
        let pair = self.running()?;
        if step.number != *steps {
            return Err(MigrationError::Stale);
        }
        let Step { documents, kept, refused, removed, mut settled, copied, number: _ } = step;
        let mut put = kept;
        let refuse = |(id, number): (DocId, Option<u64>)| {
            let new = number.is_none();
            Refused { id, number: number.unwrap_or_else(|| pair.lag.number()), new }
        };
        let mut refused: Vec<Refused> = refused.into_iter().map(refuse).collect();
        let vectors = vectors.into_iter().chain(std::iter::repeat_with(|| None));
        for (ToEmbed { id, text, metadata, number }, vectors) in documents.into_iter().zip(vectors) {
            match vectors {
                Some(vectors) => {
                    settled.extend(number.map(|number| (id.clone(), number)));
                    let content = Arc::new(Content { text, metadata });
                    put.push(Document { id, content, vectors, origin: Origin::Model });
                }
                None => refused.push(refuse((id, number))),
            }
        }
        let changes = changes(&pair.lag, &settled, &refused, copied.as_ref());
        pair.follower.perform(Operation::Follow(Follow { documents: put, removed, changes }))?;
        pair.lag.refuse(refused);
        pair.lag.settle(&settled, copied.as_ref());
        Ok(())
    }

    fn running(&self) -> Result<Pair, MigrationError> {
        Some(self.pair()).filter(|pair| !pair.ended).ok_or(MigrationError::NoMigration)
    }
}

/// Documents that the follower lacks, as they are at one moment.
struct Lacking {
    /// Pending ids with their numbers, and then ids that the first pass has before itself.
    ids: Vec<(DocId, Option<u64>)>,
    located: Vec<Option<Located>>,
    /// Their texts on disk; `None`: they are in memory.
    texts: Option<Reader>,
    /// The progress of the first pass after all of these; `None`: it has no part in them.
    passes: Option<FirstPass>,
}

impl Lacking {
    fn find(pair: &Pair, most: usize) -> Result<Self, MigrationError> {
        // No commit is in progress: it may change a document without a note before the first pass is past it, and
        // memory and disk are in the same state.
        let _turn = pair.leader.turn();
        let first_pass = pair.lag.copied();
        // Both get on while documents change faster than they are copied.
        let of_pending = if first_pass == FirstPass::Over { most } else { most.div_ceil(2) };
        let mut ids: Vec<_> = pair.lag.some(of_pending).into_iter().map(|(id, number)| (id, Some(number))).collect();
        let room = most - ids.len();
        let mut passes = None;
        if let FirstPass::UpTo(front) = first_pass
            && room > 0
        {
            let next = pair.leader.ids_after(DocId::new(&front).as_ref(), room);
            let after = up_to(next.get(room - 1));
            pair.lag.reads(&after);
            passes = Some(after);
            let pending: BTreeSet<DocId> = ids.iter().map(|(id, _)| id.clone()).collect();
            ids.extend(next.into_iter().filter(|id| !pending.contains(id)).map(|id| (id, None)));
        }
        let located = pair.leader.locate_each(ids.iter().map(|(id, _)| id));
        let texts = pair.leader.texts_now().map_err(FetchError::from)?;
        Ok(Self { ids, located, texts, passes })
    }
}

/// A step that is being put together.
struct Gathered<'p> {
    texts: Option<&'p Reader>,
    client_vectors: ClientVectors,
    /// The vectors of one collection fit the other.
    fits: bool,
    /// Bytes of texts.
    bytes: usize,
    step: Step,
}

impl<'p> Gathered<'p> {
    fn new(pair: &Pair, client_vectors: ClientVectors, number: u64, texts: Option<&'p Reader>) -> Self {
        let fits = pair.leader.dimensions() == pair.follower.dimensions();
        let step = Step {
            number,
            documents: Vec::new(),
            kept: Vec::new(),
            refused: Vec::new(),
            removed: Vec::new(),
            settled: Vec::new(),
            copied: None,
        };
        Self { texts, client_vectors, fits, bytes: 0, step }
    }

    /// Adds a document as it is. `number`: it was pending under it.
    fn add(&mut self, id: DocId, number: Option<u64>, located: Option<Located>) -> Result<(), MigrationError> {
        let step = &mut self.step;
        let Some(Located { row, kept, vectors, origin, .. }) = located else {
            step.settled.extend(number.map(|number| (id.clone(), number)));
            step.removed.push(id);
            return Ok(());
        };
        let metadata = kept.metadata.clone();
        let text = text_of(&kept, row, self.texts).map_err(FetchError::from)?;
        self.bytes += text.len();
        let is_embedded = origin == Origin::Model || self.client_vectors == ClientVectors::Replace;
        if is_embedded && !text.is_empty() {
            step.documents.push(ToEmbed { id, text, metadata, number });
            return Ok(());
        }
        let keeps = self.fits && self.client_vectors == ClientVectors::Keep;
        match taken_over(&text, &vectors).filter(|_| keeps) {
            Some(vectors) => {
                step.settled.extend(number.map(|number| (id.clone(), number)));
                let content = Arc::new(Content { text, metadata });
                step.kept.push(Document { id, content, vectors, origin });
            }
            None => step.refused.push((id, number)),
        }
        Ok(())
    }
}

/// The vectors of a document, as they are.
fn taken_over(text: &str, vectors: &StoredVectors) -> Option<Vectors> {
    let vector = |vector: &Vector| Embedding::restored(vector.to_vec());
    match vectors {
        StoredVectors::Whole(whole) => vector(whole).map(Vectors::Whole),
        StoredVectors::Passages(passages) => {
            let passages = passages.iter().map(|(span, of_passage)| Some((*span, vector(of_passage)?)));
            Vectors::of_passages(text, passages.collect::<Option<_>>()?).ok()
        }
    }
}

/// A first pass past this document; `None`: past all.
fn up_to(last: Option<&DocId>) -> FirstPass {
    last.map_or(FirstPass::Over, |last| FirstPass::UpTo(last.as_str().into()))
}

/// The changes on disk that belong to those of the follower's documents.
fn changes(lag: &Lag, settled: &[(DocId, u64)], refused: &[Refused], copied: Option<&FirstPass>) -> Vec<Change> {
    let settled = settled.iter().filter_map(|(id, number)| lag.on_disk(id, *number)).map(Change::Settle);
    let new = refused.iter().filter(|refused| refused.new);
    let noted = new.filter_map(|refused| lag.on_disk(&refused.id, refused.number)).map(Change::Note);
    let passed = lag.follower().zip(copied.cloned());
    let passed = passed.map(|(follower, first_pass)| Change::FirstPass { follower, first_pass });
    settled.chain(noted).chain(passed).collect()
}
