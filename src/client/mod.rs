//! A client of the service: what the client commands, the demo and the tests talk through.
//!
//! It owns the choices that every caller would make again: how an address may be written, time-outs,
//! message sizes, how documents are packed into an upload, and how a failure reads in one line.
//! Besides the server it is the only place that knows tonic; callers see the messages of [`crate::proto`].

mod address;
mod error;
mod packing;
pub mod reader;
mod upload;
pub mod vector;

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

pub use error::{Error, item_error};
pub use upload::{Broken, Progress, Summary};

use crate::proto::{self as pb, cognate_client::CognateClient};

/// The largest response that is read. The server keeps to its own max_message_bytes, which a client cannot
/// know before its first call; this only bounds what a hostile server can make it hold.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest wait for the TCP connection.
    pub connect_timeout: Duration,
    /// The longest wait for the answer to a call; streams are not counted. `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), timeout: None }
    }
}

/// A connection to a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    timeout: Option<Duration>,
    channel: Channel,
    rpc: CognateClient<Channel>,
}

/// Connects to `address`: `host:port` or `http://host:port`.
pub async fn connect(address: &str, options: &Options) -> Result<Client, Error> {
    let url = address::parse(address)?;
    let endpoint = Endpoint::from_shared(url)
        .map_err(|cause| Error::Address { address: address.into(), reason: cause.to_string() })?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        // A server that vanished without closing the connection is noticed even in a call without time-out.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connecting = endpoint.connect();
    let channel = connecting.await.map_err(|cause| Error::connect(address, &cause))?;
    let rpc = CognateClient::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    Ok(Client { address: address.into(), timeout: options.timeout, channel, rpc })
}

/// A unary call of the service as a method.
macro_rules! unary {
    ($($(#[$doc:meta])+ $name:ident($request:ident) -> $response:ident;)+) => {$(
        $(#[$doc])+
        pub async fn $name(&self, request: pb::$request) -> Result<pb::$response, Error> {
            let answer = self.rpc.clone().$name(self.request(request)).await;
            answer.map(tonic::Response::into_inner).map_err(|status| self.failed(status))
        }
    )+};
}

impl Client {
    unary! {
        /// What is served.
        info(InfoRequest) -> InfoResponse;
        /// Texts to vectors.
        embed(EmbedRequest) -> EmbedResponse;
        /// Texts to labels.
        classify(ClassifyRequest) -> ClassifyResponse;
        /// Cosine similarities of texts.
        similarity(SimilarityRequest) -> SimilarityResponse;
        /// Nearest neighbours.
        top_k(TopKRequest) -> TopKResponse;
        /// Documents by id.
        get_documents(GetDocumentsRequest) -> GetDocumentsResponse;
        /// Removes documents by id.
        delete_documents(DeleteDocumentsRequest) -> DeleteDocumentsResponse;
        /// A page of documents.
        list_documents(ListDocumentsRequest) -> ListDocumentsResponse;
        /// Makes an empty collection.
        create_collection(CreateCollectionRequest) -> CreateCollectionResponse;
        /// A page of collections.
        list_collections(ListCollectionsRequest) -> ListCollectionsResponse;
        /// Removes a collection.
        delete_collection(DeleteCollectionRequest) -> DeleteCollectionResponse;
    }

    /// Any number of texts to vectors: one response for each request, in order. `requests` is read no faster
    /// than the server embeds.
    pub async fn embed_stream(
        &self,
        requests: impl Stream<Item = pb::EmbedRequest> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<pb::EmbedResponse, Error>>, Error> {
        let answers = self.rpc.clone().embed_stream(requests).await.map_err(|status| self.failed(status))?.into_inner();
        let client = self.clone();
        Ok(answers.map(move |answer| answer.map_err(|status| client.failed(status))).boxed())
    }

    /// Any number of texts to labels: one response for each request, in order. `requests` is read no faster than the
    /// server classifies.
    pub async fn classify_stream(
        &self,
        requests: impl Stream<Item = pb::ClassifyRequest> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<pb::ClassifyResponse, Error>>, Error> {
        let answers = self.rpc.clone().classify_stream(requests).await;
        let (answers, client) = (answers.map_err(|status| self.failed(status))?.into_inner(), self.clone());
        Ok(answers.map(move |answer| answer.map_err(|status| client.failed(status))).boxed())
    }

    /// A collection as it is at one moment, in parts.
    pub async fn export(
        &self,
        request: pb::ExportRequest,
    ) -> Result<BoxStream<'static, Result<pb::ExportResponse, Error>>, Error> {
        let parts = self.rpc.clone().export(request).await.map_err(|status| self.failed(status))?;
        let client = self.clone();
        Ok(parts.into_inner().map(move |part| part.map_err(|status| client.failed(status))).boxed())
    }

    /// All that is committed, as the parts of one file.
    pub async fn backup(&self) -> Result<BoxStream<'static, Result<pb::BackupResponse, Error>>, Error> {
        let parts = self.rpc.clone().backup(pb::BackupRequest {}).await.map_err(|status| self.failed(status))?;
        let client = self.clone();
        Ok(parts.into_inner().map(move |part| part.map_err(|status| client.failed(status))).boxed())
    }

    /// Whether `service` is serving, by the gRPC health protocol; the empty name asks for the whole server.
    pub async fn health(&self, service: &str) -> Result<bool, Error> {
        let request = self.request(HealthCheckRequest { service: service.into() });
        let answer = HealthClient::new(self.channel.clone()).check(request).await;
        answer
            .map(|answer| answer.into_inner().status() == ServingStatus::Serving)
            .map_err(|status| self.failed(status))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }

    fn failed(&self, status: tonic::Status) -> Error {
        Error::call(&self.address, &status)
    }
}
