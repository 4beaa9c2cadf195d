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
use super::super::disk::{Change, FirstPass};
use super::super::document::{Content, DocId, Document};
use super::super::listing::Listed;
use super::super::metadata::Metadata;
use super::super::passages::{StoredVectors, Vectors};
use super::super::single::Collection;
use super::error::MigrationError;
use super::lag::{Lag, Refused};
use super::pair::{Migration, Pair, WithoutText};
use crate::kernel::embedding::Embedding;

/// Work for the follower.
pub struct Step {
    number: u64,
    documents: Vec<ToEmbed>,
    /// Documents without a text, with the vectors that they have.
    kept: Vec<Document>,
    /// Documents without a text that may not be kept.
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
    /// The next documents that the follower lacks: up to this many, and up to the one that brings their texts to this many
    /// bytes. An empty step: the follower lacks nothing now, or refused documents alone. Waits for the commit in progress
    /// while the first pass is not over. Earlier steps can no longer be applied.
    pub fn next(&self, most_documents: usize, most_bytes: usize) -> Result<Step, MigrationError> {
        let mut steps = self.steps();
        let pair = self.running()?;
        *steps += 1;
        let mut step = Gathered::new(&pair, self.without_text, *steps, most_bytes);
        let most = most_documents.max(1);
        let first_pass = pair.lag.copied();
        // Both get on while documents change faster than they are copied.
        let of_pending = if first_pass == FirstPass::Over { most } else { most.div_ceil(2) };
        for (id, number) in pair.lag.some(of_pending) {
            if step.is_full() {
                return Ok(step.step);
            }
            pair.lag.took(&id);
            step.add(id, Some(number))?;
        }
        let room = most - step.taken;
        if let FirstPass::UpTo(front) = &first_pass
            && room > 0
            && !step.is_full()
        {
            self.first_pass(&pair, front, room, &mut step)?;
        }
        Ok(step.step)
    }

    /// Adds documents that the first pass has before itself.
    fn first_pass(&self, pair: &Pair, front: &str, room: usize, step: &mut Gathered<'_>) -> Result<(), MigrationError> {
        let ids = {
            // A commit in progress may change one of them without a note, so it ends before they are read.
            let _turn = pair.leader.turn();
            let ids = pair.leader.ids_after(DocId::new(front).as_ref(), room);
            pair.lag.reads(&up_to(ids.get(room - 1)));
            ids
        };
        let all = up_to(ids.get(room - 1));
        let taken: BTreeSet<DocId> = step.pending().cloned().collect();
        for id in &ids {
            if step.is_full() {
                return Ok(());
            }
            if !taken.contains(id) {
                step.add(id.clone(), None)?;
            }
            step.step.copied = Some(up_to(Some(id)));
        }
        step.step.copied = Some(all);
        Ok(())
    }

    /// Stores a step in the follower, and what it settles, in one commit. `vectors`: those of each document of the step, in
    /// order; `None`: it cannot be embedded. Then it stays pending and is refused: it is in no step until it changes, or
    /// until [`Migration::retry`]. After an error nothing is settled.
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
                    put.push(Document { id, content, vectors });
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

/// A step that is being put together.
struct Gathered<'p> {
    leader: &'p Collection,
    keeps: bool,
    most_bytes: usize,
    bytes: usize,
    /// Number of documents.
    taken: usize,
    step: Step,
}

impl<'p> Gathered<'p> {
    fn new(pair: &'p Pair, without_text: WithoutText, number: u64, most_bytes: usize) -> Self {
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
        let keeps = fits && without_text == WithoutText::Keep;
        Self { leader: &pair.leader, keeps, most_bytes, bytes: 0, taken: 0, step }
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.most_bytes && self.taken > 0
    }

    /// Ids that were pending and are in the step.
    fn pending(&self) -> impl Iterator<Item = &DocId> {
        let Step { documents, refused, settled, .. } = &self.step;
        let refused = refused.iter().map(|(id, _)| id);
        documents.iter().map(|document| &document.id).chain(refused).chain(settled.iter().map(|(id, _)| id))
    }

    /// Adds a document as it is now. `number`: it was pending under it before.
    fn add(&mut self, id: DocId, number: Option<u64>) -> Result<(), MigrationError> {
        self.taken += 1;
        let step = &mut self.step;
        let Some(Listed { text, kept: content, vectors, .. }) = self.leader.get(&id)? else {
            step.settled.extend(number.map(|number| (id.clone(), number)));
            // The first pass met it a moment ago: its removal is pending.
            if number.is_some() {
                step.removed.push(id);
            }
            return Ok(());
        };
        let metadata = content.metadata.clone();
        if !text.is_empty() {
            self.bytes += text.len();
            step.documents.push(ToEmbed { id, text, metadata, number });
            return Ok(());
        }
        match kept(&vectors).filter(|_| self.keeps) {
            Some(vectors) => {
                step.settled.extend(number.map(|number| (id.clone(), number)));
                step.kept.push(Document { id, content: Arc::new(Content { text, metadata }), vectors });
            }
            None => step.refused.push((id, number)),
        }
        Ok(())
    }
}

/// The vector of a document without a text, as it is.
fn kept(vectors: &StoredVectors) -> Option<Vectors> {
    match vectors {
        StoredVectors::Whole(vector) => Embedding::restored(vector.to_vec()).map(Vectors::Whole),
        StoredVectors::Passages(_) => None,
    }
}

/// A first pass past this document; past all, if there is none.
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
