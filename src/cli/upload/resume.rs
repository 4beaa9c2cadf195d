//! `--resume`: where a load begins.
//!
//! Behind what an earlier try has loaded, if the file still has those bytes and the collection those documents.
//! Where either is in doubt it begins again: documents are replaced by their ids, so that does no harm.

use std::path::PathBuf;

use anyhow::Context;

use super::super::{say, table};
use super::Args;
use super::bookmark::{Bookmark, Found, Mark, Position};
use crate::client::{self, Client, reader};
use crate::proto::GetDocumentsRequest;

/// The bookmark of this load, and the position that it begins at. Says on standard error what it found.
pub(super) async fn begin(
    args: &Args,
    options: &reader::Options,
    client: &Client,
) -> anyhow::Result<(Bookmark, Position)> {
    let source = &args.files[0];
    // Read in another way, the same bytes become other documents.
    let read_as = format!("{:?}", reader::Options { after_bytes: 0, ..options.clone() });
    let mut bookmark =
        Bookmark::of(source, &(&args.connection.addr, &args.collection, read_as), &state_directory(args)?)?;
    let say = |what: &str| say(&table::clean(what));
    let doubt = match bookmark.find()? {
        Found::Nothing => return Ok((bookmark, Position::default())),
        Found::Outdated(reason) => reason,
        Found::At { position, line } => match missing(client, &args.collection, &position).await? {
            None => {
                say(&format!("resuming at line {line} of {}", source.display()));
                return Ok((bookmark, position));
            }
            Some(reason) => reason,
        },
    };
    say(&format!("beginning {} again: {doubt}", source.display()));
    bookmark.begin_again()?;
    Ok((bookmark, Position::default()))
}

/// Why the collection is not the one that was loaded into, if it is not: a server that keeps nothing on disk was
/// started anew, or documents were deleted, or replaced by others.
async fn missing(
    client: &Client,
    collection: &str,
    position: &Position,
) -> Result<Option<&'static str>, client::Error> {
    for mark in &position.marks {
        let ids = vec![mark.id.clone()];
        // One by one: each fits a message, as it came in one.
        let request = GetDocumentsRequest { collection: collection.to_owned(), ids, with_vector: false };
        match client.get_documents(request).await {
            Err(error) if error.is_not_found() => return Ok(Some("the collection is not there any more")),
            Err(error) => return Err(error),
            Ok(found) => match found.documents.first() {
                None => return Ok(Some("documents that were loaded are not there any more")),
                Some(document) if Mark::of(document) != *mark => {
                    return Ok(Some("documents that were loaded have been replaced by others"));
                }
                Some(_) => {}
            },
        }
    }
    Ok(None)
}

/// Where bookmarks are kept.
fn state_directory(args: &Args) -> anyhow::Result<PathBuf> {
    let platform = || Some(dirs::state_dir().or_else(dirs::cache_dir)?.join("cognate").join("uploads"));
    args.state_dir.clone().or_else(platform).context("this user has no directory for state: give --state-dir")
}
