//! `Backup`: all committed data, as a file.
//!
//! The file is a copy without a name. Its space is freed when the call ends: when the copy has been sent, when the
//! caller leaves, when its deadline passes, or when the client takes nothing for a while (`held_source.rs`).

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use futures::{Stream, stream};
use tonic::Status;

use super::access::Access;
use super::held_source::{HeldSource, TAKE_TIMEOUT};
use super::status::Failure;
use super::{Engine, Responses, audit, commit, compute};
use crate::collection::Backup;
use crate::compute::{Pool, WhenFull};
use crate::wire;

/// Bytes of a part. A client that takes one of them in [`TAKE_TIMEOUT`] may continue.
const PART_BYTES: usize = 256 << 10;

pub async fn backup(engine: Arc<Engine>, access: Access) -> Result<Responses<wire::BackupResponse>, Failure> {
    let (store, pool) = (engine.store.clone(), engine.pools.storage.clone());
    // When this call is dropped, the copy stops at once, and its file is removed.
    let of_call = access.clone();
    let backup = commit(&engine, move |stop| store.backup(&of_call, stop)).await.flatten();
    audit::act(access.caller(), "backup", "*", backup.as_ref().map(|_| 0));
    let backup = backup?;
    let total_bytes = backup.file.metadata().map_err(|error| failed(&error))?.len();
    Ok(Box::pin(parts(pool, HeldSource::new(backup, TAKE_TIMEOUT), total_bytes)))
}

/// The parts of the file, until its end or the first error.
fn parts(
    pool: Pool,
    source: HeldSource<Backup>,
    total_bytes: u64,
) -> impl Stream<Item = Result<wire::BackupResponse, Status>> + Send {
    stream::unfold((Some(source), pool), move |(source, pool)| async move {
        let source = source?;
        let mut backup = match source.take() {
            Ok(backup) => backup,
            Err(failure) => return Some((Err(failure.into()), (None, pool))),
        };
        let read = compute(&pool, WhenFull::Wait, move |_| read(&mut backup.file).map(|data| (data, backup)));
        match read.await {
            Ok(Ok((data, _))) if data.is_empty() => None,
            Ok(Ok((data, backup))) => {
                source.put_back(backup);
                Some((Ok(wire::BackupResponse { data, total_bytes }), (Some(source), pool)))
            }
            Ok(Err(error)) => Some((Err(failed(&error).into()), (None, pool))),
            Err(failure) => Some((Err(failure.into()), (None, pool))),
        }
    })
}

/// Reads the next part; empty at the end.
fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(PART_BYTES);
    file.take(PART_BYTES as u64).read_to_end(&mut data)?;
    Ok(data)
}

fn failed(error: &io::Error) -> Failure {
    tracing::error!(%error, "a finished backup cannot be read");
    Failure::Internal
}
