//! THE WIRE: the only place, with the server and the client, that knows prost and tonic.
//!
//! One file per rpc: it checks the request (`parse`), asks the domain, and writes the answer. Below
//! `parse` a value cannot be wrong. Errors become gRPC codes in `status` and nowhere else.

mod backup;
mod classify;
pub mod codec;
mod collections;
mod compute;
mod documents;
mod each;
mod embed;
mod export;
mod filter;
pub(crate) mod fuzz;
mod info;
mod limits;
pub mod metadata;
mod parse;
pub mod refusal;
mod similarity;
mod size;
mod source;
pub mod status;
mod top_k;
mod upload;
mod vector;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

pub use limits::Limits;

use crate::classifier::Classifiers;
use crate::collection::{self, Store};
use crate::compute::{Deadline, Pools};
use crate::embedder::Embedder;
use crate::proto::{self, cognate_server::Cognate};
use compute::{commit, compute};
use status::Failure;

/// Everything that answers calls.
pub struct Engine {
    /// The model.
    pub embedder: Embedder,
    /// What texts are classified by.
    pub classifiers: Classifiers,
    /// The documents.
    pub store: Arc<Store>,
    /// What is known of the model.
    pub about: About,
    /// What a request may ask for.
    pub limits: Limits,
    /// Where calls compute.
    pub pools: Pools,
}

/// The model, for `Info`.
#[derive(Debug, Clone)]
pub struct About {
    /// Hub id or directory.
    pub id: String,
    /// Commit, or `local`.
    pub revision: String,
    /// What decides its vectors.
    pub fingerprint: String,
    /// Other models whose collections may be searched and extended with this one, by their fingerprints.
    pub also_compatible: Vec<String>,
    /// Tokens of a text that it reads.
    pub max_tokens: usize,
    /// How token vectors become one.
    pub pooling: String,
    /// Number format of its arithmetic.
    pub precision: String,
}

impl About {
    /// Fingerprints of models whose vectors are taken for this one's: its own, and those that were allowed.
    pub fn compatible(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.fingerprint).chain(&self.also_compatible).map(String::as_str)
    }
}

impl Engine {
    /// Whose vectors a collection must hold to be searched.
    fn model(&self) -> collection::Model<'_> {
        collection::Model {
            fingerprint: &self.about.fingerprint,
            also_compatible: &self.about.also_compatible,
            dimensions: self.embedder.dimensions(),
        }
    }
}

/// The service. It exists before the engine does: until then every call is `UNAVAILABLE`.
#[derive(Clone, Default)]
pub struct Api(Arc<OnceLock<Arc<Engine>>>);

impl Api {
    /// Lets calls in. Later calls of this change nothing.
    pub fn open(&self, engine: Engine) {
        // Set once by the one who loads the model.
        let _ = self.0.set(Arc::new(engine));
    }

    /// Why no document can be stored any more, if so: the disk failed.
    pub fn writes_stopped(&self) -> Option<String> {
        Some(self.0.get()?.store.stopped()?.to_string())
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        self.0.get().cloned().ok_or(Failure::Starting)
    }
}

/// A request, and when its caller stops waiting: the server puts the deadline among the extensions.
fn with_deadline<Q>(request: Request<Q>) -> (Q, Deadline) {
    let deadline = request.extensions().get::<Deadline>().copied().unwrap_or_default();
    (request.into_inner(), deadline)
}

/// A stream of responses.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answer, if it keeps to the size of a message.
fn bounded<M: prost::Message>(answer: M, limits: &Limits) -> Result<M, Failure> {
    let limit = limits.max_message_bytes;
    if answer.encoded_len() <= limit { Ok(answer) } else { Err(Failure::AnswerTooLarge { limit }) }
}

#[tonic::async_trait]
impl Cognate for Api {
    type EmbedStreamStream = Responses<proto::EmbedResponse>;
    type ClassifyStreamStream = Responses<proto::ClassifyResponse>;
    type UploadStream = Responses<proto::UploadResponse>;
    type ExportStream = Responses<proto::ExportResponse>;
    type BackupStream = Responses<proto::BackupResponse>;

    async fn info(&self, _: Request<proto::InfoRequest>) -> Result<Response<proto::InfoResponse>, Status> {
        Ok(Response::new(info::info(&*self.engine()?)))
    }

    async fn embed(&self, request: Request<proto::EmbedRequest>) -> Result<Response<proto::EmbedResponse>, Status> {
        let (request, deadline) = with_deadline(request);
        Ok(Response::new(embed::embed(&*self.engine()?, request, deadline).await?))
    }

    async fn embed_stream(
        &self,
        request: Request<Streaming<proto::EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        Ok(Response::new(embed::embed_stream(self.engine()?, request.into_inner())))
    }

    async fn classify(
        &self,
        request: Request<proto::ClassifyRequest>,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        let (request, deadline) = with_deadline(request);
        Ok(Response::new(classify::classify(&*self.engine()?, request, deadline).await?))
    }

    async fn classify_stream(
        &self,
        request: Request<Streaming<proto::ClassifyRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        Ok(Response::new(classify::classify_stream(self.engine()?, request.into_inner())))
    }

    async fn similarity(
        &self,
        request: Request<proto::SimilarityRequest>,
    ) -> Result<Response<proto::SimilarityResponse>, Status> {
        let (request, deadline) = with_deadline(request);
        Ok(Response::new(similarity::similarity(&*self.engine()?, request, deadline).await?))
    }

    async fn top_k(&self, request: Request<proto::TopKRequest>) -> Result<Response<proto::TopKResponse>, Status> {
        let (request, deadline) = with_deadline(request);
        Ok(Response::new(top_k::top_k(&self.engine()?, request, deadline).await?))
    }

    async fn upload(
        &self,
        request: Request<Streaming<proto::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        Ok(Response::new(upload::upload(self.engine()?, request.into_inner())))
    }

    async fn get_documents(
        &self,
        request: Request<proto::GetDocumentsRequest>,
    ) -> Result<Response<proto::GetDocumentsResponse>, Status> {
        Ok(Response::new(documents::get(&self.engine()?, request.into_inner()).await?))
    }

    async fn delete_documents(
        &self,
        request: Request<proto::DeleteDocumentsRequest>,
    ) -> Result<Response<proto::DeleteDocumentsResponse>, Status> {
        Ok(Response::new(documents::delete(&self.engine()?, request.into_inner()).await?))
    }

    async fn list_documents(
        &self,
        request: Request<proto::ListDocumentsRequest>,
    ) -> Result<Response<proto::ListDocumentsResponse>, Status> {
        let (request, deadline) = with_deadline(request);
        Ok(Response::new(documents::list(&self.engine()?, request, deadline).await?))
    }

    async fn export(&self, request: Request<proto::ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        Ok(Response::new(export::export(&self.engine()?, request.into_inner()).await?))
    }

    async fn create_collection(
        &self,
        request: Request<proto::CreateCollectionRequest>,
    ) -> Result<Response<proto::CreateCollectionResponse>, Status> {
        Ok(Response::new(collections::create(&self.engine()?, request.into_inner()).await?))
    }

    async fn list_collections(
        &self,
        request: Request<proto::ListCollectionsRequest>,
    ) -> Result<Response<proto::ListCollectionsResponse>, Status> {
        Ok(Response::new(collections::list(&self.engine()?, request.into_inner()).await?))
    }

    async fn delete_collection(
        &self,
        request: Request<proto::DeleteCollectionRequest>,
    ) -> Result<Response<proto::DeleteCollectionResponse>, Status> {
        Ok(Response::new(collections::delete(&*self.engine()?, request.into_inner()).await?))
    }

    async fn backup(&self, _: Request<proto::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        Ok(Response::new(backup::backup(self.engine()?).await?))
    }
}
