//! `--resume`: the start of a load.
//!
//! A load starts after the part that an earlier attempt has loaded, if the file still has those bytes and the
//! collection those documents. If either is in doubt it starts at the beginning, which does no harm, because
//! documents are replaced by their ids.

use super::super::state_directory;
use super::super::stderr::say;
use super::super::table;
use super::Args;
use super::bookmark::{Bookmark, EarlierLoad, Mark, Position};
use crate::client::{self, Client};
use crate::reader;
use crate::wire::GetDocumentsRequest;

/// Opens the bookmark of this load, and returns it with the start position. Reports the decision on standard error.
pub(super) async fn begin(
    args: &Args,
    options: &reader::Options,
    client: &Client,
) -> anyhow::Result<(Bookmark, Position)> {
    let source = &args.files[0];
    // Read with other options, the same bytes become other documents.
    let read_as = format!("{:?}", reader::Options { after_bytes: 0, ..options.clone() });
    let mut bookmark = Bookmark::of(
        source,
        &(&args.connection.addr, &args.collection, read_as),
        &state_directory::of(args.state_dir.as_deref(), "uploads")?,
    )?;
    let say = |what: &str| say(&table::clean(what));
    let doubt = match bookmark.find()? {
        EarlierLoad::Nothing => return Ok((bookmark, Position::default())),
        EarlierLoad::Outdated(reason) => reason,
        EarlierLoad::At { position, line } => match missing(client, &args.collection, &position).await? {
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

/// Reason why the collection lacks the loaded documents, or `None` if it has them: a server without a data
/// directory was restarted, or documents were deleted or replaced.
async fn missing(
    client: &Client,
    collection: &str,
    position: &Position,
) -> Result<Option<&'static str>, client::Error> {
    for mark in &position.marks {
        let ids = vec![mark.id.clone()];
        // One at a time: each document fits into a message, because it came in one.
        let request = GetDocumentsRequest { collection: collection.to_owned(), ids, ..Default::default() };
        match client.get_documents(request).await {
            Err(error) if error.is_not_found() => return Ok(Some("the collection does not exist any more")),
            Err(error) => return Err(error),
            Ok(found) => match found.documents.first() {
                None => return Ok(Some("documents that were loaded do not exist any more")),
                Some(document) if Mark::of(document) != *mark => {
                    return Ok(Some("documents that were loaded have been replaced by others"));
                }
                Some(_) => {}
            },
        }
    }
    Ok(None)
}
