//! A client of Cognate, a gRPC server for embeddings, similarity and vector search.
//!
//! It makes the choices that every caller needs: the forms of an address, timeouts, message sizes, the packing of
//! documents into an upload, TLS, the API key, and errors in one line. Callers see the messages of [`wire`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = cognate_client::connect("127.0.0.1:50051", &cognate_client::Options::default()).await?;
//! let info = client.info(cognate_client::wire::InfoRequest {}).await?;
//! println!("{info:?}");
//! # Ok(())
//! # }
//! ```

mod address;
mod error;
mod handshake;
mod key;
mod packing;
mod tls;
mod upload;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub use error::{Error, item_error};
pub use key::{Key, NotAKey};
pub use tls::Tls;
pub use upload::{Broken, Progress, Summary};

use address::Target;
use error::Peer;
use key::Authorize;
use wire::{self as pb, cognate_client::CognateClient};

/// The largest response that is read. The server keeps to its own max_message_bytes, which a client does not know
/// before its first call. This limit only bounds what a hostile server can make the client hold.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

/// The settings of a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest wait for the TCP connection.
    pub connect_timeout: Duration,
    /// The longest wait for the answer to a call, streams excluded. `None`: no limit.
    pub timeout: Option<Duration>,
    /// The settings of TLS, for an address with TLS. An address without scheme has TLS if this is set.
    pub tls: Option<Tls>,
    /// The API key of the calls.
    pub key: Option<Key>,
    /// Sends the key to another machine without TLS.
    pub insecure: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), timeout: None, tls: None, key: None, insecure: false }
    }
}

/// The answers to a call, as they arrive.
pub type Answers<T> = BoxStream<'static, Result<T, Error>>;

/// A connection to a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    peer: Peer,
    timeout: Option<Duration>,
    channel: Authorized,
    rpc: CognateClient<Authorized>,
}

/// A channel whose calls carry the key.
type Authorized = InterceptedService<Channel, Authorize>;

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
    let rpc = CognateClient::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    Ok(Client { peer, timeout: options.timeout, channel, rpc })
}

/// Defines methods for unary calls of the service.
macro_rules! unary {
    ($($(#[$doc:meta])+ $name:ident($request:ident) -> $response:ident;)+) => {$(
        $(#[$doc])+
        pub async fn $name(&self, request: pb::$request) -> Result<pb::$response, Error> {
            let answer = self.rpc.clone().$name(self.request(request)).await;
            self.answered(answer)
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

    /// Returns a snapshot of a collection, in parts.
    pub async fn export(&self, request: pb::ExportRequest) -> Result<Answers<pb::ExportResponse>, Error> {
        self.answers(self.rpc.clone().export(request).await)
    }

    /// Returns all committed data, as the parts of one file.
    pub async fn backup(&self) -> Result<Answers<pb::BackupResponse>, Error> {
        self.answers(self.rpc.clone().backup(pb::BackupRequest {}).await)
    }

    /// Returns true if `service` is serving, by the gRPC health protocol. The empty name means the whole server.
    pub async fn health(&self, service: &str) -> Result<bool, Error> {
        let request = self.request(HealthCheckRequest { service: service.into() });
        let answer = HealthClient::new(self.channel.clone()).check(request).await;
        self.answered(answer).map(|answer| answer.status() == ServingStatus::Serving)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
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
