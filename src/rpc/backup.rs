//! `Backup`: all that is committed, as a file.

use std::io;
use std::sync::Arc;

use futures::{Stream, stream};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tonic::Status;

use super::status::Failure;
use super::{Engine, Responses, commit};
use crate::proto;

/// Bytes of a part.
const PART_BYTES: usize = 1 << 20;

pub async fn backup(engine: Arc<Engine>) -> Result<Responses<proto::BackupResponse>, Failure> {
    let store = Arc::clone(&engine.store);
    let file = commit(&engine, move |_| store.backup().map_err(Failure::backup)).await??;
    let total_bytes = file.metadata().map_err(|error| failed(&error))?.len();
    Ok(Box::pin(parts(File::from_std(file), total_bytes)))
}

/// The file's parts, until its end or the first error.
fn parts(file: File, total_bytes: u64) -> impl Stream<Item = Result<proto::BackupResponse, Status>> + Send {
    stream::unfold(Some(file), move |file| async move {
        let mut file = file?;
        let mut data = Vec::with_capacity(PART_BYTES);
        match (&mut file).take(PART_BYTES as u64).read_to_end(&mut data).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(proto::BackupResponse { data, total_bytes }), Some(file))),
            Err(error) => Some((Err(failed(&error).into()), None)),
        }
    })
}

fn failed(error: &io::Error) -> Failure {
    tracing::error!(%error, "the backup that was made cannot be read");
    Failure::Internal
}
