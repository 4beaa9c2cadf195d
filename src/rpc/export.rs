//! `Export`: a snapshot of a collection.
//!
//! Taking the snapshot copies no text and no vector, so it is quick. Messages are made one at a time, each after the
//! client has read the ones before, in the pool for bulk work; there texts are read that are on disk. A client that
//! takes nothing for a while loses the export (`held_source.rs`), because it keeps replaced documents.

use std::sync::Arc;

use futures::{Stream, stream};
use prost::Message;
use tonic::Status;

use super::access::Access;
use super::held_source::{HeldSource, TAKE_TIMEOUT};
use super::status::Failure;
use super::{Engine, Limits, Responses, bounded, compute, documents, filter, vector};
use crate::backend::Export;
use crate::compute::{Pool, WhenFull};
use crate::wire::{self, VectorFormat};

/// Bytes of a message, if its limit allows. The client sees progress, and a slow client makes the server hold little.
const PART_BYTES: usize = 1 << 20;

pub async fn export(
    engine: &Arc<Engine>,
    access: &Access,
    request: wire::ExportRequest,
) -> Result<Responses<wire::ExportResponse>, Failure> {
    let collection = documents::collection(engine, access, &request.collection).await?;
    let vectors_as = vector::answered(request.with_vector, request.vector_format)?;
    let (pool, limits) = (&engine.pools.bulk, engine.limits.clone());
    let parse = move || request.filter.map(|given| filter::parse("filter", given, &limits)).transpose();
    let taken = collection.export::<Failure>(pool, parse).await?;
    let parts = PendingDocuments { left: taken, vectors_as, limits: engine.limits.clone() };
    Ok(Box::pin(messages(pool.clone(), HeldSource::new(parts, TAKE_TIMEOUT))))
}

/// The first message, even if it is empty, and the following ones until the last document or an error.
fn messages(
    pool: Pool,
    source: HeldSource<PendingDocuments>,
) -> impl Stream<Item = Result<wire::ExportResponse, Status>> + Send {
    stream::unfold((Some(source), true, pool), |(source, is_first, pool)| async move {
        let source = source?;
        let mut parts = match source.take() {
            Ok(parts) => parts,
            Err(failure) => return Some((Err(failure.into()), (None, false, pool))),
        };
        if let Err(error) = parts.left.fetch().await {
            return Some((Err(Failure::from(error).into()), (None, false, pool)));
        }
        if parts.left.is_read() && !is_first {
            return None;
        }
        let made = compute(&pool, WhenFull::Wait, move |_| {
            let message = parts.next();
            (message, parts)
        });
        Some(match made.await {
            Ok((Ok(message), parts)) => {
                source.put_back(parts);
                (Ok(message), (Some(source), false, pool))
            }
            Ok((Err(failure), _)) | Err(failure) => (Err(failure.into()), (None, false, pool)),
        })
    })
}

/// The documents that are still to be sent.
struct PendingDocuments {
    left: Export,
    vectors_as: Option<VectorFormat>,
    limits: Limits,
}

impl PendingDocuments {
    /// Makes a message of the documents that were fetched.
    fn next(&mut self) -> Result<wire::ExportResponse, Failure> {
        let target = PART_BYTES.min(self.limits.max_message_bytes / 2);
        let mut message = wire::ExportResponse { documents: Vec::new(), total: self.left.total() };
        let mut bytes = 0;
        while let Some(listed) = self.left.peek()? {
            let document = documents::document(listed, self.vectors_as);
            bytes += document.encoded_len() + 8; // its tag and length
            if bytes > target && !message.documents.is_empty() {
                break;
            }
            message.documents.push(document);
            self.left.pass();
        }
        bounded(message, &self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{DocId, Kept, Listed, StoredVectors};
    use crate::compute::Pools;

    fn parts(text_bytes: &[usize], max_message_bytes: usize) -> PendingDocuments {
        let document = |(n, &bytes): (usize, &usize)| -> Listed {
            let id = DocId::new(&n.to_string()).expect("a number is not empty");
            let text = "x".repeat(bytes);
            let vectors = StoredVectors::Whole(Arc::<[f32]>::from([1.0, 0.0]).into());
            let kept = Arc::new(Kept::without_text(None, &text));
            Listed { id, text: text.into(), kept, vectors }
        };
        let left: Vec<Listed> = text_bytes.iter().enumerate().map(document).collect();
        let limits = Limits { max_message_bytes, ..Limits::default() };
        PendingDocuments { left: Export::of(left), vectors_as: Some(VectorFormat::F32), limits }
    }

    #[test]
    fn messages_stay_below_half_the_limit_and_have_every_document_once_in_order() {
        let sizes: Vec<usize> = (0..500).map(|n| n * 7919 % 900).collect();
        let mut parts = parts(&sizes, 4_000);
        let mut ids = Vec::new();
        while !parts.left.is_read() {
            let message = parts.next().unwrap();
            assert!(message.encoded_len() <= 2_000 && message.total == 500, "{}", message.encoded_len());
            ids.extend(message.documents.iter().map(|document| document.id.parse::<usize>().unwrap()));
        }
        assert_eq!(ids, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_document_between_half_and_all_of_the_limit_travels_alone() {
        let mut parts = parts(&[10, 3_000, 10], 4_000);
        let counts: Vec<usize> = (0..3).map(|_| parts.next().unwrap().documents.len()).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn a_document_too_large_for_a_message_is_an_error_and_not_a_gap() {
        let failed = parts(&[5_000], 4_000).next();
        assert_eq!(failed, Err(Failure::AnswerTooLarge { limit: 4_000 }));
    }

    #[tokio::test]
    async fn an_empty_export_is_one_message() {
        let source = HeldSource::new(parts(&[], 4_000), TAKE_TIMEOUT);
        let messages: Vec<_> = futures::StreamExt::collect(messages(Pools::new(1).bulk, source)).await;
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].as_ref().unwrap(), &wire::ExportResponse { documents: vec![], total: 0 });
    }
}
