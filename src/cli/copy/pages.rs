//! The pages of the collection that is copied, and which of them are stored at the destination.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::super::json;
use super::bookmark::Position;
use crate::client::{Client, Error};
use crate::wire::{Document, ListDocumentsRequest};

/// Documents of a page. The server makes a page smaller if its documents are large.
const PAGE: u32 = 1_000;

/// The pages on their way, shared by the task that reads them and the one that receives answers.
///
/// The server stores documents in the order of the stream. So the number of those that it has stored or refused says
/// which pages are done.
#[derive(Debug, Clone)]
pub(super) struct Pages(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The ends of the pages on their way. `copied` counts from the start of this attempt.
    on_their_way: VecDeque<Position>,
    sent: u64,
    start: Position,
    stored: Position,
}

impl Pages {
    /// The pages behind `start`.
    pub(super) fn from(start: Position) -> Self {
        let stored = start.clone();
        Self(Arc::new(Mutex::new(State { on_their_way: VecDeque::new(), sent: 0, start, stored })))
    }

    /// Returns the end of the last page that is done when this attempt has `done` documents behind it.
    pub(super) fn stored(&self, done: u64) -> Position {
        let mut state = self.lock();
        while let Some(page) = state.on_their_way.pop_front_if(|page| page.copied <= done) {
            state.stored = Position { copied: state.start.copied + page.copied, ..page };
        }
        state.stored.clone()
    }

    fn begin(&self, documents: &[Document], page_token: &str) {
        let mut state = self.lock();
        state.sent += documents.len() as u64;
        let last_id = documents.last().map_or_else(String::new, |last| last.id.clone());
        let end = Position { page_token: page_token.to_owned(), last_id, copied: state.sent };
        state.on_their_way.push_back(end);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads all pages behind the start, and sends their documents. Ends early without an error if nobody takes them.
pub(super) async fn read(
    from: Client,
    collection: String,
    pages: Pages,
    documents: mpsc::Sender<Document>,
) -> Result<(), Error> {
    let page_token = pages.lock().start.page_token.clone();
    let vector_format = json::vector_format(true);
    let mut request = ListDocumentsRequest {
        collection,
        page_size: PAGE,
        page_token,
        with_vector: true,
        vector_format,
        filter: None,
    };
    loop {
        let page = from.list_documents(request.clone()).await?;
        pages.begin(&page.documents, &page.next_page_token);
        for document in page.documents {
            if documents.send(document).await.is_err() {
                return Ok(());
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_stored_when_all_its_documents_are() {
        let start = Position { page_token: "t0".into(), last_id: "i0".into(), copied: 100 };
        let pages = Pages::from(start.clone());
        for n in 1..=3 {
            let documents: Vec<_> =
                (0..10).map(|i| Document { id: format!("{n}-{i}"), ..Document::default() }).collect();
            pages.begin(&documents, &format!("t{n}"));
        }
        assert_eq!(pages.stored(9), start);
        let end = |n: u64| Position { page_token: format!("t{n}"), last_id: format!("{n}-9"), copied: 100 + 10 * n };
        assert_eq!([10, 19, 30].map(|done| pages.stored(done)), [end(1), end(1), end(3)]);
    }
}
