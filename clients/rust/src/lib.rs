#![doc = include_str!("../README.md")]

mod address;
mod embed;
mod error;
mod handshake;
mod health;
mod key;
mod packing;
mod refusal;
mod tls;
mod upload;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub use error::Error;
pub use key::{Key, NotAKey};
pub use refusal::{Refusal, item_error};
pub use tls::Tls;
pub use tonic::{self, Code};
pub use tonic_types::{self, FieldViolation};
pub use upload::{Broken, Progress, Summary};
pub use {futures_util, prost_types};

use address::Target;
use error::Peer;
use key::Authorize;
use wire::{self as pb, cognate_client::CognateClient};

/// The default of `max_response_bytes`. The server keeps to its own max_message_bytes, which a client does not know
/// before its first call. This limit only bounds what a hostile server can make the client hold.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

/// The settings of a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest wait for the TCP connection.
    pub connect_timeout: Duration,
    /// The longest wait for the answer to a call, streams excluded, with all its attempts. `None`: no limit.
    pub timeout: Option<Duration>,
    /// Repetitions of a call, streams excluded. A call is repeated only if the server says when to try again, and
    /// not beyond `timeout`. Default 0: the caller decides by [`Error::retry_after`].
    pub retries: u32,
    /// The largest response that is read. Default: 1 GiB, which is far above what a server sends.
    pub max_response_bytes: usize,
    /// The settings of TLS, for an address with TLS. An address without scheme has TLS if this is set.
    pub tls: Option<Tls>,
    /// The API key of the calls.
    pub key: Option<Key>,
    /// Sends the key to another machine without TLS.
    pub insecure: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: None,
            retries: 0,
            max_response_bytes: MAX_RESPONSE_BYTES,
            tls: None,
            key: None,
            insecure: false,
        }
    }
}

/// The answers to a call, as they arrive.
pub type Answers<T> = BoxStream<'static, Result<T, Error>>;

/// A connection to a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    peer: Peer,
    timeout: Option<Duration>,
    retries: u32,
    channel: Authorized,
    rpc: Stub,
}

/// A channel whose calls carry the key.
pub type Authorized = InterceptedService<Channel, Authorize>;

/// The generated stub.
pub type Stub = CognateClient<Authorized>;

/// Connects to `address`: `host:port`, `http://host:port`, `https://host:port` or `unix:path`.
pub async fn connect(address: &str, options: &Options) -> Result<Client, Error> {
    let Target { url, tls, local } = address::parse(address, options.tls.is_some())?;
    if options.key.is_some() && !(tls || local || options.insecure) {
        return Err(Error::KeyWithoutTls { address: address.into() });
    }
    let mut endpoint = Endpoint::from_shared(url)
        .map_err(|cause| Error::Address { address: address.into(), reason: cause.to_string() })?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        // Detects a server that vanished without closing the connection, even in a call without timeout.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    if tls {
        endpoint = options.tls.clone().unwrap_or_default().apply(endpoint, options.connect_timeout)?;
    }
    let peer = Peer { address: address.into(), tls, answered: Arc::default() };
    let channel = endpoint.connect().await.map_err(|cause| Error::connect(&peer, &cause))?;
    let channel = InterceptedService::new(channel, Authorize(options.key.clone()));
    let rpc = CognateClient::new(channel.clone()).max_decoding_message_size(options.max_response_bytes);
    Ok(Client { peer, timeout: options.timeout, retries: options.retries, channel, rpc })
}

/// Defines methods for unary calls of the service.
macro_rules! unary {
    ($($(#[$doc:meta])+ $name:ident($request:ident) -> $response:ident;)+) => {$(
        $(#[$doc])+
        pub async fn $name(&self, request: pb::$request) -> Result<pb::$response, Error> {
            self.call(request, |mut rpc, request| async move { rpc.$name(request).await }).await
        }
    )+};
}

impl Client {
    unary! {
        /// Returns the model, the limits and the classifiers of the server.
        info(InfoRequest) -> InfoResponse;
        /// Embeds texts.
        embed(EmbedRequest) -> EmbedResponse;
        /// Classifies texts.
        classify(ClassifyRequest) -> ClassifyResponse;
        /// Orders texts by how well they answer a query.
        rerank(RerankRequest) -> RerankResponse;
        /// Returns the tokens of texts.
        tokenize(TokenizeRequest) -> TokenizeResponse;
        /// Returns cosine similarities of texts.
        similarity(SimilarityRequest) -> SimilarityResponse;
        /// Returns the nearest neighbours of queries.
        top_k(TopKRequest) -> TopKResponse;
        /// Returns documents by id.
        get_documents(GetDocumentsRequest) -> GetDocumentsResponse;
        /// Deletes documents by id or by filter.
        delete_documents(DeleteDocumentsRequest) -> DeleteDocumentsResponse;
        /// Changes the metadata of documents by id or by filter.
        update_documents(UpdateDocumentsRequest) -> UpdateDocumentsResponse;
        /// Returns the number of documents.
        count_documents(CountDocumentsRequest) -> CountDocumentsResponse;
        /// Returns the most frequent values of metadata fields.
        facets(FacetsRequest) -> FacetsResponse;
        /// Returns a page of documents.
        list_documents(ListDocumentsRequest) -> ListDocumentsResponse;
        /// Creates an empty collection.
        create_collection(CreateCollectionRequest) -> CreateCollectionResponse;
        /// Returns a page of collections.
        list_collections(ListCollectionsRequest) -> ListCollectionsResponse;
        /// Deletes a collection.
        delete_collection(DeleteCollectionRequest) -> DeleteCollectionResponse;
    }

    /// Embeds a stream of texts: one response for each request, in order. `requests` is read no faster than the server
    /// embeds.
    pub async fn embed_stream(
        &self,
        requests: impl Stream<Item = pb::EmbedRequest> + Send + 'static,
    ) -> Result<Answers<pb::EmbedResponse>, Error> {
        self.answers(self.rpc.clone().embed_stream(requests).await)
    }

    /// Classifies a stream of texts: one response for each request, in order. `requests` is read no faster than the
    /// server classifies.
    pub async fn classify_stream(
        &self,
        requests: impl Stream<Item = pb::ClassifyRequest> + Send + 'static,
    ) -> Result<Answers<pb::ClassifyResponse>, Error> {
        self.answers(self.rpc.clone().classify_stream(requests).await)
    }

    /// Tokenises a stream of texts: one response for each request, in order.
    pub async fn tokenize_stream(
        &self,
        requests: impl Stream<Item = pb::TokenizeRequest> + Send + 'static,
    ) -> Result<Answers<pb::TokenizeResponse>, Error> {
        self.answers(self.rpc.clone().tokenize_stream(requests).await)
    }

    /// Returns a snapshot of a collection, in parts.
    pub async fn export(&self, request: pb::ExportRequest) -> Result<Answers<pb::ExportResponse>, Error> {
        self.answers(self.rpc.clone().export(request).await)
    }

    /// Starts, watches, switches, rolls back or ends the migration of a collection to another model. The answers are
    /// its states, until nothing is left to wait for.
    pub async fn migrate_collection(
        &self,
        request: pb::MigrateCollectionRequest,
    ) -> Result<Answers<pb::MigrateCollectionResponse>, Error> {
        self.answers(self.rpc.clone().migrate_collection(request).await)
    }

    /// Returns all committed data, as the parts of one file.
    pub async fn backup(&self) -> Result<Answers<pb::BackupResponse>, Error> {
        self.answers(self.rpc.clone().backup(pb::BackupRequest {}).await)
    }

    /// Returns true if `service` is serving, by the gRPC health protocol. The empty name means the whole server.
    pub async fn health(&self, service: &str) -> Result<bool, Error> {
        let request = health::HealthCheckRequest { service: service.into() };
        let answer = self.call(request, |_, request| health::check(self.channel.clone(), request)).await;
        answer.map(|answer| answer.status == health::SERVING)
    }

    /// Returns the stub of this connection, with its key: for calls with other settings or a pace of their own. Its
    /// errors are those of tonic; [`Refusal::from`] decodes one.
    pub fn stub(&self) -> Stub {
        self.rpc.clone()
    }

    /// Calls, and repeats the call where the server says when to try again.
    async fn call<Q, A, F>(&self, message: Q, call: impl Fn(Stub, tonic::Request<Q>) -> F) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let request = |message| {
            let mut request = tonic::Request::new(message);
            if let Some(left) = left() {
                request.set_timeout(left);
            }
            request
        };
        for _ in 0..self.retries {
            let answer = self.answered(call(self.stub(), request(message.clone())).await);
            let delay = answer.as_ref().err().and_then(Error::retry_after);
            match delay.filter(|delay| left().is_none_or(|left| *delay < left)) {
                Some(delay) => sleep(delay).await,
                None => return answer,
            }
        }
        self.answered(call(self.stub(), request(message)).await)
    }

    fn answers<T: Send + 'static>(
        &self,
        answer: Result<tonic::Response<tonic::Streaming<T>>, tonic::Status>,
    ) -> Result<Answers<T>, Error> {
        let (answers, client) = (self.answered(answer)?, self.clone());
        Ok(answers.map(move |answer| answer.map_err(|status| client.failed(status))).boxed())
    }

    fn answered<T>(&self, answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Error> {
        let answer = answer.map_err(|status| self.failed(status))?;
        self.peer.answered.store(true, Ordering::Relaxed);
        Ok(answer.into_inner())
    }

    fn failed(&self, status: tonic::Status) -> Error {
        Error::call(&self.peer, &status)
    }
}
