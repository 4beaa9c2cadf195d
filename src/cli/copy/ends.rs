//! Both ends of a copy: their models and settings are compared, and the destination is made, before anything is copied.

use anyhow::{Context, ensure};

use super::super::stderr::say;
use super::super::table;
use super::args::Args;
use super::bookmark::{Bookmark, Position};
use crate::client::Client;
use crate::wire::{
    Collection, CountDocumentsRequest, CreateCollectionRequest, GetDocumentsRequest, InfoRequest,
    ListCollectionsRequest, Model,
};

/// Two servers that fit each other.
pub(super) struct Ends {
    pub(super) from: Client,
    pub(super) to: Client,
    /// Documents of the original, for the progress.
    pub(super) documents: u64,
    pub(super) start: Position,
}

/// Connects to both servers, compares them, and makes the destination or finds where an earlier attempt stopped.
pub(super) async fn open(args: &Args, bookmark: &mut Bookmark) -> anyhow::Result<Ends> {
    let (name, shown) = (args.name(), &args.collection);
    ensure!(
        args.from != args.to || name != args.collection,
        "{shown} cannot be copied onto itself: name the copy with --as, or another server with --to"
    );
    let to_access = args.access.with(args.to_tls_ca.clone(), args.to_key_file.clone());
    let (from, to) = (args.access.open(&args.from).await?, to_access.open(&args.to).await?);
    let original = find(&from, shown).await.with_context(|| args.from.clone())?.with_context(|| {
        format!(
            "{} has no collection {shown:?}: `cognate collections --addr {}` lists those it has",
            args.from, args.from
        )
    })?;
    let ours = model_of(&original, models(&from, &args.from).await?);
    let served = models(&to, &args.to).await?;
    let fits = |theirs: &&Model| [&ours.fingerprint, &original.model_fingerprint].contains(&&theirs.fingerprint);
    let theirs = served.iter().find(fits).with_context(|| {
        let served: Vec<String> = served.iter().map(told).collect();
        format!(
            "{shown} at {} is of {}, and {} runs {}, whose vectors cannot be compared: start it with that model too, \
             or embed the texts again with \
             `cognate export {shown} | cognate upload - --format jsonl --collection {name}`",
            args.from,
            told(&ours),
            args.to,
            served.join(", ")
        )
    })?;
    let copy = find(&to, name).await.with_context(|| args.to.clone())?;
    let earlier = earlier(args, &to, copy.as_ref(), bookmark).await?;
    match copy {
        None => {
            let (passages, lexical) = (original.passages, original.lexical);
            let model = theirs.name.clone();
            let request = CreateCollectionRequest { name: name.to_owned(), passages, lexical, model };
            to.create_collection(request).await.with_context(|| args.to.clone())?;
        }
        Some(copy) => {
            ensure!(
                [&theirs.fingerprint, &original.model_fingerprint].contains(&&copy.model_fingerprint),
                "{name} at {} is of another model than {shown} at {}, and their vectors cannot be compared: name the \
                 copy with --as",
                args.to,
                args.from
            );
            ensure!(
                copy.passages == original.passages && copy.lexical == original.lexical,
                "{name} at {} has other passages or another lexical index than {shown} at {}, and these cannot be \
                 changed: delete it, or name the copy with --as",
                args.to,
                args.from
            );
            ensure!(
                copy.documents == 0 || args.merge || earlier.is_some(),
                "{name} at {} has {} documents already: name the copy with --as, or let it replace documents with \
                 the same ids (--merge)",
                args.to,
                table::count(copy.documents)
            );
        }
    }
    let start = earlier.unwrap_or_default();
    bookmark.keep(&start)?;
    Ok(Ends { from, to, documents: original.documents, start })
}

/// Returns the position of an earlier attempt, if what it stored is still at the destination.
async fn earlier(
    args: &Args,
    to: &Client,
    copy: Option<&Collection>,
    bookmark: &Bookmark,
) -> anyhow::Result<Option<Position>> {
    let Some(position) = bookmark.find()? else { return Ok(None) };
    let name = table::clean(args.name());
    if copy.is_some() {
        let ids = vec![position.last_id.clone()];
        let request = GetDocumentsRequest { collection: args.name().to_owned(), ids, ..Default::default() };
        let is_there = position.last_id.is_empty()
            || to.get_documents(request).await.with_context(|| args.to.clone())?.missing.is_empty();
        if is_there {
            say(&format!("continuing the copy of {name} behind {} documents", table::count(position.copied)));
            return Ok(Some(position));
        }
    }
    say(&format!("beginning the copy of {name} again: what was copied is not there any more"));
    Ok(None)
}

impl Ends {
    /// Compares the numbers of documents. Returns the difference in words.
    pub(super) async fn difference(&self, args: &Args) -> anyhow::Result<Option<String>> {
        let count = |client: &Client, collection: &str| {
            let (client, collection) = (client.clone(), collection.to_owned());
            async move { client.count_documents(CountDocumentsRequest { collection, filter: None }).await }
        };
        let original = count(&self.from, &args.collection).await.with_context(|| args.from.clone())?.documents;
        let copy = count(&self.to, args.name()).await.with_context(|| args.to.clone())?.documents;
        let is_right = if args.merge { copy >= original } else { copy == original };
        Ok((!is_right).then(|| {
            let [original, copy] = [original, copy].map(table::count);
            format!(
                "the original has {original} documents, and the copy {copy}: some were refused, or were stored or \
                 deleted while the copy was made. Stop what changes the original, delete the copy, and copy again"
            )
        }))
    }
}

/// The models of a server. An earlier version names one alone.
async fn models(server: &Client, address: &str) -> anyhow::Result<Vec<Model>> {
    let info = server.info(InfoRequest {}).await.with_context(|| address.to_owned())?;
    Ok(if info.models.is_empty() { Vec::from_iter(info.model) } else { info.models })
}

/// The model of a collection, as its server runs it, or as far as the collection tells.
fn model_of(collection: &Collection, served: Vec<Model>) -> Model {
    let of_collection =
        |model: &Model| model.fingerprint == collection.model_fingerprint || model.name == collection.model;
    served.into_iter().find(of_collection).unwrap_or_else(|| Model {
        id: collection.model.clone(),
        fingerprint: collection.model_fingerprint.clone(),
        ..Model::default()
    })
}

/// A model for people: its name, and enough of its fingerprint to tell two models of one name apart.
fn told(model: &Model) -> String {
    format!("{} ({})", table::clean(&model.id), model.fingerprint.chars().take(12).collect::<String>())
}

/// Finds a collection by name.
async fn find(server: &Client, name: &str) -> anyhow::Result<Option<Collection>> {
    let mut request = ListCollectionsRequest::default();
    loop {
        let page = server.list_collections(request.clone()).await?;
        if let Some(found) = page.collections.into_iter().find(|collection| collection.name == name) {
            return Ok(Some(found));
        }
        if page.next_page_token.is_empty() {
            return Ok(None);
        }
        request.page_token = page.next_page_token;
    }
}
