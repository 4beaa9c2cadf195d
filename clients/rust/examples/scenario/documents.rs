//! The steps that store documents, read them and delete them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cognate_client::Refusal;
use cognate_client::futures_util::{StreamExt, stream};
use cognate_client::prost_types::{Struct, Value};
use cognate_client::wire::{
    DeleteCollectionRequest, DeleteDocumentsRequest, Document, ExportRequest, Filter, ListDocumentsRequest,
    UploadRequest, Vector,
};
use tokio::sync::Notify;

use super::{COLLECTION, Outcome, Scenario, check, check_field};

pub fn id(n: usize) -> String {
    format!("doc-{n:04}")
}

pub fn text(n: usize) -> String {
    let subjects = ["a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos"];
    format!("document {n} is about {}", subjects[n % 4])
}

pub fn document(n: usize) -> Document {
    let author: BTreeMap<String, Value> = [("name".to_owned(), "Ann".into())].into();
    let fields = [
        ("number".to_owned(), (n as f64).into()),
        ("even".to_owned(), n.is_multiple_of(2).into()),
        ("tags".to_owned(), vec![Value::from(format!("t{}", n % 3))].into()),
        ("author".to_owned(), author.into()),
    ];
    Document {
        id: id(n),
        text: text(n),
        metadata: Some(Struct { fields: fields.into() }),
        vector: (n == 123).then(|| Vector { values: vec![1.0, 0.0], ..Vector::default() }),
        ..Document::default()
    }
}

impl Scenario {
    /// By the stub, because the client packs documents into messages of its own.
    pub async fn upload(&self) -> Outcome {
        let answered = Arc::new(Notify::new());
        let heard = Arc::clone(&answered);
        let messages = stream::iter(0..20).then(move |message| {
            let heard = Arc::clone(&heard);
            async move {
                if message == 19 {
                    heard.notified().await;
                }
                let documents = (message * 50..message * 50 + 50).map(document).collect();
                UploadRequest { collection: COLLECTION.to_owned(), documents }
            }
        });
        let mut answers = self.client.stub().upload(messages).await?.into_inner();
        let (mut last, mut errors) = (None, Vec::new());
        while let Some(mut answer) = answers.message().await? {
            answered.notify_one();
            errors.append(&mut answer.errors);
            last = Some(answer);
        }
        let last = last.ok_or("no answer")?;
        check!(last.received == 1000 && last.committed == 999 && last.done, "the last answer: {last:?}");
        check!(errors.len() == 1 && errors[0].position == 123, "{errors:?}");
        check_field(&Refusal::from(errors[0].status.as_ref().ok_or("no status")?), "documents[23].vector")
    }

    pub async fn list(&self) -> Outcome {
        let (mut ids, mut pages, mut page_token) = (Vec::new(), 0, String::new());
        loop {
            let collection = COLLECTION.to_owned();
            let request = ListDocumentsRequest { collection, page_size: 300, page_token, ..Default::default() };
            let page = self.client.list_documents(request).await?;
            ids.extend(page.documents.into_iter().map(|document| document.id));
            pages += 1;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        check!(pages == 4 && ids.len() == 999 && ids.is_sorted(), "{pages} pages with {} ids", ids.len());
        Ok(())
    }

    pub async fn export(&self) -> Outcome {
        let request = ExportRequest { collection: COLLECTION.to_owned(), ..ExportRequest::default() };
        let mut parts = self.client.export(request).await?;
        let mut documents = 0;
        while let Some(part) = parts.next().await.transpose()? {
            check!(part.total == 999, "total is {}", part.total);
            documents += part.documents.len();
        }
        check!(documents == 999, "{documents} documents");
        Ok(())
    }

    pub async fn delete(&self) -> Outcome {
        let request = DeleteDocumentsRequest { collection: COLLECTION.to_owned(), ..DeleteDocumentsRequest::default() };
        let by_ids = DeleteDocumentsRequest { ids: vec![id(0), id(123)], ..request.clone() };
        let gone = self.client.delete_documents(by_ids).await?;
        check!(gone.deleted == [id(0)] && gone.missing == [id(123)], "by ids: {gone:?}");
        let by_filter = DeleteDocumentsRequest { filter: Some(Filter::from("number >= 900")), ..request };
        let gone = self.client.delete_documents(by_filter).await?;
        check!(gone.documents == 100, "by filter: {gone:?}");
        Ok(())
    }

    pub async fn drop_collection(&self) -> Outcome {
        let request = DeleteCollectionRequest { name: COLLECTION.to_owned() };
        let gone = self.client.delete_collection(request).await?;
        check!(gone.documents == 898, "{} documents were deleted", gone.documents);
        Ok(())
    }
}
