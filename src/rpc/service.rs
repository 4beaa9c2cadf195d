//! The service: maps each path to its function, and reads requests and writes answers for it.
//!
//! It replaces tonic's generated server, which decodes and encodes on the async threads and has no budget. Here a
//! message stays bytes until it was measured and its memory was taken (`request`). An answer is encoded when it is
//! built (`answer`).

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Body as HttpBody;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use super::access::Access;
use super::answer::{Answer, respond};
use super::request::{Incoming, Received, Requests};
use super::status::Failure;
use super::{Api, Engine, Responses, backup, classify, collections, count, documents, embed, export, facets, info};
use super::{migrate, rerank, similarity, tokenize, top_k, update, upload};
use crate::wire;

/// The service, for tonic's router.
#[derive(Clone)]
pub struct Service(Api);

impl Service {
    /// A service that answers with the engine of `api`.
    pub fn new(api: Api) -> Self {
        Self(api)
    }
}

impl NamedService for Service {
    const NAME: &'static str = wire::SERVICE;
}

impl<B> tower::Service<Request<B>> for Service
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let engine = self.0.engine();
        let request = request.map(Body::new);
        Box::pin(async move {
            let answered = match engine {
                Ok(engine) => Call { engine, request }.answer().await,
                Err(failure) => Err(failure.into()),
            };
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

/// One call.
struct Call {
    engine: Arc<Engine>,
    request: Request<Body>,
}

impl Call {
    /// Answers the call by its path.
    async fn answer(self) -> Result<Response<Body>, Status> {
        let method = self.request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(wire::SERVICE));
        match method {
            Some("/Info") => {
                self.small(async |engine, access, _: wire::InfoRequest| info::info(&engine, &access).await).await
            }
            Some("/Embed") => self.unary(async |engine, request| embed::embed(&engine, request).await).await,
            Some("/EmbedStream") => self.streams(embed::embed_stream),
            Some("/Similarity") => {
                self.unary(async |engine, request| similarity::similarity(&engine, request).await).await
            }
            Some("/TopK") => self.unary(async |engine, request| top_k::top_k(&engine, request).await).await,
            Some("/Classify") => self.unary(async |engine, request| classify::classify(&engine, request).await).await,
            Some("/Rerank") => self.unary(async |engine, request| rerank::rerank(&engine, request).await).await,
            Some("/ClassifyStream") => self.streams(classify::classify_stream),
            Some("/Tokenize") => self.unary(async |engine, request| tokenize::tokenize(&engine, request).await).await,
            Some("/TokenizeStream") => self.streams(tokenize::tokenize_stream),
            Some("/Upload") => self.streams(upload::upload),
            Some("/GetDocuments") => self.unary(async |engine, request| documents::get(&engine, request).await).await,
            Some("/DeleteDocuments") => {
                self.unary(async |engine, request| documents::delete(&engine, request).await).await
            }
            Some("/UpdateDocuments") => {
                self.unary(async |engine, request| update::update(&engine, request).await).await
            }
            Some("/CountDocuments") => self.unary(async |engine, request| count::count(&engine, request).await).await,
            Some("/Facets") => self.unary(async |engine, request| facets::facets(&engine, request).await).await,
            Some("/ListDocuments") => self.unary(async |engine, request| documents::list(&engine, request).await).await,
            Some("/Export") => {
                self.stream(async |engine, access, request| export::export(&engine, &access, request).await).await
            }
            Some("/CreateCollection") => {
                self.small(async |engine, access, request| collections::create(&engine, &access, request).await).await
            }
            Some("/ListCollections") => {
                self.small(async |engine, access, request| collections::list(&engine, access, request).await).await
            }
            Some("/DeleteCollection") => {
                self.small(async |engine, access, request| collections::delete(&engine, &access, request).await).await
            }
            Some("/MigrateCollection") => {
                self.stream(async |engine, access, request| migrate::migrate(engine, &access, request).await).await
            }
            Some("/Backup") => {
                self.stream(async |engine, access, _: wire::BackupRequest| backup::backup(engine, access).await).await
            }
            _ => Err(Status::unimplemented("this method does not exist")),
        }
    }

    /// Handles one request with one answer.
    async fn unary<Q, F>(self, answer: impl FnOnce(Arc<Engine>, Received<Q>) -> F) -> Result<Response<Body>, Status>
    where
        Q: Message + Default + 'static,
        F: Future<Output = Result<Answer, Failure>>,
    {
        let engine = Arc::clone(&self.engine);
        let request = self.incoming()?.only().await?;
        let answer = answer(engine, request).await?;
        Ok(respond(stream::iter([Ok(answer)])))
    }

    /// Handles one request with one answer that is never large.
    async fn small<Q, A, F>(self, answer: impl FnOnce(Arc<Engine>, Access, Q) -> F) -> Result<Response<Body>, Status>
    where
        Q: Message + Default + 'static,
        A: Message,
        F: Future<Output = Result<A, Failure>>,
    {
        let limits = self.engine.limits.clone();
        self.unary(async |engine, request: Received<Q>| {
            let Received { message, held, access, .. } = request;
            let answer = answer(engine, access, message).await?;
            drop(held);
            Answer::of(&answer, &limits)
        })
        .await
    }

    /// Handles one request with a stream of answers, none of them large.
    async fn stream<Q, A, F>(self, answer: impl FnOnce(Arc<Engine>, Access, Q) -> F) -> Result<Response<Body>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Future<Output = Result<Responses<A>, Failure>>,
    {
        let (engine, limits) = (Arc::clone(&self.engine), self.engine.limits.clone());
        let Received { message, held, access, .. } = self.incoming()?.only().await?;
        let answers = answer(engine, access, message).await?;
        drop(held);
        Ok(respond(answers.map(move |part| Ok(Answer::of(&part?, &limits)?))))
    }

    /// Handles a stream of requests with a stream of answers.
    fn streams<Q>(
        self,
        answer: impl FnOnce(Arc<Engine>, Requests<Q>) -> Responses<Answer>,
    ) -> Result<Response<Body>, Status>
    where
        Q: Message + Default + 'static,
    {
        let engine = Arc::clone(&self.engine);
        Ok(respond(answer(engine, self.incoming()?.stream())))
    }

    fn incoming<Q: Message + Default + 'static>(self) -> Result<Incoming<Q>, Status> {
        Incoming::new(self.engine, self.request)
    }
}
