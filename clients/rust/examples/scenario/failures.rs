//! The steps in which a call fails, and the client must learn why.

use std::env;
use std::time::Duration;

use cognate_client::futures_util::{StreamExt, stream};
use cognate_client::tonic::Request;
use cognate_client::wire::{
    CreateCollectionRequest, EmbedRequest, ExportRequest, InfoRequest, ListDocumentsRequest, Query, SimilarityRequest,
    SimilarityResponse, TopKRequest,
};
use cognate_client::{Answers, Client, Code, Error, Key, Options, Tls, connect};

use super::{COLLECTION, MAX_MESSAGE_BYTES, Outcome, Scenario, check, check_field, refused};

const SHORT: Duration = Duration::from_millis(200);

async fn similarity(client: &Client) -> Result<SimilarityResponse, Error> {
    let a = ["a cat", "a dog"].map(str::to_owned).to_vec();
    client.similarity(SimilarityRequest { a, ..SimilarityRequest::default() }).await
}

/// Opens a stream of embeddings that stays open, and reads its first answer.
async fn open_stream(client: &Client) -> Outcome<Answers<cognate_client::wire::EmbedResponse>> {
    let request = EmbedRequest { texts: vec!["a cat".to_owned()], ..EmbedRequest::default() };
    let mut answers = client.embed_stream(stream::iter([request]).chain(stream::pending())).await?;
    answers.next().await.ok_or("the stream ended early")??;
    Ok(answers)
}

/// Connects to the server with TLS and keys, as the environment describes it.
async fn secure_client(authority: &str, key: Option<&str>) -> Outcome<Client> {
    let tls = Tls { ca: env::var_os(authority).map(Into::into), ..Tls::default() };
    let key = key.map(|name| env::var(name).map(|text| Key::parse(&text))).transpose()?.transpose()?;
    let address = format!("https://{}", env::var("SCENARIO_TLS")?);
    Ok(connect(&address, &Options { tls: Some(tls), key, ..Options::default() }).await?)
}

impl Scenario {
    async fn connect(&self, options: Options) -> Outcome<Client> {
        Ok(connect(&self.address, &options).await?)
    }

    /// A client that receives up to 16 MiB.
    pub async fn sized_client(&self) -> Outcome<Client> {
        self.connect(Options { max_response_bytes: MAX_MESSAGE_BYTES, ..Options::default() }).await
    }

    pub async fn bad_request(&self) -> Outcome {
        let (collection, queries) = (COLLECTION.to_owned(), vec![Query::from("a cat")]);
        let answer = self.client.top_k(TopKRequest { collection, queries, k: 0, ..TopKRequest::default() }).await;
        check_field(&refused(answer)?, "k")
    }

    pub async fn resource_info(&self) -> Outcome {
        let request = ListDocumentsRequest { collection: "nowhere".to_owned(), ..ListDocumentsRequest::default() };
        let refusal = refused(self.client.list_documents(request).await)?;
        let named = refusal.details.resource_info().is_some_and(|info| info.resource_name == "nowhere");
        check!(refusal.code == Code::NotFound && named, "{refusal:?}");
        Ok(())
    }

    pub async fn retry_info(&self) -> Outcome {
        let mut streams = Vec::new();
        for _ in 0..32 {
            streams.push(open_stream(&self.client).await?);
        }
        let refusal = refused(similarity(&self.client).await)?;
        let again = refusal.retry_after().is_some_and(|delay| delay > Duration::ZERO);
        check!(refusal.code == Code::ResourceExhausted && again, "{refusal:?}");
        drop(streams);
        let patient = self.connect(Options { retries: 100, ..Options::default() }).await?;
        similarity(&patient).await?;
        Ok(())
    }

    pub async fn deadline(&self) -> Outcome {
        let mut silent = Request::new(stream::pending::<EmbedRequest>());
        silent.set_timeout(SHORT);
        let late = match self.client.stub().embed_stream(silent).await {
            Ok(answers) => answers.into_inner().message().await.err(),
            Err(status) => Some(status),
        };
        check!(late.as_ref().is_some_and(|status| status.code() == Code::DeadlineExceeded), "{late:?}");

        let texts = (0..512).map(|n| n.to_string() + &" a long text of many words".repeat(40)).collect();
        let hasty = self.connect(Options { timeout: Some(SHORT), ..Options::default() }).await?;
        match hasty.embed(EmbedRequest { texts, ..EmbedRequest::default() }).await {
            Err(Error::TimedOut { .. }) => {}
            answer => {
                let refusal = refused(answer)?;
                check!(matches!(refusal.code, Code::DeadlineExceeded | Code::ResourceExhausted), "{refusal}");
            }
        }
        similarity(&self.client).await?;
        Ok(())
    }

    /// In Rust a call is cancelled when its stream is dropped, so there is nobody left to read CANCELLED.
    pub async fn cancel(&self) -> Outcome {
        drop(open_stream(&self.client).await?);
        let request = ExportRequest { collection: COLLECTION.to_owned(), with_vector: true, ..Default::default() };
        let mut parts = self.client.export(request).await?;
        parts.next().await.ok_or("the export is empty")??;
        drop(parts);
        similarity(&self.client).await?;
        Ok(())
    }

    pub async fn tls_key(&self) -> Outcome {
        let writer = secure_client("SCENARIO_CA", Some("SCENARIO_WRITER_KEY")).await?;
        writer.info(InfoRequest {}).await?;
        let nobody = secure_client("SCENARIO_CA", None).await?;
        let refusal = refused(nobody.info(InfoRequest {}).await)?;
        check!(refusal.code == Code::Unauthenticated, "{refusal}");
        let reader = secure_client("SCENARIO_CA", Some("SCENARIO_READER_KEY")).await?;
        let request = CreateCollectionRequest { name: COLLECTION.to_owned(), ..CreateCollectionRequest::default() };
        let refusal = refused(reader.create_collection(request).await)?;
        check!(refusal.code == Code::PermissionDenied, "{refusal}");
        let wary = secure_client("SCENARIO_OTHER_CA", Some("SCENARIO_WRITER_KEY")).await;
        let reason = wary.err().ok_or("a server of an unknown authority was trusted")?.to_string();
        check!(reason.contains("not trusted"), "{reason}");
        Ok(())
    }
}
