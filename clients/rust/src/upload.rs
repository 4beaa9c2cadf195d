//! A streaming upload: documents in, progress out. HTTP/2 flow control bounds its memory (backpressure).

use futures_util::{Stream, StreamExt, stream};

use super::packing::{Limits, Messages, Oversized};
use super::{Client, Error};
use crate::wire::{Document, InfoRequest, UploadError};

/// The progress of an upload.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The counts until now.
    pub so_far: Summary,
    /// The documents refused since the last progress. `position` counts the documents of the caller's stream from 0.
    pub errors: &'a [UploadError],
}

/// The counts of an upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Documents that the server has read, or that were too large to be sent.
    pub received: u64,
    /// Documents that are stored and searchable.
    pub committed: u64,
    /// Documents that were refused.
    pub rejected: u64,
}

/// An upload that broke off. Committed documents stay.
#[derive(Debug, thiserror::Error)]
#[error("the upload ended early, {} documents are committed: {cause}", so_far.committed)]
pub struct Broken {
    /// The counts at that time.
    pub so_far: Summary,
    /// The reason. It is a part of the message, so it is not a `source`.
    pub cause: Error,
}

impl Client {
    /// Uploads the documents of an iterator as [`upload`](Self::upload) does those of a stream. The iterator is asked
    /// on an async thread, so its next document must be there at once.
    pub async fn upload_all<I, W>(&self, collection: &str, documents: I, watch: W) -> Result<Summary, Broken>
    where
        I: IntoIterator<Item = Document, IntoIter: Send + 'static>,
        W: FnMut(&Progress<'_>),
    {
        self.upload(collection, stream::iter(documents), watch).await
    }

    /// Uploads `documents` into `collection`, packed into messages that the server accepts, and calls `watch` when
    /// batches are committed. The stream is read no faster than the server stores.
    pub async fn upload<S, W>(&self, collection: &str, documents: S, mut watch: W) -> Result<Summary, Broken>
    where
        S: Stream<Item = Document> + Send + 'static,
        W: FnMut(&Progress<'_>),
    {
        let mut so_far = Summary::default();
        let broken = |so_far, cause| Broken { so_far, cause };
        let info = self.info(InfoRequest {}).await.map_err(|cause| broken(so_far, cause))?;
        let limits = Limits::new(info.limits.unwrap_or_default().max_message_bytes, collection);

        let oversized = Oversized::default();
        // Boxed, so that the call is compiled for one type of stream.
        let messages = Messages::new(collection, documents.boxed(), limits, oversized.clone());
        let call = self.rpc.clone().upload(messages).await;
        let mut answers = call.map_err(|status| broken(so_far, self.failed(status)))?.into_inner();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|status| broken(so_far, self.failed(status)))?;
            let mut errors = answer.errors;
            for error in &mut errors {
                error.position = oversized.position(error.position);
            }
            errors.extend(oversized.take_errors());
            so_far.received = answer.received + oversized.count();
            so_far.committed = answer.committed;
            so_far.rejected += errors.len() as u64;
            watch(&Progress { so_far, errors: &errors });
            if answer.done {
                return Ok(so_far);
            }
        }
        let reason = "the server ended the upload before it was done".to_string();
        Err(broken(so_far, Error::Lost { address: self.peer.address.clone(), reason }))
    }
}
