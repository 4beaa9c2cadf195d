//! The long texts of the demo: pages of the manual, found by a passage in their middle, and by exact words.

use std::io::Write;

use console::style;
use futures::stream;

use crate::cli::table::{self, Align, Table};
use crate::client::Client;
use crate::wire::{self as pb, query};

/// Pages that are several times as long as the model reads.
const PAGES: [(&str, &str); 4] = [
    ("durability.md", include_str!("../../../docs/durability.md")),
    ("files.md", include_str!("../../../docs/files.md")),
    ("filters.md", include_str!("../../../docs/filters.md")),
    ("models.md", include_str!("../../../docs/models.md")),
];

const COLLECTION: &str = "manual";

/// A question that is answered in the middle of a page.
const QUESTION: &str = "are my documents safe if the power fails?";

/// A name that says little to the model.
const NAME: &str = "min_free_bytes";

/// Characters of a passage that are shown.
const SHOWN: usize = 160;

/// Uploads the pages, and shows the `k` best by meaning and by words, as this step of the demo.
pub async fn show(client: &Client, step: u8, k: u32) -> anyhow::Result<()> {
    let documents = PAGES.map(|(page, text)| pb::Document { id: page.into(), text: text.into(), ..Default::default() });
    let done = client.upload(COLLECTION, stream::iter(documents), |_| ()).await.map_err(|broken| broken.cause)?;
    let collections = client.list_collections(pb::ListCollectionsRequest::default()).await?.collections;
    let passages = collections.iter().find(|made| made.name == COLLECTION).map_or(0, |made| made.passage_count);
    let title = format!("{} pages of the manual, searched by their {passages} passages", done.committed);
    writeln!(std::io::stdout(), "\n{} TopK: {title}", style(format!("{step}.")).bold())?;
    for (mode, how, text) in
        [(pb::SearchMode::Vector, "by meaning", QUESTION), (pb::SearchMode::Hybrid, "by meaning and words", NAME)]
    {
        let query = pb::Query { query: Some(query::Query::Text(text.into())), ..Default::default() };
        let request = pb::TopKRequest {
            collection: COLLECTION.into(),
            queries: vec![query],
            k,
            mode: mode.into(),
            with_passage_text: true,
            ..Default::default()
        };
        let hits = client.top_k(request).await?.results.into_iter().flat_map(|result| result.hits);
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n   {} {how}", style(format!("“{text}”")).cyan())?;
        hit_table(hits).write(&mut out, table::stdout_width())?;
    }
    Ok(())
}

fn hit_table(hits: impl Iterator<Item = pb::Hit>) -> Table {
    let mut shown =
        Table::new([("score", Align::Right), ("page", Align::Left), ("bytes", Align::Left), ("passage", Align::Left)]);
    for hit in hits {
        let passage = hit.passage.unwrap_or_default();
        let place = format!("{}–{}", table::count(passage.start.into()), table::count(passage.end.into()));
        let text: String = table::clean(&passage.text).chars().take(SHOWN).collect();
        shown.row([table::score(hit.score), hit.id, place, text + "…"]);
    }
    shown
}
